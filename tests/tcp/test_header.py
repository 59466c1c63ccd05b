"""The header parser survives any bytes, and agrees with scapy on packets that scapy builds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import (
    ICMP,
    IP,
    TCP,
    UDP,
    IPOption,
    IPOption_LSRR,
    IPOption_NOP,
    IPOption_Router_Alert,
    IPOption_RR,
    IPOption_SSRR,
    IPOption_Timestamp,
)
from scapy.layers.inet6 import (
    HBHOptUnknown,
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    IPv6ExtHdrSegmentRouting,
    Jumbo,
    PadN,
)
from scapy.layers.ipsec import AH
from scapy.packet import Packet, Raw

from tcpwatch.model.identity import canonical_ip
from tcpwatch.tcp.header import Malformed, NotTcp, TcpPacket, parse_ip
from tcpwatch.tcp.segment import Flags, Option
from tcpwatch.tcp.seq import SeqNumber

SRC4, DST4, HOP4 = "10.77.0.1", "10.77.0.2", "192.0.2.9"
SRC6, DST6, HOP6 = "2001:db8::1", "2001:db8::2", "2001:db8:ffff::9"

IP_HEADERS: dict[str, Packet] = {
    "plain IPv4": IP(src=SRC4, dst=DST4),
    "IPv4, no operation": IP(src=SRC4, dst=DST4, options=[IPOption_NOP()] * 3),
    "IPv4, router alert": IP(src=SRC4, dst=DST4, options=[IPOption_Router_Alert()]),
    "IPv4, record route": IP(src=SRC4, dst=DST4, options=[IPOption_RR(routers=[HOP4] * 9)]),
    "IPv4, timestamp": IP(src=SRC4, dst=DST4, options=[IPOption_Timestamp()]),
    "IPv4, unknown option": IP(src=SRC4, dst=DST4, options=[IPOption(b"\x9e\x06abcd")]),
    "IPv4, may not be fragmented": IP(src=SRC4, dst=DST4, flags="DF", id=7, tos=3),
    "IPv4, authenticated": IP(src=SRC4, dst=DST4) / AH(nh=6, spi=1, icv=b"i" * 12, payloadlen=4),
    "plain IPv6": IPv6(src=SRC6, dst=DST6, tc=3, fl=0xABCDE),
    "IPv6, hop by hop": IPv6(src=SRC6, dst=DST6)
    / IPv6ExtHdrHopByHop(options=[HBHOptUnknown(otype=0x3E, optdata=b"x" * 17)]),
    "IPv6, destination options": IPv6(src=SRC6, dst=DST6)
    / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 12)]),
    "IPv6, routing used up": IPv6(src=SRC6, dst=DST6)
    / IPv6ExtHdrRouting(addresses=[HOP6], segleft=0),
    "IPv6, atomic fragment": IPv6(src=SRC6, dst=DST6) / IPv6ExtHdrFragment(id=5),
    "IPv6, authenticated": IPv6(src=SRC6, dst=DST6) / AH(nh=6, spi=1, icv=b"i" * 12, payloadlen=4),
    "IPv6, a chain of all": IPv6(src=SRC6, dst=DST6)
    / IPv6ExtHdrHopByHop()
    / IPv6ExtHdrDestOpt()
    / IPv6ExtHdrRouting(addresses=[HOP6, HOP6], segleft=0)
    / IPv6ExtHdrFragment(id=5)
    / AH(nh=60, spi=1, icv=b"i" * 16, payloadlen=5)
    / IPv6ExtHdrDestOpt(nh=6, options=[PadN(optdata=b"\0" * 4)]),
}
TCP_OPTIONS: list[tuple[str | int, Any]] = [
    ("NOP", None),
    ("MSS", 1460),
    ("WScale", 7),
    ("SAckOK", b""),
    ("SAck", (1, 2, 3, 4)),
    ("Timestamp", (0xFFFFFFFF, 1)),
    ("AltChkSum", (1, 2)),
    ("UTO", 100),
    ("TFO", (1, 2)),
    (254, b"xyz"),
]


def _packet(ip: Packet, tcp: Packet | None = None, payload: bytes = b"") -> bytes:
    segment = tcp if tcp is not None else TCP(sport=40000, dport=7000, flags="S")
    segment = segment / Raw(payload) if payload else segment
    if AH in ip:
        # scapy fills in no checksum behind an AH, which does not change it.
        plain = type(ip)(src=ip.src, dst=ip.dst)
        segment = Raw(bytes(plain / segment)[len(plain) :])
    return bytes(ip / segment)


def _read(packet: bytes | memoryview) -> TcpPacket:
    found = parse_ip(packet)
    assert isinstance(found, TcpPacket), found
    return found


def _with(packet: bytes, at: int, octets: bytes) -> bytes:
    return packet[:at] + octets + packet[at + len(octets) :]


PACKETS = {
    f"{name}, {len(payload)} octets": _packet(
        header, TCP(flags="PA", ack=9, options=TCP_OPTIONS[:4]), payload
    )
    for name, header in IP_HEADERS.items()
    for payload in (b"", b"odd")
}


@st.composite
def tcp_headers(draw: st.DrawFn) -> Packet:
    numbers, ports = st.integers(0, 2**32 - 1), st.integers(0, 0xFFFF)
    options = draw(st.lists(st.sampled_from(TCP_OPTIONS), max_size=3))
    return TCP(
        sport=draw(ports),
        dport=draw(ports),
        seq=draw(numbers),
        ack=draw(numbers),
        flags=draw(st.integers(0, 0x1FF)),
        window=draw(ports),
        urgptr=draw(ports),
        options=options if sum(_option_len(option) for option in options) <= 40 else [],
    )


def _option_len(option: tuple[str | int, Any]) -> int:
    return len(bytes(TCP(options=[option]))) - 20


@given(st.sampled_from(sorted(IP_HEADERS)), tcp_headers(), st.binary(max_size=50))
def test_it_reads_what_scapy_built(name: str, tcp: Packet, payload: bytes) -> None:
    ip = IP_HEADERS[name]

    found = _read(_packet(ip, tcp, payload))

    assert (found.src_ip, found.dst_ip) == (ip.src, ip.dst)
    assert (found.src_port, found.dst_port) == (tcp.sport, tcp.dport)
    assert found.segment.seq == SeqNumber(tcp.seq)
    assert found.segment.flags == Flags(int(tcp.flags))
    assert found.segment.ack == (SeqNumber(tcp.ack) if int(tcp.flags) & 0x10 else None)
    assert found.segment.window == tcp.window
    assert found.segment.payload_len == len(payload)
    assert found.truncated is False
    assert found.checksum_ok is True


@pytest.mark.parametrize(
    "written, read",
    [
        (("MSS", 1460), Option(2, b"\x05\xb4")),
        (("WScale", 7), Option(3, b"\x07")),
        (("SAckOK", b""), Option(4)),
        (("SAck", (1, 2)), Option(5, b"\0\0\0\x01\0\0\0\x02")),
        (("Timestamp", (1, 2)), Option(8, b"\0\0\0\x01\0\0\0\x02")),
        (("NOP", None), Option(1)),
        ((254, b"xyz"), Option(254, b"xyz")),
    ],
)
def test_an_option_is_its_kind_and_its_octets(written: tuple[str | int, Any], read: Option) -> None:
    found = _read(_packet(IP(src=SRC4, dst=DST4), TCP(options=[written])))

    assert found.segment.options[0] == read


@pytest.mark.parametrize(
    "octets, read",
    [
        (b"\x01\x02\x00\x01", (Option(1),)),  # a length of 0
        (b"\x01\x02\x01\x01", (Option(1),)),  # a length that does not cover itself
        (b"\x01\x02\x04\x01", (Option(1),)),  # a length beyond the header
        (b"\x01\x01\x01\x02", (Option(1),) * 3),  # a kind without its length
        (b"\x01\x00\x01\x01", (Option(1),)),  # the end of the list, and more
    ],
)
def test_a_bad_option_ends_the_list_and_not_the_segment(
    octets: bytes, read: tuple[Option, ...]
) -> None:
    packet = _packet(IP(src=SRC4, dst=DST4), TCP(seq=5, options=[("NOP", None)] * 4), b"data")

    found = _read(_with(packet, 40, octets))

    assert found.segment.options == read
    assert found.segment.seq == SeqNumber(5)
    assert found.segment.payload_len == 4


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value(data: bytes) -> None:
    _assert_sound(data)


@given(st.data())
def test_any_mutation_of_a_packet_is_a_value(data: st.DataObject) -> None:
    packet = bytearray(data.draw(st.sampled_from(list(PACKETS.values()))))
    for at in data.draw(st.lists(st.integers(0, len(packet) - 1), max_size=6)):
        packet[at] = data.draw(st.integers(0, 255))

    _assert_sound(bytes(packet[: data.draw(st.integers(0, len(packet)))]))


def _assert_sound(data: bytes) -> None:
    found = parse_ip(data)

    assert found == parse_ip(memoryview(data))
    if isinstance(found, TcpPacket):
        segment = found.segment
        assert canonical_ip(found.src_ip)
        assert canonical_ip(found.dst_ip)
        assert segment.payload_len >= 0
        assert (segment.ack is None) == (not segment.flags & Flags.ACK)
        assert (found.checksum_ok is None) or not found.truncated
    else:
        assert found.reason


@pytest.mark.parametrize("packet", PACKETS.values(), ids=PACKETS)
def test_a_cut_packet_keeps_its_lengths_or_says_that_a_header_is_cut(packet: bytes) -> None:
    whole = _read(packet)
    with_payload = packet + b"later"  # Ethernet's padding, for one

    assert _read(with_payload) == whole
    for length in range(len(packet)):
        cut = parse_ip(packet[:length])
        if isinstance(cut, TcpPacket):
            assert cut.truncated
            assert cut.checksum_ok is None
            assert cut.segment.payload_len == whole.segment.payload_len
            assert cut.segment.seq == whole.segment.seq
        else:
            assert isinstance(cut, Malformed)
            assert "cut" in cut.reason or not length


def test_options_that_the_capture_cut_off_do_not_cost_the_segment() -> None:
    packet = _packet(IP(src=SRC4, dst=DST4), TCP(flags="S", options=TCP_OPTIONS[:4]))

    found = _read(packet[:45])  # within the MSS option, the second

    assert found.segment.flags == Flags.SYN
    assert found.segment.options == (Option(1), Option(2, b"\x05\xb4"))
    assert _read(packet[:44]).segment.options == (Option(1),)


@given(st.sampled_from(list(PACKETS.values())), st.data())
def test_one_flipped_bit_of_the_segment_breaks_the_checksum(
    packet: bytes, data: st.DataObject
) -> None:
    whole = _read(packet)
    segment_len = 20 + 12 + whole.segment.payload_len
    bit = data.draw(st.integers(0, segment_len * 8 - 1))
    at = len(packet) - segment_len + bit // 8

    broken = parse_ip(_with(packet, at, bytes([packet[at] ^ 1 << bit % 8])))

    # A bit of the data offset may leave no segment at all.
    assert not isinstance(broken, NotTcp)
    if isinstance(broken, TcpPacket):
        assert broken.checksum_ok is False


@pytest.mark.parametrize("option", [IPOption_LSRR, IPOption_SSRR])
def test_a_source_routed_packet_is_on_its_way_to_the_last_hop(option: type[IPOption]) -> None:
    route = option(pointer=4, routers=[HOP4, DST4])

    found = _read(_packet(IP(src=SRC4, dst=HOP4, options=[IPOption_NOP(), route])))

    assert found.dst_ip == DST4
    assert found.checksum_ok is True


def test_a_source_route_used_up_leaves_the_destination_as_it_is() -> None:
    # Written by hand: scapy takes the last hop for the destination whatever the pointer says.
    packet = _packet(IP(src=SRC4, dst=DST4, options=[IPOption_NOP()] * 8))

    found = _read(_with(packet, 20, b"\x83\x07\x08\xc0\x00\x02\x09\x00"))

    assert found.dst_ip == DST4
    assert found.checksum_ok is True


@pytest.mark.parametrize(
    "routing",
    [
        IPv6ExtHdrRouting(addresses=[HOP6, DST6], segleft=2),
        IPv6ExtHdrSegmentRouting(addresses=[DST6, HOP6], segleft=1, lastentry=1),
    ],
)
def test_a_routing_header_with_segments_left_names_the_destination(routing: Packet) -> None:
    found = _read(_packet(IPv6(src=SRC6, dst=HOP6) / routing))

    assert found.dst_ip == DST6
    assert found.checksum_ok is True


def test_no_checksum_is_judged_under_a_routing_header_of_unknown_type() -> None:
    packet = _packet(IPv6(src=SRC6, dst=DST6) / IPv6ExtHdrRouting(addresses=[HOP6], segleft=1))

    assert _read(_with(packet, 42, b"\xfd")).checksum_ok is None


@pytest.mark.parametrize("length_at, header", [(2, IP(src=SRC4, dst=DST4)), (4, IPv6(dst=DST6))])
def test_a_length_of_zero_is_segmentation_offloads(length_at: int, header: Packet) -> None:
    packet = _with(_packet(header, payload=b"x" * 3000), length_at, b"\0\0")

    found = _read(packet)

    assert found.segment.payload_len == 3000
    assert found.truncated is False
    assert found.checksum_ok is True


def test_a_jumbo_payload_has_the_length_that_its_option_says() -> None:
    ip = IPv6(src=SRC6, dst=DST6, plen=0) / IPv6ExtHdrHopByHop(
        options=[Jumbo(jumboplen=8 + 20 + 70000)], autopad=0
    )
    packet = _packet(ip, TCP(sport=1, dport=2, flags="A"), b"x" * 70000)

    assert _read(packet).segment.payload_len == 70000
    assert _read(packet).checksum_ok is True
    assert _read(packet[:100]).segment.payload_len == 70000
    assert _read(packet[:100]).truncated is True


@pytest.mark.parametrize(
    "header",
    [IP(src=SRC4, dst=DST4, flags="MF"), IPv6(src=SRC6, dst=DST6) / IPv6ExtHdrFragment(m=1, id=5)],
)
def test_the_first_fragment_is_a_segment_that_is_not_all_here(header: Packet) -> None:
    found = _read(_packet(header, TCP(seq=5), b"x" * 8))

    assert found.segment.seq == SeqNumber(5)
    assert found.truncated is True
    assert found.checksum_ok is None


@pytest.mark.parametrize(
    "packet, reason",
    [
        (IP(src=SRC4, dst=DST4) / UDP(), "IP protocol 17 (UDP)"),
        (IP(src=SRC4, dst=DST4) / ICMP(), "IP protocol 1 (ICMP)"),
        (IP(src=SRC4, dst=DST4, proto=200) / Raw(b"x" * 20), "IP protocol 200 (not TCP)"),
        (IP(src=SRC4, dst=DST4, frag=1) / TCP(), "a fragment other than the first"),
        (IP(src=SRC4, dst=DST4, frag=0x1000) / TCP(), "a fragment other than the first"),
        (IPv6(dst=DST6) / ICMPv6EchoRequest(), "IP protocol 58 (ICMPv6)"),
        (IPv6(dst=DST6, nh=59), "IP protocol 59 (no upper layer)"),
        (
            IPv6(dst=DST6) / IPv6ExtHdrFragment(offset=1, nh=6) / Raw(b"x" * 20),
            "a fragment other than the first",
        ),
        (IPv6(dst=DST6) / IPv6ExtHdrHopByHop() / UDP(), "IP protocol 17 (UDP)"),
    ],
)
def test_what_is_not_tcp_says_what_it_is(packet: Packet, reason: str) -> None:
    assert parse_ip(bytes(packet)) == NotTcp(reason)


IPV4 = _packet(IP(src=SRC4, dst=DST4), payload=b"four")
IPV6 = _packet(IPv6(src=SRC6, dst=DST6), payload=b"four")


@pytest.mark.parametrize(
    "packet, reason",
    [
        (b"", "the packet is empty"),
        (b"\x50" + IPV4[1:], "IP version 5 is neither 4 nor 6"),
        (IPV4[:19], "the IPv4 header is cut after 19 octets"),
        (b"\x44" + IPV4[1:], "the IPv4 header length 16 is below 20"),
        (b"\x4f" + IPV4[1:40], "the IPv4 header of 60 octets is cut after 40"),
        (_with(IPV4, 2, b"\0\x13"), "the IPv4 total length 19 is below the header length 20"),
        (_with(IPV4, 2, b"\0\x27"), "19 octets cannot hold a TCP header"),
        (IPV4[:39], "the TCP header is cut after 19 octets"),
        (_with(IPV4, 32, b"\x40"), "the TCP data offset 16 is below 20"),
        (_with(IPV4, 32, b"\x70"), "the TCP data offset 28 is beyond the 24 octets there are"),
        (IPV6[:39], "the IPv6 header is cut after 39 octets"),
        (IPV6[:40], "the TCP header is cut after 0 octets"),
        (_with(IPV6, 4, b"\0\x10"), "16 octets cannot hold a TCP header"),
        (_with(IPV6, 6, b"\0")[:44], "extension header 0 is cut after 4 octets"),
        (
            _with(_with(IPV6, 6, b"\x3c"), 41, b"\x09"),
            "extension header 60 of 80 octets is cut after 24",
        ),
    ],
)
def test_what_is_malformed_says_where(packet: bytes, reason: str) -> None:
    assert parse_ip(packet) == Malformed(reason)
