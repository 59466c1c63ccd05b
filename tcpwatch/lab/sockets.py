"""A host's own account of its sockets, as a play looks at it: `ss`, `ss -K` and `nstat` as verbs.

Owns: what an entry of the socket table says in words, the end of a socket by its administrator's
hand, the kernel's counters. It has a netlink socket of its own: another thread samples the same
table through another. Must not know the witnesses, on whom no verb here depends.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tcpwatch.lab import diag
from tcpwatch.lab.failures import Unsupported
from tcpwatch.model.identity import FourTuple, SocketAddress
from tcpwatch.tcp.state import TcpState

_TIMEOUT_S = 5.0
_ALL_STATES = 0x1FFE  # net/tcp_states.h: 1 to 12
_TIMERS = ("", "on", "keepalive", "timewait", "persist")  # Linux: inet_sk_diag_fill(); ss's words
_COUNTERS = ("netstat", "snmp")  # of /proc/PID/net


@dataclass(frozen=True, slots=True)
class Entry:
    """A socket as its kernel's table has it, in the words of RFC 9293 and of `ss`.

    ``inode`` 0: no process holds it. Of a listener, ``receive_queue`` is how many wait to be
    accepted and ``send_queue`` the backlog; else they are octets, and an unread FIN counts as one.
    ``timer``: ``on`` (retransmission), ``keepalive``, ``timewait``, ``persist`` (zero window
    probes), or empty. A socket that is not in the table is CLOSED and nothing else.
    """

    state: str = str(TcpState.CLOSED)
    inode: int = 0
    receive_queue: int = 0
    send_queue: int = 0
    timer: str = ""
    ends: FourTuple | None = None
    row: diag.Row | None = field(default=None, repr=False)

    @classmethod
    def of(cls, row: diag.Row) -> Entry:
        """Raises ValueError where the kernel has a state that there was not."""
        ports = [int.from_bytes(row.id[at : at + 2]) for at in (0, 2)]
        local, remote = map(SocketAddress, _addresses(row), ports)
        return cls(
            str(TcpState.from_linux(row.state)),
            row.inode,
            row.receive_queue,
            row.send_queue,
            _TIMERS[row.timer] if row.timer < len(_TIMERS) else str(row.timer),
            FourTuple(local, remote),
            row,
        )

    @property
    def listed(self) -> tuple[str, ...]:
        """Both addresses as the table has them, a v4-mapped one with its ``::ffff:``."""
        return () if self.row is None else tuple(_addresses(self.row))


def _addresses(row: diag.Row) -> Iterator[str]:
    length = 4 if row.family == socket.AF_INET else 16
    for at in (4, 20):  # linux/inet_diag.h: inet_diag_sockid
        yield socket.inet_ntop(row.family, row.id[at : at + length])


class SocketTable:
    """The TCP sockets of one network namespace. ``asked`` is closed with it."""

    def __init__(self, asked: socket.socket) -> None:
        self._asked = asked
        self._asked.settimeout(_TIMEOUT_S)

    def entries(self) -> list[Entry]:
        """All that there are now, listeners first. Raises OSError."""
        return [Entry.of(row) for row in diag.dump(self._asked, _ALL_STATES)]

    def destroy(self, entry: Entry) -> int:
        """Ends that very socket as `ss -K` does; the errno, 0 where it is no more."""
        return errno.ENOENT if entry.row is None else diag.destroy(self._asked, entry.row)

    def close(self) -> None:
        """Closes the netlink socket. Idempotent."""
        self._asked.close()


def destroy_failure(number: int, entry: Entry) -> Exception:
    """Why a socket was not destroyed: Unsupported, or the OSError."""
    if number == errno.EOPNOTSUPP:
        return Unsupported(
            "this kernel cannot destroy a socket",
            "it needs one that was built with CONFIG_INET_DIAG_DESTROY",
        )
    if number in (errno.EPERM, errno.EACCES):
        return Unsupported("this user may not destroy a socket of the lab", "run as root")
    return OSError(number, f"{os.strerror(number)}, from SOCK_DESTROY of {entry.ends}")


def counter(pid: int, name: str) -> int:
    """A TCP counter of the network namespace that ``pid`` is in, by the name that `nstat` has.

    ``ListenOverflows`` of its group TcpExt, ``OutRsts`` of Tcp. Raises Unsupported where this
    kernel has no such counter, OSError.
    """
    for file in _COUNTERS:
        lines = Path(f"/proc/{pid}/net/{file}").read_text(encoding="ascii").splitlines()
        # A line of names, then one of values, each begun with the group's name.
        for names, values in zip(lines[::2], lines[1::2], strict=True):
            group, *columns = names.split()
            if group in ("Tcp:", "TcpExt:") and name in columns:
                return int(values.split()[1 + columns.index(name)])
    raise Unsupported(f"this kernel has no TCP counter {name}")
