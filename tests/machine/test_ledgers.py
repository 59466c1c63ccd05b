"""Conversations as ledgers: replayed by the wire alone, rendered again, compared as text."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from tcpwatch.model.events import WIRE, Event, Fate, Gap, Point, SegmentFate, SegmentSeen, Vantage
from tcpwatch.model.timeline import Belief
from tcpwatch.tcp.seq import SeqNumber
from tcpwatch.tcp.state import TcpState

if TYPE_CHECKING:
    from tests.machine.conftest import Ledger, Ledgers

SEQ_NUMBERS = st.integers(0, 2**32 - 1).map(SeqNumber)


def in_order(events: list[Event]) -> tuple[Event, ...]:
    """Numbered and timed anew."""
    return tuple(
        replace(event, id=number, t_ns=number * 1_000_000) for number, event in enumerate(events, 1)
    )


def test_a_ledger_is_rendered_as_it_is_written(ledgers: Ledgers, ledger: Ledger) -> None:
    assert ledgers.rendered(ledger) == str(ledger)


@given(client=SEQ_NUMBERS, server=SEQ_NUMBERS)
@settings(max_examples=5)
def test_the_initial_sequence_numbers_change_nothing(
    ledgers: Ledgers, ledger: Ledger, client: SeqNumber, server: SeqNumber
) -> None:
    moved = ledger.from_isns(client, server)

    assert ledgers.paths(moved.events()) == ledgers.paths(ledger.events())


def is_answered_by_a_reset(arrived: SegmentSeen, later: list[Event]) -> bool:
    """Whether the next that its receiver sends is a RST without ACK."""
    sent = (
        event.payload.segment
        for event in later
        if isinstance(event.payload, SegmentSeen)
        and event.payload.point is Point.SENT
        and event.payload.src == arrived.dst
    )
    answer = next(sent, None)
    return answer is not None and answer.rst and answer.ack is None


@given(st.data())
@settings(max_examples=15)
def test_a_segment_that_arrives_twice_changes_nothing(
    ledgers: Ledgers, ledger: Ledger, data: st.DataObject
) -> None:
    """The wire's copy follows at once. What a RST answers would have had two for an answer."""
    events = list(ledger.events())
    arrivals = [
        place
        for place, event in enumerate(events)
        if isinstance(event.payload, SegmentSeen)
        and event.payload.point is Point.DELIVERED
        and not is_answered_by_a_reset(event.payload, events[place + 1 :])
    ]
    doubled = data.draw(st.sets(st.sampled_from(arrivals))) if arrivals else set()
    repeated: list[Event] = []
    for place, event in enumerate(events):
        repeated.append(event)
        if place in doubled:
            assert isinstance(event.payload, SegmentSeen)
            n = 1000 + place
            copied = SegmentFate(event.payload.n, Fate.DUPLICATED, copy=n)
            arrived = replace(event.payload, n=n)
            repeated += [replace(event, payload=copied), replace(event, payload=arrived)]

    assert ledgers.paths(in_order(repeated)) == ledgers.paths(in_order(events))


@given(st.data())
@settings(max_examples=25)
def test_lost_evidence_never_makes_a_wrong_state_certain(
    ledgers: Ledgers, ledger: Ledger, data: st.DataObject
) -> None:
    events = list(ledger.events())
    lost = data.draw(st.sets(st.sampled_from(range(len(events))), min_size=1))
    gap = Gap("it overran", 1, 0)
    known = [
        replace(event, vantage=Vantage(WIRE), payload=gap) if place in lost else event
        for place, event in enumerate(events)
    ]
    truth = ledgers.paths(tuple(events))

    for role, path in ledgers.paths(in_order(known)).items():
        assert is_possible(path, truth[role]), (role, list(map(str, path)))


def is_possible(path: tuple[Belief, ...], truth: tuple[Belief, ...]) -> bool:
    """Whether what the path is certain of happened, in that order."""
    rest = iter([belief.certain for belief in truth])
    return all(belief.certain in rest for belief in path if belief.certain is not None)


def test_a_path_that_holds_what_did_not_happen_is_not_possible() -> None:
    established = Belief.of(TcpState.ESTABLISHED)
    closed = Belief.of(TcpState.CLOSED)

    assert not is_possible((closed, established), (established, closed))
    assert is_possible((closed,), (established, closed))


def test_the_same_events_give_the_same_timeline(ledgers: Ledgers, ledger: Ledger) -> None:
    one, other = ledgers.tracker(), ledgers.tracker()
    for event in ledger.events():
        one.feed(event)
        other.feed(event)

    assert one.timeline(0) == other.timeline(0)
