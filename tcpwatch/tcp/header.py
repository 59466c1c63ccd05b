"""Bytes to a Segment: the IP and TCP headers of one packet (RFC 791, 8200, 9293).

Owns: which bytes are a TCP segment, and which are not and why. Never raises, whatever the bytes:
what cannot be read comes back as a value. Must not know where the packet came from or what it
does to a connection.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Final, NamedTuple

from tcpwatch.tcp.segment import Flags, Option, Segment
from tcpwatch.tcp.seq import SeqNumber


@dataclass(frozen=True, slots=True)
class TcpPacket:
    """A segment and the addresses it travels between.

    The addresses are in the text form of `socket.inet_ntop`; the destination is the final one
    where the packet is source-routed. ``truncated``: not the whole segment is here, because the
    capture was cut (its ``payload_len`` is still what the IP header says) or because the packet
    is the first fragment of a datagram (then it counts this fragment only). ``checksum_ok`` is
    None where it cannot be told; False is usual for a segment captured at its sender, before the
    network card filled the checksum in.
    """

    src_ip: str
    src_port: int
    dst_ip: str
    dst_port: int
    segment: Segment
    truncated: bool
    checksum_ok: bool | None


@dataclass(frozen=True, slots=True)
class NotTcp:
    """A packet that is none of our business: another protocol, or a fragment without the header."""

    reason: str


@dataclass(frozen=True, slots=True)
class Malformed:
    """Bytes that were meant to be IP or TCP, and where they break the promise."""

    reason: str


class Upper(NamedTuple):
    """Where in the packet the upper layer stands; ``end`` is where the IP header says it ends.

    In a fragment it is a piece of what was fragmented, ``fragment_at`` octets into that, and
    ``protocol`` may be the number of an extension header that stands at its beginning.
    """

    protocol: int
    offset: int
    end: int
    src: bytes
    dst: bytes
    more_fragments: bool = False
    fragment_at: int = 0
    datagram: int = 0  # what the fragments of one datagram have in common: its identification
    dst_known: bool = True  # False: source-routed in a way unknown here, no pseudo header then


_TCP: Final = 6
_AH: Final = 51
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _NO_NEXT, _DESTINATION = 0, 43, 44, 59, 60
_EXTENSIONS: Final = frozenset({_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AH, _DESTINATION})
_AH_ALONE: Final = frozenset({_AH})
_NAMES: Final = {1: "ICMP", 2: "IGMP", 17: "UDP", 47: "GRE", 50: "ESP", 58: "ICMPv6", 132: "SCTP"}

_IPV4: Final = struct.Struct("!BxHHHxB2x4s4s")
_IPV6: Final = struct.Struct("!4xHBx16s16s")
_TCP_HEADER: Final = struct.Struct("!HHIIHHxxxx")
_PSEUDO_TAIL: Final = struct.Struct("!II")

_IPV4_MIN, _IPV6_LEN, _TCP_MIN = 20, 40, 20
# Building an IntFlag costs more than all the rest of the header; there are only 512 of them.
_FLAGS: Final = tuple(Flags(bits) for bits in range(0x200))
_ACK: Final = 0x010
_NOP: Final = Option(1)


def parse_ip(packet: bytes | memoryview) -> TcpPacket | NotTcp | Malformed:
    """Read one packet that begins at its IP header. Bytes after the IP packet's end are ignored.

    An IPv4 total length or IPv6 payload length of 0 is what segmentation offload leaves behind;
    the packet then ends where the bytes do.
    """
    data = bytes(packet)
    upper = upper_layer(data)
    return parse_tcp(data, upper) if isinstance(upper, Upper) else upper


def upper_layer(data: bytes, wire_len: int | None = None) -> Upper | Malformed:
    """Where the upper layer of a packet is that begins at its IP header.

    ``wire_len`` is the packet's length where only its beginning was captured.
    """
    if not data:
        return Malformed("the packet is empty")
    length = len(data) if wire_len is None else wire_len
    match data[0] >> 4:
        case 4:
            return _ipv4(data, length)
        case 6:
            return _ipv6(data, length)
        case version:
            return Malformed(f"IP version {version} is neither 4 nor 6")


def _ipv4(data: bytes, length: int) -> Upper | Malformed:
    if len(data) < _IPV4_MIN:
        return Malformed(f"the IPv4 header is cut after {len(data)} octets")
    version_ihl, total, datagram, fragment, protocol, src, dst = _IPV4.unpack_from(data)
    header_len = (version_ihl & 0xF) * 4
    if header_len < _IPV4_MIN:
        return Malformed(f"the IPv4 header length {header_len} is below {_IPV4_MIN}")
    if header_len > len(data):
        return Malformed(f"the IPv4 header of {header_len} octets is cut after {len(data)}")
    end = total or length
    if end < header_len:
        return Malformed(f"the IPv4 total length {total} is below the header length {header_len}")
    if header_len > _IPV4_MIN:
        dst = _ipv4_final_destination(data[_IPV4_MIN:header_len]) or dst
    more, fragment_at = bool(fragment & 0x2000), (fragment & 0x1FFF) * 8
    upper = Upper(protocol, header_len, end, src, dst, more, fragment_at, datagram)
    return upper if more or fragment_at else walk_extensions(data, upper)


def _ipv4_final_destination(options: bytes) -> bytes | None:
    """The last hop of a source route not yet used up (RFC 791 3.1); None where there is none."""
    loose, strict = 131, 137
    at = 0
    while at + 2 < len(options) and options[at]:
        if options[at] == 1:  # no operation
            at += 1
            continue
        length, pointer = options[at + 1], options[at + 2]
        if length < 2:  # kind and length themselves
            return None
        if options[at] in {loose, strict} and pointer < length <= len(options) - at:
            hops = options[at + 3 : at + length]
            return hops[-4:] if hops and len(hops) % 4 == 0 else None
        at += length
    return None


def _ipv6(data: bytes, length: int) -> Upper | Malformed:
    if len(data) < _IPV6_LEN:
        return Malformed(f"the IPv6 header is cut after {len(data)} octets")
    payload, following, src, dst = _IPV6.unpack_from(data)
    end = _IPV6_LEN + payload if payload else _jumbo_end(data, following, length)
    return walk_extensions(data, Upper(following, _IPV6_LEN, end, src, dst))


def _jumbo_end(data: bytes, following: int, length: int) -> int:
    """Where a packet of payload length 0 ends: as RFC 2675's option says, or with the bytes."""
    at = _IPV6_LEN
    if following == _HOP_BY_HOP and len(data) >= at + 8 and data[at + 2 : at + 4] == b"\xc2\x04":
        return at + int.from_bytes(data[at + 4 : at + 8])
    return length


def walk_extensions(data: bytes, upper: Upper) -> Upper | Malformed:
    """Step over extension headers to the upper layer (RFC 8200 4); in IPv4 AH is the only one."""
    following, at = upper.protocol, upper.offset
    dst, dst_known = upper.dst, upper.dst_known
    extensions = _EXTENSIONS if len(upper.src) == 16 else _AH_ALONE  # octets
    end = min(upper.end, len(data))
    while following in extensions:
        header = data[at:end]
        if len(header) < 8:  # the least that an extension header has
            return Malformed(f"extension header {following} is cut after {len(header)} octets")
        if following == _FRAGMENT:
            length, where = 8, int.from_bytes(header[2:4])
            if where & 0xFFF9:  # not the whole datagram in one fragment (RFC 6946)
                return upper._replace(
                    protocol=header[0],
                    offset=at + length,
                    dst=dst,
                    more_fragments=bool(where & 1),
                    fragment_at=where & 0xFFF8,
                    datagram=int.from_bytes(header[4:8]),
                    dst_known=dst_known,
                )
        elif following == _AH:
            length = (header[1] + 2) * 4  # RFC 4302 2.2: in 4 octets, less 2
        else:
            length = (header[1] + 1) * 8
        if length > len(header):
            return Malformed(
                f"extension header {following} of {length} octets is cut after {len(header)}"
            )
        if following == _ROUTING and header[3]:
            final = _ipv6_final_destination(header[:length])
            dst, dst_known = (final, dst_known) if final else (dst, False)
        following = header[0]
        at += length
    return upper._replace(protocol=following, offset=at, dst=dst, dst_known=dst_known)


def _ipv6_final_destination(routing: bytes) -> bytes | None:
    """The last address of a routing header with segments left (RFC 8200 8.1); None if unknown."""
    source_route, mobile, segment_routing = 0, 2, 4
    addresses = routing[8 : 8 + (len(routing) - 8) // 16 * 16]
    if routing[2] in {source_route, mobile}:
        return addresses[-16:] or None
    if routing[2] == segment_routing:
        return addresses[:16] or None  # RFC 8754 2: the list is in reverse
    return None


def parse_tcp(data: bytes, upper: Upper) -> TcpPacket | NotTcp | Malformed:
    """The segment that ``upper`` says where to find in ``data``."""
    if upper.fragment_at:
        return NotTcp("a fragment other than the first")
    if upper.more_fragments:
        walked = walk_extensions(data, upper)
        if isinstance(walked, Malformed):
            return walked
        upper = walked
    protocol, offset, end, src, dst = upper[:5]
    if protocol != _TCP:
        name = "no upper layer" if protocol == _NO_NEXT else _NAMES.get(protocol, "not TCP")
        return NotTcp(f"IP protocol {protocol} ({name})")
    length = end - offset
    if length < _TCP_MIN:
        return Malformed(f"{max(length, 0)} octets cannot hold a TCP header")
    if len(data) - offset < _TCP_MIN:
        return Malformed(f"the TCP header is cut after {max(len(data) - offset, 0)} octets")
    src_port, dst_port, seq, ack, bits, window = _TCP_HEADER.unpack_from(data, offset)
    header_len = (bits >> 12) * 4
    if header_len < _TCP_MIN:
        return Malformed(f"the TCP data offset {header_len} is below {_TCP_MIN}")
    if header_len > length:
        return Malformed(
            f"the TCP data offset {header_len} is beyond the {length} octets there are"
        )
    truncated = end > len(data) or upper.more_fragments
    segment = Segment(
        SeqNumber(seq),
        SeqNumber(ack) if bits & _ACK else None,
        _FLAGS[bits & 0x1FF],
        window,
        _options(data, offset + _TCP_MIN, offset + header_len) if header_len > _TCP_MIN else (),
        length - header_len,
    )
    known = upper.dst_known and not truncated
    family = socket.AF_INET if len(src) == 4 else socket.AF_INET6  # octets
    return TcpPacket(
        socket.inet_ntop(family, src),
        src_port,
        socket.inet_ntop(family, dst),
        dst_port,
        segment,
        truncated,
        _checksum_ok(src + dst, data[offset:end]) if known else None,
    )


def _options(data: bytes, at: int, end: int) -> tuple[Option, ...]:
    """As far as they make sense (RFC 9293 3.1): a bad length or a cut ends only the list."""
    options: list[Option] = []
    end = min(end, len(data))
    while at < end and (kind := data[at]):  # kind 0 ends the list
        if kind == 1:
            options.append(_NOP)
            at += 1
            continue
        length = data[at + 1] if at + 1 < end else 0
        if length < 2 or at + length > end:  # kind and length themselves
            break
        options.append(Option(kind, data[at + 2 : at + length]))
        at += length
    return tuple(options)


def _checksum_ok(addresses: bytes, segment: bytes) -> bool:
    """Whether the segment's checksum covers it and its pseudo header (RFC 9293 3.1)."""
    # 2**16 is 1 modulo 65535, so the ones' complement sum of the 16-bit words is the number that
    # the octets spell, modulo 65535: one division in C instead of a loop here. A segment of odd
    # length needs no pad: times 256, which shares no factor with 65535, it is 0 or not as before.
    covered = addresses + _PSEUDO_TAIL.pack(len(segment), _TCP) + segment
    return int.from_bytes(covered) % 0xFFFF == 0
