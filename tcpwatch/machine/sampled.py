"""What the socket table alone tells of a fast network: each end as it was sampled, and no more.

Owns: that anything shorter than the time between two looks may have been in between, before the
first and after the last, and that nothing longer was. Must not know who looked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from tcpwatch.machine.pattern import PathElement, Pattern
from tcpwatch.model.events import TABLE, Event, SocketSampled
from tcpwatch.model.identity import ConnectionId, FourTuple
from tcpwatch.model.timeline import Basis, Belief, Connection, Endpoint, Timeline, Transition
from tcpwatch.tcp.state import TcpState

LONGEST_UNSEEN_NS = 250_000_000
"""Between two looks, even on a busy machine: where a look came later than that, it says so."""

_MOST_UNSEEN = 10  # states that one end can go through, each but the one it is in
_ANY = frozenset(TcpState)


def sampled_timeline(timeline: Timeline, listening: Collection[int] = ()) -> Timeline:
    """The timeline with no more of each connection than its samples say.

    ``listening``: ports whose end is the passive one, beside those that the samples show to be.
    """
    samples: dict[FourTuple, list[Event]] = {}
    ports = set(listening)
    for event in timeline.events:
        seen = event.payload
        if isinstance(seen, SocketSampled):
            if seen.remote.port == 0:
                ports.add(seen.local.port)
            else:
                samples.setdefault(FourTuple(seen.local, seen.remote), []).append(event)
    connections: list[Connection] = []
    for four_tuple in samples:
        active = four_tuple.flipped if four_tuple.local.port in ports else four_tuple
        if any(one.id.four_tuple in (active, active.flipped) for one in connections):
            continue
        ends = tuple(
            _endpoint(role, tuple_, samples.get(tuple_, []))
            for role, tuple_ in (("active", active), ("passive", active.flipped))
        )
        number = len(connections) + 1
        connections.append(Connection(number, ConnectionId(active), ends, ()))
    return replace(timeline, connections=tuple(connections), findings=())


def _endpoint(role: str, four_tuple: FourTuple, samples: Sequence[Event]) -> Endpoint:
    before = Belief(_ANY)
    transitions: list[Transition] = []
    for event in samples:
        assert isinstance(event.payload, SocketSampled)
        after = Belief.of(event.payload.state or TcpState.CLOSED)
        seen = (Basis.REPORTED, (TABLE,), (event.id,))
        transitions.append(Transition(before, after, event.t_ns, "", *seen, gap=True))
        before = after
    return Endpoint(role, four_tuple.local, Belief(_ANY), tuple(transitions))


def longest_unseen_ns(events: Iterable[Event]) -> int:
    """The longest time between two looks that is known of, and never less than is to be feared."""
    waits = [
        event.t_ns - event.payload.since_ns
        for event in events
        if isinstance(event.payload, SocketSampled) and event.payload.since_ns >= 0
    ]
    return max(LONGEST_UNSEEN_NS, *waits, 0)


def sampled_match(pattern: Pattern, endpoint: Endpoint, end_ns: int, unseen_ns: int) -> bool | None:
    """Whether an end of `sampled_timeline` went so, whatever it did between two looks.

    None also where nothing was sampled of it at all: then nobody knows that it was there.
    """
    if not endpoint.transitions:
        return None
    return pattern.match([*_elements(endpoint, end_ns, unseen_ns)])


def _elements(endpoint: Endpoint, end_ns: int, unseen_ns: int) -> Iterator[PathElement]:
    steps = endpoint.transitions
    for index, step in enumerate(steps):
        yield from _unseen(unseen_ns)
        until_ns = steps[index + 1].t_ns if index + 1 < len(steps) else end_ns
        gone = step.after.certain is TcpState.CLOSED
        ended = index + 1 < len(steps) or gone
        yield PathElement(step.after.states, max(until_ns - step.t_ns, 0), ended)


def _unseen(unseen_ns: int) -> Iterator[PathElement]:
    """Any states, each of them for any time up to that long."""
    for _ in range(_MOST_UNSEEN):
        for dwell_ns in (0, unseen_ns):
            yield PathElement(_ANY, dwell_ns, ended=True, perhaps=True)
