"""What is odd about a connection, and which of two is odder."""

from __future__ import annotations

import pytest

from tcpwatch.machine.oddity import oddities, weight
from tcpwatch.machine.rows import Row, row_of
from tcpwatch.machine.tracker import Tracker
from tcpwatch.model.events import WIRE, Event, Point, SegmentSeen, Vantage
from tcpwatch.model.identity import SocketAddress
from tests.machine.conversation import conversation

SECOND_NS = 1_000_000_000
OPENED = ("> S 0:0(0)", "< SA 0:0(0) ack 1", "> A 1:1(0) ack 1")
DATA = ("> PA 1:4(3) ack 1", "< A 1:1(0) ack 4")
CLOSED = ("> FA 4:4(0) ack 1", "< A 1:1(0) ack 5", "< FA 1:1(0) ack 5", "> A 5:5(0) ack 2")
NORMAL = (*OPENED, *DATA, *CLOSED)


def row(*lines: str, end_s: float) -> Row:
    """The connection of those segments, a millisecond each, in a capture of that length."""
    tracker = Tracker(attending=[WIRE])
    ends = {
        "active": (SocketAddress("10.0.0.1", 40_000), SocketAddress("10.0.0.2", 80)),
        "passive": (SocketAddress("10.0.0.2", 80), SocketAddress("10.0.0.1", 40_000)),
    }
    for count, trace in enumerate(conversation(*lines).segments, 1):
        seen = SegmentSeen(count, Point.MIDWAY, *ends[trace.sender], trace.segment)
        tracker.feed(Event(count, trace.sent_ns or 0, Vantage(WIRE), seen))
    timeline = tracker.timeline(int(end_s * SECOND_NS))
    (connection,) = timeline.connections
    return row_of(connection, timeline.findings)


@pytest.mark.parametrize(
    "lines, end_s, words",
    [
        (NORMAL, 100, ()),
        ((*OPENED, *DATA), 30, ()),  # open, as connections are
        ((*OPENED, *DATA), 500, ("not closed, and silent for the last 8.33 min",)),
        (("> S 0:0(0)",), 0.5, ("nobody answered its SYN, sent once",)),
        (("> S 0:0(0)", "> S 0:0(0)"), 9, ("nobody answered its SYN, sent 2 times",)),
        (("> S 0:0(0)", "< RA 0:0(0) ack 1"), 9, ("refused: a RST answered the SYN",)),
        (
            (*OPENED, *DATA, *DATA[:1], *CLOSED),
            9,
            ("1 of 10 segments sent again",),
        ),
        (
            (*OPENED, "< A 1:1(0) ack 4", *CLOSED),
            9,
            ("3 octets acknowledged and not captured",),
        ),
        (
            (*OPENED, *DATA, *CLOSED[:2]),
            60,
            (
                "the passive end was 59.99 s in CLOSE-WAIT, and still is",
                "the active end was 59.99 s in FIN-WAIT-2, and still is",
            ),
        ),
        (
            (*OPENED, *DATA, "> FA 4:4(0) ack 1", "< FA 1:1(0) ack 4", "> A 5:5(0) ack 2"),
            9,
            ("simultaneous close: the active end passed CLOSING",),
        ),
    ],
)
def test_what_is_odd_is_told_in_words(
    lines: tuple[str, ...], end_s: float, words: tuple[str, ...]
) -> None:
    told = [one.words for one in oddities(row(*lines, end_s=end_s), int(end_s * SECOND_NS))]
    assert set(words) <= set(told)
    assert bool(told) is bool(words)


def test_the_weightiest_comes_first_and_all_weigh_together() -> None:
    found = oddities(row(*OPENED, *DATA, *DATA[:1], *CLOSED[:2], end_s=60), 60 * SECOND_NS)
    weights = [one.weight for one in found]
    assert len(weights) == 3
    assert weights == sorted(weights, reverse=True)
    assert weight(found) == sum(weights)


def test_the_longer_in_a_passing_state_the_odder() -> None:
    left = (*OPENED, *DATA, *CLOSED[:2])
    short, long = (oddities(row(*left, end_s=end), end * SECOND_NS) for end in (10, 1000))
    assert weight(long) > weight(short) > 0
