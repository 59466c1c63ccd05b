"""The segments of one connection of this host, captured on request: AF_PACKET, root's.

Owns: the socket, the kernel's filter on its two ports, what was lost. It sees from now on, and what
the network card is handed or hands over: offload joins and cuts segments. Must not know what is
made of them.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from typing import NamedTuple

from tcpwatch.errors import TcpwatchError
from tcpwatch.model.identity import FourTuple, SocketAddress
from tcpwatch.tcp.header import TcpPacket, parse_ip
from tcpwatch.tcp.segment import Segment

_ETH_P_ALL = 0x0003
_SO_ATTACH_FILTER, _SO_TIMESTAMPNS = 26, 35
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_PACKET_OUTGOING = 4
_BUFFER_OCTETS = 1 << 21
_AT_ONCE = 5_000  # segments taken in one go
_TIMESPEC = struct.Struct("@ll")


class Captured(NamedTuple):
    """One segment, when it passed, whether the watched end sent it, and its IP packet."""

    unix_ns: int
    sent: bool
    segment: Segment
    octets: bytes


class Sniffer:
    """Captures one connection's segments. Raises TcpwatchError where that is not allowed."""

    def __init__(self, ends: FourTuple) -> None:
        self._ends = ends
        self._unread = 0
        try:
            self._socket = socket.socket(
                socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, socket.htons(_ETH_P_ALL)
            )
        except (AttributeError, OSError) as error:
            raise TcpwatchError(
                f"cannot capture ({error})", "run as root (CAP_NET_RAW), on Linux"
            ) from error
        self._socket.setblocking(False)
        # Until it is attached everything comes: `read` looks at the addresses in any case.
        program = port_filter(ends.local.port, ends.remote.port)
        held = ctypes.create_string_buffer(program)
        attached = struct.pack("@HP", len(program) // _INSTRUCTION.size, ctypes.addressof(held))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, attached)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_OCTETS)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)

    def read(self) -> list[Captured]:
        """What has come since; in one go no more than one can show."""
        found: list[Captured] = []
        for _ in range(_AT_ONCE):
            try:
                octets, notes, _, sender = self._socket.recvmsg(1 << 16, 64)
            except BlockingIOError:
                break
            # Loopback shows each twice, as it goes and as it comes.
            if sender[0] == "lo" and sender[2] == _PACKET_OUTGOING:
                continue
            captured = self._taken(octets, notes)
            if captured is not None:
                found.append(captured)
        return found

    def _taken(self, octets: bytes, notes: list[tuple[int, int, bytes]]) -> Captured | None:
        packet = parse_ip(octets)
        if not isinstance(packet, TcpPacket):
            return None
        src = SocketAddress(packet.src_ip, packet.src_port)
        dst = SocketAddress(packet.dst_ip, packet.dst_port)
        sent = (src, dst) == (self._ends.local, self._ends.remote)
        if not sent and (dst, src) != (self._ends.local, self._ends.remote):
            return None
        unix_ns = 0
        for level, kind, data in notes:
            if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
                seconds, rest_ns = _TIMESPEC.unpack_from(data)
                unix_ns = seconds * 1_000_000_000 + rest_ns
        return Captured(unix_ns, sent, packet.segment, octets)

    def dropped(self) -> int:
        """How many the kernel had no room for, so far."""
        statistics = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        self._unread += struct.unpack("=II", statistics)[1]  # asking sets it to 0
        return self._unread

    def close(self) -> None:
        """Idempotent."""
        self._socket.close()


_INSTRUCTION = struct.Struct("=HBBI")  # sock_filter: code, jump if true, if false, operand


def port_filter(one: int, other: int) -> bytes:
    """A program (classic BPF, linux/filter.h) that passes TCP between these two ports.

    Behind IPv6 extension headers nothing is found, nor in fragments.
    """
    load_octet, load_half_x = 0x30, 0x48
    equal, both, jump, length_x, index, give = 0x15, 0x54, 0x05, 0xB1, 0x01, 0x06
    drop, take = 18, 19
    lines = [
        (load_octet, 0, 0, 0),
        (both, 0, 0, 0xF0),
        (equal, 3, 7, 0x40),
        (load_octet, 0, 0, 9),
        (equal, 5, drop, socket.IPPROTO_TCP),
        (length_x, 0, 0, 0),
        (jump, 0, 0, 4),  # to 11
        (equal, 8, drop, 0x60),
        (load_octet, 0, 0, 6),
        (equal, 10, drop, socket.IPPROTO_TCP),
        (index, 0, 0, 40),
        (load_half_x, 0, 0, 0),
        (equal, 13, 15, one),
        (load_half_x, 0, 0, 2),
        (equal, take, drop, other),
        (equal, 16, drop, other),
        (load_half_x, 0, 0, 2),
        (equal, take, drop, one),
        (give, 0, 0, 0),
        (give, 0, 0, 0xFFFF),
    ]
    return b"".join(
        _INSTRUCTION.pack(code, yes - at - 1, no - at - 1, operand)
        if code == equal
        else _INSTRUCTION.pack(code, 0, 0, operand)
        for at, (code, yes, no, operand) in enumerate(lines)
    )
