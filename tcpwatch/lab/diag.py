"""A namespace's TCP sockets over netlink sock_diag, as the lab asks for them: dump, destroy.

Owns: the messages (linux/inet_diag.h, sock_diag.h). The supervisor needs it too: imports little.
Must not know whose a socket is, nor why it is to be destroyed.
"""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

_TCPDIAG_GETSOCK, _SOCK_DESTROY = 18, 21  # the former takes family "unspecified": both at once
_REQUEST, _ACK, _DUMP = 0x001, 0x004, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_DUMP_REQUEST = struct.Struct("=BBBB48xII")  # inet_diag_req: family, -, -, ext, id, states, dbs
_DESTROY_REQUEST = struct.Struct("=BBBxI48s")  # inet_diag_req_v2: family, protocol, ext, states, id
_ROW = struct.Struct("=16xBBBB48sIIIII")  # behind its nlmsghdr: inet_diag_msg
_ERRNO = struct.Struct("=i")
_BUFFER_OCTETS = 1 << 16  # the kernel fills at most 32 kB a message (af_netlink.c)


class Row(NamedTuple):
    """One socket as the kernel's inet_diag_msg has it; ``id`` names it for its whole life."""

    family: int
    state: int  # net/tcp_states.h
    timer: int
    retransmissions: int
    id: bytes
    expires_ms: int
    receive_queue: int
    send_queue: int
    uid: int
    inode: int


def dump(diag: socket.socket, states: int) -> list[Row]:
    """The sockets of ``diag``'s namespace in these states, a bit for each. Raises OSError."""
    body = _DUMP_REQUEST.pack(socket.AF_UNSPEC, 0, 0, 0, states, 0)
    messages, _ = _ask(diag, _TCPDIAG_GETSOCK, _DUMP, body)
    return [Row(*_ROW.unpack_from(message)) for message in messages]


def destroy(diag: socket.socket, row: Row) -> int:
    """Destroys that very socket; the kernel's errno, 0 where it was there and is no more.

    EOPNOTSUPP without CONFIG_INET_DIAG_DESTROY, EPERM without CAP_NET_ADMIN in the namespace.
    """
    body = _DESTROY_REQUEST.pack(row.family, socket.IPPROTO_TCP, 0, 0, row.id)
    return _ask(diag, _SOCK_DESTROY, _ACK, body)[1]


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
