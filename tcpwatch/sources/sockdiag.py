"""The kernel's socket table over netlink sock_diag: dump it, destroy a socket.

Owns: the messages of linux/inet_diag.h and sock_diag.h, and the one row shape of every sampler.
Must not know what a change between two dumps means; `table` does.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple

from tcpwatch.errors import TcpwatchError
from tcpwatch.model.identity import FourTuple, SocketAddress
from tcpwatch.model.witness import Availability
from tcpwatch.tcp.state import TcpState

BLIND_SPOTS = (
    "states shorter than the interval between two dumps",
    "what happened between two dumps, and in which order",
    "SYN-RECEIVED under SYN cookies (there is no request socket)",
)

_NETLINK_SOCK_DIAG = 4
_TCPDIAG_GETSOCK = 18  # the older request: the only one that takes family "unspecified"
_SOCK_DIAG_BY_FAMILY = 20
_SOCK_DESTROY = 21
_REQUEST, _ACK, _DUMP = 0x001, 0x004, 0x300
_F_MULTI, _F_DUMP_INTR = 0x02, 0x10
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_ANY_FAMILY: tuple[int, ...] = (socket.AF_INET, socket.AF_INET6)

_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_OLD_REQUEST = struct.Struct("=BBBB48xII")  # inet_diag_req: family, -, -, ext, id, states, dbs
_REQUEST_V2 = struct.Struct("=BBBxI48s")  # inet_diag_req_v2: family, protocol, ext, states, id
_ERRNO = struct.Struct("=i")
_ID = struct.Struct("!HH16s16s")  # inet_diag_sockid: the ports and addresses; then if, cookie
_ID_REST = struct.Struct("=III")
_ROW_FORMAT = "=16xBBBB48sIIIII"  # behind its nlmsghdr: inet_diag_msg
_ROW_LENGTH = struct.calcsize(_ROW_FORMAT)
_NO_COOKIE = 0xFFFFFFFF
_BUFFER_OCTETS = 1 << 16  # the kernel fills at most 32 kB a message (af_netlink.c)
_RECEIVE_BUFFER_OCTETS = 1 << 20
_REPETITIONS = 2
_TIMEOUT_S = 5.0


def state_mask(states: Iterable[TcpState]) -> int:
    """The kernel's bit mask for these states."""
    wanted = set(states)
    return sum(1 << n for n in range(1, 13) if TcpState.from_linux(n) in wanted)


ALL_STATES = state_mask(TcpState)
TRANSIENT_STATES = state_mask(
    set(TcpState) - {TcpState.LISTEN, TcpState.ESTABLISHED, TcpState.TIME_WAIT, TcpState.CLOSED}
)


@lru_cache(maxsize=8192)
def _endpoints(family: int, ids: bytes) -> tuple[SocketAddress, SocketAddress]:
    source_port, destination_port, source, destination = _ID.unpack(ids)
    if family == socket.AF_INET:
        source, destination = source[:4], destination[:4]
    return (
        SocketAddress(socket.inet_ntop(family, source), source_port),
        SocketAddress(socket.inet_ntop(family, destination), destination_port),
    )


class Row(NamedTuple):
    """One socket as the kernel's inet_diag_msg has it; addresses are formatted only when asked for.

    ``id`` (48 octets: ports, addresses, interface, cookie) names a socket for its whole life, from
    request socket to TIME-WAIT minisocket, where the sampler knows the cookie. ``timer`` is as in
    `SocketSampled`, ``expires_ms`` the time until it fires. ``inode`` 0: request socket,
    minisocket, orphan, never accepted, or unknown to the sampler.
    """

    family: int
    linux_state: int
    timer: int
    retransmissions: int
    id: bytes
    expires_ms: int
    receive_queue: int
    send_queue: int
    uid: int
    inode: int

    @property
    def endpoints(self) -> tuple[SocketAddress, SocketAddress]:
        """Local and remote address."""
        return _endpoints(self.family, self.id[:36])

    @property
    def state(self) -> TcpState:
        return TcpState.from_linux(self.linux_state)


def row_id(
    local: tuple[str, int], remote: tuple[str, int], family: int, cookie: int | None = None
) -> bytes:
    """The ``id`` of a `Row` from addresses in text; without a cookie any socket of that tuple."""
    low, high = (_NO_COOKIE,) * 2 if cookie is None else (cookie & _NO_COOKIE, cookie >> 32)
    packed = [socket.inet_pton(family, ip).ljust(16, b"\0") for ip, _ in (local, remote)]
    return _ID.pack(local[1], remote[1], *packed) + _ID_REST.pack(0, low, high)


@dataclass(frozen=True, slots=True)
class Rows:
    """One sample of a socket table.

    ``problem`` is empty, or why rows may be missing. ``atomic`` is False where the kernel gave the
    table in several pieces: a socket that changed meanwhile may be missing, or be there twice.
    """

    rows: list[Row]
    problem: str = ""
    atomic: bool = True


Sampler = Callable[[], Rows]


def open_socket() -> socket.socket:
    """A sock_diag socket in the calling thread's network namespace, for `dump` and `destroy`.

    It stays in that namespace wherever it is used. Raises TcpwatchError where there is none.
    """
    try:
        sock = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG
        )
    except (AttributeError, OSError) as error:
        raise TcpwatchError(
            f"no netlink sock_diag here ({error})", "use the psutil sampler: --sampler psutil"
        ) from error
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_OCTETS)
    sock.settimeout(_TIMEOUT_S)
    return sock


def probe() -> Availability:
    """Whether the table can be dumped from here; dumps the listeners to find out."""
    try:
        with open_socket() as sock:
            rows = dump(sock, states=state_mask([TcpState.LISTEN]))
    except TcpwatchError as error:
        return Availability("table", False, error.message, error.remedy, BLIND_SPOTS)
    detail = f"sock_diag{', ' + rows.problem if rows.problem else ''}"
    return Availability("table", True, detail, "", BLIND_SPOTS)


def sampler(sock: socket.socket, states: int = ALL_STATES) -> Sampler:
    """`dump` with its arguments, as `table.TableSource` takes it."""
    return partial(dump, sock, states=states)


def dump(
    sock: socket.socket, *, states: int = ALL_STATES, families: tuple[int, ...] = _ANY_FAMILY
) -> Rows:
    """The TCP sockets of the socket's namespace in these states (`state_mask`).

    A dump that the kernel calls inconsistent is repeated, then returned with its ``problem``.
    Raises TcpwatchError where the kernel refuses.
    """
    rows: list[Row] = []
    problem, atomic = "", len(families) == 1 or families == _ANY_FAMILY
    for message_type, family in _requests(families):
        part = _one_dump(sock, message_type, family, states)
        for _ in range(_REPETITIONS):
            if part.problem:
                part = _one_dump(sock, message_type, family, states)
        rows += part.rows
        problem, atomic = problem or part.problem, atomic and part.atomic
    return Rows(rows, problem, atomic)


def destroy(sock: socket.socket, four_tuple: FourTuple) -> bool:
    """Destroys that socket (SOCK_DESTROY); its process gets ECONNABORTED. False: no such socket.

    Raises TcpwatchError without CAP_NET_ADMIN in the namespace, or without kernel support.
    """
    local, remote = four_tuple.local, four_tuple.remote
    family = socket.AF_INET6 if ":" in local.ip else socket.AF_INET
    ident = row_id((local.ip, local.port), (remote.ip, remote.port), family)
    body = _REQUEST_V2.pack(family, socket.IPPROTO_TCP, 0, ALL_STATES, ident)
    reply = bytearray(_BUFFER_OCTETS)
    sequence = _send(sock, _SOCK_DESTROY, _REQUEST | _ACK, body)
    while True:
        octets = _receive(sock, reply)
        if octets < _HEADER.size + _ERRNO.size:
            raise TcpwatchError("the kernel's answer to SOCK_DESTROY is too short")
        _, kind, _, answers, _ = _HEADER.unpack_from(reply)
        if answers == sequence and kind == _NLMSG_ERROR:
            break
    number: int = -_ERRNO.unpack_from(reply, _HEADER.size)[0]
    if number not in (0, errno.ENOENT):
        remedy = "run as root" if number in (errno.EPERM, errno.EACCES) else ""
        reason = os.strerror(number)
        raise TcpwatchError(f"cannot destroy the socket {four_tuple} ({reason})", remedy)
    return number == 0


def _requests(families: tuple[int, ...]) -> list[tuple[int, int]]:
    if set(families) == set(_ANY_FAMILY):
        # One walk over the kernel's hash table instead of two: inet_diag_dump_compat() passes
        # AF_UNSPEC, which sock_diag proper refuses with ENOENT.
        return [(_TCPDIAG_GETSOCK, socket.AF_UNSPEC)]
    return [(_SOCK_DIAG_BY_FAMILY, family) for family in families]


_sequence = 0


def _send(sock: socket.socket, message_type: int, flags: int, body: bytes) -> int:
    global _sequence  # noqa: PLW0603 - only has to differ from the one before on the same socket
    _sequence = (_sequence + 1) % (1 << 32)
    sequence = _sequence
    header = _HEADER.pack(_HEADER.size + len(body), message_type, flags, sequence, 0)
    try:
        sock.sendto(header + body, (0, 0))
    except OSError as error:
        raise TcpwatchError(f"cannot ask the kernel for its sockets ({error.strerror})") from error
    return sequence


def _receive(sock: socket.socket, into: bytearray) -> int:
    try:
        return sock.recv_into(into, 0, socket.MSG_TRUNC)
    except TimeoutError as error:
        raise TcpwatchError(
            f"the kernel did not answer a sock_diag request within {_TIMEOUT_S:.0f} s"
        ) from error
    except OSError as error:
        raise TcpwatchError(f"the dump of the socket table failed ({error.strerror})") from error


def _one_dump(sock: socket.socket, message_type: int, family: int, states: int) -> Rows:
    if message_type == _TCPDIAG_GETSOCK:
        body = _OLD_REQUEST.pack(family, 0, 0, 0, states, 0)
    else:
        body = _REQUEST_V2.pack(family, socket.IPPROTO_TCP, 0, states, b"")
    sequence = _send(sock, message_type, _REQUEST | _DUMP, body)
    parser = DumpParser(message_type, sequence)
    buffer = bytearray(_BUFFER_OCTETS)
    while not parser.done:
        octets = _receive(sock, buffer)
        if octets > len(buffer):
            parser.problem = "a message of the dump was longer than the buffer"
            octets = len(buffer)
        parser.feed(buffer, octets)
    if parser.error:
        raise TcpwatchError(
            f"the kernel refuses to dump its sockets ({os.strerror(parser.error)})",
            "use the psutil sampler: --sampler psutil",
        )
    return Rows(parser.rows, parser.problem, parser.pieces <= 1)


class DumpParser:
    """Collects the rows of one dump from its netlink messages; survives any octets.

    What does not fit becomes ``problem``, the kernel's refusal ``error`` (an errno); ``done`` is
    True once no further message will come.
    """

    def __init__(self, message_type: int, sequence: int) -> None:
        self.rows: list[Row] = []
        self.problem = ""
        self.error = 0
        self.done = False
        self.pieces = 0
        self._expected = _HEADER.pack(0, message_type, _F_MULTI, sequence, 0)[4:12]
        self._message_type = message_type
        self._sequence = sequence

    def feed(self, buffer: bytearray, octets: int) -> None:
        """Takes what one read of the socket gave: the first ``octets`` of ``buffer``."""
        offset, before = 0, len(self.rows)
        while offset + _HEADER.size <= octets and not self.done:
            offset += self._run(buffer, offset, octets) or self._one(buffer, offset, octets)
        self.pieces += len(self.rows) > before

    def _run(self, buffer: bytearray, offset: int, octets: int) -> int:
        """Takes a run of rows of one length all at once; returns how many octets that was."""
        length = int.from_bytes(buffer[offset : offset + 4], "little" if _LITTLE else "big")
        if length < _ROW_LENGTH or length % 4 or offset + length > octets:
            return 0
        count = (octets - offset) // length
        end = offset + count * length
        wanted = buffer[offset : offset + 4] + self._expected
        # The header of row k stands at k * length as long as all before it had that length, so
        # the shortest prefix that agrees in every octet of the header is the run.
        for place, octet in enumerate(wanted):
            column = buffer[offset + place : end : length]
            if column.count(octet) < count:
                count = len(column) - len(column.lstrip(bytes((octet,))))
                end = offset + count * length
        if count:
            layout = _row_layout(length)
            self.rows += map(_make_row, layout.iter_unpack(memoryview(buffer)[offset:end]))
        return count * length

    def _one(self, buffer: bytearray, offset: int, octets: int) -> int:
        """Takes one message of any kind; returns its length, padding included."""
        length, kind, flags, sequence, _ = _HEADER.unpack_from(buffer, offset)
        if length < _HEADER.size or offset + length > octets:
            self.problem = "a message of the dump has a wrong length"
            return octets - offset
        if sequence != self._sequence:  # left over from a dump that was given up
            return _aligned(length)
        if flags & _F_DUMP_INTR:
            self.problem = "the table changed during the dump (NLM_F_DUMP_INTR)"
        if kind in (_NLMSG_DONE, _NLMSG_ERROR):
            self.done = True
            if length >= _HEADER.size + _ERRNO.size:
                self.error = max(0, -_ERRNO.unpack_from(buffer, offset + _HEADER.size)[0])
        elif kind == self._message_type and length >= _ROW_LENGTH:
            layout = struct.Struct(_ROW_FORMAT)
            self.rows.append(_make_row(layout.unpack_from(buffer, offset)))
        else:
            self.problem = "a message of the dump is of an unknown kind"
        return _aligned(length)


_LITTLE = struct.pack("=H", 1) == b"\1\0"
_make_row: Callable[[Iterable[object]], Row] = partial(tuple.__new__, Row)


def _aligned(length: int) -> int:
    return length + 3 & ~3


@lru_cache(maxsize=64)
def _row_layout(length: int) -> struct.Struct:
    return struct.Struct(f"{_ROW_FORMAT}{length - _ROW_LENGTH}x")
