"""One frame to one segment, exactly, whatever is wrapped around it.

Owns: the way from the link layer through tunnels and fragments to TCP. It is what the quicker road
must agree with. Must not know connections, nor where the frame was kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tcpwatch.sources.capture.fragments import Fragments
from tcpwatch.sources.capture.link import Found, NoPacket, Packet, Unread, find_packet
from tcpwatch.sources.capture.tunnels import IN_IP, find_in_ip, find_in_udp
from tcpwatch.tcp.header import (
    Malformed,
    NotTcp,
    TcpPacket,
    Upper,
    parse_tcp,
    upper_layer,
    walk_extensions,
)

_TCP, _UDP, _ESP = 6, 17, 50
_WORTH_WAITING_FOR: Final = IN_IP | {_TCP, 0, 43, 44, 51, 60}  # or an extension header
_DEEPEST: Final = 8  # tunnels in tunnels


@dataclass(frozen=True, slots=True)
class Read:
    """A segment, and its IP packet as captured; empty where that came in fragments."""

    packet: TcpPacket
    octets: bytes


@dataclass(frozen=True, slots=True)
class Held:
    """A fragment that waits for the rest of its datagram."""


Reading = Read | Held | NotTcp | Unread | Malformed


class Decoder:
    """Reads frames in the order of the capture; holds the fragments that came so far."""

    def __init__(self) -> None:
        self._fragments = Fragments()

    @property
    def incomplete(self) -> int:
        """How many datagrams lack fragments."""
        return self._fragments.incomplete

    def read(self, link: int, frame: bytes, wire_len: int, t_ns: int) -> Reading:
        """What a frame of that link type holds. Never raises.

        ``wire_len`` is the length it had before the capture cut it.
        """
        return self._found(find_packet(link, frame), frame, wire_len, t_ns, _DEEPEST)

    def _found(self, found: Found, data: bytes, wire_len: int, t_ns: int, depth: int) -> Reading:
        match found:
            case Packet(at):
                return self._packet(data[at:], wire_len - at, t_ns, depth)
            case NoPacket(reason):
                return NotTcp(reason)
            case Unread():
                return found

    def _packet(self, data: bytes, wire_len: int, t_ns: int, depth: int) -> Reading:
        upper = upper_layer(data, wire_len)
        if isinstance(upper, Malformed):
            return upper
        octets = data[: min(upper.end, len(data))]
        if upper.more_fragments or upper.fragment_at:
            if upper.protocol not in _WORTH_WAITING_FOR:
                return self._upper(data, upper, b"", t_ns, depth)
            whole = self._fragments.add(upper, data, t_ns)
            if whole is None:
                return Held()
            if isinstance(whole, Malformed):
                return whole
            data, upper = whole
            walked = walk_extensions(data, upper)
            if isinstance(walked, Malformed):
                return walked
            upper, octets = walked, b""
        return self._upper(data, upper, octets, t_ns, depth)

    def _upper(self, data: bytes, upper: Upper, octets: bytes, t_ns: int, depth: int) -> Reading:
        inner: Found | None = None
        if upper.fragment_at == 0:
            if upper.protocol in IN_IP:
                inner = find_in_ip(upper.protocol, data, upper.offset)
            elif upper.protocol == _UDP:
                inner = find_in_udp(data, upper.offset)
        if upper.protocol == _ESP:
            return Unread("ESP, which is encrypted")
        if inner is None:
            return _segment(data, upper, octets)
        if depth == 0:
            return Unread(f"tunnels more than {_DEEPEST} deep")
        reading = self._found(inner, data, upper.end, t_ns, depth - 1)
        if upper.protocol == _UDP and not isinstance(reading, Read | Held):
            return _segment(data, upper, octets)  # no tunnel: another program has that port
        return reading


def _segment(data: bytes, upper: Upper, octets: bytes) -> Reading:
    packet = parse_tcp(data, upper)
    return Read(packet, octets) if isinstance(packet, TcpPacket) else packet
