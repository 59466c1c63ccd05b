"""Each link layer: where the IP packet begins, or by what name there is none."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.contrib.mpls import MPLS
from scapy.layers.dot11 import Dot11, Dot11QoS, RadioTap
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, LLC, SNAP, CookedLinux, CookedLinuxV2, Dot1AD, Dot1Q, Dot3, Ether
from scapy.layers.ppp import HDLC, PPP, PPPoE
from scapy.packet import Packet as Scapy

from tcpwatch.sources.capture.link import NoPacket, Packet, Unread, find_packet

IP4 = IP(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=1, dport=2, flags="S")
IP6 = IPv6(src="2001:db8::1", dst="2001:db8::2") / TCP(sport=1, dport=2, flags="S")
SNAP_LLC = LLC() / SNAP()
DATA = Dot11(type=2, subtype=0, FCfield="to_DS")
QOS = Dot11(type=2, subtype=8, FCfield="to_DS") / Dot11QoS()

FRAMES: dict[str, tuple[int, Scapy]] = {
    "Ethernet": (1, Ether()),
    "VLAN": (1, Ether() / Dot1Q(vlan=5)),
    "QinQ": (1, Ether() / Dot1AD(vlan=7) / Dot1Q(vlan=5)),
    "IEEE 802.3": (1, Dot3() / SNAP_LLC),
    "IEEE 802.3 in a VLAN": (1, Ether() / Dot1Q(type=60) / SNAP_LLC),
    "MPLS": (1, Ether() / MPLS(label=3, s=0) / MPLS(label=4, s=1)),
    "MPLS in a VLAN": (1, Ether() / Dot1Q() / MPLS(label=4, s=1)),
    "PPPoE": (1, Ether() / PPPoE() / PPP()),
    "PPP": (9, PPP()),
    "PPP in HDLC framing": (9, HDLC() / PPP()),
    "serial line PPP": (50, HDLC() / PPP()),
    "cooked": (113, CookedLinux()),
    "cooked, VLAN": (113, CookedLinux() / Dot1Q(vlan=5)),
    "cooked, version 2": (276, CookedLinuxV2()),
    "IEEE 802.11": (105, DATA / SNAP_LLC),
    "IEEE 802.11, four addresses": (105, Dot11(type=2, FCfield="to_DS+from_DS") / SNAP_LLC),
    "IEEE 802.11, QoS": (105, QOS / SNAP_LLC),
    "radiotap": (127, RadioTap() / QOS / SNAP_LLC),
}

SNAPPED = b"\xaa\xaa\x03\0\0\0\x08\x00"
PREFIXES: dict[str, tuple[int, bytes]] = {
    "raw": (101, b""),
    "raw as OpenBSD numbers it": (14, b""),
    "raw as others number it": (12, b""),
    "BSD loopback, little-endian": (0, struct.pack("<I", 2)),
    "BSD loopback, big-endian": (0, struct.pack(">I", 2)),
    "OpenBSD loopback": (108, struct.pack(">I", 2)),
    "PPP, protocol compressed": (9, b"\x21"),
    "PPP with direction": (204, b"\x01\xff\x03\x00\x21"),
    "pppd": (166, b"\x00\xff\x03\x00\x21"),
    "Cisco HDLC": (104, b"\x0f\x00\x08\x00"),
    "PPP with Cisco's link type": (104, b"\xff\x03\x00\x21"),
    "PPPoE alone": (51, b"\x11\x00\x00\x01\x00\x2a\x00\x21"),
    "MPLS that carries Ethernet": (
        1,
        bytes(12) + b"\x88\x47\x00\x00\x31\xff" + bytes(4) + bytes(12) + b"\x08\x00",
    ),
    "LLC without SNAP": (1, bytes(12) + b"\x00\x2b\x06\x06\x03"),
    "radiotap with padding": (
        127,
        struct.pack("<BBHIQB", 0, 0, 17, 3, 0, 0x20)
        + bytes(QOS)
        + bytes(2)
        + b"\xaa\xaa\x03\0\0\0\x08\x00",
    ),
    "radiotap, a second word of bits": (
        127,
        struct.pack("<BBHII", 0, 0, 13, 0x80000002, 0)
        + b"\0"
        + bytes(DATA / SNAP_LLC)[:30]
        + b"\x08\x00",
    ),
    "Prism": (119, bytes(144) + bytes(DATA) + b"\xaa\xaa\x03\0\0\0\x08\x00"),
    "AVS": (
        163,
        b"\x80\x21\x10\x01"
        + struct.pack(">I", 64)
        + bytes(56)
        + bytes(DATA)
        + b"\xaa\xaa\x03\0\0\0\x08\x00",
    ),
    "PPI": (
        192,
        struct.pack("<BBHI", 0, 0, 8, 105) + bytes(DATA) + b"\xaa\xaa\x03\0\0\0\x08\x00",
    ),
    "Token Ring": (6, b"\x10\x40" + bytes(12) + SNAPPED),
    "Token Ring with a route": (
        6,
        b"\x10\x40" + bytes(6) + b"\x80" + bytes(5) + b"\x04\x30ab" + SNAPPED,
    ),
    "FDDI": (10, b"\x54" + bytes(12) + SNAPPED),
    "ATM": (100, SNAPPED),
    "Frame Relay": (107, b"\x18\x41\x03\xcc"),
    "Frame Relay with SNAP": (107, b"\x18\x41\x03\x00\x80\0\0\0\x08\x00"),
    "Frame Relay of Cisco": (107, b"\x18\x41\x08\x00"),
    "OpenBSD encapsulated": (109, struct.pack("<III", 2, 7, 0)),
    "OpenBSD pflog": (117, b"\x3d\x02" + bytes(62)),
    "IP over Fibre Channel": (122, bytes(16) + SNAPPED),
    "IP over IEEE 1394": (138, bytes(16) + b"\x08\x00"),
    "NFLOG": (239, b"\x02\0\0\1" + struct.pack("<HHI", 8, 1, 7) + struct.pack("<HH", 44, 9)),
    "NFLOG, big-endian": (239, b"\x02\0\0\1" + struct.pack(">HHIHH", 7, 10, 7 << 8, 44, 9)),
    "macOS pktap": (258, struct.pack("<III", 108, 1, 1) + bytes(96) + bytes(12) + b"\x08\x00"),
    "ARCNET of RFC 1051": (129, b"\x01\x02\x00\x00\xf0"),
    "ARCNET of RFC 1201": (129, b"\x01\x02\x00\x00\xd4\x00\x00\x07"),
}


@pytest.mark.parametrize("name", sorted(FRAMES))
@pytest.mark.parametrize("packet", [IP4, IP6], ids=["IPv4", "IPv6"])
def test_the_packet_is_found_where_scapy_puts_it(name: str, packet: Scapy) -> None:
    link, head = FRAMES[name]
    frame = bytes(head / packet)
    assert find_packet(link, frame) == Packet(len(frame) - len(packet))


@pytest.mark.parametrize("name", sorted(PREFIXES))
def test_the_packet_is_found_behind_its_link_header(name: str) -> None:
    link, head = PREFIXES[name]
    assert find_packet(link, head + bytes(IP4)) == Packet(len(head))


@pytest.mark.parametrize("family", [10, 24, 28, 30])
def test_every_system_has_its_own_number_for_ipv6(family: int) -> None:
    for order in "<>":
        head = struct.pack(f"{order}I", family)
        assert find_packet(0, head + bytes(IP6)) == Packet(4)


def test_a_link_of_one_family_holds_nothing_else() -> None:
    assert find_packet(228, bytes(IP4)) == Packet(0)
    assert find_packet(229, bytes(IP6)) == Packet(0)


@pytest.mark.parametrize(
    "link, frame, reason",
    [
        (1, bytes(Ether() / ARP()), "ARP"),
        (1, bytes(Ether(type=0x88CC)), "LLDP"),
        (1, bytes(Ether(type=0x1234)), "EtherType 0x1234"),
        (1, bytes(Dot3() / LLC(dsap=0x42, ssap=0x42)) + bytes(40), "LLC"),
        (1, bytes(Ether(type=0x8863)) + bytes(20), "PPPoE discovery"),
        (1, bytes(Ether())[:13], "a frame cut within its link header"),
        (1, b"", "a frame cut within its link header"),
        (0, struct.pack("<I", 7) + bytes(30), "address family 7"),
        (9, b"\xff\x03\xc0\x21" + bytes(8), "PPP protocol 0xc021"),
        (104, b"\x8f\x00\x20\x00" + bytes(20), "EtherType 0x2000"),
        (105, bytes(Dot11(type=0, subtype=8)) + bytes(20), "IEEE 802.11 management or control"),
        (105, bytes(Dot11(type=2, subtype=4)) + bytes(20), "IEEE 802.11 without data"),
        (113, bytes(CookedLinux(lladdrtype=824)) + bytes(20), "netlink"),
    ],
)
def test_what_holds_no_packet_is_named(link: int, frame: bytes, reason: str) -> None:
    assert find_packet(link, frame) == NoPacket(reason)


@pytest.mark.parametrize(
    "link, frame, reason",
    [
        (147, bytes(40), "link type 147 (somebody's own)"),
        (999, bytes(40), "link type 999 (unknown)"),
        (189, bytes(40), "link type 189 (USB)"),
        (1, bytes(Ether(type=0x88E5)) + bytes(20), "MACsec"),
        (105, bytes(Dot11(type=2, FCfield="protected")) + bytes(40), "encrypted IEEE 802.11"),
        (105, bytes(Dot11(type=2, FCfield="MF")) + bytes(40), "fragmented IEEE 802.11"),
        (105, bytes(Dot11(type=2, SC=1)) + bytes(40), "fragmented IEEE 802.11"),
        (1, bytes(12) + b"\x81\x00\x00\x01" * 40, "VLAN tags without end"),
        (1, bytes(12) + b"\x88\x47" + bytes(400), "MPLS labels without end"),
    ],
)
def test_what_may_hold_a_segment_and_is_not_looked_into_is_named(
    link: int, frame: bytes, reason: str
) -> None:
    assert find_packet(link, frame) == Unread(reason)


LINKS = st.sampled_from(sorted({link for link, _ in (*FRAMES.values(), *PREFIXES.values())}))


@given(LINKS, st.binary(max_size=200))
def test_no_frame_is_too_much(link: int, frame: bytes) -> None:
    find_packet(link, frame)


@given(st.sampled_from(sorted(FRAMES)), st.data())
def test_a_frame_cut_anywhere_is_not_too_much(name: str, data: st.DataObject) -> None:
    link, head = FRAMES[name]
    frame = bytes(head / IP4)
    cut = data.draw(st.integers(0, len(frame)))
    found = find_packet(link, frame[:cut])
    begins = len(frame) - len(IP4)
    assert found == Packet(begins) if cut > begins + 1 else True
