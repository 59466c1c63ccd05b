"""A capture midway: what was seen was sent, and has arrived once its receiver's answer shows it."""

from __future__ import annotations

import pytest

from tcpwatch.machine.tracker import Tracker
from tcpwatch.model.events import WIRE, Event, Point, SegmentSeen, Vantage
from tcpwatch.model.timeline import Basis, Timeline
from tests.machine.conversation import ACTIVE, PASSIVE, conversation

OPEN = ("> S 0:0(0)", "< SA 0:0(0) ack 1", "> A 1:1(0) ack 1")
DATA = (*OPEN, "> PA 1:4(3) ack 1", "< A 1:1(0) ack 4")
ENDS = {"active": (ACTIVE, PASSIVE), "passive": (PASSIVE, ACTIVE)}


def seen_midway(*lines: str, end_s: float | None = None) -> Timeline:
    tracker = Tracker(attending=[WIRE])
    t_ns = 0
    for trace in conversation(*lines).segments:
        t_ns = trace.sent_ns or 0
        seen = SegmentSeen(trace.n, Point.MIDWAY, *ENDS[trace.sender], trace.segment)
        tracker.feed(Event(trace.n, t_ns, Vantage(WIRE), seen))
    return tracker.timeline(t_ns if end_s is None else int(end_s * 1e9))


def paths(timeline: Timeline) -> list[str]:
    return [
        " > ".join(map(str, endpoint.path))
        for connection in timeline.connections
        for endpoint in connection.endpoints
    ]


@pytest.mark.parametrize(
    "lines, active, passive",
    [
        (OPEN[:1], "CLOSED > SYN-SENT", "LISTEN or CLOSED"),
        (OPEN[:2], "CLOSED > SYN-SENT > SYN-SENT or ESTABLISHED", "LISTEN > SYN-RECEIVED"),
        (
            OPEN,
            "CLOSED > SYN-SENT > ESTABLISHED",
            "LISTEN > SYN-RECEIVED > SYN-RECEIVED or ESTABLISHED",
        ),
        (DATA, "CLOSED > SYN-SENT > ESTABLISHED", "LISTEN > SYN-RECEIVED > ESTABLISHED"),
        (
            (*DATA, "> FA 4:4(0) ack 1", "< A 1:1(0) ack 5"),
            "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-1 or FIN-WAIT-2",
            "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT",
        ),
        (
            (*DATA, "> FA 4:4(0) ack 1", "< FA 1:1(0) ack 5", "> A 5:5(0) ack 2"),
            "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
            "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK > LAST-ACK or CLOSED",
        ),
        (
            (*DATA, "> FA 4:4(0) ack 1", "< FA 1:1(0) ack 4", "> A 5:5(0) ack 2"),
            "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > CLOSING",
            "LISTEN > SYN-RECEIVED > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-1 or CLOSING or TIME-WAIT",
        ),
        (
            (*DATA, "> RA 4:4(0) ack 1"),
            "CLOSED > SYN-SENT > ESTABLISHED > CLOSED",
            "LISTEN > SYN-RECEIVED > ESTABLISHED > ESTABLISHED or CLOSED",
        ),
        (
            (*OPEN, "< RA 1:1(0) ack 1"),
            "CLOSED > SYN-SENT > ESTABLISHED > ESTABLISHED or CLOSED",
            "LISTEN > SYN-RECEIVED > SYN-RECEIVED or ESTABLISHED > CLOSED",
        ),
        (
            ("> S 0:0(0)", "< RA 0:0(0) ack 1"),
            "CLOSED > SYN-SENT > SYN-SENT or CLOSED",
            "CLOSED",
        ),
        (
            ("> S 0:0(0)", "< S 0:0(0)", "> SA 0:0(0) ack 1", "< SA 0:0(0) ack 1"),
            "CLOSED > SYN-SENT > SYN-RECEIVED > SYN-RECEIVED or ESTABLISHED",
            "CLOSED > SYN-SENT > SYN-RECEIVED > SYN-RECEIVED or ESTABLISHED",
        ),
    ],
)
def test_each_end_is_where_the_evidence_has_it(
    lines: tuple[str, ...], active: str, passive: str
) -> None:
    assert paths(seen_midway(*lines)) == [active, passive]


CLOSED_BOTH_WAYS = (*DATA, "> FA 4:4(0) ack 1", "< FA 1:1(0) ack 5", "> A 5:5(0) ack 2")


def test_a_fin_that_is_not_sent_again_was_acknowledged() -> None:
    timeline = seen_midway(*CLOSED_BOTH_WAYS, end_s=11)
    last = timeline.connections[0].endpoints[1].transitions[-1]
    assert str(last.after) == "CLOSED"
    assert (last.basis, last.cause) == (Basis.ASSUMED, "its FIN was not sent again")


def test_a_fin_that_is_sent_again_had_not_been_acknowledged() -> None:
    timeline = seen_midway(*CLOSED_BOTH_WAYS, "@8 < FA 1:1(0) ack 5", end_s=11)
    assert "LAST-ACK or CLOSED" in paths(timeline)[1]


def test_a_reset_that_its_receiver_outlives_was_none() -> None:
    timeline = seen_midway(
        *DATA, "> R 9:9(0)", "< A 1:1(0) ack 4", "> PA 4:6(2) ack 1", "< A 1:1(0) ack 6"
    )
    assert paths(timeline)[1] == "LISTEN > SYN-RECEIVED > ESTABLISHED"


def test_an_answering_reset_shows_what_arrived() -> None:
    timeline = seen_midway(*DATA, "> FA 4:4(0) ack 1", "< R 1:1(0)")
    assert paths(timeline)[1].endswith("ESTABLISHED > CLOSED")


def test_a_repeated_segment_shows_nothing_by_its_acknowledgement() -> None:
    """The acknowledgement may be the first one's; the pure ACK before the repetition was lost."""
    lines = (
        *DATA,
        "< FA 1:1(0) ack 4",
        "> A 4:4(0) ack 2",
        "> PA 1:4(3) ack 2",
        "< A 2:2(0) ack 4",
    )
    assert paths(seen_midway(*lines))[1].endswith("FIN-WAIT-1 > FIN-WAIT-1 or FIN-WAIT-2")


def test_a_syn_with_another_number_begins_another_connection() -> None:
    timeline = seen_midway(*CLOSED_BOTH_WAYS, "> S 900:900(0)", "< SA 700:700(0) ack 901")
    assert len(timeline.connections) == 2
    assert paths(timeline)[3] == "LISTEN > SYN-RECEIVED"


def test_a_segment_has_arrived_by_the_answer_that_shows_it() -> None:
    timeline = seen_midway(*DATA, "> PA 4:6(2) ack 1")
    assert [
        (trace.sent_ns, trace.delivered_ns, trace.fate)
        for trace in timeline.connections[0].segments[2:]
    ] == [
        (3_000_000, 5_000_000, "delivered"),
        (4_000_000, 5_000_000, "delivered"),
        (5_000_000, None, "unknown"),
        (6_000_000, None, "unknown"),
    ]


ANEW = (*DATA, "> S 900:900(0)", "< A 1:1(0) ack 4")
"""A client has lost its connection and calls again; the server still has it (RFC 9293 3.5.1)."""


def test_an_end_that_calls_again_may_have_lost_its_connection_or_the_call_is_forged() -> None:
    open_or_gone = "CLOSED > SYN-SENT > ESTABLISHED > ESTABLISHED or CLOSED"
    assert paths(seen_midway(*ANEW))[0] == open_or_gone
    assert paths(seen_midway(*ANEW, "> S 900:900(0)"))[0] == open_or_gone
    went_on = seen_midway(*ANEW, "> PA 4:6(2) ack 1")
    assert paths(went_on)[0] == "CLOSED > SYN-SENT > ESTABLISHED"


def test_what_is_half_open_is_reset_and_another_connection_follows() -> None:
    again = ("> S 900:900(0)", "< SA 500:500(0) ack 901", "> A 901:901(0) ack 501")
    assert paths(seen_midway(*ANEW, "> R 4:4(0)", *again)) == [
        "CLOSED > SYN-SENT > ESTABLISHED > CLOSED",
        "LISTEN > SYN-RECEIVED > ESTABLISHED > ESTABLISHED or CLOSED",
        "CLOSED > SYN-SENT > ESTABLISHED",
        "LISTEN > SYN-RECEIVED > SYN-RECEIVED or ESTABLISHED",
    ]
