"""Whose is what was noted: of connections that began while somebody watched, in this network.

Owns: telling them from what was there before, and from other networks' with the same addresses.
Must not know how anything was noted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping

from tcpwatch.model.events import Gap, Point, SegmentSeen, SocketSampled, StateReported
from tcpwatch.model.identity import FourTuple
from tcpwatch.model.witness import Observation
from tcpwatch.tcp.state import TcpState

_APART_NS = 1_000_000
"""How far the clocks of capture and tracing may lie apart."""

_HANDSHAKE_NS = 70_000_000_000
"""How long after the SYN the kernel may report who was called: with the third ACK (tcp(7))."""


def newer(
    segments: Iterable[Observation], old: Collection[FourTuple], began: dict[FourTuple, list[int]]
) -> Iterator[Observation]:
    """The segments of connections that are not ``old``, or begin anew; notes when each began."""
    for seen in segments:
        if not isinstance(seen.payload, SegmentSeen):
            yield seen
            continue
        way = FourTuple(seen.payload.src, seen.payload.dst)
        segment = seen.payload.segment
        if segment.syn and segment.ack is None and seen.payload.point is not Point.DELIVERED:
            began[way].append(seen.t_ns)
            if way.flipped != way:
                began[way.flipped].append(seen.t_ns)
        if began.get(way) or not (way in old or way.flipped in old):
            yield seen


def is_new(
    seen: Observation, old: Collection[FourTuple], began: Mapping[FourTuple, list[int]]
) -> bool:
    """Whether a sample is of a socket that was not there before, or has begun anew since."""
    payload = seen.payload
    if not isinstance(payload, SocketSampled):
        return True
    whose = FourTuple(payload.local, payload.remote)
    if whose not in old:
        return True
    times = began.get(whose, [])
    return bool(times) and payload.since_ns >= times[0]


def has_port(seen: Observation, ports: Collection[int]) -> bool:
    """Whether one of them is at either end; True of what has no ends."""
    match seen.payload:
        case SegmentSeen(src=one, dst=other):
            return one.port in ports or other.port in ports
        case SocketSampled(local=one, remote=other) | StateReported(local=one, remote=other):
            return one.port in ports or other.port in ports
    return True


def lives(reports: Iterable[Observation]) -> Iterator[list[Observation]]:
    """The reports of one socket each, from its first on: the kernel reuses an address in memory."""
    living: dict[int, list[Observation]] = {}
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


def ours(
    lives: Iterable[list[Observation]], began: Mapping[FourTuple, list[int]]
) -> Iterator[Observation]:
    """The reports of those sockets whose SYN was seen here, at the times in ``began``.

    Tracing shows the whole machine's sockets, and other networks use the same addresses, often the
    same ports: of each SYN's possible sockets it is the one that is nearest to it.
    """
    alike: dict[tuple[FourTuple, bool], list[list[Observation]]] = defaultdict(list)
    for life in lives:
        if isinstance(life[0].payload, Gap):
            yield from life
            continue
        whose = _last_address(life)
        if whose is not None and whose in began:
            first = life[0].payload
            called = isinstance(first, StateReported) and first.before is TcpState.LISTEN
            alike[whose, called].append(life)
    for (whose, called), group in alike.items():
        found = {
            id(life): life
            for t_ns in began[whose]
            for life in (_nearest(group, t_ns, called=called),)
            if life is not None
        }
        for life in found.values():
            yield from life


def _last_address(life: list[Observation]) -> FourTuple | None:
    """The tuple, once it has its port: the first report of an unbound connect has none."""
    for seen in reversed(life):
        if isinstance(seen.payload, StateReported) and seen.payload.local.port:
            return FourTuple(seen.payload.local, seen.payload.remote)
    return None


def _nearest(
    group: list[list[Observation]], syn_ns: int, *, called: bool
) -> list[Observation] | None:
    """Who calls is reported before its SYN, or its first one; who was called, after it."""
    if called:
        after = [
            life for life in group if syn_ns - _APART_NS <= life[0].t_ns <= syn_ns + _HANDSHAKE_NS
        ]
        return min(after, key=lambda life: life[0].t_ns, default=None)
    before = [
        life
        for life in group
        if life[0].t_ns <= syn_ns + _APART_NS and (life[-1].t_ns >= syn_ns or not _is_over(life))
    ]
    return max(before, key=lambda life: life[0].t_ns, default=None)


def _is_over(life: list[Observation]) -> bool:
    last = life[-1].payload
    return isinstance(last, StateReported) and last.after is TcpState.CLOSED
