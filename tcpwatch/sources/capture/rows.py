"""Captures as rows: one a connection, whatever their length, in bounded memory.

Owns: what a caller asks for rows by. Several files are read as one capture, merged by time.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from tcpwatch.errors import TcpwatchError
from tcpwatch.machine.rows import Row
from tcpwatch.sources.capture.batch import Batch
from tcpwatch.sources.capture.columns import Columns, Ends, Segments
from tcpwatch.sources.capture.frames import Int64s
from tcpwatch.sources.capture.gathering import Gatherer, Limits
from tcpwatch.sources.capture.octets import Octets, open_octets
from tcpwatch.sources.capture.segments import Capture

_AT_ONCE: Final = 1 << 17  # segments that are put together to connections at a time
_BLOCKS_AHEAD: Final = 4
_TELL_S: Final = 0.1


class Progress(NamedTuple):
    """How far the reading is, in octets once unpacked. ``total``: None where that is not known."""

    octets: int
    total: int | None
    segments: int


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
        at_once: int = _AT_ONCE,
    ) -> None:
        self._names = list(names)
        self._progress = progress
        self._stop = stop
        self._limits = limits or Limits()
        self._at_once = at_once
        self._told_s = 0.0
        self._octets: list[Octets] = []
        self._sizes: list[int | None] = []
        self._gatherer: Gatherer | None = None
        self.captures: list[Capture] = []
        self.first_ns = 0
        self.last_ns = 0

    @property
    def aged(self) -> int:
        """How many connections were given up while they were open."""
        return self._gatherer.aged if self._gatherer else 0

    @property
    def asked(self) -> int:
        """How often the machine had to be asked: once a shape."""
        return self._gatherer.asked if self._gatherer else 0

    def __iter__(self) -> Iterator[Row]:
        for batch in self.batches():
            yield from batch

    def batches(self) -> Iterator[Batch]:
        """Raises TcpwatchError where a capture cannot be read, after all that could be."""
        broken: list[TcpwatchError] = []
        ends = Ends()
        with ExitStack() as stack:
            for name in self._names:
                octets = stack.enter_context(open_octets(name))
                self._octets.append(octets)
                self._sizes.append(size_of(name, octets))
                self.captures.append(Capture(octets))
            for segments in self._gathered(ends, broken):
                if self._gatherer is None:
                    firsts = (one.tally.first_ns for one in self.captures)
                    self.first_ns = min(first for first in firsts if first is not None)
                    self._gatherer = Gatherer(ends, self._limits, self.first_ns)
                yield from self._gatherer.add(segments)
            self.last_ns = max((one.tally.last_ns for one in self.captures), default=0)
            if self._gatherer is not None:
                yield from self._gatherer.finish(self.last_ns)
        if broken:
            raise broken[0]

    def _gathered(self, ends: Ends, broken: list[TcpwatchError]) -> Iterator[Segments]:
        """The segments of all captures in order of time, many at once."""
        held: list[Segments] = []
        count = 0
        for segments in _ahead(_merged([_blocks(one, ends, broken) for one in self.captures])):
            held.append(segments)
            count += len(segments)
            self._tell()
            if count >= self._at_once:
                yield from self._parted(Segments.joined(held))
                held, count = [], 0
            if self._stop is not None and self._stop():
                break
        if held:
            yield from self._parted(Segments.joined(held))

    def _parted(self, segments: Segments) -> Iterator[Segments]:
        for begin in range(0, len(segments), self._at_once):
            yield segments.at(slice(begin, begin + self._at_once))

    def _tell(self) -> None:
        now_s = time.monotonic()
        if self._progress is None or now_s - self._told_s < _TELL_S:
            return
        self._told_s = now_s
        self._progress(progress_of(self._octets, self._sizes, self.captures))


def progress_of(
    octets: Sequence[Octets], sizes: Sequence[int | None], captures: Sequence[Capture]
) -> Progress:
    """How far several captures were read, of which `size_of` gave the sizes."""
    segments = sum(one.tally.segments for one in captures)
    known = [size for size in sizes if size is not None]
    total = sum(known) if len(known) == len(sizes) else None
    return Progress(sum(one.position for one in octets), total, segments)


def size_of(name: str, octets: Octets) -> int | None:
    """How long a file is, where that is known: unpacked, and not standard input."""
    if octets.packed or name == "-" or not Path(name).is_file():
        return None
    return Path(name).stat().st_size


def _ahead(stream: Iterator[Segments]) -> Iterator[Segments]:
    """The same, the next ones read on another processor: numpy lets go of Python's lock.

    Several, since as many are put together at a time.
    """
    with ThreadPoolExecutor(1) as reader:
        coming = deque(reader.submit(next, stream, None) for _ in range(_BLOCKS_AHEAD))
        try:
            while (one := coming.popleft().result()) is not None:
                coming.append(reader.submit(next, stream, None))
                yield one
        finally:
            reader.shutdown(cancel_futures=True)


def _blocks(capture: Capture, ends: Ends, broken: list[TcpwatchError]) -> Iterator[Segments]:
    """A capture's segments, a block at a time; what stops it is told in ``broken``."""
    columns = Columns(capture.tally, ends)
    try:
        for frames in capture.frames():
            yield columns.read(frames)
    except TcpwatchError as error:
        broken.append(error)
    finally:
        capture.tally.incomplete = columns.incomplete


def _merged(streams: list[Iterator[Segments]]) -> Iterator[Segments]:
    """Several captures in order of time; of what has one time, the earlier capture's first."""
    if len(streams) == 1:
        yield from streams[0]
        return
    waiting: list[Segments | None] = [next(stream, None) for stream in streams]
    while True:
        there = [place for place, one in enumerate(waiting) if one is not None]
        if not there:
            return
        # Beyond the earliest end of a block, more of that capture may come in between.
        upto = min(int(one.t_ns[-1]) if len(one) else -1 for one in waiting if one is not None)
        parts = []
        for place in there:
            one = waiting[place]
            assert one is not None
            count = int(np.searchsorted(one.t_ns, upto, side="right"))
            parts.append(one.at(slice(0, count)))
            waiting[place] = (
                one.at(slice(count, None)) if count < len(one) else next(streams[place], None)
            )
        joined = Segments.joined(parts)
        order: Int64s = np.argsort(joined.t_ns, kind="stable")
        yield joined.at(order)
