"""Tunnels: from an IP packet to the IP packet that it carries.

Owns: GRE, and what is recognised in UDP by its port (VXLAN, Geneve, GTP). Must not know what the
inner packet holds.
"""

from __future__ import annotations

from typing import Final

from tcpwatch.sources.capture.link import (
    Found,
    NoPacket,
    Packet,
    Unread,
    ethernet,
    find_by_ethertype,
    ppp,
)

IN_IP: Final = frozenset({4, 41, 47, 97, 137})
"""IPv4, IPv6, GRE, EtherIP and MPLS in IP; UDP is a protocol of its own."""

_VXLAN: Final = frozenset({4789, 8472})  # IANA's port, and the one Linux had before
_GENEVE, _GTP = 6081, 2152


def find_in_ip(protocol: int, data: bytes, at: int) -> Found:
    """The packet in an IP packet whose upper layer, of a protocol of `IN_IP`, begins ``at``."""
    match protocol:
        case 4 | 41:
            return Packet(at)
        case 47:
            return _gre(data, at)
        case 97:
            return ethernet(data, at + 2)
        case _:
            return find_by_ethertype(0x8847, data, at)


def find_in_udp(data: bytes, at: int) -> Found | None:
    """The packet in a UDP datagram whose header begins ``at``; None where it is no tunnel's."""
    if len(data) < at + 16:
        return None
    port = data[at + 2] << 8 | data[at + 3]
    at += 8
    if port in _VXLAN and data[at] & 0x08:
        return ethernet(data, at + 8)
    if port == _GENEVE and data[at] & 0xC0 == 0:
        return find_by_ethertype(data[at + 2] << 8 | data[at + 3], data, at + 8 + data[at] % 64 * 4)
    if port == _GTP and data[at] & 0xF0 == 0x30 and data[at + 1] == 0xFF:
        return _gtp(data, at)
    return None


def _gre(data: bytes, at: int) -> Found:
    """RFC 2784, 2890 and, version 1, RFC 2637."""
    if len(data) < at + 4:
        return NoPacket("GRE cut within its header")
    flags, protocol = data[at] << 8 | data[at + 1], data[at + 2] << 8 | data[at + 3]
    if flags & 0x4000:
        return Unread("GRE with routing")
    numbered = bool(flags & 0x1000)
    inner = at + 4 + 4 * (bool(flags & 0x8000) + bool(flags & 0x2000) + numbered)
    if flags & 7 == 1:
        return ppp(data, inner + 4 * bool(flags & 0x0080)) if numbered else NoPacket("PPTP")
    match protocol:
        case 0x88BE:  # ERSPAN: version I has no header of its own, and no sequence number
            return ethernet(data, inner + (8 if numbered else 0))
        case 0x22EB:  # ERSPAN III, with or without the subheader of its platform
            if len(data) < inner + 12:
                return NoPacket("GRE cut within its header")
            return ethernet(data, inner + (20 if data[inner + 11] & 1 else 12))
        case 0:
            return NoPacket("GRE keepalive")
        case _:
            return find_by_ethertype(protocol, data, inner)


def _gtp(data: bytes, at: int) -> Found | None:
    """A user's packet in GTP version 1 (3GPP TS 29.281 5), behind its extension headers."""
    inner = at + 8
    if data[at] & 0x07:
        if len(data) < at + 12:
            return None
        following, inner = data[at + 11] if data[at] & 0x04 else 0, at + 12
        while following:
            if inner >= len(data) or not data[inner]:
                return None
            inner += 4 * data[inner]
            following = data[inner - 1] if inner <= len(data) else 0
    return Packet(inner) if inner < len(data) and data[inner] >> 4 in (4, 6) else None
