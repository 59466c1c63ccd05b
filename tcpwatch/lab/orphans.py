"""The TCP sockets that a host's kernel holds, and their end: over netlink sock_diag.

Owns: the messages for that (linux/inet_diag.h, sock_diag.h), and which socket may be destroyed.
A socket without a process retransmits its FIN into a wire that is no more, and keeps its network
namespace for over a minute. Runs in the supervisor only. Must not know actors.
"""

from __future__ import annotations

import os
import re
import socket
import struct
from typing import NamedTuple

_TCPDIAG_GETSOCK, _SOCK_DESTROY = 18, 21  # the former takes family "unspecified": both at once
_REQUEST, _ACK, _DUMP = 0x001, 0x004, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_DUMP_REQUEST = struct.Struct("=BBBB48xII")  # inet_diag_req: family, -, -, ext, id, states, dbs
_DESTROY_REQUEST = struct.Struct("=BBBxI48s")  # inet_diag_req_v2: family, protocol, ext, states, id
_ROW = struct.Struct("=16xBB2x48s16xI")  # behind its nlmsghdr inet_diag_msg: .. id, .., inode
_ERRNO = struct.Struct("=i")
_BUFFER_OCTETS = 1 << 16  # the kernel fills at most 32 kB a message (af_netlink.c)
_ROUNDS = 4  # one suffices, unless a socket was just changing its state
_TIMEOUT_S = 1.0

# net/tcp_states.h. TIME-WAIT is not among the wanted: it does not hold its namespace.
_FIN_WAIT_1, _FIN_WAIT_2, _TIME_WAIT, _LAST_ACK, _CLOSING = 4, 5, 6, 9, 11
_WANTED = 0x1FFE & ~(1 << _TIME_WAIT)
_WITHOUT_PROCESS = {_FIN_WAIT_1, _FIN_WAIT_2, _LAST_ACK, _CLOSING}


class _Row(NamedTuple):
    family: int
    state: int
    id: bytes
    inode: int


def destroy_sockets(diag: socket.socket) -> None:
    """Destroys every TCP socket of the namespace that ``diag``, a sock_diag socket, is of.

    Its peer gets a RST. What this kernel cannot destroy stays. Raises OSError where it cannot be
    asked.
    """
    diag.settimeout(_TIMEOUT_S)
    orphans_too = destroys_orphans(os.uname().release)
    for _ in range(_ROUNDS):
        rows = [row for row in _dump(diag) if orphans_too or not _is_orphan(row)]
        destroyed = [_destroy(diag, row) for row in rows]
        if not any(destroyed):
            return


def destroys_orphans(release: str) -> bool:
    """From Linux 6.11: before it the orphan lost its timer only, and lived for ever.

    Linux: commit bac76cf89816, "tcp: fix forever orphan socket caused by tcp_abort".
    """
    numbers = re.match(r"(\d+)\.(\d+)", release)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= (6, 11)


def _is_orphan(row: _Row) -> bool:
    return row.inode == 0 and row.state in _WITHOUT_PROCESS


def _dump(diag: socket.socket) -> list[_Row]:
    body = _DUMP_REQUEST.pack(socket.AF_UNSPEC, 0, 0, 0, _WANTED, 0)
    messages, _ = _ask(diag, _TCPDIAG_GETSOCK, _DUMP, body)
    return [_Row(*_ROW.unpack_from(message)) for message in messages]


def _destroy(diag: socket.socket, row: _Row) -> bool:
    """Whether it was there and is no more; not where the kernel has no CONFIG_INET_DIAG_DESTROY."""
    body = _DESTROY_REQUEST.pack(row.family, socket.IPPROTO_TCP, 0, 0, row.id)
    return _ask(diag, _SOCK_DESTROY, _ACK, body)[1] == 0


def _ask(diag: socket.socket, kind: int, flags: int, body: bytes) -> tuple[list[bytes], int]:
    """The kernel's messages to a request, and the errno at their end (0: done)."""
    length = _HEADER.size + len(body)
    diag.sendto(_HEADER.pack(length, kind, _REQUEST | flags, 0, 0) + body, (0, 0))
    messages: list[bytes] = []
    while True:
        data = diag.recv(_BUFFER_OCTETS)
        while data:
            length, kind, *_ = _HEADER.unpack_from(data)
            if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                return messages, -_ERRNO.unpack_from(data, _HEADER.size)[0]
            messages.append(data[:length])
            data = data[(length + 3) & ~3 :]
