"""A private instance of the kernel's tracing, made, used and removed without mounting anything.

Owns: where tracefs is, the life of our instance directory, and every descriptor into it. Must not
know which events are of interest or what is in their records.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import itertools
import os
import re
import time
from pathlib import Path

from tcpwatch.errors import TcpwatchError

_USUAL = Path("/sys/kernel/tracing")
_NAME = re.compile(r"tcpwatch-(\d+)-\d+")
# The numbers are the same on every architecture (include/uapi/asm-generic/unistd.h).
_SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT = 430, 431, 432
_FSCONFIG_CMD_CREATE = 6
_CLOEXEC = 1  # FSOPEN_CLOEXEC and FSMOUNT_CLOEXEC
_REMOVE_TIMEOUT_S = 1.0
_OVERRUNS = re.compile(r"^(?:overrun|commit overrun|dropped events): (\d+)$", re.MULTILINE)

_numbers = itertools.count()
_descriptors: set[int] = set()


def _forget_in_child() -> None:
    # An instance cannot be removed while anyone holds its files, and a forked child would.
    for descriptor in _descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _descriptors.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)


def own(descriptor: int) -> int:
    """Has the descriptor closed in every child that this process forks. `release` it."""
    _descriptors.add(descriptor)
    return descriptor


def release(descriptor: int) -> None:
    """Closes an owned descriptor once; in a forked child, where it is closed, does nothing."""
    if descriptor in _descriptors:
        _descriptors.discard(descriptor)
        os.close(descriptor)


class Tracefs:
    """The root of a tracefs: the mounted one, or one of our own that is attached nowhere.

    Raises TcpwatchError where there is none to be had. `close` it.
    """

    def __init__(self) -> None:
        self._mount = -1
        self.root = _USUAL
        if not os.access(_USUAL / "instances", os.W_OK):
            self._mount = own(_detached_mount())
            self.root = Path(f"/proc/self/fd/{self._mount}")

    def close(self) -> None:
        """Idempotent."""
        release(self._mount)

    def read(self, name: str) -> str:
        """The text of a file below the root. Raises TcpwatchError."""
        return _read(self.root / name)

    def remove_stale(self) -> None:
        """Removes the instances that processes of ours left behind when they were killed."""
        for entry in _entries(self.root / "instances"):
            match = _NAME.fullmatch(entry)
            if match and not Path(f"/proc/{match[1]}").exists():
                # EBUSY: its process lives in another PID namespace.
                with contextlib.suppress(OSError):
                    (self.root / "instances" / entry).rmdir()


class Instance:
    """One instance directory, `tcpwatch-<pid>-<n>`: buffers and switches of our own.

    Raises TcpwatchError where it cannot be made.
    """

    def __init__(self, tracefs: Tracefs) -> None:
        while True:
            name = f"tcpwatch-{os.getpid()}-{next(_numbers)}"
            self.path = tracefs.root / "instances" / name
            try:
                self.path.mkdir()
            except FileExistsError:  # from an earlier process with our pid
                with contextlib.suppress(OSError):
                    self.path.rmdir()
            except OSError as error:
                raise _refused("make a tracing instance", error) from error
            else:
                return

    def write(self, name: str, text: str) -> None:
        """Raises TcpwatchError."""
        try:
            (self.path / name).write_text(text)
        except OSError as error:
            raise _refused(f"write {text!r} to {name}", error) from error

    def read(self, name: str) -> str:
        """Raises TcpwatchError."""
        return _read(self.path / name)

    def has(self, name: str) -> bool:
        """Whether this kernel offers that file."""
        return (self.path / name).exists()

    def open_cpus(self) -> dict[str, int]:
        """A descriptor of the binary pipe of each CPU, which does not block. `release` each."""
        opened = {}
        try:
            for cpu in _entries(self.path / "per_cpu"):
                pipe = self.path / "per_cpu" / cpu / "trace_pipe_raw"
                opened[cpu] = own(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError as error:
            for descriptor in opened.values():
                release(descriptor)
            raise _refused("open trace_pipe_raw", error) from error
        return opened

    def overruns(self, cpu: str) -> int:
        """How many events that CPU's buffer has lost for want of room, ever."""
        stats = self.read(f"per_cpu/{cpu}/stats")
        return sum(int(match[1]) for match in _OVERRUNS.finditer(stats))

    def remove(self) -> None:
        """Removes the instance, and with it the events it enabled; its pipes must be released.

        Waits a moment for a child that was just forked to execute. Raises TcpwatchError.
        """
        deadline_s = time.monotonic() + _REMOVE_TIMEOUT_S
        while True:
            try:
                self.path.rmdir()
            except FileNotFoundError:
                return
            except OSError as error:
                if error.errno != errno.EBUSY or time.monotonic() > deadline_s:
                    raise _refused("remove the tracing instance", error) from error
                time.sleep(0.002)
            else:
                return


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise _refused(f"read {path.name}", error) from error


def _entries(path: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in path.iterdir())
    except OSError as error:
        raise _refused(f"list {path.name}", error) from error


def _detached_mount() -> int:
    """A descriptor of a tracefs that no directory shows: nothing on the host changes."""
    if not hasattr(os, "eventfd"):
        raise TcpwatchError("tracefs exists only on Linux", "use the other witnesses")
    libc = ctypes.CDLL(None, use_errno=True)

    def call(number: int, *arguments: object) -> int:
        result: int = libc.syscall(ctypes.c_long(number), *arguments)
        if result < 0:
            code = ctypes.get_errno()
            error = OSError(code, os.strerror(code))
            raise _refused("open tracefs", error) from error
        return result

    context = call(_SYS_FSOPEN, b"tracefs", _CLOEXEC)
    try:
        call(_SYS_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0)
        return call(_SYS_FSMOUNT, context, _CLOEXEC, 0)
    finally:
        os.close(context)


def _refused(what: str, error: OSError) -> TcpwatchError:
    reason = error.strerror or str(error)
    if error.errno in (errno.EPERM, errno.EACCES, errno.EROFS):
        remedy = "run as root of the host (CAP_SYS_ADMIN, no kernel lockdown)"
    elif error.errno in (errno.ENODEV, errno.ENOENT, errno.ENOSYS):
        remedy = "it takes Linux 5.2 or newer with CONFIG_FTRACE"
    else:
        remedy = ""
    return TcpwatchError(f"cannot {what} ({reason})", remedy)
