"""A capture as a witness: each segment once, at a time that never goes back, and all counted."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.ipsec import ESP
from scapy.packet import Packet, Raw

from tcpwatch.errors import TcpwatchError
from tcpwatch.machine.tracker import Tracker
from tcpwatch.model.events import WIRE, Event, MalformedSeen, Point, SegmentSeen
from tcpwatch.model.witness import Observation
from tcpwatch.sources.capture.segments import Capture
from tests.sources.capture.reading import octets_of
from tests.sources.capture.writing import (
    RAW,
    Frame,
    enhanced,
    interface,
    pcap,
    section,
    statistics,
)

COOKED, COOKED_2 = 113, 276
SYN = IP(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=40000, dport=80, seq=5, flags="S")
SECOND = 1_000_000_000


def observed(written: bytes, *, keep_octets: bool = False) -> tuple[Capture, list[Observation]]:
    capture = Capture(octets_of(written), keep_octets=keep_octets)
    return capture, list(capture.observations())


def captured(*packets: Packet | bytes, link: int = RAW, times: Sequence[int] = ()) -> bytes:
    moments = times or range(len(packets))
    frames = [Frame(t * SECOND, bytes(one)) for t, one in zip(moments, packets, strict=True)]
    return pcap(frames, link=link)


def test_a_segment_is_seen_midway_with_its_packet_where_that_is_wanted() -> None:
    for keep_octets, raw in ((False, b""), (True, bytes(SYN))):
        _, (seen,) = observed(captured(SYN), keep_octets=keep_octets)
        assert isinstance(seen.payload, SegmentSeen)
        assert (seen.payload.n, seen.payload.point) == (1, Point.MIDWAY)
        assert (str(seen.payload.src), str(seen.payload.dst)) == ("10.0.0.1:40000", "10.0.0.2:80")
        assert seen.payload.raw == raw
        assert (seen.vantage.source, seen.vantage.side) == (WIRE, None)


@pytest.mark.parametrize(
    "kind, points",
    [
        (0, [Point.SENT, Point.DELIVERED]),
        (1, [Point.SENT, Point.DELIVERED]),
        (3, [Point.MIDWAY]),
        (4, [Point.MIDWAY]),
    ],
)
def test_linux_tells_whether_a_segment_arrives(kind: int, points: list[Point]) -> None:
    cooked = struct.pack("!HHH8sH", kind, 1, 6, bytes(8), 0x0800) + bytes(SYN)
    cooked_2 = struct.pack("!HHIHBB8s", 0x0800, 0, 1, 1, kind, 6, bytes(8)) + bytes(SYN)
    for link, frame in ((COOKED, cooked), (COOKED_2, cooked_2)):
        _, seen = observed(captured(frame, link=link), keep_octets=True)
        payloads = [one.payload for one in seen if isinstance(one.payload, SegmentSeen)]
        assert [one.point for one in payloads] == points
        assert {one.n for one in payloads} == {1}
        assert [bool(one.raw) for one in payloads] == [True, False][: len(points)]


def test_everything_is_counted_by_what_became_of_it() -> None:
    whole = IP(bytes(IP(src="10.0.0.1", dst="10.0.0.2", id=3) / TCP(flags="A") / Raw(b"x" * 3000)))
    pieces = fragment(whole, fragsize=1400)  # type: ignore[no-untyped-call]
    broken = bytes(SYN)[:32] + b"\0" + bytes(SYN)[33:]
    others: list[Packet | bytes] = [
        IP() / ICMP(),
        IP() / UDP(),
        IP() / UDP(),
        IP() / ESP(data=b"?" * 30),
        broken,
    ]
    capture, seen = observed(captured(SYN, *pieces, *others, pieces[0]))
    tally = capture.tally
    assert (tally.frames, tally.segments, tally.fragments, tally.incomplete) == (10, 2, 3, 1)
    assert tally.other == {"IP protocol 1 (ICMP)": 1, "IP protocol 17 (UDP)": 2}
    assert tally.unread == {"ESP, which is encrypted": 1}
    assert tally.malformed == {"the TCP data offset 0 is below 20": 1}
    assert [type(one.payload) for one in seen] == [SegmentSeen, SegmentSeen, MalformedSeen]
    assert capture.links == ["raw IP"]


def test_time_never_goes_back() -> None:
    capture, seen = observed(captured(SYN, SYN, SYN, times=(5, 3, 7)))
    assert [one.t_ns for one in seen] == [5 * SECOND, 5 * SECOND, 7 * SECOND]
    assert capture.tally.backwards == 1


def test_what_the_capture_itself_lacks_is_told() -> None:
    written = section() + interface(link=RAW) + enhanced(bytes(SYN)[:-1], 1, wire_len=len(SYN))
    written += statistics(dropped=4)
    capture, _ = observed(written)
    assert capture.tally.dropped == 4
    assert capture.tally.malformed == {"the TCP header is cut after 19 octets": 1}


def test_what_was_counted_stays_where_the_capture_breaks_off() -> None:
    capture = Capture(octets_of(captured(SYN, SYN)[:-3]))
    with pytest.raises(TcpwatchError, match="ends within a frame"):
        list(capture.observations())
    assert (capture.tally.frames, capture.tally.segments) == (1, 1)


# ---------------------------------------------------------------------- whatever comes

FLAGS = st.sampled_from(["S", "SA", "A", "PA", "FA", "R", "RA", "F", "SF", "FRA", "SR", ""])
NUMBERS = st.sampled_from([0, 1, 2, 5, 6, 100, 2**31, 2**32 - 2, 2**32 - 1])


@st.composite
def segments(draw: st.DrawFn) -> bytes:
    ends = [("10.0.0.1", 40000), ("10.0.0.2", 80)]
    if draw(st.booleans()):
        ends.reverse()
    (src, sport), (dst, dport) = ends
    segment = TCP(
        sport=sport,
        dport=dport,
        flags=draw(FLAGS),
        seq=draw(NUMBERS),
        ack=draw(NUMBERS),
        window=draw(st.sampled_from([0, 1, 65535])),
        options=draw(st.sampled_from([[], [("WScale", 14)], [("WScale", 3), ("MSS", 1460)]])),
    )
    return bytes(IP(src=src, dst=dst) / segment / Raw(b"x" * draw(st.integers(0, 3))))


@given(st.lists(st.tuples(segments(), st.integers(0, 20), st.integers(0, 4)), max_size=14))
def test_no_conversation_is_too_much(packets: list[tuple[bytes, int, int]]) -> None:
    """Through the machine to its end, whatever they say and whichever is known to arrive."""
    frames = [
        Frame(t * SECOND, struct.pack("!HHIHBB8s", 0x0800, 0, 1, 1, kind, 6, bytes(8)) + packet)
        for packet, t, kind in packets
    ]
    _, seen = observed(pcap(frames, link=COOKED_2))
    tracker = Tracker(attending=[WIRE])
    for count, one in enumerate(seen, 1):
        tracker.feed(Event(count, one.t_ns, one.vantage, one.payload))
    for connection in tracker.timeline(40 * SECOND).connections:
        for endpoint in connection.endpoints:
            assert all(belief.states for belief in endpoint.path)
