"""The wire by itself against kernel and socket table by themselves, over the whole catalogue.

Owns: what it means that the wire agrees. What it is certain of must have happened, in that order;
whatever else happened must be what calls and timers can do with no segment to show it
(`silent_moves`); and its belief, with that, must hold the state that the kernel is in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise

import pytest

from tcpwatch.lab.scenario import catalogue
from tcpwatch.machine.table import edges, silent_moves
from tcpwatch.machine.tracker import Tracker
from tcpwatch.machine.verdict import judge
from tcpwatch.model.events import CALLS, KERNEL, TABLE, WIRE, Event, SocketSampled
from tcpwatch.model.identity import SocketAddress
from tcpwatch.model.timeline import Belief, Connection, Endpoint, Timeline, Verdict
from tcpwatch.tcp.state import TcpState
from tests.played import played

pytestmark = pytest.mark.timeout(300)
the_catalogue = pytest.mark.parametrize("name", catalogue())
needs_all = pytest.mark.needs("lab", "kernel", "table")

S = TcpState
States = frozenset[TcpState]
Silent = Callable[[TcpState, TcpState, int], bool]
End = tuple[frozenset[SocketAddress], int, str]
"""Which addresses, which of several connections between them, which role."""

_REST_NS = 15_000_000  # how long the kernel may need for what has arrived, where others run
_SEEN_NS = 100_000_000  # how long the wire may need to read what was sent
_AT_ONCE_NS = 2_000_000  # how long after a segment's arrival what it does is stamped, at most


@cache
def events_of(name: str, witnesses: frozenset[str]) -> tuple[Event, ...]:
    events = played()[name].recording.events
    return tuple(event for event in events if event.vantage.source in witnesses)


def tracker_of(name: str, witnesses: frozenset[str]) -> Tracker:
    record = played()[name].recording.record
    return Tracker(roles=record.roles, attending=witnesses - {CALLS}, newborn_only=True)


@cache
def timeline(name: str, *witnesses: str) -> Timeline:
    """What those witnesses alone lead to."""
    tracker = tracker_of(name, frozenset(witnesses))
    for event in events_of(name, frozenset(witnesses)):
        tracker.feed(event)
    return tracker.timeline(played()[name].recording.record.end_ns)


def ends_of(found: Timeline) -> dict[End, tuple[Endpoint, Connection]]:
    """The ends of every connection that left its host."""
    counts: dict[frozenset[SocketAddress], int] = defaultdict(int)
    ends: dict[End, tuple[Endpoint, Connection]] = {}
    for connection in found.connections:
        four_tuple = connection.id.four_tuple
        pair = frozenset({four_tuple.local, four_tuple.remote})
        counts[pair] += 1
        if four_tuple.local.ip != four_tuple.remote.ip:
            for end in connection.endpoints:
                ends[pair, counts[pair], end.role] = end, connection
    return ends


# ------------------------------------------------------------------ what agreement is


@dataclass(frozen=True, slots=True)
class Place:
    """A reading so far: as far as element ``index`` of the wire's path, in ``state``."""

    index: int
    state: TcpState


def agrees(
    wire: Sequence[Belief], truth: Sequence[Belief], times: Sequence[int], ok: Silent
) -> bool:
    """Whether the true path is a reading of the wire's, silent moves put in.

    ``times`` are when the true elements began; ``ok`` says whether a move then was a silent one.
    """
    beliefs = [belief.states for belief in wire]
    places = _stayed(beliefs, {Place(0, state) for state in beliefs[0] & truth[0].states})
    for t_ns, belief in zip(times, truth[1:], strict=True):
        after = {
            place
            for before in places
            for state in belief.states
            for place in _moved(beliefs, before, state, t_ns, ok)
        }
        if len(belief.states) > 1:  # nothing may have happened
            after |= {place for place in places if place.state in belief.states}
        places = _stayed(beliefs, after)
    return any(place.index == len(beliefs) - 1 for place in places)


def _moved(
    wire: Sequence[States], place: Place, state: TcpState, t_ns: int, ok: Silent
) -> Iterator[Place]:
    """The ways to that state: silently, or as the wire has it."""
    if state in silent_moves(frozenset({place.state})) and ok(place.state, state, t_ns):
        yield Place(place.index, state)
    if place.index + 1 == len(wire):
        return
    following = wire[place.index + 1]
    if state in following and (place.state, state) in edges():
        yield Place(place.index + 1, state)
    # Linux: tcp_time_wait() in tcp_minisocks.c, where tcp_max_tw_buckets leaves no TIME-WAIT.
    if state is S.CLOSED and S.TIME_WAIT in following and (place.state, S.TIME_WAIT) in edges():
        yield Place(place.index + 1, state)


def _stayed(wire: Sequence[States], places: set[Place]) -> set[Place]:
    """With the elements in which an end may have stayed where it was."""
    found, rest = set(places), list(places)
    while rest:
        place = rest.pop()
        further = Place(place.index + 1, place.state)
        stays = further.index < len(wire) and place.state in wire[further.index]
        if stays and further not in found:
            found.add(further)
            rest.append(further)
    return found


def never_with_a_segment(end: Endpoint, connection: Connection) -> Silent:
    """No move is silent that a segment made which arrived just then: a RST, or a FIN's last ACK."""

    def silent(before: TcpState, after: TcpState, t_ns: int) -> bool:
        if after is not S.CLOSED:
            return True
        any_ends_it = before in (S.LAST_ACK, S.CLOSING)
        return not any(
            trace.sender != end.role
            and trace.delivered_ns is not None
            and abs(t_ns - trace.delivered_ns) <= _AT_ONCE_NS
            and (any_ends_it or trace.segment.rst)
            for trace in connection.segments
        )

    return silent


def path(text: str) -> tuple[Belief, ...]:
    return tuple(Belief.of(*map(S.parse, word.split("|"))) for word in text.split())


@pytest.mark.parametrize(
    "wire, truth, agreed",
    [
        ("CLOSED SYN-SENT", "CLOSED SYN-SENT", True),
        ("CLOSED|LISTEN SYN-SENT", "CLOSED SYN-SENT", True),
        ("CLOSED SYN-SENT", "CLOSED SYN-SENT CLOSED", True),
        ("CLOSED SYN-SENT ESTABLISHED CLOSED", "CLOSED SYN-SENT CLOSED", False),
        ("CLOSED SYN-SENT", "CLOSED SYN-SENT ESTABLISHED", False),
        ("CLOSED SYN-SENT ESTABLISHED", "CLOSED SYN-SENT", False),
        ("LISTEN SYN-RECEIVED SYN-RECEIVED|ESTABLISHED", "LISTEN SYN-RECEIVED", True),
        ("LISTEN SYN-RECEIVED SYN-RECEIVED|ESTABLISHED", "LISTEN SYN-RECEIVED ESTABLISHED", True),
        ("ESTABLISHED CLOSE-WAIT", "ESTABLISHED FIN-WAIT-1 CLOSING", False),
        ("ESTABLISHED CLOSE-WAIT|CLOSING", "ESTABLISHED FIN-WAIT-1 CLOSING", True),
        ("ESTABLISHED FIN-WAIT-1", "ESTABLISHED FIN-WAIT-1", True),
        ("ESTABLISHED CLOSED", "ESTABLISHED FIN-WAIT-1 CLOSED", True),
        ("FIN-WAIT-2 TIME-WAIT", "FIN-WAIT-2 CLOSED", True),
        ("FIN-WAIT-2", "FIN-WAIT-2 TIME-WAIT", False),
    ],
)
def test_a_path_agrees_where_it_can_be_read_so(wire: str, truth: str, *, agreed: bool) -> None:
    times = range(len(truth.split()) - 1)

    assert agrees(path(wire), path(truth), times, lambda *_: True) is agreed


def test_a_move_that_a_segment_made_is_not_silent() -> None:
    wire, truth = path("ESTABLISHED"), path("ESTABLISHED CLOSED")

    assert agrees(wire, truth, [5], lambda *_: True)
    assert not agrees(wire, truth, [5], lambda *_: False)


# ------------------------------------------------------------------ the catalogue


@needs_all
@the_catalogue
def test_the_wire_alone_agrees_with_the_kernel(name: str) -> None:
    wire, kernel = ends_of(timeline(name, WIRE)), ends_of(timeline(name, KERNEL, TABLE))

    assert wire.keys() == kernel.keys()
    for key, (end, _) in kernel.items():
        seen, connection = wire[key]
        times = [transition.t_ns for transition in end.transitions]
        ok = never_with_a_segment(seen, connection)
        told = " > ".join(map(str, seen.path)), " > ".join(map(str, end.path))
        assert agrees(seen.path, end.path, times, ok), (end.role, *told)


@needs_all
@the_catalogue
def test_its_belief_holds_the_kernels_state_at_each_time(name: str) -> None:
    """But for what an answer is about to show: the wire has to read it first."""
    beliefs = beliefs_over_time(name)
    for key, (end, _) in ends_of(timeline(name, KERNEL, TABLE)).items():
        sights = pairwise([*beliefs[key], (0, 0, frozenset[TcpState]())])
        for (since_ns, until_ns, held), (_, _, following) in sights:
            for begin_ns, end_ns, truth in surely_lasting(name, end):
                first_ns = max(begin_ns, since_ns + _REST_NS)
                if first_ns < min(end_ns, until_ns):
                    shown_soon = until_ns - first_ns < _SEEN_NS
                    possible = held | following if shown_soon else held
                    assert truth & possible, (end.role, truth, possible, first_ns)


def surely_lasting(name: str, end: Endpoint) -> Iterator[tuple[int, int, States]]:
    """From when to when it surely was in which state; what the table tells, had been before."""
    recording = played()[name].recording
    events = {event.id: event.payload for event in recording.events}
    samples = ([events[number] for number in transition.evidence] for transition in end.transitions)
    left = (
        min(one.since_ns if isinstance(one, SocketSampled) else transition.t_ns for one in told)
        for transition, told in zip(end.transitions, samples, strict=True)
    )
    entered = (0, *(transition.t_ns for transition in end.transitions))
    until = (*left, recording.record.end_ns)
    for begin_ns, end_ns, belief in zip(entered, until, end.path, strict=True):
        yield begin_ns, end_ns, belief.states


def beliefs_over_time(name: str) -> dict[End, list[tuple[int, int, States]]]:
    """From when to when the wire alone holds what possible, silent moves included."""
    witnesses = frozenset({WIRE})
    tracker = tracker_of(name, witnesses)
    found: dict[tuple[int, str], list[tuple[int, States]]] = defaultdict(list)
    for event in events_of(name, witnesses):
        happening = tracker.feed(event)
        number = happening.connection
        passed = [(each.role, each.transition.after) for each in happening.moves]
        held = ((role, tracker.state(role, number)) for role in ("client", "server"))
        for role, belief in (*passed, *held):
            if number is None or belief is None:
                continue
            steps, states = found[number, role], with_silent_moves(belief.states)
            if not steps or steps[-1][1] != states:
                steps.append((event.t_ns, states))
    return {
        key: lasting(found[connection.number, end.role], played()[name].recording.record.end_ns)
        for key, (end, connection) in ends_of(timeline(name, WIRE)).items()
    }


def with_silent_moves(states: States) -> States:
    """Two of them: a FIN that waits, and then a timer that gives up."""
    once = states | silent_moves(states)
    return once | silent_moves(once)


def lasting(steps: Sequence[tuple[int, States]], end_ns: int) -> list[tuple[int, int, States]]:
    ends = [*(t_ns for t_ns, _ in steps[1:]), end_ns]
    return [(since, until, states) for (since, states), until in zip(steps, ends, strict=True)]


@needs_all
@pytest.mark.parametrize(
    "witnesses",
    [(WIRE,), (TABLE,), (KERNEL,), (TABLE, WIRE), (KERNEL, WIRE), (KERNEL, TABLE)],
    ids=" ".join,
)
@the_catalogue
def test_fewer_witnesses_know_less_and_nothing_else(name: str, witnesses: tuple[str, ...]) -> None:
    """A PASS may become INCONCLUSIVE with the evidence, and never a FAIL."""
    record = played()[name].recording.record
    sources = tuple(
        {**source, "available": source["name"] in witnesses} for source in record.sources
    )
    judged = judge(replace(record, sources=sources), timeline(name, CALLS, *witnesses))

    assert judged.verdict is not Verdict.FAIL, judged.reasons
    assert judged.timeline.findings == ()
