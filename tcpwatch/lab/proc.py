"""What the operating system says of a process, looked at from outside as `ps` and `lsof` do.

Owns: zombies, open sockets, threads, whether a process sleeps or stands still. Must not know
actors, programs or plays: it is given a pid, as this process sees it, and asks anew each time.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from pathlib import Path

from tcpwatch.lab.failures import Unsupported

_LOOK_S = 0.001  # between two looks
_STOP_S = 5.0  # until a process stands still; some microseconds are usual
_SOCKET = re.compile(r"socket:\[(\d+)\]")  # Linux: sockfs_dname() in net/socket.c


def zombies_of(pid: int) -> int:
    """How many of its children have ended and are not reaped. Raises ProcessLookupError."""
    import psutil

    try:
        children = psutil.Process(pid).children()
    except psutil.NoSuchProcess:
        raise ProcessLookupError(pid) from None
    zombies = 0
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):  # reaped between the two looks
            zombies += child.status() == psutil.STATUS_ZOMBIE
    return zombies


def threads_of(pid: int) -> int:
    """How many threads it has. Raises ProcessLookupError."""
    import psutil

    try:
        return int(psutil.Process(pid).num_threads())
    except psutil.NoSuchProcess:
        raise ProcessLookupError(pid) from None


def sleeps(pid: int) -> bool:
    """Whether its first thread waits for something, not for the processor.

    Raises ProcessLookupError.
    """
    import psutil

    try:
        status = psutil.Process(pid).status()
    except psutil.NoSuchProcess:
        raise ProcessLookupError(pid) from None
    return status in {psutil.STATUS_SLEEPING, psutil.STATUS_DISK_SLEEP}


def own_number(pid: int) -> int:
    """The number of that process in its own namespace; the same where it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return pid
    numbers = status.partition("\nNSpid:")[2].partition("\n")[0].split()
    return int(numbers[-1]) if numbers else pid


def sockets_of(pid: int) -> frozenset[int]:
    """The inodes of the sockets it has open: proc(5), ``/proc/PID/fd``.

    Raises ProcessLookupError; Unsupported where there is no /proc, or it is not to be read.
    """
    links: list[str] = []
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                links.append(os.readlink(entry))  # noqa: PTH115 - it is no path
            except FileNotFoundError:  # closed between the two looks
                continue
    except FileNotFoundError:
        if Path("/proc/self/fd").is_dir():
            raise ProcessLookupError(pid) from None
        raise Unsupported("there is no /proc to see a process's descriptors in") from None
    except PermissionError:
        raise Unsupported(f"this user may not see the descriptors of process {pid}") from None
    return frozenset(int(found[1]) for found in map(_SOCKET.fullmatch, links) if found)


def wait_stopped(pid: int) -> None:
    """Until it stands still after SIGSTOP, or has ended. Raises TimeoutError."""
    import psutil

    never = threading.Event()
    give_up = time.monotonic() + _STOP_S
    still = (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    try:
        process = psutil.Process(pid)
        while process.status() not in still:
            if time.monotonic() > give_up:
                raise TimeoutError(f"process {pid} has not stopped within {_STOP_S:g} s")
            never.wait(_LOOK_S)
    except psutil.NoSuchProcess:
        return
