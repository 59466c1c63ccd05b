"""The exact machine, asked once for all connections of one shape.

Owns: what a tuple's segments come to, with places among them instead of times; what else depends
on the times (`Life.silent_at`, `Life.crossing`), for the caller to settle. Must not know how
shapes are told apart.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Final, NamedTuple

from tcpwatch.machine.rows import Course, course_of
from tcpwatch.machine.tracker import Tracker
from tcpwatch.machine.zeek import Unshown, zeek_connections
from tcpwatch.model.events import WIRE, Event, Point, SegmentSeen, Vantage
from tcpwatch.model.identity import ConnectionId, SocketAddress
from tcpwatch.model.timeline import Connection, Endpoint, SegmentTrace, Timeline
from tcpwatch.tcp.segment import WINDOW_SCALE, Flags, Option, Segment
from tcpwatch.tcp.seq import SeqNumber

SILENT_NS: Final = 10_000_000_000
"""How long an end must be silent before that tells something (`SideTrack.open_end`)."""

_FLAGS: Final = tuple(Flags(bits) for bits in range(0x200))
_ACK: Final = 0x010
_VANTAGE: Final = Vantage(WIRE)
_ONE, _OTHER = SocketAddress("192.0.2.1", 1), SocketAddress("192.0.2.2", 2)
_BESIDE: Final = SocketAddress("192.0.2.1", 2)


class Seen(NamedTuple):
    """A segment of one tuple. ``out``: it went the way of the first; ``shift`` -1: none offered.

    ``here``: its receiver captured it; ``cut``: not all of it.
    """

    out: bool
    flags: int
    seq: int
    ack: int
    window: int
    shift: int
    payload: int
    here: bool = False
    cut: bool = False


class Between(NamedTuple):
    """What a shape says of its two ends: whether they have one address, and are one socket."""

    local: bool = False
    alone: bool = False


class LeftOut(NamedTuple):
    """Before which place segments are left out; what Zeek counts of them: way, letter, times."""

    before: int
    counted: tuple[tuple[bool, str, int], ...]


class Beside(NamedTuple):
    """What is told of a tuple beside its segments.

    ``reused``: it had an earlier connection. ``called``: segments of that one which belong to its
    SYN (`Connection.by_syn`), and how long before its first segment; ``ceded``: the number of the
    SYN from which on its own belong to a later one.
    """

    leftout: LeftOut | None = None
    reused: bool = False
    called: tuple[tuple[Seen, int], ...] = ()
    ceded: int | None = None


NOTHING: Final = Beside()


@dataclass(frozen=True, slots=True, eq=False)
class Life:
    """One connection of a tuple's.

    ``places`` are those of its segments, ``forward`` whether its opener sent the first of all.
    ``moved_at`` has for each move of each end the place of the segment at whose time it was made.
    ``repeated`` are the places of retransmissions. ``silent_at``: from which segment on an end's
    silence counts, None where silence tells nothing. ``crossing``: two places; where these have one
    time, its FINs did not cross.
    """

    places: tuple[int, ...]
    forward: bool
    repeated: tuple[int, ...]
    moved_at: tuple[tuple[int, ...], ...]
    silent_at: tuple[int | None, ...]
    crossing: tuple[int, int] | None
    connection: Connection
    unshown: Unshown | None
    courses: dict[tuple[tuple[bool, ...], bool], Course]

    def course(self, silent: tuple[bool, ...], *, crossed: bool = True) -> Course:
        """What came of it. ``silent``: whether each end was, for long enough to tell something."""
        return self.courses[silent, crossed]

    def timed(self, course: Course, times_ns: Sequence[int]) -> Course:
        """The same, where it lasted so long that Zeek's timers count. A time for each segment."""
        traces = tuple(
            replace(trace, sent_ns=times_ns[place])
            for place, trace in zip(self.places, self.connection.segments, strict=True)
        )
        connection = replace(self.connection, segments=traces)
        if connection.by_syn is not None:
            first_ns, own = traces[0].sent_ns or 0, {trace.n: trace for trace in traces}
            by_syn = (
                own.get(one.n) or replace(one, sent_ns=first_ns + (one.sent_ns or 0))
                for one in connection.by_syn
            )
            connection = replace(connection, by_syn=tuple(by_syn))
        zeek = zeek_connections(connection, self.unshown)
        return course if zeek == course.zeek else replace(course, zeek=zeek)


def lives_of(seen: Sequence[Seen], between: Between, beside: Beside = NOTHING) -> tuple[Life, ...]:
    """What the machine concludes of a tuple's segments, and Zeek of them and those left out."""
    tracker = _fed(seen, between)
    open_, silent = (tracker.timeline(end_ns) for end_ns in (len(seen), len(seen) + SILENT_NS))
    return tuple(
        _life(tracker, index, (open_, silent), seen, beside)
        for index in range(len(open_.connections))
    )


def may_begin_again(seen: Sequence[Seen], between: Between, *, out: bool, seq: int) -> bool:
    """Whether a SYN with that number, that way, would begin another connection."""
    anew = Seen(out, int(Flags.SYN), seq, 0, 65535, -1, 0)
    before = _fed(seen, between).timeline(len(seen))
    after = _fed([*seen, anew], between).timeline(len(seen) + 1)
    return len(after.connections) > len(before.connections)


def _fed(seen: Sequence[Seen], between: Between) -> Tracker:
    tracker, count = Tracker(attending=[WIRE]), 0
    peer = _ONE if between.alone else _BESIDE if between.local else _OTHER
    for place, one in enumerate(seen):
        src, dst = (_ONE, peer) if one.out else (peer, _ONE)
        segment = segment_of(one)
        points = (Point.SENT, Point.DELIVERED) if one.here else (Point.MIDWAY,)
        for point in points:
            count += 1
            payload = SegmentSeen(place + 1, point, src, dst, segment, cut=one.cut)
            tracker.feed(Event(count, place, _VANTAGE, payload))
    return tracker


def segment_of(one: Seen) -> Segment:
    """The same as the machine takes it."""
    return Segment(
        SeqNumber(one.seq),
        SeqNumber(one.ack) if one.flags & _ACK else None,
        _FLAGS[one.flags & 0x1FF],
        one.window,
        (Option(WINDOW_SCALE, bytes([one.shift])),) if one.shift >= 0 else (),
        one.payload,
    )


def _life(
    tracker: Tracker,
    index: int,
    timelines: tuple[Timeline, Timeline],
    seen: Sequence[Seen],
    beside: Beside,
) -> Life:
    open_, silent = (timeline.connections[index] for timeline in timelines)
    open_ = _with_beside(open_, beside, last=index + 1 == len(timelines[0].connections))
    findings = timelines[0].findings
    both = list(zip(open_.endpoints, silent.endpoints, strict=True))
    silent_at = tuple(
        None if one == other else _silent_at(tracker, index, place, other, len(seen))
        for place, (one, other) in enumerate(both)
    )
    crossing = _crossing(open_)
    unshown = _unshown(open_, beside.leftout)
    courses: dict[tuple[tuple[bool, ...], bool], Course] = {}
    for states in product(*((False,) if at is None else (False, True) for at in silent_at)):
        ends = tuple(pair[is_silent] for pair, is_silent in zip(both, states, strict=True))
        course = course_of(replace(open_, endpoints=ends), findings, unshown)
        courses[states, True] = course
        if crossing:
            courses[states, False] = replace(course, closed_by=_first_to_close(open_))
    traces = open_.segments
    opener = open_.id.four_tuple
    return Life(
        tuple(trace.n - 1 for trace in traces),
        opener.local == _ONE,
        tuple(trace.n - 1 for trace in traces if trace.retransmission),
        tuple(tuple(move.t_ns for move in end.transitions) for end in open_.endpoints),
        silent_at,
        crossing,
        open_,
        unshown,
        courses,
    )


def _with_beside(connection: Connection, beside: Beside, *, last: bool) -> Connection:
    """The same, with what Zeek and Wireshark count to it, or not, of its neighbours."""
    own = connection.segments if connection.by_syn is None else connection.by_syn
    called = beside.called if connection.id.generation == 0 else ()
    ceded = beside.ceded if last else None
    number = ConnectionId(connection.id.four_tuple, connection.id.generation + beside.reused)
    if not called and ceded is None:
        return replace(connection, id=number)
    upto = next(
        (
            place
            for place, one in enumerate(own)
            if one.segment.syn and one.segment.ack is None and one.segment.seq.value == ceded
        ),
        None,
    )
    roles = [endpoint.role for endpoint in connection.endpoints]
    forward = connection.id.four_tuple.local == _ONE
    before = [
        SegmentTrace(
            place - len(called),
            roles[0 if one.out == forward else -1],
            segment_of(one),
            0,
            None,
            -before_ns,
            None,
            "unknown",
            cut=one.cut,
        )
        for place, (one, before_ns) in enumerate(called)
    ]
    return replace(connection, id=number, by_syn=(*before, *own[:upto]))


def _unshown(connection: Connection, leftout: LeftOut | None) -> Unshown | None:
    traces = connection.segments if connection.by_syn is None else connection.by_syn
    places = [trace.n - 1 for trace in traces]
    if leftout is None or leftout.before not in places:
        return None
    forward = connection.id.four_tuple.local == _ONE
    roles = [endpoint.role for endpoint in connection.endpoints]
    return places.index(leftout.before), [
        (roles[0 if out == forward else -1], letter, times)
        for out, letter, times in leftout.counted
    ]


def _silent_at(tracker: Tracker, index: int, end: int, silent: Endpoint, count: int) -> int:
    """From which segment's time on an end's silence is counted: the first that makes it silent."""

    def is_silent(place: int) -> bool:
        timeline = tracker.timeline(place + SILENT_NS)
        return timeline.connections[index].endpoints[end] == silent

    return bisect_left(range(count), True, key=is_silent)


def _crossing(connection: Connection) -> tuple[int, int] | None:
    """The places at which a second FIN was sent and the first arrived, where they decide it."""
    if connection.closed_by != "both":
        return None
    first = _closing(connection)[0]
    answer = next(one for one in _closing(connection) if one.sender != first.sender)
    if first.delivered_ns is None or answer.sent_ns is None:
        return None
    return answer.sent_ns, first.delivered_ns


def _first_to_close(connection: Connection) -> str:
    return _closing(connection)[0].sender


def _closing(connection: Connection) -> list[SegmentTrace]:
    return [
        trace
        for trace in connection.segments
        if (trace.segment.fin or trace.segment.rst) and not trace.retransmission
    ]
