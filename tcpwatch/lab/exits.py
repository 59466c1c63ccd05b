"""Watching a command's processes end, by ptrace(2): what they left open is the kernel's to close.

Owns: which processes there are, their stops, and the look at each one's descriptors when it ends,
while they are still open. Nothing stops at system calls. Must not know whose sockets these are.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tcpwatch.lab.failures import Unsupported
from tcpwatch.lab.proc import sockets_of

# linux/ptrace.h
_CONT, _GETEVENTMSG, _SEIZE, _LISTEN = 7, 0x4201, 0x4206, 0x4208
_FORK, _VFORK, _CLONE, _EXIT, _STOP = 1, 2, 3, 6, 128
_TRACE_CHILDREN = 1 << _FORK | 1 << _VFORK | 1 << _CLONE
_EXITKILL = 1 << 20
_OPTIONS = _TRACE_CHILDREN | 1 << _EXIT | _EXITKILL
_WALL = 0x40000000
_STOPPING = frozenset({signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU})
_UNKNOWN = 0
_KILL_BIT = 1 << (signal.SIGKILL - 1)


@dataclass(frozen=True, slots=True)
class Exit:
    """A process has ended. ``code`` is its exit status, negative: the signal that killed it.

    ``sockets`` are the inodes of those that it alone had open then; ``rows`` what ``look`` said.
    """

    pid: int
    name: str
    code: int
    t_ns: int
    sockets: frozenset[int] = frozenset()
    rows: list[list[object]] = field(default_factory=list)


@dataclass(slots=True)
class _Leaving:
    name: str
    t_ns: int
    sockets: frozenset[int]
    rows: list[list[object]]


class Exits:
    """The processes that descend from those given to `seize`. One thread, which also reaps them.

    ``look`` is asked for what is to be known of sockets, by their inodes, while they are open.
    """

    def __init__(self, look: Callable[[frozenset[int]], list[list[object]]]) -> None:
        self._look = look
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._leaving: dict[int, _Leaving] = {}
        self.alive: set[int] = set()  # processes and threads
        self.blind = not Path(f"/proc/{os.getpid()}/fd").is_dir() or not _is_own_proc()

    def seize(self, pid: int) -> bool:
        """Whether the kernel lets us: a child that waits for it, before it executes anything."""
        self.alive.add(pid)
        seized = self._ptrace(_SEIZE, pid, 0, _OPTIONS)
        self.blind |= not seized
        return seized

    def reap(self) -> list[Exit]:
        """Serves whatever has stopped, without waiting; the processes that have ended."""
        ended: list[Exit] = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | _WALL)
            except ChildProcessError:
                self.alive.clear()
                return ended
            if pid == 0:
                if not self.alive:
                    self.alive.add(_UNKNOWN)  # not traced: an orphan that came to us
                return ended
            if os.WIFSTOPPED(status):
                self._serve(pid, os.WSTOPSIG(status), status >> 16)
                continue
            self.alive.discard(pid)
            left = self._leaving.pop(pid, _Leaving("", time.monotonic_ns(), frozenset(), []))
            code = os.waitstatus_to_exitcode(status)
            ended.append(Exit(pid, left.name, code, left.t_ns, left.sockets, left.rows))

    def running(self) -> list[tuple[int, str]]:
        """The processes that have not ended, each with its command line."""
        found = []
        for pid in sorted(self.alive - {_UNKNOWN}):
            with contextlib.suppress(OSError):
                if _process_of(pid) == pid:
                    found.append((pid, _command(pid, pid)))
        return found

    def _serve(self, pid: int, signum: int, event: int) -> None:
        deliver = 0
        if event in (_FORK, _VFORK, _CLONE):
            child = ctypes.c_ulong()
            if self._ptrace(_GETEVENTMSG, pid, 0, ctypes.addressof(child)):
                self.alive.add(child.value)
        elif event == _EXIT:
            with contextlib.suppress(OSError, Unsupported):
                self._note(pid)
        elif event == _STOP and signum in _STOPPING:
            self._ptrace(_LISTEN, pid, 0, 0)  # it stays stopped until SIGCONT
            return
        elif event == 0:
            deliver = signum
        self.alive.add(pid)
        self._ptrace(_CONT, pid, 0, deliver)

    def _note(self, tid: int) -> None:
        """What the process of that thread leaves open, if it ends with the thread."""
        if self.blind:
            return
        pid = _process_of(tid)
        if pid != tid:
            leader = _status(pid)
            pending = int(_field(leader, b"SigPnd"), 16) | int(_field(leader, b"ShdPnd"), 16)
            if not pending & _KILL_BIT and _field(leader, b"State")[:1] not in b"ZX":
                return  # only this thread ends
        sockets = sockets_of(tid)
        if sockets:
            sockets -= self._held_by_others(pid)
        rows = self._look(sockets) if sockets else []
        self._leaving[pid] = _Leaving(_command(pid, tid), time.monotonic_ns(), sockets, rows)

    def _held_by_others(self, pid: int) -> frozenset[int]:
        held: frozenset[int] = frozenset()
        for other in self.alive - self._leaving.keys() - {pid}:  # who leaves closes them as well
            with contextlib.suppress(OSError, Unsupported):
                if _process_of(other) == other:
                    held |= sockets_of(other)
        return held

    def _ptrace(self, request: int, pid: int, address: int, data: int) -> bool:
        arguments = (ctypes.c_long(request), ctypes.c_long(pid))
        places = (ctypes.c_void_p(address), ctypes.c_void_p(data))
        return int(self._libc.ptrace(*arguments, *places)) == 0


def _is_own_proc() -> bool:
    """Whether /proc is that of this PID namespace: a container may forbid to mount another."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())  # noqa: PTH115 - imports little
    except OSError:
        return False


def _process_of(tid: int) -> int:
    return int(_field(_status(tid), b"Tgid"))


def _status(pid: int) -> bytes:
    """Read at each thread's end, which waits for it: no faster way is known."""
    fd = os.open(f"/proc/{pid}/status", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 8192)
    finally:
        os.close(fd)


def _field(status: bytes, name: bytes) -> bytes:
    begins = status.index(b"\n" + name + b":\t") + len(name) + 3
    return status[begins : status.index(b"\n", begins)]


def _command(pid: int, tid: int) -> str:
    """Its command line, or its name where it has none any more.

    A thread of it that has yet to end still has that, where the first one is gone already.
    """
    try:
        octets = Path(f"/proc/{tid}/cmdline").read_bytes()
        program, *words = octets.decode(errors="replace").split("\0")
        line = " ".join([program.rpartition("/")[2], *(word for word in words if word)])
        return line or Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return ""
