"""Whose is what was noted: of connections that began while somebody watched, in this network.

Owns: telling them from what was there before, and from other networks' with the same addresses.
Must not know how anything was noted.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping

from tcpwatch.model.events import Gap, Point, SegmentSeen, SocketSampled, StateReported
from tcpwatch.model.identity import FourTuple
from tcpwatch.model.witness import Observation
from tcpwatch.tcp.state import TcpState

_APART_NS = 1_000_000
"""How far the clocks of capture and tracing may lie apart."""

_HANDSHAKE_NS = 130_000_000_000
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
    """The reports of those sockets whose SYN was seen here.

    Tracing shows the whole machine's sockets, and another namespace may use the same addresses.
    """
    for life in lives:
        last = life[-1].payload
        if isinstance(last, Gap):
            yield from life
            continue
        whose = next(
            (
                FourTuple(seen.payload.local, seen.payload.remote)
                for seen in reversed(life)
                if isinstance(seen.payload, StateReported) and seen.payload.local.port
            ),
            None,
        )
        times = began.get(whose, []) if whose else []
        first = life[0].payload
        called = isinstance(first, StateReported) and first.before is TcpState.LISTEN
        early_ns = _HANDSHAKE_NS if called else _APART_NS
        place = bisect_left(times, life[0].t_ns - early_ns)
        if place < len(times) and times[place] <= life[-1].t_ns:
            yield from life
