"""What the programs here wait for: states of this network's sockets, as /proc/net/tcp has them."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

LISTEN, ESTABLISHED, CLOSE_WAIT = "0A", "01", "08"  # net/tcp_states.h
_never = threading.Event()


def idle(seconds: float) -> None:
    """Does nothing for so long, as a program with nothing to do."""
    _never.wait(seconds)


def states(port: int, *, peer: bool = False) -> list[str]:
    """The states of the sockets with that local port, or with that remote one."""
    found = []
    for table in ("tcp", "tcp6"):
        path = Path(f"/proc/net/{table}")
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            fields = line.split()
            if int(fields[2 if peer else 1].rpartition(":")[2], 16) == port:
                found.append(fields[3])
    return found


def until(condition: Callable[[], bool]) -> None:
    while not condition():
        _never.wait(0.005)


def served(command: list[str], port: int, stdout: int | None = None) -> subprocess.Popen[bytes]:
    """Starts a server and waits until it listens."""
    process = subprocess.Popen(command, stdout=stdout)
    until(lambda: LISTEN in states(port) or process.poll() is not None)
    assert process.poll() is None, f"{command} has ended"
    return process


def until_gone(port: int) -> None:
    """Until the server on that port has nothing left but listeners and TIME-WAIT."""
    until(lambda: set(states(port)) <= {LISTEN, "06"})
