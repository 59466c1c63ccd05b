"""The socket table by psutil: for systems without sock_diag, and to check the other sampler by.

Owns: psutil's rows in the shape of `sockdiag.Row`. psutil tells neither queues, users nor timers,
and outside Linux no inodes: they are 0. Its figures are those of the current namespace, or of a
given process's.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from tcpwatch.errors import TcpwatchError
from tcpwatch.model.witness import Availability
from tcpwatch.sources.sockdiag import Row, Rows, Sampler, row_id
from tcpwatch.tcp.state import TcpState

BLIND_SPOTS = (
    "states shorter than the interval between two polls",
    "queues, users and timers",
    "TIME-WAIT outside Linux: it belongs to no process",
)

_LINUX_NUMBER = {TcpState.from_linux(number): number for number in range(11, 0, -1)}
_ANY: dict[int, tuple[str, int]] = {socket.AF_INET: ("0.0.0.0", 0), socket.AF_INET6: ("::", 0)}  # noqa: S104 - no bind
_REMEDY = "run as root, or use the sockdiag sampler"


def probe() -> Availability:
    """Whether psutil can read the table of the current namespace; reads it once."""
    try:
        sample()
    except TcpwatchError as error:
        return Availability("table", False, error.message, error.remedy, BLIND_SPOTS)
    return Availability("table", True, "psutil", "", BLIND_SPOTS)


def sample() -> Rows:
    """The TCP sockets of the current namespace. Raises TcpwatchError."""
    import psutil

    if psutil.LINUX:
        # psutil.net_connections() first searches every process's descriptors for owners, which
        # nobody here wants to know and which takes most of its time.
        return sample_proc("self")
    try:
        found = psutil.net_connections(kind="tcp")
    except (psutil.Error, OSError, RuntimeError) as error:
        raise TcpwatchError(f"psutil cannot list the connections ({error})", _REMEDY) from error
    return _rows((each.family, each.laddr, each.raddr, each.status, 0) for each in found)


class _Inodes(dict[str, list[tuple[int, int]]]):
    """What psutil's parser asks for the owner of an inode: it answers with the inode itself."""

    def __contains__(self, inode: object) -> bool:
        return True

    def __missing__(self, inode: str) -> list[tuple[int, int]]:
        return [(int(inode), -1)]


def sample_proc(pid: int | str) -> Rows:
    """The TCP sockets of that process's network namespace (Linux). Raises TcpwatchError."""
    # psutil's parser without the search for owners. The public road, psutil.PROCFS_PATH, is one
    # variable for all threads, and others use psutil meanwhile to look at processes.
    try:
        from psutil._pslinux import NetConnections

        parse = NetConnections.process_inet
    except (ImportError, AttributeError) as error:
        raise TcpwatchError(f"this psutil has no parser to use ({error})", _REMEDY) from error
    try:
        return _rows(
            (family, local, remote, status, inode)
            for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6))
            for _, _, _, local, remote, status, inode in parse(
                f"/proc/{pid}/net/{name}", family, socket.SOCK_STREAM, _Inodes()
            )
        )
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise TcpwatchError(f"psutil cannot read /proc/{pid}/net/tcp ({error})", _REMEDY) from error


def sampler(pid: int | str = "self") -> Sampler:
    """`sample_proc` with its argument, as `table.TableSource` takes it."""
    return partial(sample_proc, pid)


def _rows(found: Iterable[tuple[int, Any, Any, str, int]]) -> Rows:
    return Rows(list(_convert(found)), atomic=False)


def _convert(found: Iterable[tuple[int, Any, Any, str, int]]) -> Iterator[Row]:
    for family, local, remote, status, inode in found:
        state = TcpState.parse(status)
        # Listeners may share an address (SO_REUSEPORT); others end without their inode.
        cookie = inode if inode and state is TcpState.LISTEN else None
        # psutil gives an empty tuple for port 0.
        ident = row_id(tuple(local) or _ANY[family], tuple(remote) or _ANY[family], family, cookie)
        yield Row(int(family), _LINUX_NUMBER[state], 0, 0, ident, 0, 0, 0, 0, inode)
