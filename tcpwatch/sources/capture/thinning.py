"""Long transfers: what of their middle need not be kept.

Owns: which segments change nothing, so that the connection goes the same way without them: its data
as if sent in fewer and larger segments, its acknowledgements as if fewer had been sent. What they
count for is in the record. Must not know the machine; that it agrees is tested.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from tcpwatch.sources.capture.columns import CUT, Bools, Segments
from tcpwatch.sources.capture.frames import Int64s
from tcpwatch.sources.capture.shaping import Tuples, per_group
from tcpwatch.sources.capture.stretches import PAUSE_NS, THINNED, Brief, brief, neutral

LONG: Final = 64
"""Segments; what has no more is kept wholly."""

_HEAD, _AGAIN, _TAIL = 16, 8, 16  # of a run of segments that change nothing, so many are kept
_LEAST: Final = 16
_LARGEST: Final = 1 << 28  # octets: of so many a segment is kept, lest numbers lie too far apart
_NEAR_POWER: Final = 4096  # more than are ever kept


@dataclass(frozen=True, slots=True, eq=False)
class Thinned:
    """What is kept. Of each tuple what the others come to, with two columns as in a record.

    ``retold`` has for each tuple what Zeek would have counted: (kind, place) in order, where kinds
    are W, T, G of the first's way and of the other's.
    """

    tuples: Tuples
    segments: Int64s
    octets: Int64s
    repeated: Int64s
    zero: Int64s
    retold: dict[int, Int64s]


class Retold:
    """What Zeek counts of the segments of one tuple that are not kept.

    It writes the first, the tenth, the hundredth and so on: only the order of these matters.
    """

    def __init__(self) -> None:
        self._counts = [0] * 6
        self._runs: list[tuple[int, int]] = []

    def add(self, kinds: Int64s) -> None:
        """Some more, in their order."""
        reached: list[tuple[int, int]] = []
        before = list(self._counts)
        for kind in np.flatnonzero(np.bincount(kinds)).tolist():
            places = np.flatnonzero(kinds == kind)
            power = 1
            while power <= before[kind] + len(places):
                if power > before[kind]:
                    reached.append((int(places[power - before[kind] - 1]), kind))
                power *= 10
            self._counts[kind] += len(places)
        for _, kind in sorted(reached):
            told = sum(times for which, times in self._runs if which == kind)
            self._runs.append((kind, (10 * told if told else 1) - told))

    def counted(self) -> tuple[tuple[bool, str, int], ...]:
        """The same for two that cannot be told apart by what is kept: way, letter, how often."""
        runs = list(self._runs)
        for kind, count in enumerate(self._counts):
            told = sum(times for which, times in runs if which == kind)
            if count > told and 10 * told - count <= _NEAR_POWER:
                runs.append((kind, count - told))
        return tuple((kind < 3, "WTG"[kind % 3], times) for kind, times in runs)


def thinned(tuples: Tuples) -> Thinned | None:
    """Without what changes nothing; None where there is nothing of that kind."""
    told = brief(tuples)
    rest = tuples if told is None else told.tuples
    middle = _middle(rest)
    kept, settled = ~middle, np.zeros(len(middle), np.bool_)
    if middle.any():
        places = np.flatnonzero(middle)
        run_of = np.cumsum(np.diff(places, prepend=-2) != 1) - 1
        begins = np.flatnonzero(np.diff(run_of, prepend=-1))
        settled[places] = acked = _is_acked(rest, places, begins, run_of)
        kept[places] = _kept_of(rest, places, begins, acked)
    if told is not None:
        return _without(rest, kept, middle, settled, told)
    return None if kept.all() else _without(rest, kept, middle, settled)


def _middle(tuples: Tuples) -> Bools:
    """The inner parts of runs of segments that change nothing."""
    unchanging, count = neutral(tuples), len(tuples.segments)
    place = np.arange(count)
    edge = np.empty(count, np.bool_)
    edge[1:] = unchanging[1:] != unchanging[:-1]
    edge[tuples.starts] = True
    starts = np.flatnonzero(edge)
    counts = np.diff(starts, append=count)
    within = starts - tuples.starts[tuples.of[starts]]
    first = np.repeat(starts + np.maximum(_HEAD - within, _AGAIN), counts)
    last = np.repeat(starts + counts - _TAIL, counts)
    found: Bools = unchanging & (place >= first) & (place < last) & (last - first >= _LEAST)
    return found


def _is_acked(tuples: Tuples, places: Int64s, begins: Int64s, run_of: Int64s) -> Bools:
    """Which data of the middles are acknowledged before their run ends."""
    after = places[np.append(begins[1:], len(places)) - 1]
    out, end = tuples.out[places], tuples.end[places]
    forth, back = (tuples.highest_ack(of_first=way)[after][run_of] for way in (True, False))
    acked: Bools = np.less_equal(end, np.where(out, forth, back))
    acked &= tuples.segments.payload[places] > 0
    return acked


def _kept_of(tuples: Tuples, places: Int64s, begins: Int64s, acked: Bools) -> Bools:
    """Which of the segments in the middles are kept all the same."""
    segments, out = tuples.segments, tuples.out[places]
    data, fresh = segments.payload[places] > 0, tuples.ahead[places] == 0
    index = np.arange(len(places))
    counts = np.diff(begins, append=len(index))
    kept: Bools = data & fresh & ~acked
    pause = np.diff(segments.t_ns, prepend=segments.t_ns[:1]) >= PAUSE_NS
    starts = np.sort(np.concatenate([tuples.starts, np.flatnonzero(pause)]))
    opening = np.zeros(len(places), np.bool_)
    for way in (True, False):
        mine = out == way
        last_ack = _last(~mine & fresh, index, begins)
        settled = mine & fresh & acked
        # What its peer acknowledges last is there before, so that the window has moved on.
        before = _last(settled & (index < np.repeat(last_ack, counts)), index, begins)
        for places_of in (last_ack, before, _last(settled, index, begins)):
            kept[places_of[places_of >= 0]] = True
        for with_data in (True, False):
            firsts = tuples.firsts(starts, way=way, data=with_data)
            at = np.minimum(np.searchsorted(places, firsts), len(places) - 1)
            opening[at[places[at] == firsts]] = True
    # In Zeek's history, and in that after a pause, the first of a kind has its place among these.
    counted = (data & ~fresh) | (segments.window[places] == 0)
    counted &= index < np.repeat(_last(opening, index, begins), counts)
    total = np.cumsum(counted)
    kept |= opening | (counted & (total - np.repeat(total[begins], counts) < LONG))
    for mine in (out, ~out):
        which = np.flatnonzero(mine & data & fresh)
        grown = tuples.end[places[which]] // _LARGEST
        kept[which[:-1][grown[1:] != grown[:-1]]] = True
    kept |= segments.payload[places] > _LARGEST
    kept |= pause[places] | np.append(pause[1:], False)[places]
    return kept


def _last(chosen: Bools, index: Int64s, begins: Int64s) -> Int64s:
    """The last of those chosen in each run; -1 where there is none."""
    last: Int64s = np.maximum.reduceat(np.where(chosen, index, -1), begins)
    return last


def _without(
    tuples: Tuples, kept: Bools, middle: Bools, settled: Bools, told: Brief | None = None
) -> Thinned:
    segments, out, starts = tuples.segments, tuples.out, tuples.starts
    dropped = ~kept
    again = (tuples.ahead < 0) & (tuples.ahead + tuples.length <= 0) & (segments.payload > 0)
    zero = segments.window == 0
    payload = segments.payload.astype(np.int64)
    lost = np.flatnonzero(dropped)
    column = tuples.of[lost] * 2 + ~out[lost]

    def by_way(which: Bools, values: Int64s | None = None) -> Int64s:
        """How many of what is dropped, or what they come to: less than 2**53, which is exact."""
        weights = None if values is None else values[which]
        counts = np.bincount(column[which], weights, 2 * len(starts))
        return counts.astype(np.int64).reshape(-1, 2)

    left = segments.at(kept)
    flags = left.flags.copy()
    behind = np.flatnonzero(kept)
    flags[1:][np.diff(behind) > 1] |= THINNED
    less = Tuples(
        replace(left, flags=flags), np.cumsum(np.append(0, per_group(kept * 1, starts)))[:-1]
    )
    # Data that are not kept are as if they came with what is kept, and nobody acknowledges more.
    ahead = tuples.ahead[kept]
    far, far_ack = less.beyond((ahead + less.length > 0) | (ahead > 0))
    back = np.where((ahead <= 0) & (far > ahead), far - ahead, 0)
    less_ack = np.where((tuples.ack_ahead[kept] <= 0) & (far_ack > 0), far_ack, 0)
    longer = np.where((left.payload > 0) & (ahead == 0), back, 0)
    flags[settled[kept]] &= ~CUT & 0xFFFF  # what it lacks is told
    joined = Segments(
        left.t_ns,
        left.source,
        left.target,
        (left.seq - back).astype(np.uint32),
        (left.ack - less_ack).astype(np.uint32),
        flags,
        left.window,
        left.shift,
        (left.payload + longer).astype(np.uint32),
    )
    filled = np.bincount(tuples.of[behind] * 2 + ~out[behind], longer, 2 * len(starts))
    every, repeated = np.ones(len(lost), np.bool_), again[lost]
    return Thinned(
        Tuples(joined, less.starts),
        by_way(every) + (0 if told is None else told.segments),
        by_way(~repeated, payload[lost]) - filled.astype(np.int64).reshape(-1, 2),
        by_way(repeated),
        by_way(zero[lost]),
        _retold(tuples, dropped, middle, again, zero, told),
    )


def _retold(
    tuples: Tuples,
    dropped: Bools,
    middle: Bools,
    again: Bools,
    zero: Bools,
    before: Brief | None,
) -> dict[int, Int64s]:
    """What Zeek counts of the segments that are not kept: their kinds, in order, by tuple.

    And of what those in the middles acknowledge that the capture lacks.
    """
    out = tuples.out
    some = dropped & (zero | again)
    gaps: list[Int64s] = []
    if (tuples.flags & CUT).any():
        gaps = [tuples.gaps_acknowledged(of_first=way) * middle for way in (True, False)]
        if before is not None:
            gaps = [
                gap + before.gaps * (out ^ way)
                for gap, way in zip(gaps, (True, False), strict=True)
            ]
        some |= (gaps[0] | gaps[1]) != 0
    rows = np.flatnonzero(some)
    told = np.zeros((len(rows), 6), np.int64)
    lost, forth = dropped[rows], out[rows]
    for place, way in ((0, forth), (3, ~forth)):
        told[:, place] = lost & zero[rows] & way
        told[:, place + 1] = lost & again[rows] & way
    for place, gap in zip((2, 5), gaps, strict=False):
        told[:, place] = gap[rows]
    which, kind = np.nonzero(told)
    times = told[which, kind]
    kinds = np.repeat(kind, times)
    of = np.repeat(tuples.of[rows[which]], times)
    bounds = np.flatnonzero(np.diff(of, prepend=-1))
    if not len(bounds):
        return {}
    parts = np.split(kinds, bounds[1:])
    return {int(of[begin]): part for begin, part in zip(bounds.tolist(), parts, strict=True)}
