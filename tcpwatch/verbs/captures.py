"""Captures read and handed to the outputs: counted first, then followed one by one where few.

Owns: how often a capture is read, and for what; how far the reading is; that an interruption ends
it, and what is known until then is shown. Must not conclude or draw.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Final

from tcpwatch.errors import TcpwatchError
from tcpwatch.interruption import signals
from tcpwatch.machine.census import Example
from tcpwatch.machine.rows import Row
from tcpwatch.model.timeline import RunRecord
from tcpwatch.outputs.settings import Settings
from tcpwatch.outputs.telling import LADDERS_AT_MOST, Outputs, draws
from tcpwatch.replaying.files import Captures, Source, record_of
from tcpwatch.replaying.replayed import add_evidence, counted, tracker_of
from tcpwatch.replaying.sifting import Sifted, sift
from tcpwatch.views.sifted import first_cases

if TYPE_CHECKING:
    from tcpwatch.sources.capture.batch import Batch
    from tcpwatch.sources.capture.rows import Progress, Rows

_SORTED_AT_MOST: Final = 100_000
"""Connections that are put in order of number; more come in the order in which they were over."""
_EVERY: Final = 1 << 62
_PATIENCE_S: Final = 0.5  # before a bar is worth its place


def replay_captures(
    given: Sequence[Source], outputs: Outputs, settings: Settings, index: int
) -> int:
    """All of them as one run, the one of that index; 1, or 0 where nothing could be read."""
    from tcpwatch.sources.capture.rows import Rows

    each = settings.follows_each or settings.summary is False
    keep = _EVERY if each else LADDERS_AT_MOST
    # What is asked of time can be answered only once it is known when the capture ends.
    at_once = settings.wish.is_plain and not settings.has_tables
    with signals() as stop, _shown_progress(settings) as tell:
        reader = Rows([source.path for source in given], progress=tell, stop=stop.is_set)
        broken: list[TcpwatchError] = []
        batches = _until_broken(reader, given, broken)
        held: list[Batch] = []
        sifted = Sifted(settings.wish, 0)
        if at_once:
            for batch in batches:
                _count(batch, sifted, keep)
        else:
            held += batches
    for error in broken:
        outputs.unreadable(error)
    if not any(capture.tally.frames for capture in reader.captures) and broken:
        return 0
    for source, capture in zip(given, reader.captures, strict=False):
        capture.name = source.name
    record = record_of(reader.captures)
    if stop.is_set():
        outputs.interrupted = True
        record = _interrupted(record)
    if not at_once:
        write = outputs.writer(record) if settings.has_tables else None
        sifted = sift(_rows(held), settings.wish, record, keep=keep, write=write)
    sifted.end_ns = record.end_ns
    _show(given, sifted, record, outputs, index)
    return 1


def _count(batch: Batch, sifted: Sifted, keep: int) -> None:
    """Counts connections column by column: a million of them need no object each."""
    import numpy as np

    census = sifted.census
    sifted.seen += len(batch)
    census.segments += int(batch.segments.sum())
    census.aged += int(batch.aged.sum())
    counts = (batch.retransmissions, batch.missing, batch.zero_windows)
    for some, pairs in zip(census.somes, counts, strict=True):
        some.add(int(pairs.sum()), int(np.count_nonzero(pairs.any(axis=1))))
    lasted_ns = batch.last_ns - batch.start_ns
    by_number = np.argsort(batch.number, kind="stable")
    by_course = by_number[np.argsort(batch.of[by_number], kind="stable")]
    ends = np.cumsum(np.bincount(batch.of, minlength=len(batch.courses)))
    for course, of_it in zip(batch.courses, np.split(by_course, ends[:-1]), strict=True):
        if len(of_it):
            first = int(of_it[0])
            census.add_course(
                course,
                lasted_ns[of_it].tolist(),
                partial(_example, batch, first),
                map(int, batch.number[of_it]),
            )
    sifted.picked += map(batch.row, map(int, by_number[: max(keep - len(sifted.picked), 0)]))


def _example(batch: Batch, index: int) -> Example:
    return Example(int(batch.number[index]), batch.ids(index).four_tuple)


def _show(
    given: Sequence[Source],
    sifted: Sifted,
    record: RunRecord,
    outputs: Outputs,
    index: int,
) -> None:
    """Draws the connections where they are few, or tells of many; an interruption leaves that."""
    try:
        if _drawn(given, sifted, record, outputs, index):
            return
    except KeyboardInterrupt:
        outputs.interrupted = True
        record = _interrupted(record)
    outputs.counted(index, counted(record, sifted))


def _drawn(
    given: Sequence[Source],
    sifted: Sifted,
    record: RunRecord,
    outputs: Outputs,
    index: int,
) -> bool:
    """Reads again what is to be drawn, or explained; whether it was drawn."""
    settings = outputs.settings
    captures = Captures(given, keep_octets=bool(settings.pcap or settings.jsonl))
    drawn = not settings.silent and draws(sifted, settings, record)
    if settings.follows_each or drawn:
        everything = len(sifted.picked) == sifted.seen
        only = None if everything else {row.id.four_tuple for row in sifted.picked}
        with _shown_progress(settings, "reading again") as tell:
            recording = captures.recording(only, until_ns=record.end_ns, progress=tell)
        outputs.replay(index, replace(recording, record=record), sifted)
        return True
    shown = [case for tally in sifted.tallies for case in first_cases(tally.wrong.values())]
    if shown and not settings.silent:
        only = {case.row.id.four_tuple for case in shown}
        with _shown_progress(settings, "reading again") as tell:
            recording = captures.recording(only, until_ns=record.end_ns, progress=tell)
        _, tracker = tracker_of(recording)
        add_evidence(shown, record, tracker, recording.events)
    return False


def _interrupted(record: RunRecord) -> RunRecord:
    return replace(record, inconclusive=(*record.inconclusive, "interrupted"))


def _until_broken(
    reader: Rows, given: Sequence[Source], broken: list[TcpwatchError]
) -> Iterator[Batch]:
    """What can be read; then why no more could be."""
    try:
        yield from reader.batches()
    except TcpwatchError as error:
        for source in given:
            error = source.called(error)
        broken.append(error)


def _rows(batches: Sequence[Batch]) -> Iterable[Row]:
    rows = chain.from_iterable(batches)
    if sum(map(len, batches)) > _SORTED_AT_MOST:
        return rows
    return sorted(rows, key=lambda row: row.number)


@contextmanager
def _shown_progress(
    settings: Settings, what: str = "reading"
) -> Iterator[Callable[[Progress], None] | None]:
    """A bar on a terminal's standard error, once it has taken a while; gone when it is over."""
    if not settings.progress or settings.quiet:
        yield None
        return
    with ExitStack() as stack:
        began_s = time.monotonic()
        shown: Callable[[Progress], None] | None = None

        def tell(progress: Progress) -> None:
            nonlocal shown
            if shown is None and time.monotonic() - began_s > _PATIENCE_S:
                shown = stack.enter_context(_bar(settings, what))
            if shown is not None:
                shown(progress)

        yield tell


@contextmanager
def _bar(settings: Settings, what: str) -> Iterator[Callable[[Progress], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn(what),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[segments]:,} segments"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True, no_color=not settings.colour)
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None, segments=0)

        def tell(so_far: Progress) -> None:
            bar.update(task, completed=so_far.octets, total=so_far.total, segments=so_far.segments)

        yield tell
