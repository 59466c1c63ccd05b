"""The segments of the selected connection, from the key on: lines of its page, and a file.

Owns: how many are kept, and their numbers relative to the first that was seen of each end. Must not
know how they are captured.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from tcpwatch.machine.population import HostSocket
from tcpwatch.model.timeline import Belief, SegmentTrace
from tcpwatch.sources.sniffer import Captured
from tcpwatch.tcp.seq import SeqNumber
from tcpwatch.views.canvas import Span
from tcpwatch.views.palette import DIM, WARN
from tcpwatch.views.sockets import clock
from tcpwatch.views.wording import labels, segment_style

KEPT = 500


class Source(Protocol):
    """What gives captured segments: a `Sniffer`, or a test's."""

    def read(self) -> Sequence[Captured]: ...

    def dropped(self) -> int: ...

    def close(self) -> None: ...


class SegmentList:
    """What was captured, bounded: the latest ``KEPT`` of them."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.runs = True
        self._kept: deque[Captured] = deque(maxlen=KEPT)
        self._lines: deque[list[Span]] = deque(maxlen=KEPT)
        self._first: dict[bool, SeqNumber] = {}
        self._count = self._lost = 0

    def close(self) -> None:
        """Captures no more; what was captured stays. Idempotent."""
        if self.runs:
            self._take()
            self.runs = False
            self._source.close()

    def lines(self) -> Sequence[Sequence[Span]]:
        """All that is kept, what is missing told above it."""
        self._take()
        since = "since you asked" if self.runs else "until you stopped it"
        lost = f"; {self._lost} were lost: they came too fast" if self._lost else ""
        last = f"; the last {KEPT}" if self._count > KEPT else ""
        head = f"{self._count} segments {since}{last}; offload may have joined several in one"
        return [[Span(head, DIM), Span(lost, WARN)], *self._lines]

    def _take(self) -> None:
        if not self.runs:
            return
        for captured in self._source.read():
            self._count += 1
            self._kept.append(captured)
            self._lines.append(self._line(captured))
        self._lost = self._source.dropped()

    def write(self, path: Path, sock: HostSocket, unix_ns: Callable[[int], int]) -> None:
        """A pcapng of what is kept, each segment with the state that this end was in."""
        from tcpwatch.views.pcap import Packet, write_packets

        self._take()
        steps = [(unix_ns(step.t_ns), step.states) for step in sock.history.steps]
        packets = []
        for one in self._kept:
            known = [states for t_ns, states in steps if t_ns <= one.unix_ns]
            state = str(Belief(known[-1] if known else steps[0][1]))
            way = "sent by" if one.sent else "received by"
            comment = f"{way} {sock.local} in {state}"
            size = len(one.octets)
            packets.append(Packet(one.unix_ns, 0 if one.sent else 1, one.octets, size, comment))
        said = f"{sock.local} > {sock.remote}, captured where {sock.local} is"
        if self._lost:
            said += f"; {self._lost} segments were lost"
        with path.open("wb") as out:
            write_packets(out, said, ("sent", "received"), packets)

    def _line(self, captured: Captured) -> list[Span]:
        segment = captured.segment
        first = self._first.setdefault(captured.sent, segment.seq)
        if segment.ack is not None:
            self._first.setdefault(not captured.sent, segment.ack)
        other = self._first.get(not captured.sent)
        trace = SegmentTrace(
            self._count,
            "",
            segment,
            segment.seq - first,
            None if segment.ack is None or other is None else segment.ack - other,
            None,
            None,
            "unknown",
        )
        way = "──▶ sent    " if captured.sent else "◀── received"
        return [
            Span(f"{clock(captured.unix_ns)}  ", DIM),
            Span(way, DIM),
            Span("  "),
            Span(labels(trace)[0], segment_style(trace)),
        ]
