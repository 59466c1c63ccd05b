"""A frame to a segment: through tunnels, from fragments, and whatever is wrong with it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.contrib.geneve import GENEVE
from scapy.contrib.gtp import GTP_U_Header, GTPPDUSessionContainer
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    fragment6,
)
from scapy.layers.ipsec import AH, ESP
from scapy.layers.l2 import GRE, GRE_PPTP, Ether
from scapy.layers.ppp import PPP
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet as Scapy
from scapy.packet import Raw

from tcpwatch.sources.capture.decoder import Decoder, Held, Read, Reading
from tcpwatch.sources.capture.link import Unread
from tcpwatch.tcp.header import Malformed, NotTcp, parse_ip

RAW = 101
SECOND = 1_000_000_000
HTTP = TCP(sport=40000, dport=80, seq=5, ack=7, flags="PA") / Raw(b"x" * 3000)
INNER = IP(src="10.0.0.1", dst="10.0.0.2") / HTTP
INNER6 = IPv6(src="2001:db8::1", dst="2001:db8::2") / HTTP
OUTER, OUTER6 = IP(src="192.0.2.1", dst="192.0.2.2"), IPv6(src="fe80::1", dst="fe80::2")


def decode(*packets: Scapy | bytes, decoder: Decoder | None = None) -> list[Reading]:
    decoder = decoder or Decoder()
    octets = [bytes(packet) for packet in packets]
    return [decoder.read(RAW, one, len(one), n) for n, one in enumerate(octets)]


def rebuilt(packet: Scapy) -> Scapy:
    """With lengths and checksums filled in, as they would have to be before it is fragmented."""
    return packet.__class__(bytes(packet))


TUNNELS: dict[str, Scapy] = {
    "IPv4 in IPv4": OUTER,
    "in IPv6": OUTER6,
    "in both": OUTER / IP(src="192.0.2.3", dst="192.0.2.4"),
    "GRE": OUTER / GRE(),
    "GRE with everything": OUTER
    / GRE(chksum_present=1, key_present=1, seqnum_present=1, chksum=1, key=2, sequence_number=3),
    "GRE that carries Ethernet": OUTER / GRE(proto=0x6558) / Ether(),
    "PPTP": OUTER
    / GRE_PPTP(seqnum_present=1, acknum_present=1, sequence_number=1, ack_number=2)
    / PPP(),
    "ERSPAN I": OUTER / GRE(proto=0x88BE) / Ether(),
    "ERSPAN II": OUTER / GRE(proto=0x88BE, seqnum_present=1) / Raw(b"\x10" + bytes(7)) / Ether(),
    "ERSPAN III": OUTER / GRE(proto=0x22EB, seqnum_present=1) / Raw(b"\x20" + bytes(11)) / Ether(),
    "ERSPAN III with its platform's": OUTER
    / GRE(proto=0x22EB, seqnum_present=1)
    / Raw(b"\x20" + bytes(10) + b"\x01" + bytes(8))
    / Ether(),
    "VXLAN": OUTER / UDP(sport=50000, dport=4789) / VXLAN(vni=7) / Ether(),
    "Geneve": OUTER6 / UDP(sport=50000, dport=6081) / GENEVE(vni=7) / Ether(),
    "GTP": OUTER / UDP(sport=2152, dport=2152) / GTP_U_Header(teid=7, gtp_type=255),
    "GTP with an extension": OUTER
    / UDP(sport=2152, dport=2152)
    / GTP_U_Header(teid=7, gtp_type=255, E=1, next_ex=0x85)
    / GTPPDUSessionContainer(type=0, QFI=5),
}


@pytest.mark.parametrize("inner", [INNER, INNER6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("name", sorted(TUNNELS))
def test_a_tunnel_is_looked_into(name: str, inner: Scapy) -> None:
    (found,) = decode(TUNNELS[name] / inner)
    assert isinstance(found, Read)
    assert found.packet == parse_ip(bytes(inner))
    assert found.octets == bytes(inner)


def test_what_only_has_the_port_of_a_tunnel_is_none() -> None:
    for port in (4789, 8472, 6081, 2152):
        for content in (b"", b"x" * 7, b"\x08" + b"x" * 40, b"\x30\xff" + b"x" * 40):
            (found,) = decode(OUTER / UDP(dport=port) / Raw(content))
            assert found == NotTcp("IP protocol 17 (UDP)")


@pytest.mark.parametrize("name", sorted(TUNNELS))
def test_a_tunnel_cut_anywhere_is_not_too_much(name: str) -> None:
    packet = bytes(TUNNELS[name] / INNER)
    for cut in range(len(packet) - 3000):
        Decoder().read(RAW, packet[:cut], len(packet), 0)


def test_tunnels_in_tunnels_have_an_end() -> None:
    packet: Scapy = INNER
    for _ in range(9):
        packet = OUTER / packet
    assert decode(packet) == [Unread("tunnels more than 8 deep")]
    assert isinstance(decode(packet.payload)[0], Read)


def test_what_is_encrypted_is_not_read() -> None:
    assert decode(OUTER / ESP(spi=1, seq=1, data=b"?" * 40)) == [Unread("ESP, which is encrypted")]


# ---------------------------------------------------------------------- fragments


def fragments(packet: Scapy, size: int) -> list[bytes]:
    if packet.version == 4:
        made = fragment(rebuilt(packet), fragsize=size)  # type: ignore[no-untyped-call]
    else:
        made = fragment6(packet, size + 48)  # type: ignore[no-untyped-call]
    return [bytes(one) for one in made]


FRAGMENTED = {
    "IPv4": IP(src="10.0.0.1", dst="10.0.0.2", id=9) / HTTP,
    "IPv4, authenticated": IP(src="10.0.0.1", dst="10.0.0.2", id=9, proto=51)
    / AH(nh=6, spi=1, icv=b"i" * 12, payloadlen=4)
    / HTTP,
    "IPv6": IPv6(src="2001:db8::1", dst="2001:db8::2") / IPv6ExtHdrFragment(id=9) / HTTP,
    "IPv6, more headers": IPv6(src="2001:db8::1", dst="2001:db8::2")
    / IPv6ExtHdrHopByHop()
    / IPv6ExtHdrFragment(id=9)
    / IPv6ExtHdrDestOpt()
    / HTTP,
}


@pytest.mark.parametrize("name", sorted(FRAGMENTED))
@pytest.mark.parametrize("size", [8, 24, 1480])
def test_fragments_make_a_segment_in_whatever_order_they_come(name: str, size: int) -> None:
    packet = FRAGMENTED[name]
    pieces = fragments(packet, max(size, 24) if packet.version == 6 else size)
    assert len(pieces) > 2
    pieces = [*pieces[1::2], *reversed(pieces[::2])]
    *before, last = decode(*pieces)
    assert set(before) == {Held()}
    assert isinstance(last, Read)
    whole = decode(INNER if packet.version == 4 else INNER6)[0]
    assert isinstance(whole, Read)
    assert last.packet.segment == whole.packet.segment
    assert (last.packet.src_ip, last.packet.dst_ip) == (whole.packet.src_ip, whole.packet.dst_ip)
    assert not last.packet.truncated
    assert last.octets == b""


def test_a_fragment_that_comes_twice_counts_once() -> None:
    pieces = fragments(FRAGMENTED["IPv4"], 1000)
    *before, last = decode(*[piece for piece in pieces for _ in range(2)][:-1])
    assert set(before) == {Held()}
    assert isinstance(last, Read)


def test_where_fragments_overlap_the_first_to_come_counts() -> None:
    header = bytes(TCP(sport=40000, dport=80, seq=5, flags="S"))
    other = bytes(TCP(sport=40000, dport=80, seq=6, flags="R"))
    packets = [
        IP(src="10.0.0.1", dst="10.0.0.2", id=9, proto=6, flags="MF") / Raw(header[:16]),
        IP(src="10.0.0.1", dst="10.0.0.2", id=9, proto=6, frag=1) / Raw(other[8:]),
    ]
    _, last = decode(*packets)
    assert isinstance(last, Read)
    assert last.packet.segment.flags.letters == "S"


def test_fragments_in_a_tunnel_are_put_together() -> None:
    pieces = [OUTER / GRE() / IP(one) for one in fragments(FRAGMENTED["IPv4"], 1000)]
    *before, last = decode(*pieces)
    assert set(before) == {Held()}
    assert isinstance(last, Read)


def test_a_tunnel_in_fragments_is_put_together() -> None:
    *_, last = decode(*fragments(IP(src="192.0.2.1", dst="192.0.2.2", id=7) / INNER, 800))
    assert isinstance(last, Read)
    assert last.packet.segment == decode(INNER)[0].packet.segment  # type: ignore[union-attr]


def test_fragments_that_the_capture_cut_still_make_a_segment() -> None:
    decoder = Decoder()
    readings = [
        decoder.read(RAW, piece[:60], len(piece), 0)
        for piece in fragments(FRAGMENTED["IPv4"], 1000)
    ]
    last = readings[-1]
    assert isinstance(last, Read)
    assert last.packet.truncated
    assert last.packet.segment.payload_len == 3000


def test_fragments_of_what_is_not_tcp_are_not_held() -> None:
    decoder = Decoder()
    for packet in (IP(id=3) / ICMP() / Raw(b"x" * 3000), IP(id=3) / UDP() / Raw(b"x" * 3000)):
        found = decode(*fragments(packet, 1000), decoder=decoder)
        assert all(isinstance(one, NotTcp) for one in found)
    assert decoder.incomplete == 0


def test_a_datagram_that_lacks_a_fragment_is_counted() -> None:
    decoder = Decoder()
    decode(*fragments(FRAGMENTED["IPv4"], 1000)[1:], decoder=decoder)
    assert decoder.incomplete == 1


def test_a_fragment_that_comes_a_minute_late_belongs_to_another_datagram() -> None:
    decoder = Decoder()
    first, *rest = fragments(FRAGMENTED["IPv4"], 2000)
    decoder.read(RAW, first, len(first), 0)
    for piece in rest:
        assert decoder.read(RAW, piece, len(piece), 61 * SECOND) == Held()
    assert decoder.incomplete == 2


def test_fragments_of_many_datagrams_take_bounded_memory() -> None:
    decoder = Decoder()
    for number in range(5000):
        piece = bytes(
            IP(src="10.0.0.1", dst="10.0.0.2", id=number, proto=6, flags="MF") / Raw(b"x" * 1400)
        )
        assert decoder.read(RAW, piece, len(piece), number) == Held()
    assert decoder.incomplete == 5000
    assert len(decoder._fragments._datagrams) <= 1024  # noqa: SLF001


def test_fragments_that_cannot_be_are_malformed() -> None:
    long = IP(src="10.0.0.1", dst="10.0.0.2", id=9, proto=6, frag=8191) / Raw(b"x" * 100)
    odd = IP(src="10.0.0.1", dst="10.0.0.2", id=9, proto=6, flags="MF") / Raw(b"x" * 13)
    assert decode(long, odd) == [
        Malformed("a fragment that ends beyond the longest datagram"),
        Malformed("a fragment of 13 octets, which is no multiple of 8"),
    ]


# ---------------------------------------------------------------------- cut and offloaded packets


def test_a_packet_that_the_capture_cut_keeps_its_length() -> None:
    packet = bytes(INNER)
    found = Decoder().read(RAW, packet[:60], len(packet), 0)
    assert isinstance(found, Read)
    assert found.packet.truncated
    assert found.packet.segment.payload_len == 3000


def test_a_packet_without_a_length_ends_with_its_frame() -> None:
    """So does segmentation offload leave it to the network card."""
    packet = struct.pack("!BBH", 0x45, 0, 0) + bytes(INNER)[4:]
    found = Decoder().read(RAW, packet[:60], len(packet), 0)
    assert isinstance(found, Read)
    assert found.packet.segment.payload_len == 3000


def test_what_follows_the_packet_in_its_frame_is_no_part_of_it() -> None:
    frame = bytes(Ether() / IP(src="10.0.0.1", dst="10.0.0.2") / TCP(flags="A")) + bytes(6)
    found = Decoder().read(1, frame, len(frame), 0)
    assert isinstance(found, Read)
    assert found.packet.segment.payload_len == 0
    assert len(found.octets) == 40


def test_other_protocols_are_named() -> None:
    assert decode(IP() / ICMP(), OUTER6 / ICMPv6EchoRequest()) == [
        NotTcp("IP protocol 1 (ICMP)"),
        NotTcp("IP protocol 58 (ICMPv6)"),
    ]


# ---------------------------------------------------------------------- whatever comes


WHOLE = [bytes(TUNNELS[name] / INNER)[:120] for name in sorted(TUNNELS)] + [
    piece[:120] for name in sorted(FRAGMENTED) for piece in fragments(FRAGMENTED[name], 1000)
]


@given(st.lists(st.tuples(st.binary(max_size=120), st.integers(0, 2**18)), max_size=10))
def test_no_packets_are_too_much(packets: list[tuple[bytes, int]]) -> None:
    decoder = Decoder()
    for octets, wire_len in packets:
        decoder.read(RAW, octets, wire_len, 0)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(WHOLE),
            st.lists(st.tuples(st.integers(0, 119), st.integers(0, 255)), max_size=3),
            st.integers(0, 120),
        ),
        max_size=10,
    )
)
def test_no_damaged_packets_are_too_much(
    packets: list[tuple[bytes, list[tuple[int, int]], int]],
) -> None:
    decoder = Decoder()
    for whole, changes, cut in packets:
        octets = bytearray(whole)
        for at, value in changes:
            octets[at % len(octets)] = value
        reading = decoder.read(RAW, bytes(octets[:cut]), len(octets), 0)
        if isinstance(reading, Read):
            assert len(reading.octets) <= cut
