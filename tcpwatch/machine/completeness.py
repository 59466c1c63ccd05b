"""What Wireshark shows as `tcp.completeness` (User's Guide, "TCP Conversation Completeness").

Owns: which packets count for a bit, as Wireshark 4.0 counts them, and when it takes a SYN for a new
stream's. Must not know what the machine believes: it is for cross-checking.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tcpwatch.model.timeline import Connection, SegmentTrace
from tcpwatch.tcp.segment import Segment
from tcpwatch.tcp.seq import SeqNumber

SYN, SYN_ACK, ACK, DATA, FIN, RST = 1, 2, 4, 8, 16, 32


def completeness(connection: Connection) -> tuple[int, ...]:
    """The bits of each stream that Wireshark makes of the connection; mostly it is one."""
    traces = connection.segments if connection.by_syn is None else connection.by_syn
    streams = enumerate(_streams(traces), connection.id.generation)
    return tuple(_bits(stream, reuse=before > 0) for before, stream in streams)


def _streams(traces: Iterable[SegmentTrace]) -> Iterator[list[Segment]]:
    """A SYN with another number than its end's last begins a stream."""
    stream: list[Segment] = []
    begun: dict[bool, SeqNumber] = {}  # by whether it is the first sender's
    first_sender = None
    for trace in traces:
        segment = trace.segment
        first_sender = first_sender or trace.sender
        end = trace.sender == first_sender
        if segment.syn:
            if segment.ack is None and begun.get(end, segment.seq) != segment.seq:
                yield stream
                stream, begun = [], {}
            begun[end] = segment.seq
        else:
            begun.setdefault(end, segment.seq + -1)
        if segment.ack is not None:
            begun.setdefault(not end, segment.ack + -1)
        stream.append(segment)
    if stream:
        yield stream


def _bits(stream: list[Segment], *, reuse: bool) -> int:
    """A SYN counts only as the first packet; another packet that is alone counts for nothing."""
    first, *others = stream
    bits = 0
    if first.syn and first.ack is None:
        carries = bool(first.payload_len) and not reuse
        bits = SYN | (DATA if carries else 0) | (RST if first.rst and (reuse or others) else 0)
    elif others:
        bits = _later(first)
    for segment in others:
        bits |= _later(segment)
    return bits


def _later(segment: Segment) -> int:
    bits = RST if segment.rst else 0
    if segment.ack is None:
        return bits
    bits |= FIN if segment.fin else 0
    if segment.syn:
        return bits | SYN_ACK
    return bits | (DATA if segment.payload_len else ACK)
