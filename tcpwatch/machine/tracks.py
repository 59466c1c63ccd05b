"""A connection while it is being tracked: its sides, their segments, and how they freeze.

Owns: roles and relative numbers. Must not know how an event reached it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tcpwatch.machine.endpoint import InferredEndpoint
from tcpwatch.machine.reconcile import History
from tcpwatch.machine.sides import SideTrack
from tcpwatch.model.events import Fate, SegmentSeen
from tcpwatch.model.identity import ConnectionId, FourTuple, SocketAddress
from tcpwatch.model.timeline import Connection, Finding, SegmentTrace
from tcpwatch.tcp.segment import Segment
from tcpwatch.tcp.seq import SeqNumber


@dataclass(slots=True)
class SegmentTrack:
    """A segment on its way."""

    n: int
    sender: SocketAddress
    segment: Segment
    injected: bool
    sent_ns: int | None = None
    delivered_ns: int | None = None
    retransmission: bool = False
    copy_of: int | None = None
    midway: bool = False  # seen on its way: whether it arrived must be told by its receiver
    marks: list[tuple[int, Fate]] = field(default_factory=list)
    raw: bytes = b""
    cut: bool = False

    @property
    def fate(self) -> str:
        """The interface's word: delivered, dropped, duplicated (the copy of another) or lost.

        Or unknown, where it was seen only on its way.
        """
        if self.midway and self.copy_of is not None:
            return "duplicated"
        if self.delivered_ns is not None:
            return "duplicated" if self.copy_of is not None else "delivered"
        if any(fate is Fate.DROPPED for _, fate in self.marks):
            return "dropped"
        return "unknown" if self.midway else "lost"


@dataclass(slots=True)
class ConnectionTrack:
    """One connection: the opener's side is ``sides[0]``, and the only one in a self-connect.

    ``earlier`` is the one of the same tuple before it.
    ``called`` are segments of the tuple's earlier connection, from the SYN on that began this one
    once it was repeated; of its own, those from ``ceded`` on belong to a later one so.
    """

    number: int
    id: ConnectionId
    sides: tuple[SideTrack, ...]
    earlier: ConnectionTrack | None = None
    traces: list[SegmentTrack] = field(default_factory=list)
    called: list[SegmentTrack] = field(default_factory=list)
    ceded: int | None = None

    @classmethod
    def begin(
        cls,
        number: int,
        opener: FourTuple,
        roles: Mapping[str, str],
        t_ns: int,
        beginnings: tuple[InferredEndpoint, InferredEndpoint],
        *,
        earlier: ConnectionTrack | None = None,
        loopback: bool = False,
    ) -> ConnectionTrack:
        """``beginnings`` are what is known of the opener and of its peer before the first event.

        ``loopback`` as in `Tracker`.
        """
        sides = tuple(
            SideTrack(
                _role(roles, end.local, default),
                end,
                inferred,
                History.begin(inferred.states, t_ns),
                on_wire=loopback or end.local.ip != end.remote.ip,
            )
            for end, default, inferred in zip(
                (opener, opener.flipped), ("active", "passive"), beginnings, strict=True
            )
        )
        one_socket = opener == opener.flipped
        generation = earlier.id.generation + 1 if earlier else 0
        ident = ConnectionId(opener, generation)
        return cls(number, ident, sides[:1] if one_socket else sides, earlier)

    def side(self, local: SocketAddress) -> SideTrack:
        """The side at that address."""
        return self.sides[0] if self.sides[0].four_tuple.local == local else self.sides[-1]

    def earlier_lives(self, local: SocketAddress, since_ns: int) -> Iterator[SideTrack]:
        """That end in the tuple's earlier connections that went on after ``since_ns``."""
        earlier = self.earlier
        while earlier is not None and earlier.side(local).history.last.t_ns >= since_ns:
            yield earlier.side(local)
            earlier = earlier.earlier

    def trace(self, sender: FourTuple, seen: SegmentSeen) -> SegmentTrack:
        """A new segment of this connection."""
        trace = SegmentTrack(seen.n, sender.local, seen.segment, seen.injected, cut=seen.cut)
        self.traces.append(trace)
        side = self.side(sender.local)
        if side.first_seq is None and not seen.injected:
            side.first_seq = seen.segment.seq
        if side.first_syn is None and seen.segment.syn and not seen.injected:
            side.first_syn = seen.segment.seq
        return trace

    def is_reset_underway(self, sender: SocketAddress) -> bool:
        """Whether a RST of that end's has been sent and will be seen to arrive."""
        return any(
            trace.fate == "lost" and trace.segment.rst and trace.sender == sender
            for trace in self.traces
        )

    def cede(self, caller: SocketAddress, segment: Segment) -> list[SegmentTrack]:
        """What belongs to the SYN that begins another connection, if it was sent before."""
        for place, each in enumerate(self.traces):
            again = each.segment.syn and each.segment.ack is None and each.sender == caller
            if again and each.segment.seq == segment.seq:
                self.ceded = place or None  # not all that it has
                return self.traces[place:] if place else []
        return []

    def copy(self, trace: SegmentTrack, n: int) -> SegmentTrack:
        """The wire's copy of a segment."""
        copied = SegmentTrack(n, trace.sender, trace.segment, trace.injected, copy_of=trace.n)
        self.traces.append(copied)
        return copied

    def frozen(self, trace: SegmentTrack) -> SegmentTrace:
        side = self.side(trace.sender)
        peer = self.sides[-1] if side is self.sides[0] else self.sides[0]
        segment = trace.segment
        return SegmentTrace(
            trace.n,
            side.role,
            segment,
            _relative(segment.seq, side.isn),
            None if segment.ack is None else _relative(segment.ack, peer.isn),
            trace.sent_ns,
            trace.delivered_ns,
            trace.fate,
            trace.injected,
            trace.retransmission,
            tuple(trace.marks),
            trace.raw,
            trace.cut,
            trace.copy_of,
        )

    def freeze(self, attending: frozenset[str], end_ns: int) -> Connection:
        ordered = sorted(self.sides, key=lambda side: side.role == "server")
        ends = tuple(side.freeze(attending, end_ns) for side in ordered)
        segments = tuple(self.frozen(trace) for trace in self.traces)
        by_syn = None
        if self.called or self.ceded is not None:
            by_syn = (*(self.frozen(trace) for trace in self.called), *segments[: self.ceded])
        return Connection(self.number, self.id, ends, segments, by_syn)

    def findings(self, attending: frozenset[str], end_ns: int) -> Iterator[Finding]:
        for side in self.sides:
            yield from side.findings(self.number, attending, end_ns)


def _role(roles: Mapping[str, str], address: SocketAddress, default: str) -> str:
    return roles.get(str(address)) or roles.get(address.ip) or default


def _relative(number: SeqNumber, base: SeqNumber | None) -> int:
    return number.value if base is None else number - base
