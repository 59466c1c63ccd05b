"""What can go wrong in a lab, as a play meets it.

Owns: the exceptions of the lab, and how a process ended. Must not know who raises them.
"""

from __future__ import annotations

import signal as signals
from dataclasses import dataclass
from pathlib import Path

from tcpwatch.errors import ExitCode, TcpwatchError


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process ended: by ``exit_status`` or by ``signal``; neither where nobody was told."""

    exit_status: int | None = None
    signal: str | None = None

    def __str__(self) -> str:
        if self.signal is not None:
            return f"was killed by {self.signal}"
        return "ended" if self.exit_status is None else f"exited with status {self.exit_status}"

    @classmethod
    def of_exit_code(cls, code: int) -> Ending:
        """From Python's form, where a signal is negative (os.waitstatus_to_exitcode)."""
        return cls(exit_status=code) if code >= 0 else cls(signal=signal_name(-code))

    @classmethod
    def of_zombie(cls, pid: int) -> Ending | None:
        """From /proc, while ``pid`` waits to be reaped. None where that cannot be read any more."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        # proc_pid_stat(5): exit_code is field 52; the name, field 2, may hold spaces and brackets.
        status = int(stat.rpartition(")")[2].split()[49])
        if status & 0x7F:
            return cls(signal=signal_name(status & 0x7F))
        return cls(exit_status=status >> 8)


def signal_name(number: int) -> str:
    """``SIGKILL`` for 9; real-time signals by number."""
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"SIG{number}"


class LabClosed(TcpwatchError):  # noqa: N818 - a state of affairs, not an error of anyone's
    """The lab was closed while something waited for it."""

    def __init__(self, why: str = "the lab was closed") -> None:
        super().__init__(why)


class DeadlinePassed(TcpwatchError):  # noqa: N818 - as LabClosed
    """Something was awaited in the lab for longer than it may last."""


class ProcessDied(TcpwatchError):  # noqa: N818 - as LabClosed
    """A process ended inside a call, or was asked for one after its end."""

    def __init__(self, process: str, ending: Ending, doing: str = "") -> None:
        super().__init__(f"{process} {ending}{f' inside {doing}()' if doing else ''}")
        self.process = process
        self.ending = ending


class ProgramFailed(TcpwatchError):  # noqa: N818 - as LabClosed
    """A program of the play ended by an exception that it did not catch: not what it is to show."""

    def __init__(self, process: str, what: str) -> None:
        super().__init__(f"{what}, in the program of {process}")


class CheckFailed(TcpwatchError):  # noqa: N818 - as LabClosed
    """A play's own check was not met: a failure of the run, with the message as its reason."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=ExitCode.FAILED)


class Unsupported(TcpwatchError):  # noqa: N818 - as LabClosed
    """This lab, or this kernel, cannot do what the play asks of it."""
