"""What was not seen: a capture that begins in midstream, and one that lacks segments."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tcpwatch.machine.table import silent_moves
from tcpwatch.model.events import WIRE, Event, Point, SegmentSeen, Vantage
from tcpwatch.model.timeline import Belief
from tcpwatch.tcp.state import TcpState
from tests.agreement import agrees_as_far_as_seen
from tests.machine.test_arrivals import paths, seen_midway

if TYPE_CHECKING:
    from tests.machine.conftest import Ledgers

UNKNOWN = str(Belief(frozenset(TcpState)))
TALK = ("> PA 1:4(3) ack 1", "< A 1:1(0) ack 4", "< PA 1:3(2) ack 4", "> A 4:4(0) ack 3")
MORE = ("> PA 4:6(2) ack 3", "< A 3:3(0) ack 6", "< PA 3:4(1) ack 6", "> A 6:6(0) ack 4")
MAY_HAVE_FIN = "ESTABLISHED or CLOSE-WAIT"
FIN_MAY_WAIT = "ESTABLISHED or FIN-WAIT-1 or CLOSE-WAIT or LAST-ACK"
ACKNOWLEDGES = (
    "SYN-RECEIVED or ESTABLISHED or FIN-WAIT-1 or FIN-WAIT-2 or CLOSE-WAIT or CLOSING"
    " or LAST-ACK or TIME-WAIT"
)
SENDS = "ESTABLISHED or FIN-WAIT-1 or CLOSE-WAIT or CLOSING or LAST-ACK"


@pytest.mark.parametrize(
    "lines, first, other",
    [
        (("> A 1:1(0) ack 1",), ACKNOWLEDGES, UNKNOWN),
        (("> PA 1:4(3) ack 1",), SENDS, UNKNOWN),
        (("> FA 1:1(0) ack 1",), f"{SENDS} > FIN-WAIT-1 or CLOSING or LAST-ACK", UNKNOWN),
        (("> R 1:1(0)",), UNKNOWN, UNKNOWN),
        (TALK, "ESTABLISHED", f"{MAY_HAVE_FIN} > {FIN_MAY_WAIT}"),
        ((*TALK, *MORE), "ESTABLISHED", "ESTABLISHED"),
    ],
)
def test_beliefs_narrow_as_evidence_comes(lines: tuple[str, ...], first: str, other: str) -> None:
    assert paths(seen_midway(*lines))[:2] == [first, other]


def test_a_connection_met_in_midstream_is_followed_to_its_end() -> None:
    lines = (
        *("> A 1:1(0) ack 1", "< A 1:1(0) ack 1"),
        *("> PA 1:4(3) ack 1", "< A 1:1(0) ack 4", "< PA 1:3(2) ack 4", "> A 4:4(0) ack 3"),
        *("> PA 4:6(2) ack 3", "< A 3:3(0) ack 6", "< PA 3:4(1) ack 6", "> A 6:6(0) ack 4"),
        *("> FA 6:6(0) ack 4", "< FA 4:4(0) ack 7", "> A 7:7(0) ack 5", "< A 5:5(0) ack 7"),
    )
    active, passive = paths(seen_midway(*lines))
    assert active.endswith(" > FIN-WAIT-2 > TIME-WAIT")
    assert "LAST-ACK" in passive


@pytest.mark.parametrize(
    "lines, end",
    [
        (("> S 0:0(0)", "> A 1:1(0) ack 1"), "SYN-SENT > ESTABLISHED or CLOSE-WAIT"),
        (("> S 0:0(0)", "> PA 1:3(2) ack 1"), f"SYN-SENT > {SENDS}"),
        (("> S 0:0(0)", "> SA 0:0(0) ack 1"), "SYN-SENT > SYN-RECEIVED"),
        (
            ("> S 0:0(0)", "< SA 0:0(0) ack 1", "> A 1:1(0) ack 1", "> A 2:2(0) ack 1"),
            "ESTABLISHED > ESTABLISHED or FIN-WAIT-1",
        ),
    ],
)
def test_who_sends_what_it_could_not_was_moved_unseen(lines: tuple[str, ...], end: str) -> None:
    timeline = seen_midway(*lines)
    assert paths(timeline)[0].endswith(end)
    assert timeline.connections[0].endpoints[0].transitions[-1].gap


def test_an_answer_that_was_not_seen_was_given() -> None:
    timeline = seen_midway("> S 0:0(0)", "> A 1:1(0) ack 1", "< PA 1:3(2) ack 1")
    assert paths(timeline)[1] == f"LISTEN or CLOSED > {SENDS}"


def test_what_is_acknowledged_and_was_not_seen_may_have_been_a_fin() -> None:
    lines = ("> S 0:0(0)", "< SA 0:0(0) ack 1", "> A 1:1(0) ack 1", "< A 1:1(0) ack 2")
    active, passive = paths(seen_midway(*lines))
    assert active.endswith("ESTABLISHED or FIN-WAIT-1 or FIN-WAIT-2")
    assert passive.endswith("ESTABLISHED or CLOSE-WAIT")


def test_where_all_is_seen_a_false_acknowledgement_moves_nobody(ledgers: Ledgers) -> None:
    ledger = ledgers.read("ack_of_what_was_never_sent")
    assert ledgers.rendered(ledger) == str(ledger)


@given(data=st.data())
def test_a_capture_that_begins_late_is_never_wrongly_certain(
    ledgers: Ledgers, data: st.DataObject
) -> None:
    ledger = ledgers.read(data.draw(st.sampled_from(ledgers.names)))
    events = list(ledger.events())
    assume(not any(getattr(event.payload, "injected", False) for event in events))
    truth = ledgers.paths(tuple(events))
    sent = [
        event.payload
        for event in events
        if isinstance(event.payload, SegmentSeen)
        and event.payload.point is Point.SENT
        and not event.payload.injected
    ]
    from_ = data.draw(st.integers(0, len(sent)))
    # Where the first to be seen is a SYN, nobody thinks of another before it that crosses it.
    assume(not from_ or not sent[from_:] or not sent[from_].segment.syn)
    late = tuple(
        Event(count, count, Vantage(WIRE), replace(payload, n=count, point=Point.MIDWAY))
        for count, payload in enumerate(sent[from_:], 1)
    )
    for role, path in ledgers.paths(late).items():
        went = [belief.certain for belief in truth[role]]
        if all(went[1:]) and len(path) == 1:
            final = went[-1] or TcpState.CLOSED
            assert agrees_as_far_as_seen([path[-1]], [final]) or _silently(path[-1], final)


def _silently(belief: Belief, state: TcpState) -> bool:
    return state in silent_moves(belief.states)
