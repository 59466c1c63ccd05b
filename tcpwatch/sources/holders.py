"""Which processes hold a socket: every one of them, by the descriptors in /proc.

Owns: the search, which is dear (10,000 descriptors take some 30 ms), in slices that the caller
bounds. Names and command lines are as the kernel has them: whoever shows them escapes them. Must
not know what the sockets are.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator
from pathlib import Path

from tcpwatch.model.host import Holder

_SOCKET = "socket:["
_SLICE = 64  # descriptors between two looks at the clock
_COMMAND_OCTETS = 4096


class Holders:
    """Which process holds which socket inode, as the last whole search found it."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._found: dict[int, tuple[int, ...]] = {}
        self._processes: dict[int, Holder] = {}
        self._search: Iterator[None] | None = None
        self._began = 0.0
        self._next: dict[int, list[int]] = {}
        self.refused = 0
        """How many processes would not show their descriptors at the last whole search."""
        self.searched = 0
        """How many whole searches there were."""
        self.began_s = float("-inf")
        """When (time.monotonic) the last whole search began."""

    def of(self, inode: int) -> tuple[Holder, ...]:
        """Its holders, the oldest process first; none where nobody (that may be seen) has it."""
        processes = self._processes
        return tuple(processes[pid] for pid in self._found.get(inode, ()) if pid in processes)

    def knows(self, inode: int) -> bool:
        return inode in self._found

    @property
    def searching(self) -> bool:
        """Whether a search has begun and not ended."""
        return self._search is not None

    def search(self, for_s: float) -> bool:
        """Goes on searching for at most so long; True once all of it has been searched."""
        if self._search is None:
            self._next, self._began = {}, time.monotonic()
            self._search = self._searching()
        until = time.monotonic() + for_s
        for _ in self._search:
            if time.monotonic() >= until:
                return False
        self._search = None
        found = {inode: tuple(sorted(pids)) for inode, pids in self._next.items()}
        used = {pid for pids in found.values() for pid in pids}
        self._processes = {pid: who for pid, who in self._processes.items() if pid in used}
        self._found, self._next = found, {}
        self.searched += 1
        self.began_s = self._began
        return True

    def process(self, pid: int) -> Holder | None:
        """That process now; None where it is gone."""
        folder = self._proc / str(pid)
        try:
            name = os.fsdecode((folder / "comm").read_bytes()).removesuffix("\n")
            with (folder / "cmdline").open("rb") as file:
                words = file.read(_COMMAND_OCTETS)
        except OSError:
            return None
        return Holder(pid, name, os.fsdecode(words.rstrip(b"\0").replace(b"\0", b" ")))

    def _searching(self) -> Iterator[None]:
        refused = 0
        names = os.listdir(self._proc)  # noqa: PTH208 - no Path for each descriptor: it is dear
        for pid in sorted(int(name) for name in names if name.isdecimal()):
            try:
                inodes = yield from self._inodes(f"{self._proc}/{pid}/fd")
            except PermissionError:
                refused += 1
                continue
            except OSError:
                continue  # it has ended
            if not inodes:
                continue
            who = self.process(pid)
            if who is None:
                continue
            self._processes[pid] = who
            for inode in inodes:
                self._next.setdefault(inode, []).append(pid)
        self.refused = refused

    def _inodes(self, folder: str) -> Generator[None, None, set[int]]:
        inodes: set[int] = set()
        for count, name in enumerate(os.listdir(folder)):  # noqa: PTH208 - as above
            if count % _SLICE == 0:
                yield
            try:
                target = os.readlink(f"{folder}/{name}")  # noqa: PTH115 - as above
            except OSError:
                continue  # it was closed meanwhile
            if target.startswith(_SOCKET):
                inodes.add(int(target[len(_SOCKET) : -1]))
        return inodes
