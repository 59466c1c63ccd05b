"""One packet seen at two places is one segment; one that is sent again is not."""

from __future__ import annotations

import struct

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

from tcpwatch.machine.tracker import Tracker
from tcpwatch.model.events import WIRE, Event, Point, SegmentSeen
from tcpwatch.sources.capture.segments import Capture
from tests.sources.capture.reading import octets_of
from tests.sources.capture.writing import (
    ETHERNET,
    RAW,
    Frame,
    block,
    enhanced,
    interface,
    option,
    padded,
    pcap,
    section,
)

MS = 1_000_000
COOKED = 113
TO_US, SENT_BY_US = 0, 4
MIDWAY, HERE = [Point.MIDWAY], [Point.SENT, Point.DELIVERED]


def packet(number: int = 0, *, ttl: int = 64, seq: int = 1, version: int = 4) -> Packet:
    segment = TCP(sport=40000, dport=80, seq=seq, ack=1, flags="PA") / Raw(b"data")
    if version == 6:
        return IPv6(src="fd00::1", dst="fd00::2", hlim=ttl) / segment
    return IP(src="10.0.0.1", dst="10.0.0.2", id=number, ttl=ttl) / segment


def seen(written: bytes) -> list[SegmentSeen]:
    observed = [one.payload for one in Capture(octets_of(written)).observations()]
    return [one for one in observed if isinstance(one, SegmentSeen)]


def copies(*frames: Packet, link: int = RAW, apart_ms: int = 100) -> list[int | None]:
    timed = [Frame(n * apart_ms * MS, bytes(one)) for n, one in enumerate(frames)]
    return [one.copy_of for one in seen(pcap(timed, link=link))]


ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
ONWARD = Ether(src="02:00:00:00:00:03", dst="02:00:00:00:00:04")


@pytest.mark.parametrize("version", [4, 6])
def test_a_router_shows_a_packet_twice(version: int) -> None:
    assert copies(packet(version=version), packet(ttl=63, version=version)) == [None, 1]


@pytest.mark.parametrize("version", [4, 6])
def test_a_frame_is_seen_on_a_vlan_and_on_its_parent(version: int) -> None:
    one = packet(version=version)
    tagged = ETHER / Dot1Q(vlan=5) / one
    assert copies(ETHER / one, tagged, link=ETHERNET) == [None, 1]
    assert copies(ETHER / one, ONWARD / one, link=ETHERNET) == [None, 1]


def test_a_mirror_repeats_frames_whose_sender_numbers_them() -> None:
    numbered = [packet(7, seq=1), packet(8, seq=5), packet(8, seq=5), packet(9, seq=5)]
    assert copies(*numbered) == [None, None, 2, None]


@pytest.mark.parametrize("number", [0, 1])
def test_a_sender_that_does_not_number_its_packets_sends_again(number: int) -> None:
    assert copies(packet(number), packet(number)) == [None, None]
    assert copies(packet(version=6), packet(version=6)) == [None, None]


def test_what_comes_seconds_later_is_sent_again() -> None:
    assert copies(packet(7), packet(8, seq=5), packet(7, ttl=63), apart_ms=600) == [None] * 3


def test_two_interfaces_of_a_bridge_show_a_frame() -> None:
    octets = bytes(packet(version=6))
    written = section() + interface(link=RAW) + interface(link=RAW)
    written += enhanced(octets, 1) + enhanced(octets, 2, of=1) + enhanced(octets, 3, of=1)
    assert [one.copy_of for one in seen(written)] == [None, 1, 1]


def cooked(kind: int, one: Packet) -> bytes:
    return struct.pack("!HHH8sH", kind, 1, 6, bytes(8), 0x0800) + bytes(one)


def test_a_host_that_passes_packets_on_is_not_their_receiver() -> None:
    """Before it has done so once, that cannot be known."""
    frames = [
        cooked(TO_US, packet(1)),
        cooked(SENT_BY_US, packet(1, ttl=63)),
        cooked(TO_US, packet(2, seq=5)),
        cooked(SENT_BY_US, packet(2, seq=5, ttl=63)),
    ]
    found = seen(pcap([Frame(n * MS, one) for n, one in enumerate(frames)], link=COOKED))
    assert [(one.n, one.point, one.copy_of) for one in found] == [
        (1, Point.SENT, None),
        (1, Point.DELIVERED, None),
        (2, Point.MIDWAY, 1),
        (3, Point.MIDWAY, None),
        (4, Point.MIDWAY, 3),
    ]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("first", [b"", option(1, b"a comment")])
@pytest.mark.parametrize("flags, points", [(0, MIDWAY), (1, HERE), (2, MIDWAY), (0x1D, HERE)])
def test_a_pcapng_says_that_a_frame_came_in(
    order: str, first: bytes, flags: int, points: list[Point]
) -> None:
    octets = bytes(packet())
    head = struct.pack(f"{order}IIIII", 0, 0, 1, len(octets), len(octets))
    comment = option(1, b"a comment", order) if first else b""
    told = [comment + option(2, struct.pack(f"{order}I", flags), order)]
    written = section(order) + interface(order, link=RAW)
    written += block(6, head + padded(octets), order, told)
    assert [one.point for one in seen(written)] == points


def test_what_is_seen_twice_is_no_retransmission() -> None:
    frames = [packet(), packet(ttl=63), packet(), packet(ttl=63)]
    written = pcap([Frame(n * 400 * MS, bytes(one)) for n, one in enumerate(frames)], link=RAW)
    tracker = Tracker(attending=[WIRE])
    for count, one in enumerate(Capture(octets_of(written)).observations(), 1):
        tracker.feed(Event(count, one.t_ns, one.vantage, one.payload))
    (connection,) = tracker.timeline(MS).connections
    assert [(t.fate, t.retransmission, t.copy_of) for t in connection.segments] == [
        ("unknown", False, None),
        ("duplicated", False, 1),
        ("unknown", True, None),
        ("duplicated", False, 3),
    ]
