"""A call that a play has begun: what it gives once it is back, or how its failing is told.

Must not know what the call means.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from errno import errorcode
from typing import Generic, TypeVar

from tcpwatch.lab.calls import Call, Line, Returned, Switchboard
from tcpwatch.lab.failures import CheckFailed

T = TypeVar("T")


class Pending(Generic[T]):
    """A call that was begun. While it lasts, its process can make no other."""

    def __init__(
        self,
        switchboard: Switchboard,
        line: Line,
        call: Call,
        convert: Callable[[Returned], T],
        fails: int | None = None,
    ) -> None:
        self._switchboard = switchboard
        self._line = line
        self._call = call
        self._convert = convert
        self._fails = fails

    @property
    def done(self) -> bool:
        """Whether it has come back."""
        return self._call.done.done()

    def result(self) -> T:
        """Waits until the call is back, and gives what it gave; may be asked for again.

        Raises the OSError it failed with, CheckFailed where it should have failed so and did not,
        ProcessDied, DeadlinePassed, LabClosed.
        """
        what = f"{self._line.name}: {self._call.verb}({self._call.arguments})"
        returned = self._switchboard.wait(self._call.done, f"{what} did not come back")
        if self._fails is not None and returned.errno != self._fails:
            was = f"failed with {errorcode[returned.errno]}" if returned.errno else "succeeded"
            raise CheckFailed(f"{what} {was}, expected {errorcode[self._fails]}")
        if self._fails is None and returned.errno:
            raise OSError(returned.errno, f"{os.strerror(returned.errno)}, from {what}")
        return self._convert(returned)


def nothing(_: Returned) -> None:
    """Of a call that gives nothing."""
    return


def number(returned: Returned) -> int:
    """The call's own result; -1 for an expected failure, as in C."""
    return -1 if returned.result is None else int(returned.result)


def octets(returned: Returned) -> bytes:
    """What was read."""
    return returned.blob
