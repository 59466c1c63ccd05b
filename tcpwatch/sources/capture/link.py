"""Link layers: from a frame to the IP packet in it.

Owns: where, in a frame of each link type (tcpdump.org/linktypes.html), the packet begins that IP
parses, or why there is none. Must not know what stands in that packet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tcpwatch.sources.capture.linknames import described

IPV4, IPV6, MPLS, MPLS_MULTICAST, PPPOE = 0x0800, 0x86DD, 0x8847, 0x8848, 0x8864
_TAGS: Final = frozenset({0x8100, 0x88A8, 0x9100, 0x9200, 0x9300})  # VLAN, QinQ and forerunners
_ETHER_NAMES: Final = {
    0x0806: "ARP",
    0x8035: "RARP",
    0x8863: "PPPoE discovery",
    0x888E: "EAPOL",
    0x88CC: "LLDP",
    0x88E5: "MACsec",
    0x88F7: "PTP",
    0x22F0: "AVTP",
    0x9000: "loopback test",
    0x88A2: "ATA over Ethernet",
    0x8906: "FCoE",
}
_SMALLEST_ETHERTYPE: Final = 0x0600  # below it the field is a length (IEEE 802.3)
_PPP_PROTOCOLS: Final = {0x21: IPV4, 0x57: IPV6, 0x281: MPLS, 0x283: MPLS_MULTICAST}
_FAMILIES: Final = {2: IPV4, 10: IPV6, 24: IPV6, 28: IPV6, 30: IPV6}  # Linux, and the BSDs
_NLPIDS: Final = {0xCC: IPV4, 0x8E: IPV6}  # ISO/IEC TR 9577
_NFLOG_PAYLOAD: Final = 9  # NFULA_PAYLOAD of linux/netfilter/nfnetlink_log.h
_DEEPEST: Final = 16  # tags or labels; nobody nests more
_PPI: Final = 192
_PKTAP: Final = 258
_ETHERNET, _COOKED, _COOKED_2 = 1, 113, 276
_LASTING: Final = {_ETHERNET: 14, _COOKED: 16, _COOKED_2: 12}


@dataclass(frozen=True, slots=True)
class Packet:
    """An IP packet (or what claims to be one) begins ``at`` octets into the frame."""

    at: int


@dataclass(frozen=True, slots=True)
class NoPacket:
    """The frame holds no IP packet; ``reason`` names what it holds."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unread:
    """What may hold a TCP segment, and is not looked into."""

    reason: str


Found = Packet | NoPacket | Unread
_Reader = Callable[[bytes, int], Found]
_CUT: Final = NoPacket("a frame cut within its link header")


def find_packet(link: int, frame: bytes) -> Found:
    """Where the IP packet in a frame of that link type begins. Never raises."""
    reader = _READERS.get(link)
    if reader is not None:
        return reader(frame, 0)
    return Unread(described(link))


def arrives_here(link: int, frame: bytes) -> bool:
    """Whether the host that captured the frame was its receiver, as only Linux's cooked links tell.

    Packet types of linux/if_packet.h: to us, broadcast, multicast; to others, sent by us.
    """
    if link == _COOKED:
        return frame[:1] == b"\0" and frame[1:2] in (b"\0", b"\1", b"\2")
    return link == _COOKED_2 and frame[10:11] in (b"\0", b"\1", b"\2")


def link_header(link: int, frame: bytes) -> bytes:
    """What of a link's header tells where a frame was captured; nothing where each has another."""
    return frame[: _LASTING.get(link, 0)]


def find_by_ethertype(ethertype: int, frame: bytes, at: int) -> Found:
    """Where the IP packet begins, if what stands ``at`` in the frame is of that EtherType."""
    for _ in range(_DEEPEST):
        if ethertype in (IPV4, IPV6):
            return Packet(at)
        if ethertype in _TAGS:
            if len(frame) < at + 4:
                return _CUT
            ethertype = _u16(frame, at + 2)
            at += 4
            continue
        if ethertype < _SMALLEST_ETHERTYPE:
            return _llc(frame, at)
        if ethertype in (MPLS, MPLS_MULTICAST):
            return _mpls(frame, at)
        if ethertype == PPPOE:
            return _pppoe(frame, at)
        if ethertype == 0x6558:  # transparent Ethernet bridging (RFC 7637, RFC 8926)
            return ethernet(frame, at)
        name = _ETHER_NAMES.get(ethertype, f"EtherType {ethertype:#06x}")
        return Unread(name) if ethertype == 0x88E5 else NoPacket(name)
    return Unread("VLAN tags without end")


# ---------------------------------------------------------------------- what Ethernet carries


def _u16(octets: bytes, at: int) -> int:
    return octets[at] << 8 | octets[at + 1]


def ethernet(frame: bytes, at: int) -> Found:
    """An Ethernet frame that begins ``at``."""
    if len(frame) < at + 14:
        return _CUT
    return find_by_ethertype(_u16(frame, at + 12), frame, at + 14)


def _llc(frame: bytes, at: int) -> Found:
    """IEEE 802.2, with SNAP (RFC 1042) if it carries IP."""
    if len(frame) < at + 3:
        return _CUT
    if frame[at : at + 2] != b"\xaa\xaa":
        # IP has a service access point of its own too, which is hardly used.
        return Packet(at + 3) if frame[at : at + 3] == b"\x06\x06\x03" else NoPacket("LLC")
    return _snap(frame, at + 3)


def _snap(frame: bytes, at: int) -> Found:
    if len(frame) < at + 5:
        return _CUT
    if frame[at : at + 3] not in (b"\0\0\0", b"\0\0\xf8"):
        return NoPacket("SNAP")
    ethertype = _u16(frame, at + 3)
    if ethertype < _SMALLEST_ETHERTYPE:
        return NoPacket("SNAP")
    return find_by_ethertype(ethertype, frame, at + 5)


def _mpls(frame: bytes, at: int) -> Found:
    """Under the labels (RFC 3032) the first four bits tell: IP, or a pseudowire (RFC 4385)."""
    for _ in range(_DEEPEST):
        if len(frame) < at + 5:
            return _CUT
        at += 4
        if frame[at - 2] & 1:
            break
    else:
        return Unread("MPLS labels without end")
    match frame[at] >> 4:
        case 4 | 6:
            return Packet(at)
        case 0:
            return ethernet(frame, at + 4)
        case _:
            return Unread("MPLS that carries neither IP nor Ethernet")


def _pppoe(frame: bytes, at: int) -> Found:
    if len(frame) < at + 6:
        return _CUT
    if frame[at + 1] != 0:
        return NoPacket("PPPoE discovery")
    return _ppp_protocol(frame, at + 6)


def _ppp_protocol(frame: bytes, at: int) -> Found:
    if len(frame) < at + 2:
        return _CUT
    if frame[at] & 1:  # compressed to one octet (RFC 1661 6.5)
        protocol, at = frame[at], at + 1
    else:
        protocol, at = _u16(frame, at), at + 2
    ethertype = _PPP_PROTOCOLS.get(protocol)
    if ethertype is not None:
        return find_by_ethertype(ethertype, frame, at)
    if protocol in {0x2D, 0x2F, 0x3D, 0x53, 0xFB, 0xFD}:
        return Unread(f"PPP protocol {protocol:#06x}: compressed, encrypted or multilink")
    return NoPacket(f"PPP protocol {protocol:#06x}")


# ---------------------------------------------------------------------- other links


def ppp(frame: bytes, at: int) -> Found:
    """A PPP frame that begins ``at``, with or without its address and control."""
    return _ppp_protocol(frame, at + 2 if frame[at : at + 2] == b"\xff\x03" else at)


def _ppp_with_direction(frame: bytes, at: int) -> Found:
    return ppp(frame, at + 1)


def _serial(frame: bytes, at: int) -> Found:
    """Cisco HDLC, or PPP in HDLC framing (link types 50 and 104)."""
    if frame[at : at + 1] in (b"\x0f", b"\x8f"):
        return _CUT if len(frame) < at + 4 else _cisco(frame, at)
    return ppp(frame, at)


def _cisco(frame: bytes, at: int) -> Found:
    ethertype = _u16(frame, at + 2)
    if ethertype < _SMALLEST_ETHERTYPE:
        return NoPacket("Cisco HDLC that carries no IP")
    return find_by_ethertype(ethertype, frame, at + 4)


def _raw(frame: bytes, at: int) -> Found:
    return Packet(at) if len(frame) > at else _CUT


def _loopback(frame: bytes, at: int) -> Found:
    """BSD: the address family, in the byte order of whoever captured it, or of the network."""
    if len(frame) < at + 4:
        return _CUT
    family = int.from_bytes(frame[at : at + 4])
    if family > 0xFFFF:
        family = int.from_bytes(frame[at : at + 4], "little")
    if family in _FAMILIES:
        return Packet(at + 4)
    return NoPacket(f"address family {family}")


def _cooked(frame: bytes, at: int) -> Found:
    return _cooked_protocol(frame, at + 2, at + 14, at + 16)


def _cooked_2(frame: bytes, at: int) -> Found:
    return _cooked_protocol(frame, at + 8, at, at + 20)


def _cooked_protocol(frame: bytes, hardware_at: int, protocol_at: int, at: int) -> Found:
    """Linux: the protocol is an EtherType, except on a few kinds of interface."""
    if len(frame) < at:
        return _CUT
    hardware, protocol = _u16(frame, hardware_at), _u16(frame, protocol_at)
    match hardware:
        case 803:  # ARPHRD_IEEE80211_RADIOTAP
            return _radiotap(frame, at)
        case 824:  # ARPHRD_NETLINK
            return NoPacket("netlink")
        case _:
            pass
    match protocol:
        case 1:  # a frame of 802.3 that begins with no LLC
            return NoPacket("Novell's raw 802.3")
        case 4:
            return _llc(frame, at)
        case 0xC | 0xD:
            return NoPacket("CAN")
        case _:
            return find_by_ethertype(protocol, frame, at)


# ---------------------------------------------------------------------- IEEE 802.11


def _wifi(frame: bytes, at: int, *, padded: bool = False) -> Found:
    """A data frame of IEEE 802.11 (9.3.2.1): addresses, QoS and HT control, then LLC."""
    if len(frame) < at + 24:
        return _CUT
    control, flags = frame[at], frame[at + 1]
    if control & 0x03:
        return NoPacket(f"IEEE 802.11 version {control & 3}")
    if control & 0x0C != 0x08:
        return NoPacket("IEEE 802.11 management or control")
    if control & 0x40:
        return NoPacket("IEEE 802.11 without data")
    if flags & 0x40:
        return Unread("encrypted IEEE 802.11")
    if flags & 0x04 or _u16(frame, at + 22) & 0x0F00:
        return Unread("fragmented IEEE 802.11")
    length = 24 + (6 if flags & 0x03 == 0x03 else 0)
    if control & 0x80:
        if len(frame) < at + length + 2:
            return _CUT
        if frame[at + length] & 0x80:
            return Unread("aggregated IEEE 802.11")
        length += 2 + (4 if flags & 0x80 else 0)
    if padded:
        length += -length % 4
    return _llc(frame, at + length)


def _radiotap(frame: bytes, at: int) -> Found:
    if len(frame) < at + 8:
        return _CUT
    length = int.from_bytes(frame[at + 2 : at + 4], "little")
    return _wifi(frame, at + max(length, 8), padded=bool(_radiotap_flags(frame, at) & 0x20))


def _radiotap_flags(frame: bytes, at: int) -> int:
    """The field Flags (radiotap.org), which stands behind the timestamp, aligned to 8; 0 if none.

    Bit 0x20: the header of IEEE 802.11 is padded to 4 octets.
    """
    present = word = int.from_bytes(frame[at + 4 : at + 8], "little")
    where = 8
    while word & 0x80000000:  # another word of bits follows
        word = int.from_bytes(frame[at + where : at + where + 4], "little")
        where += 4
    if present & 1:
        where += -where % 8 + 8
    return frame[at + where] if present & 2 and at + where < len(frame) else 0


def _prism(frame: bytes, at: int) -> Found:
    """Prism monitor mode, or AVS, which has its own magic number and says its length."""
    if len(frame) < at + 8:
        return _CUT
    if frame[at : at + 2] == b"\x80\x21":
        return _wifi(frame, at + int.from_bytes(frame[at + 4 : at + 8]))
    return _wifi(frame, at + 144)


def _per_packet_information(frame: bytes, at: int) -> Found:
    """PPI: its length and the link type of what follows."""
    if len(frame) < at + 8:
        return _CUT
    length = int.from_bytes(frame[at + 2 : at + 4], "little")
    inner = int.from_bytes(frame[at + 4 : at + 8], "little")
    reader = _READERS.get(inner)
    if reader is None or inner == _PPI:
        return Unread(f"PPI that carries {described(inner)}")
    return reader(frame, at + max(length, 8))


def _arcnet(frame: bytes, at: int) -> Found:
    """Linux's ARCNET: RFC 1051's IP at once, RFC 1201's behind a header for its fragments."""
    if len(frame) < at + 5:
        return _CUT
    match frame[at + 4]:
        case 240:
            return Packet(at + 5)
        case 212 if frame[at + 5 : at + 6] == b"\0":
            return Packet(at + 8)
        case 212:
            return Unread("fragmented ARCNET")
        case other:
            return NoPacket(f"ARCNET protocol {other}")


# ---------------------------------------------------------------------- what is hardly met


def _token_ring(frame: bytes, at: int) -> Found:
    """IEEE 802.5, with the route where the sender's address says that there is one."""
    if len(frame) < at + 15:
        return _CUT
    if frame[at + 1] & 0xC0 != 0x40:
        return NoPacket("Token Ring without LLC")
    return _llc(frame, at + 14 + (frame[at + 14] & 0x1F if frame[at + 8] & 0x80 else 0))


def _fddi(frame: bytes, at: int) -> Found:
    if len(frame) < at + 13:
        return _CUT
    return _llc(frame, at + 13) if frame[at] & 0x70 == 0x50 else NoPacket("FDDI without LLC")


def _fibre_channel(frame: bytes, at: int) -> Found:
    return _llc(frame, at + 16)


def _firewire(frame: bytes, at: int) -> Found:
    if len(frame) < at + 18:
        return _CUT
    return find_by_ethertype(_u16(frame, at + 16), frame, at + 18)


def _frame_relay(frame: bytes, at: int) -> Found:
    """RFC 2427: behind the address what ISO calls the protocol; or Cisco's EtherType."""
    for _ in range(4):
        at += 1
        if frame[at - 1 : at] and frame[at - 1] & 1:
            break
    if len(frame) < at + 3:
        return _CUT
    if frame[at] != 3:
        return find_by_ethertype(_u16(frame, at), frame, at + 2)
    at += 1 if frame[at + 1] else 2
    if frame[at : at + 1] == b"\x80":
        return _snap(frame, at + 1)
    known = len(frame) > at and frame[at] in _NLPIDS
    return Packet(at + 1) if known else NoPacket("Frame Relay that carries no IP")


def _firewall(frame: bytes, at: int) -> Found:
    """OpenBSD's pflog: the header says its length, which is padded to 4 octets."""
    if len(frame) < at + 2:
        return _CUT
    if frame[at + 1] not in _FAMILIES:
        return NoPacket(f"address family {frame[at + 1]}")
    return Packet(at + frame[at] + -frame[at] % 4)


def _encapsulated(frame: bytes, at: int) -> Found:
    """OpenBSD's enc: what comes out of IPsec, behind the family, the SPI and flags."""
    found = _loopback(frame, at)
    return Packet(at + 12) if isinstance(found, Packet) else found


def _packet_tap(frame: bytes, at: int) -> Found:
    """macOS: a header that says its length and the link type of what follows."""
    if len(frame) < at + 12:
        return _CUT
    length, kind, inner = (
        int.from_bytes(frame[at + 4 * nth : at + 4 * nth + 4], "little") for nth in range(3)
    )
    reader = _READERS.get(inner)
    if kind != 1 or reader is None or inner == _PKTAP:
        return Unread(f"pktap that carries {described(inner)}")
    return reader(frame, at + max(length, 12))


def _netfilter_log(frame: bytes, at: int) -> Found:
    """NFLOG: its family, then attributes in the byte order of whoever captured it."""
    if len(frame) < at + 4:
        return _CUT
    if frame[at] not in _FAMILIES:
        return NoPacket(f"address family {frame[at]}")
    at += 4
    while len(frame) >= at + 4:
        length, kind = _u16(frame, at), _u16(frame, at + 2) & 0x7FFF
        if kind > 0xFF:
            length, kind = (int.from_bytes(frame[n : n + 2], "little") for n in (at, at + 2))
        if length < 4:
            break
        if kind == _NFLOG_PAYLOAD:
            return Packet(at + 4)
        at += length + -length % 4
    return NoPacket("NFLOG without a packet")


_READERS: Final[dict[int, _Reader]] = {
    0: _loopback,
    _ETHERNET: ethernet,
    6: _token_ring,
    9: ppp,
    10: _fddi,
    11: _llc,
    12: _raw,
    14: _raw,
    50: _serial,
    51: _pppoe,
    100: _llc,
    101: _raw,
    104: _serial,
    105: _wifi,
    107: _frame_relay,
    108: _loopback,
    109: _encapsulated,
    _COOKED: _cooked,
    117: _firewall,
    119: _prism,
    122: _fibre_channel,
    127: _radiotap,
    129: _arcnet,
    138: _firewire,
    163: _prism,
    166: _ppp_with_direction,
    _PPI: _per_packet_information,
    204: _ppp_with_direction,
    228: _raw,
    229: _raw,
    239: _netfilter_log,
    _PKTAP: _packet_tap,
    _COOKED_2: _cooked_2,
}
