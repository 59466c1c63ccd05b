"""Captures as rows: one a connection, whatever their length, in bounded memory.

Owns: what a caller asks for rows by. Several files are read as one capture, merged by time.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import NamedTuple

from tcpwatch.errors import TcpwatchError
from tcpwatch.machine.rows import Row, row_of
from tcpwatch.machine.tracker import Tracker
from tcpwatch.model.events import WIRE, Event, SegmentSeen
from tcpwatch.model.witness import Observation
from tcpwatch.sources.capture.batch import Batch, batch_of
from tcpwatch.sources.capture.octets import open_octets
from tcpwatch.sources.capture.segments import Capture


class Progress(NamedTuple):
    """How far the reading is. ``total`` is None where the length is not known."""

    octets: int
    total: int | None
    segments: int


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is remembered of connections that are silent: beyond it they are given up."""

    open_ns: int = 3_600_000_000_000
    over_ns: int = 120_000_000_000
    connections: int = 200_000


class Rows:
    """The connections in some captures, read once as one capture.

    ``progress`` is told now and then how far it is. ``stop`` is asked now and then: once it says
    so, reading ends and what is known so far is given.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        progress: Callable[[Progress], None] | None = None,
        stop: Callable[[], bool] | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._names = list(names)
        self._progress = progress
        self._stop = stop
        self._limits = limits or Limits()
        self.captures: list[Capture] = []
        self.first_ns = 0
        self.last_ns = 0
        self.aged = 0

    def __iter__(self) -> Iterator[Row]:
        for batch in self.batches():
            yield from batch

    def batches(self) -> Iterator[Batch]:
        """Raises TcpwatchError where a capture cannot be read, after all that could be."""
        broken: list[TcpwatchError] = []
        with ExitStack() as stack:
            for name in self._names:
                self.captures.append(Capture(stack.enter_context(open_octets(name))))
            tracker = Tracker(attending=[WIRE])
            streams = [
                _until_broken(capture, broken, place, len(self.captures))
                for place, capture in enumerate(self.captures)
            ]
            merged = heapq.merge(*streams, key=lambda seen: seen.t_ns)
            for count, one in enumerate(merged, 1):
                self.first_ns = self.first_ns or one.t_ns
                tracker.feed(Event(count, one.t_ns - self.first_ns, one.vantage, one.payload))
                if count % 1000 == 0 and self._stop is not None and self._stop():
                    break
            self.last_ns = max((each.tally.last_ns for each in self.captures), default=0)
            timeline = tracker.timeline(self.last_ns - self.first_ns)
            yield batch_of([row_of(one, timeline.findings) for one in timeline.connections])
        if broken:
            raise broken[0]


def _until_broken(
    capture: Capture, broken: list[TcpwatchError], place: int, count: int
) -> Iterator[Observation]:
    try:
        for one in capture.observations():
            seen = one.payload
            if isinstance(seen, SegmentSeen):
                yield replace(one, payload=replace(seen, n=seen.n * count + place))
            else:
                yield one
    except TcpwatchError as error:
        broken.append(error)
