"""One moment of a run as a frozen scene: where both ends are, and what is on the wire.

Owns: what of the timeline holds at a time. Pure: the same timeline and time give the same scene.
Must not know how a scene is drawn, nor how time passes on the screen.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from enum import Enum

from tcpwatch.model.events import CallPhase, Event, Fate, UserCall
from tcpwatch.model.timeline import Connection, Endpoint, SegmentTrace, Transition
from tcpwatch.tcp.state import TcpState
from tcpwatch.tui.reel import Reel
from tcpwatch.views.statemap import StateMap

_S = TcpState
_LOOKED_BACK = 200  # segments before the moment: an older one that is still held is rare
_USUAL_NS = 20_000_000


class Stage(Enum):
    """How far a segment has come."""

    TRAVELS = "travels"
    WAITS = "waits"  # at its receiver's door
    FALLS = "falls"  # the wire has dropped it
    ARRIVED = "arrived"
    LOST = "lost"  # it had not arrived when observation ended
    PERHAPS = "perhaps"  # captured midway: nobody saw it arrive


@dataclass(frozen=True, slots=True)
class Flight:
    """A segment on the wire, or one that was. ``progress`` is 0 at its sender, 1 at the other.

    ``age_ns``: how long it has been in its stage. ``forward``: from the left end to the right.
    """

    trace: SegmentTrace
    forward: bool
    stage: Stage
    progress: float
    age_ns: int
    marks: tuple[Fate, ...] = ()


@dataclass(frozen=True, slots=True)
class End:
    """One end at the moment. ``moved`` are its transitions so far."""

    role: str
    address: str
    marks: StateMap
    moved: tuple[Transition, ...]


@dataclass(frozen=True, slots=True)
class Scene:
    """The moment ``t_ns`` of one connection. An end may be missing: nothing is known of it yet."""

    t_ns: int
    number: int | None
    ends: tuple[End | None, End | None]
    flights: tuple[Flight, ...]  # in order of sending
    latest: tuple[str, Transition] | None  # the transition made last, and whose


def scene_at(reel: Reel, t_ns: int, number: int | None = None) -> Scene:
    """What held then, by all that is known now."""
    connection = reel.connection(number)
    listening = _listening(reel.timeline.events, t_ns)
    roles = _roles(connection)
    ends: list[End | None] = []
    for index in (0, 1):
        endpoint = _endpoint(connection, index)
        heard = listening if roles[index] in ("server", "passive") else None
        ends.append(_end(endpoint, t_ns, heard) if endpoint else _nobody(roles[index], heard))
    made = [(moved.t_ns, end.role, moved) for end in ends if end for moved in end.moved]
    latest = max(made, key=lambda one: one[0], default=None)
    return Scene(
        t_ns,
        connection.number if connection else None,
        (ends[0], ends[1]),
        _flights(reel, connection, t_ns, roles[0]) if connection else (),
        (latest[1], latest[2]) if latest else None,
    )


def _roles(connection: Connection | None) -> tuple[str, str]:
    known = [end.role for end in connection.endpoints] if connection else []
    if len(known) == 2:
        return known[0], known[1]
    return "client", "server"


def _endpoint(connection: Connection | None, index: int) -> Endpoint | None:
    ends = connection.endpoints if connection else ()
    return ends[index] if index < len(ends) else None


def _listening(events: tuple[Event, ...], t_ns: int) -> int | None:
    """When listen() was first called, if it was by then."""
    for event in events:
        if event.t_ns > t_ns:
            return None
        match event.payload:
            case UserCall(call="listen", phase=CallPhase.CALLED):
                return event.t_ns
    return None


def _nobody(role: str, listening: int | None) -> End | None:
    """An end of which no connection is known: the server may listen already."""
    if listening is None:
        return None
    return End(role, "", _listener(), ())


def _listener() -> StateMap:
    return StateMap(
        frozenset({_S.LISTEN}),
        frozenset({_S.CLOSED, _S.LISTEN}),
        frozenset({(_S.CLOSED, _S.LISTEN)}),
        (_S.CLOSED, _S.LISTEN),
        "listen()",
    )


def _end(endpoint: Endpoint, t_ns: int, listening: int | None) -> End:
    moved = tuple(one for one in endpoint.transitions if one.t_ns <= t_ns)
    address = str(endpoint.address)
    if not moved:
        # Before its first segment the tracker cannot know; who has seen listen() can.
        if _S.LISTEN in endpoint.initial.states and listening is not None:
            return End(endpoint.role, address, _listener(), ())
        marks = StateMap(endpoint.initial.states, endpoint.initial.states)
        return End(endpoint.role, address, marks, ())
    visited = set(endpoint.initial.states if endpoint.initial.certain else ())
    edges = set()
    if endpoint.initial.certain is _S.LISTEN and listening is not None:
        visited.add(_S.CLOSED)
        edges.add((_S.CLOSED, _S.LISTEN))
    for one in moved:
        if one.after.certain:
            visited.add(one.after.certain)
        if one.before.certain and one.after.certain:
            edges.add((one.before.certain, one.after.certain))
    last = moved[-1]
    taken = (last.before.certain, last.after.certain)
    marks = StateMap(
        last.after.states,
        frozenset(visited),
        frozenset(edges),
        (taken[0], taken[1]) if taken[0] and taken[1] else None,
        last.cause,
        ended=_S.CLOSED in last.after.states,
    )
    return End(endpoint.role, address, marks, moved)


# ---------------------------------------------------------------------- the wire


def _flights(reel: Reel, connection: Connection, t_ns: int, left: str) -> tuple[Flight, ...]:
    latency_ms = reel.record.lab.get("latency_ms")
    usual = round(latency_ms * 1e6) if isinstance(latency_ms, int | float) else _USUAL_NS
    traces = connection.segments
    at = bisect_right(traces, t_ns, key=_first_ns)
    return tuple(
        _flight(trace, t_ns, usual or 1, forward=trace.sender == left)
        for trace in traces[max(at - _LOOKED_BACK, 0) : at]
    )


def _first_ns(trace: SegmentTrace) -> int:
    """When it was first seen: a copy that the wire made has not been sent by anybody."""
    if trace.sent_ns is not None:
        return trace.sent_ns
    if trace.marks:
        return trace.marks[0][0]
    return trace.delivered_ns or 0


def _flight(trace: SegmentTrace, t_ns: int, usual_ns: int, *, forward: bool) -> Flight:
    marks = [(when, fate) for when, fate in trace.marks if when <= t_ns]
    told = tuple(dict.fromkeys(fate for _, fate in marks))
    begun = _first_ns(trace)

    def made(stage: Stage, progress: float, since: int) -> Flight:
        return Flight(trace, forward, stage, progress, max(t_ns - since, 0), told)

    if trace.delivered_ns is not None and trace.delivered_ns <= t_ns:
        return made(Stage.ARRIVED, 1.0, trace.delivered_ns)
    for when, fate in reversed(marks):
        if fate is Fate.DROPPED:
            half = min((t_ns - when) / usual_ns, 0.5)  # it is seen to set out
            return made(Stage.FALLS, 1.0 if Fate.HELD in told else half, when)
        if fate is Fate.LOST:
            return made(Stage.LOST, 1.0, when)
        if fate is Fate.HELD:
            return made(Stage.WAITS, 1.0, when)
    if trace.fate == "unknown":
        return made(Stage.PERHAPS, 1.0, begun)
    arrives = next((when for when, fate in trace.marks if fate is Fate.HELD), trace.delivered_ns)
    way = max((arrives - begun) if arrives is not None else usual_ns, 1)
    progress = min(max((t_ns - begun) / way, 0.0), 1.0)
    if progress >= 1.0 and Fate.REORDERED in told:
        return made(Stage.WAITS, 1.0, begun + usual_ns)
    return made(Stage.TRAVELS, progress, begun)
