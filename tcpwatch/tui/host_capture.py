"""The segments of the selected connection, from the key on, as lines of its page.

Owns: how many are kept, and their numbers relative to the first that was seen of each end. Must not
know how they are captured.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from tcpwatch.model.timeline import SegmentTrace
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
        self._lines: deque[list[Span]] = deque(maxlen=KEPT)
        self._first: dict[bool, SeqNumber] = {}
        self._count = 0

    def close(self) -> None:
        self._source.close()

    def lines(self) -> Sequence[Sequence[Span]]:
        """All that is kept, what is missing told above it."""
        for captured in self._source.read():
            self._count += 1
            self._lines.append(self._line(captured))
        head = f"{self._count} segments from now on; offload may have joined several in one"
        told = [[Span(head, DIM)]]
        dropped = self._source.dropped()
        if dropped:
            told.append([Span(f"{dropped} were lost: they came too fast", WARN)])
        return [*told, *self._lines]

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
