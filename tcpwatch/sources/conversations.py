"""From the frames of a namespace's own capture to segments: as sent, as delivered, left out.

Owns: which two frames are one segment on the loopback, and what the numbers tell of the data that
was not captured or that is too much to tell: one segment then stands for all of it (`condensed`).
Must not know a state.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from tcpwatch.model.events import WIRE, Payload, Point, SegmentSeen, Vantage
from tcpwatch.model.identity import SocketAddress
from tcpwatch.model.witness import Observation
from tcpwatch.sources.packetring import Frame
from tcpwatch.tcp.header import TcpPacket, parse_ip
from tcpwatch.tcp.segment import Flags, Segment
from tcpwatch.tcp.seq import SeqNumber

TOLD = 100
"""So many segments of a connection are told one by one; after that, only what moves a state."""

LOOPBACK = 1  # Linux: include/net/flow.h, in every network namespace
_FAR = 1 << 30  # octets; sequence numbers further than twice that apart have no order
_TELLING = Flags.SYN | Flags.FIN | Flags.RST
_VANTAGE = Vantage(WIRE)


@dataclass(slots=True)
class _Way:
    """One direction of a connection: how far it was told, and what was held back since."""

    src: SocketAddress
    dst: SocketAddress
    told: SeqNumber | None = None
    ack: SeqNumber | None = None
    window: int = 0
    held: tuple[Segment, bytes] | None = None  # an acknowledgement
    reached: SeqNumber | None = None  # data held back


@dataclass(slots=True)
class _Conversation:
    ways: tuple[_Way, _Way]
    count: int = 0


@dataclass(slots=True)
class Conversations:
    """Takes frames in the order in which they passed. ``condensed`` counts what stands for more."""

    condensed: int = 0
    _n: int = 0
    _met: dict[frozenset[SocketAddress], _Conversation] = field(default_factory=dict)
    _left: dict[bytes, deque[tuple[int, TcpPacket]]] = field(
        default_factory=lambda: defaultdict(deque)
    )

    def observations(self, frames: Iterable[Frame]) -> Iterator[Observation]:
        """The segments of ``frames``; then what was held back and not told otherwise."""
        t_ns = 0
        for frame in frames:
            t_ns = frame.t_ns
            yield from self._frame(frame)
        for conversation in self._met.values():
            yield from self._flush(conversation, t_ns)

    def _frame(self, frame: Frame) -> Iterator[Observation]:
        local = frame.interface == LOOPBACK
        if not frame.outgoing and local and self._left.get(frame.octets):
            number, same = self._left[frame.octets].popleft()
            if not self._left[frame.octets]:
                del self._left[frame.octets]
            if number:
                yield _seen(frame.t_ns, number, Point.DELIVERED, same)
            return
        packet = parse_ip(frame.octets)
        if not isinstance(packet, TcpPacket):
            return
        n = 0
        for told in self._segment(packet, frame):
            if isinstance(told, Observation):
                yield told
                continue
            n = told
            leaves = frame.outgoing and local
            points = (Point.SENT,) if leaves else (Point.SENT, Point.DELIVERED)
            for point in points if local else (Point.MIDWAY,):
                yield _seen(frame.t_ns, n, point, packet, frame.octets)
        if frame.outgoing and local:
            self._left[frame.octets].append((n, packet))

    def _segment(self, packet: TcpPacket, frame: Frame) -> Iterator[Observation | int]:
        """What is to be told before it; then its number, unless it is held back."""
        segment = packet.segment
        there = SocketAddress(packet.dst_ip, packet.dst_port)
        here = SocketAddress(packet.src_ip, packet.src_port)
        conversation = self._met.get(frozenset((here, there)))
        if conversation is None or (segment.syn and segment.ack is None):
            conversation = _Conversation((_Way(here, there), _Way(there, here)))
            self._met[frozenset((here, there))] = conversation
        conversation.count += 1
        first, second = conversation.ways
        way, back = (first, second) if first.src == here else (second, first)
        way.window = segment.window
        telling = bool(segment.flags & _TELLING)
        many = conversation.count > TOLD
        if not telling and (many or _is_beyond(segment.ack, back.told)):
            if segment.payload_len:
                way.reached = _further(way.reached, segment.seq_end)
            if segment.ack is not None and (way.ack is None or segment.ack >= way.ack):
                way.held = segment, frame.octets
                way.ack = segment.ack
            if not _is_beyond(segment.ack, back.told, _FAR):
                return
            yield from self._flush(conversation, frame.t_ns)
            return
        yield from self._flush(conversation, frame.t_ns)
        yield from self._fill(way, segment.seq, frame.t_ns)
        if segment.ack is not None:
            yield from self._fill(back, segment.ack, frame.t_ns)
            way.ack = segment.ack
        way.told = _further(way.told, segment.seq_end)
        yield self._number()

    def _flush(self, conversation: _Conversation, t_ns: int) -> Iterator[Observation]:
        """Tells what was held back: the data of both ways, then the last acknowledgements."""
        first, second = conversation.ways
        for way, back in ((first, second), (second, first)):
            held, back.held = back.held, None
            for reached in (held[0].ack if held else None, way.reached):
                if reached is not None:
                    yield from self._fill(way, reached, t_ns)
            way.reached = None
            if held is not None:
                yield from self._tell(
                    back, replace(held[0], payload_len=0, seq=back.told or held[0].seq), t_ns
                )

    def _fill(self, way: _Way, until: SeqNumber, t_ns: int) -> Iterator[Observation]:
        """The data before ``until`` that was not told: it has passed, or this could not be."""
        if not _is_beyond(until, way.told):
            return
        assert way.told is not None
        octets = until - way.told
        self.condensed += 1
        segment = Segment(way.told, way.ack, Flags.ACK, way.window, (), octets)
        yield from self._tell(way, segment, t_ns)

    def _tell(self, way: _Way, segment: Segment, t_ns: int) -> Iterator[Observation]:
        way.told = _further(way.told, segment.seq_end)
        n = self._number()
        for point in (Point.SENT, Point.DELIVERED):
            yield Observation(t_ns, _VANTAGE, SegmentSeen(n, point, way.src, way.dst, segment))

    def _number(self) -> int:
        self._n += 1
        return self._n


def _seen(t_ns: int, n: int, point: Point, packet: TcpPacket, raw: bytes = b"") -> Observation:
    payload: Payload = SegmentSeen(
        n,
        point,
        SocketAddress(packet.src_ip, packet.src_port),
        SocketAddress(packet.dst_ip, packet.dst_port),
        packet.segment,
        raw=raw,
    )
    return Observation(t_ns, _VANTAGE, payload)


def _further(one: SeqNumber | None, other: SeqNumber) -> SeqNumber:
    return other if one is None or other > one else one


def _is_beyond(number: SeqNumber | None, told: SeqNumber | None, by: int = 0) -> bool:
    return number is not None and told is not None and number - told > by
