"""The one exception that reaches a user, and the exit codes of the commands.

Owns: what went wrong, why, and the remedy, as one line. Knows nothing of who raises it.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What every command's exit status means: a contract that scripts rely on."""

    OK = 0
    FAILED = 1
    USAGE = 2
    INCONCLUSIVE = 3
    INTERRUPTED = 130


class TcpwatchError(Exception):
    """A hostile environment or a wrong request, told in a sentence a person can act on.

    ``message`` says what and why, ``remedy`` what to do about it, ``exit_code`` is the command's.
    """

    def __init__(
        self, message: str, remedy: str = "", exit_code: ExitCode = ExitCode.INCONCLUSIVE
    ) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.exit_code = exit_code

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


class PlacedError(TcpwatchError):
    """A text of the user's that cannot be read: ``column`` (from 0) of ``text`` is where."""

    def __init__(self, message: str, text: str, column: int, exit_code: ExitCode) -> None:
        super().__init__(message, exit_code=exit_code)
        self.text = text
        self.column = column
