"""Whose is what was noted: of connections that began while somebody watched, in this network.

Owns: telling them from what was there before, and from other networks' with the same addresses.
Must not know how anything was noted.
"""

from __future__ import annotations

import sys
from bisect import bisect
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import geometric_mean

from tcpwatch.model.events import Gap, Point, SegmentSeen, SocketSampled, StateReported
from tcpwatch.model.identity import FourTuple
from tcpwatch.model.witness import Observation
from tcpwatch.tcp.state import TcpState

_Life = list[Observation]

_APART_NS = 100_000
"""How far the clocks of capture and tracing may lie apart."""

_REPORT_NS = 1_000

_HANDSHAKE_NS = 70_000_000_000
"""How long after the SYN the kernel may report who was called: with the third ACK (tcp(7))."""


@dataclass(slots=True)
class Passed:
    """When the segments of one tuple, either way, passed here; and when each life of it began.

    That is a time of its first SYN, or between two times.
    """

    all: list[int] = field(default_factory=list)
    begun: list[tuple[int, int]] = field(default_factory=list)
    number: int | None = None  # of the latest SYN, which may be sent again

    def note(self, t_ns: int, syn: int | None = None) -> None:
        """A segment passed; ``syn`` is its number where it begins a connection."""
        self.all.append(t_ns)
        if syn is not None and syn != self.number:
            self.begun.append((t_ns, t_ns))
            self.number = syn

    def distance(self, t_ns: int) -> int:
        """From the nearest of them; at least as long as a report takes."""
        place = bisect(self.all, t_ns)
        nearest = min(abs(t_ns - at_ns) for at_ns in self.all[max(place - 1, 0) : place + 1])
        return max(nearest, _REPORT_NS)


def newer(
    segments: Iterable[Observation], old: Collection[FourTuple], passed: dict[FourTuple, Passed]
) -> Iterator[Observation]:
    """The segments of connections that are not ``old``, or begin anew; notes when they passed."""
    for seen in segments:
        if not isinstance(seen.payload, SegmentSeen):
            yield seen
            continue
        way = FourTuple(seen.payload.src, seen.payload.dst)
        segment = seen.payload.segment
        begins = segment.syn and segment.ack is None and seen.payload.point is not Point.DELIVERED
        if begins or way in passed or not (way in old or way.flipped in old):
            for each in {way, way.flipped}:
                passed[each].note(seen.t_ns, segment.seq.value if begins else None)
            yield seen


def stood(samples: Iterable[Observation], passed: dict[FourTuple, Passed]) -> None:
    """Where no segments are seen, whoever stands in our table is ours: notes when it came there.

    Its peer may be here too, and be gone sooner.
    """
    for seen in samples:
        if isinstance(seen.payload, SocketSampled):
            whose = FourTuple(seen.payload.local, seen.payload.remote)
            for each in {whose, whose.flipped}:
                passed[each].all.append(seen.t_ns)
                passed[each].begun.append((seen.payload.since_ns, seen.t_ns))


def is_new(
    seen: Observation, old: Collection[FourTuple], passed: Mapping[FourTuple, Passed]
) -> bool:
    """Whether a sample is of a socket that was not there before, or has begun anew since."""
    payload = seen.payload
    if not isinstance(payload, SocketSampled):
        return True
    whose = FourTuple(payload.local, payload.remote)
    if whose not in old:
        return True
    return whose in passed and payload.since_ns >= passed[whose].begun[0][0]


def has_port(seen: Observation, ports: Collection[int]) -> bool:
    """Whether one of them is at either end; True of what has no ends."""
    match seen.payload:
        case SegmentSeen(src=one, dst=other):
            return one.port in ports or other.port in ports
        case SocketSampled(local=one, remote=other) | StateReported(local=one, remote=other):
            return one.port in ports or other.port in ports
    return True


def lives(reports: Iterable[Observation]) -> Iterator[_Life]:
    """The reports of one socket each, from its first on: the kernel reuses an address in memory."""
    living: dict[int, _Life] = {}
    for seen in reports:
        if isinstance(seen.payload, Gap):
            yield [seen]
            continue
        if not isinstance(seen.payload, StateReported):
            continue
        skaddr, before = seen.payload.skaddr, seen.payload.before
        if before in (TcpState.CLOSED, TcpState.LISTEN) and before is not seen.payload.after:
            ended = living.pop(skaddr, None)
            if ended is not None:
                yield ended
            living[skaddr] = []
        if skaddr in living:
            living[skaddr].append(seen)
    yield from living.values()


def ours(lives: Iterable[_Life], passed: Mapping[FourTuple, Passed]) -> Iterator[Observation]:
    """The reports of those sockets whose SYN was seen to pass here.

    Tracing shows the whole machine's sockets, and other networks use the same addresses, often the
    same ports at the same moment: of each SYN's possible sockets that one is ours whose reports
    stand nearest to the segments.
    """
    alike: dict[tuple[FourTuple, bool], list[_Life]] = defaultdict(list)
    for life in lives:
        if isinstance(life[0].payload, Gap):
            yield from life
            continue
        whose = _last_address(life)
        if whose is not None and whose in passed:
            first = life[0].payload
            called = isinstance(first, StateReported) and first.before is TcpState.LISTEN
            alike[whose, called].append(life)
    for (whose, called), group in alike.items():
        nearest = _nearest_called if called else _nearest_caller
        found = {id(life): life for life in nearest(group, passed[whose])}
        for life in found.values():
            yield from life


def _last_address(life: _Life) -> FourTuple | None:
    """The tuple, once it has its port: the first report of an unbound connect has none."""
    for seen in reversed(life):
        if isinstance(seen.payload, StateReported) and seen.payload.local.port:
            return FourTuple(seen.payload.local, seen.payload.remote)
    return None


def _nearest_called(lives: list[_Life], passed: Passed) -> Iterator[_Life]:
    """Of each beginning: who was called is reported after it, and before the tuple's next."""
    nexts = (*(since_ns for since_ns, _ in passed.begun[1:]), sys.maxsize)
    for (since_ns, at_ns), next_ns in zip(passed.begun, nexts, strict=True):
        until_ns = min(at_ns + _HANDSHAKE_NS, max(next_ns, at_ns + 1))
        able = [life for life in lives if since_ns - _APART_NS <= life[0].t_ns < until_ns]
        yield from _nearest(able, passed)


def _nearest_caller(lives: list[_Life], passed: Passed) -> Iterator[_Life]:
    """Of each beginning: who calls is reported before it."""
    for since_ns, at_ns in passed.begun:
        able = [
            life
            for life in lives
            if life[0].t_ns <= at_ns + _APART_NS
            and (life[-1].t_ns >= since_ns or not _is_over(life))
        ]
        yield from _nearest(able, passed)


def _nearest(able: list[_Life], passed: Passed) -> list[_Life]:
    """The one whose reports stand by the segments: what else is there at that time is not ours.

    The geometric mean, since one that is far off counts for little: who was preempted in between.
    """
    if len(able) < 2:
        return able
    return [min(able, key=lambda life: geometric_mean(map(passed.distance, map(_at, life))))]


def _at(seen: Observation) -> int:
    return seen.t_ns


def _is_over(life: _Life) -> bool:
    last = life[-1].payload
    return isinstance(last, StateReported) and last.after is TcpState.CLOSED
