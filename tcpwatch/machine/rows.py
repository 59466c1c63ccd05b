"""One row a connection: what is told of it where there are too many to show each.

Owns: which facts those are, and how they follow from a connection. What connections of one shape
have in common stands in a `Course`, which they share; numbers and times stand in the row. Must not
know whether the machine saw each connection itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import pairwise

from tcpwatch.machine.completeness import completeness
from tcpwatch.machine.gaps import Reassembly
from tcpwatch.machine.zeek import Unshown, ZeekConnection, zeek_connections
from tcpwatch.model.identity import ConnectionId
from tcpwatch.model.timeline import Belief, Connection, Endpoint, Finding, SegmentTrace, Transition
from tcpwatch.tcp.segment import Segment
from tcpwatch.tcp.seq import SeqNumber
from tcpwatch.tcp.state import TcpState

Pair = tuple[int, int]
"""Of the end that opened, or was taken for the opener, and of its peer."""


class Ending(Enum):
    """How a connection ended, as far as was seen."""

    FIN = "fin"  # of both ends
    RST = "rst"
    REFUSED = "refused"  # a RST answered the SYN
    UNANSWERED = "unanswered"  # nothing did
    HALF_CLOSED = "half-closed"  # a FIN of one end only
    TIMEOUT = "timeout"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class End:
    """One end's way. ``moves`` have their true times only in a row's endpoints."""

    role: str
    initial: Belief
    moves: tuple[Transition, ...]

    @property
    def path(self) -> tuple[Belief, ...]:
        """The states it went through, from the first to the last."""
        return (self.initial, *(move.after for move in self.moves))


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """What all connections of one shape have in common. Compared by identity.

    ``ends`` are active and passive; one alone, where a socket called itself.
    """

    ends: tuple[End, ...]
    closed_by: str | None
    close_reason: str | None
    ending: Ending
    complete: bool
    zeek: tuple[ZeekConnection, ...]
    completeness: tuple[int, ...]
    findings: tuple[Finding, ...] = ()

    @property
    def midstream(self) -> bool:
        """Whether it had begun before the capture did."""
        unopened = {TcpState.CLOSED, TcpState.LISTEN}
        return not all(end.initial.states <= unopened for end in self.ends)


@dataclass(frozen=True, slots=True)
class Row:
    """One connection. Times are nanoseconds from the first frame of all.

    ``times_ns`` has a time for each of an end's moves. ``octets`` are those of data, without
    segments that were sent again; ``missing`` were acknowledged and are not in the capture.
    ``aged``: it was silent for so long that it was given up while it was open.
    """

    number: int
    id: ConnectionId
    start_ns: int
    last_ns: int
    times_ns: tuple[tuple[int, ...], ...]
    segments: Pair
    octets: Pair
    retransmissions: Pair
    missing: Pair
    zero_windows: Pair
    course: Course
    aged: bool = False

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Both ends, as in the timeline, without the evidence."""
        addresses = (self.id.four_tuple.local, self.id.four_tuple.remote)
        return tuple(
            Endpoint(
                end.role,
                address,
                end.initial,
                tuple(
                    replace(move, t_ns=t_ns) for move, t_ns in zip(end.moves, times, strict=True)
                ),
            )
            for end, address, times in zip(
                self.course.ends, addresses[: len(self.course.ends)], self.times_ns, strict=True
            )
        )

    @property
    def paths(self) -> tuple[tuple[Belief, ...], ...]:
        """Each end's states, from the first to the last."""
        return tuple(end.path for end in self.course.ends)

    def durations_ns(self, end_ns: int) -> tuple[tuple[tuple[Belief, int], ...], ...]:
        """Of each end: each belief on its path and how long it lasted; the last until ``end_ns``.

        The first began unseen: it counts from the connection's first segment.
        """
        return tuple(
            tuple(
                (belief, max(left - entered, 0))
                for belief, (entered, left) in zip(
                    end.path, pairwise((self.start_ns, *times, end_ns)), strict=True
                )
            )
            for end, times in zip(self.course.ends, self.times_ns, strict=True)
        )


def row_of(connection: Connection, findings: Iterable[Finding] = ()) -> Row:
    """A connection that the machine saw wholly, as a row. ``findings`` may be of others too."""
    traces = connection.segments
    roles = [endpoint.role for endpoint in connection.endpoints]
    times = [_seen_ns(trace) for trace in traces]
    seen = list(zip([_place(roles, trace) for trace in traces], traces, strict=True))
    return Row(
        connection.number,
        connection.id,
        min(times, default=0),
        max(times, default=0),
        tuple(
            tuple(move.t_ns for move in endpoint.transitions) for endpoint in connection.endpoints
        ),
        _sums((end, 1) for end, _ in seen),
        _sums((end, _new_octets(one)) for end, one in seen),
        _sums((end, int(one.retransmission)) for end, one in seen),
        missing([(end, one.segment) for end, one in seen]),
        _sums((end, int(is_zero_window(one.segment))) for end, one in seen),
        course_of(connection, findings),
    )


def _new_octets(trace: SegmentTrace) -> int:
    """How many it carries that were not seen before."""
    again = trace.retransmission or trace.copy_of is not None
    return 0 if again else trace.segment.payload_len


def course_of(
    connection: Connection, findings: Iterable[Finding] = (), unshown: Unshown | None = None
) -> Course:
    """What the machine concluded of it, apart from numbers and times."""
    return Course(
        tuple(End(end.role, end.initial, end.transitions) for end in connection.endpoints),
        connection.closed_by,
        connection.close_reason,
        ending(connection),
        connection.complete,
        zeek_connections(connection, unshown),
        completeness(connection),
        tuple(
            replace(one, connection=None, evidence=())
            for one in findings
            if one.connection == connection.number
        ),
    )


def ending(connection: Connection) -> Ending:
    """How it ended, as far as was seen."""
    traces = connection.segments
    first = traces[0] if traces else None
    if first is not None and first.segment.syn and first.segment.ack is None:
        answers = [trace for trace in traces if trace.sender != first.sender]
        if not answers and all(trace.segment.syn for trace in traces):
            return Ending.UNANSWERED
        if answers and all(trace.segment.rst for trace in answers):
            return Ending.REFUSED
    match connection.close_reason:
        case "rst":
            return Ending.RST
        case "fin":
            return Ending.FIN if _both_closed(connection) else Ending.HALF_CLOSED
        case "timeout":
            return Ending.TIMEOUT
        case _:
            return Ending.OPEN


def _both_closed(connection: Connection) -> bool:
    if connection.segments:
        closed = {trace.sender for trace in connection.segments if trace.segment.fin}
        return closed == {trace.sender for trace in connection.segments}
    # Where no segment was seen: either end has got to where it goes by both FINs.
    return any(
        belief.states <= {TcpState.CLOSING, TcpState.TIME_WAIT, TcpState.LAST_ACK}
        for endpoint in connection.endpoints
        for belief in endpoint.path
    )


def is_zero_window(segment: Segment) -> bool:
    """Whether its sender takes nothing more for now."""
    return segment.window == 0 and not segment.rst


def missing(seen: Sequence[tuple[int, Segment]]) -> Pair:
    """How much of each end's sequence space its peer acknowledges that was not seen before.

    ``seen`` are segments in order, each with the end that sent it, 0 or 1.
    """
    ends = (_Seen(), _Seen())
    for end, segment in seen:
        if segment.rst:
            continue
        ends[end].add(segment.seq, segment.seg_len)
        if segment.ack is not None:
            ends[1 - end].acknowledge(segment.ack)
    return ends[0].space.missing, ends[1].space.missing


@dataclass(slots=True)
class _Seen:
    """One end's sequence space, in octets from the first number ``base`` that was heard of."""

    base: SeqNumber | None = None
    space: Reassembly = field(default_factory=lambda: Reassembly(upto=0))

    def add(self, start: SeqNumber, length: int) -> None:
        place = self._place(start)
        self.space.add(place, place + length, peer_has=0)

    def acknowledge(self, upto: SeqNumber) -> None:
        self.space.acknowledge(self._place(upto))

    def _place(self, number: SeqNumber) -> int:
        """Numbers wrap around; this does not."""
        if self.base is None:
            self.base = number
        return self.space.upto + (number - (self.base + self.space.upto))


def _seen_ns(trace: SegmentTrace) -> int:
    return trace.sent_ns if trace.sent_ns is not None else trace.delivered_ns or 0


def _place(roles: Sequence[str], trace: SegmentTrace) -> int:
    return roles.index(trace.sender) if trace.sender in roles else 0


def _sums(counted: Iterable[tuple[int, int]]) -> Pair:
    sums = [0, 0]
    for end, count in counted:
        sums[end] += count
    return sums[0], sums[1]
