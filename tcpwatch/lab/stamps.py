"""Since when a process of the lab may be about to tell of something: a cell of shared memory.

Owns: the cell, and its writing around stamp and message. Whoever orders the lab's events by time
reads it: nothing from before is still to come, though the process be preempted in between.
Must not know what is told.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

_CELL = struct.Struct("@q")  # native: written and read by one move, never half


class Cell:
    """CLOCK_MONOTONIC nanoseconds since when its process is telling something; 0: it is not."""

    def __init__(self, fd: int) -> None:
        self._memory = mmap.mmap(fd, mmap.PAGESIZE)
        self._depth = 0

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Around taking a stamp and sending it. May be nested, as by a signal's handler."""
        self._depth += 1
        if self._depth == 1:
            _CELL.pack_into(self._memory, 0, time.monotonic_ns())
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0:
                _CELL.pack_into(self._memory, 0, 0)

    @property
    def since_ns(self) -> int:
        """0 where nothing is being told, or no more. From any process."""
        return 0 if self._memory.closed else int(_CELL.unpack_from(self._memory)[0])

    def close(self) -> None:
        """Unmaps it. Idempotent."""
        self._memory.close()


def new_cell() -> tuple[Cell, int] | None:
    """A cell, and a descriptor by which another process maps it. None where there is no memfd."""
    if not hasattr(os, "memfd_create"):
        return None
    fd = os.memfd_create("tcpwatch-stamp", os.MFD_CLOEXEC)
    os.ftruncate(fd, mmap.PAGESIZE)
    return Cell(fd), fd
