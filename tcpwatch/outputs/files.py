"""A file that is written to: opened before anything is done, or told at once that it cannot be.

Owns: that ``-`` is standard output, and the words where a file cannot be written.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from tcpwatch.errors import ExitCode, TcpwatchError


@contextmanager
def writable() -> Iterator[None]:
    """An OSError of what is opened within is a TcpwatchError."""
    try:
        yield
    except OSError as error:
        raise TcpwatchError(
            f"cannot write {error.filename}: {error.strerror}",
            "name a file in a folder that you may write to",
            ExitCode.USAGE,
        ) from error


def open_text(name: str, stack: ExitStack, newline: str | None = None) -> TextIO:
    """That file until the stack is left, or standard output. Raises TcpwatchError."""
    if name == "-":
        return sys.stdout
    with writable():
        return stack.enter_context(Path(name).open("w", encoding="utf-8", newline=newline))
