"""From tuples to rows: what the machine says of each shape, for all connections that have it.

Owns: the memory of shapes, which is bounded, and what of a row is its shape's and what its own.
Must not know how the segments came together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from tcpwatch.machine.rows import Course, Pair, is_zero_window, missing
from tcpwatch.machine.shapes import (
    NOTHING,
    SILENT_NS,
    Beside,
    LeftOut,
    Life,
    Seen,
    lives_of,
    may_begin_again,
    segment_of,
)
from tcpwatch.machine.zeek import SESSION_NS
from tcpwatch.model.identity import ConnectionId, FourTuple
from tcpwatch.sources.capture.batch import Batch, Times
from tcpwatch.sources.capture.columns import FIN, RST, SYN, Bools, Ends
from tcpwatch.sources.capture.frames import Int64s
from tcpwatch.sources.capture.shaping import Tuples, per_group
from tcpwatch.sources.capture.stretches import THINNED
from tcpwatch.sources.capture.thinning import Retold

NUMBER, GENERATION, SEGMENTS, OCTETS, REPEATED, MISSING, ZERO = 0, 1, 2, 4, 6, 8, 10
RECORD: Final = 12
"""What is known of a tuple beside its segments, a column each; from `SEGMENTS` on two, a way each.

The counts are those of segments that are not kept.
"""

_MOST_SHAPES: Final = 50_000
_TIMER_NS: Final = 5_000_000_000  # no timer of Zeek's is shorter


@dataclass(frozen=True, slots=True, eq=False)
class _Facts:
    """One life, and what else its shape settles. ``counts`` None: that is for its numbers to say.

    The counts are as in a record.
    """

    life: Life
    repeated: Pair
    counts: tuple[int, ...] | None


_Shape = tuple[_Facts, ...]
Key = int | bytes | tuple[object, Beside]
Besides = Mapping[int, Beside]


@dataclass(eq=False)
class Told:
    """What is known of connections beside their segments, by their numbers (`Beside`)."""

    retold: dict[int, Retold] = field(default_factory=dict)
    called: dict[int, tuple[tuple[Seen, int], ...]] = field(default_factory=dict)
    ceded: dict[int, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.retold or self.called or self.ceded)

    def forget(self, numbers: list[int]) -> None:
        """Those are given."""
        for number in numbers:
            self.retold.pop(number, None)
            self.called.pop(number, None)
            self.ceded.pop(number, None)

    def beside(self, tuples: Tuples, records: Int64s) -> dict[int, Beside]:
        """The same of each of these tuples of which anything is told."""
        firsts, of = tuples.starts, records[:, NUMBER]
        carries = (tuples.segments.payload[firsts] > 0) | ((tuples.flags[firsts] & RST) != 0)
        reused = (records[:, GENERATION] > 0) & ((tuples.flags[firsts] & SYN) != 0) & carries
        some = reused.copy()
        for known in (self.retold, self.called, self.ceded):
            some |= np.isin(of, list(known)) if known else False
        found = {}
        for index in np.flatnonzero(some).tolist():
            number = int(of[index])
            one = Beside(
                self._left_out(tuples, index, number),
                bool(reused[index]) or number in self.called,
                self.called.get(number, ()),
                self.ceded.get(number),
            )
            if one != NOTHING:
                found[index] = one
        return found

    def _left_out(self, tuples: Tuples, index: int, number: int) -> LeftOut | None:
        if number not in self.retold:
            return None
        begin = int(tuples.starts[index])
        rows = slice(begin, begin + int(tuples.counts[index]))
        behind = np.flatnonzero(tuples.flags[rows] & THINNED)
        counted = self.retold[number].counted()
        return LeftOut(int(behind[-1]), counted) if len(behind) and counted else None


class Courses:
    """Asks the machine, and remembers. ``asked`` counts how often it had to."""

    def __init__(self) -> None:
        self._shapes: dict[Key, _Shape] = {}
        self._again: dict[tuple[Key, bool, int], bool] = {}
        self._courses: dict[tuple[Course, object], Course] = {}
        self.asked = 0

    # ------------------------------------------------------------------ shapes

    def _keys(self, tuples: Tuples, beside: Besides) -> list[Key]:
        keys: list[Key] = list(tuples.hashes.tolist())
        odd = np.flatnonzero(~tuples.regular)
        if len(odd):
            numbers = tuples.numbers
            begins, counts = tuples.starts[odd].tolist(), tuples.counts[odd].tolist()
            between = tuples.between[odd].tolist()
            for index, begin, count, kind in zip(
                odd.tolist(), begins, counts, between, strict=True
            ):
                keys[index] = bytes([kind]) + numbers[begin : begin + count].tobytes()
        for index, one in beside.items():
            keys[index] = (keys[index], one)
        return keys

    def _shape(self, key: Key, tuples: Tuples, index: int, beside: Beside) -> _Shape:
        shape = self._shapes.get(key)
        if shape is None:
            self.asked += 1
            if len(self._shapes) >= _MOST_SHAPES:
                self._shapes.clear()
            seen, between = tuples.seen(index)
            lives = lives_of(seen, between, beside)
            own = len(lives) != 1 or not tuples.regular[index]
            shape = self._shapes[key] = tuple(_facts(life, seen, own=own) for life in lives)
        return shape

    def may_begin_again(self, tuples: Tuples, ways: Bools, numbers: Int64s) -> Bools:
        """Of each tuple: whether a SYN that goes that way would begin another connection.

        ``numbers`` are those of the SYNs.
        """
        found = np.zeros(len(tuples.starts), np.bool_)
        keys, at = self._keys(tuples, {}), tuples.starts.tolist()
        for index, (key, out, seq) in enumerate(
            zip(keys, ways.tolist(), numbers.tolist(), strict=True)
        ):
            rows = slice(at[index], at[index] + int(tuples.counts[index]))
            asked = (tuples.flags[rows] & SYN != 0) & (tuples.out[rows] == out)
            same = np.flatnonzero(asked & (tuples.segments.seq[rows] == seq))
            # Beside the shape it matters only which earlier SYN this one repeats, if any.
            question = key, out, int(same[0]) if len(same) else -1
            known = self._again.get(question)
            if known is None:
                self.asked += 1
                if len(self._again) >= _MOST_SHAPES:
                    self._again.clear()
                seen, between = tuples.seen(index)
                known = self._again[question] = may_begin_again(seen, between, out=out, seq=seq)
            found[index] = known
        return found

    # ------------------------------------------------------------------ rows

    def rows(
        self,
        tuples: Tuples,
        records: Int64s,
        told: Told,
        ends: Ends,
        aged: Bools,
        begun_ns: int,
        end_ns: int,
    ) -> Batch:
        """A row for each connection. ``aged``: which tuples are given up while they are open."""
        beside = told.beside(tuples, records)
        keys = self._keys(tuples, beside)
        which = dict.fromkeys(keys)
        places = {key: place for place, key in enumerate(which)}
        of = np.array([places[key] for key in keys], np.int64)
        order = np.argsort(of, kind="stable")
        parts = np.split(order, np.flatnonzero(np.diff(of[order])) + 1)
        maker = _Maker(tuples, records, self, begun_ns, end_ns)
        maker.slow[[index for index, one in beside.items() if one.called]] = True
        for key, part in zip(which, parts, strict=True):
            index = int(part[0])
            shape = self._shape(key, tuples, index, beside.get(index, NOTHING))
            for count, facts in enumerate(shape):
                maker.add(part, facts, count)
        return maker.batch(aged, ends)

    def timed(self, course: Course, life: Life, times_ns: list[int]) -> Course:
        """The course of a connection that Zeek's timers may have a say in."""
        timed = life.timed(course, times_ns)
        return self._courses.setdefault((course, timed.zeek), timed)


def _facts(life: Life, seen: list[Seen], *, own: bool) -> _Facts:
    repeated = _by_way((seen[place].out, 1) for place in life.repeated)
    if not own:
        return _Facts(life, repeated, None)
    mine = [seen[place] for place in life.places]
    again = set(life.repeated)
    counts = (
        *_by_way((one.out, 1) for one in mine),
        *_by_way((seen[at].out, seen[at].payload) for at in life.places if at not in again),
        *repeated,
        *missing([(0 if one.out else 1, segment_of(one)) for one in mine]),
        *_by_way((one.out, int(is_zero_window(segment_of(one)))) for one in mine),
    )
    return _Facts(life, repeated, counts)


def _by_way(counted: Iterator[tuple[bool, int]]) -> Pair:
    sums = [0, 0]
    for out, count in counted:
        sums[not out] += count
    return sums[0], sums[1]


class _Maker:
    """Puts rows together, those of one shape at a time."""

    def __init__(
        self, tuples: Tuples, records: Int64s, courses: Courses, begun_ns: int, end_ns: int
    ) -> None:
        self._tuples = tuples
        self._records = records
        self._shared = courses
        self._begun_ns, self._end_ns = begun_ns, end_ns
        self._t_ns = tuples.segments.t_ns
        self.slow = _may_meet_timers(tuples)
        self._sums = _sums(tuples)
        self._courses: dict[Course, int] = {}
        self._lives: list[Life] = []
        self._parts: list[tuple[Int64s, ...]] = []

    def add(self, part: Int64s, facts: _Facts, nth: int) -> None:
        """Those tuples have that life as their ``nth``."""
        life = facts.life
        begins = self._tuples.starts[part]
        counts = np.empty((len(part), RECORD - SEGMENTS), np.int64)
        if facts.counts is None:
            counts[:] = self._sums[part]
            counts[:, REPEATED - SEGMENTS : MISSING - SEGMENTS] = facts.repeated
            self._take_repeated(counts, begins, life)
        else:
            counts[:] = facts.counts
        counts += self._records[part, SEGMENTS:]
        if not life.forward:
            counts = counts[:, [1, 0, 3, 2, 5, 4, 7, 6, 9, 8]]
        self._lives.append(life)
        self._parts.append(
            (
                part,
                self._course(part, begins, life),
                self._records[part, NUMBER],
                self._records[part, GENERATION] + nth,
                self._t_ns[begins + life.places[0]] - self._begun_ns,
                self._t_ns[begins + life.places[-1]] - self._begun_ns,
                counts,
                np.full(len(part), len(self._lives) - 1, np.int64),
            )
        )

    def _take_repeated(self, counts: Int64s, begins: Int64s, life: Life) -> None:
        """Retransmissions do not count among the octets."""
        segments, out = self._tuples.segments, self._tuples.out
        for place in life.repeated:
            rows = begins + place
            counts[:, OCTETS - SEGMENTS] -= np.where(out[rows], segments.payload[rows], 0)
            counts[:, OCTETS - SEGMENTS + 1] -= np.where(out[rows], 0, segments.payload[rows])

    def _course(self, part: Int64s, begins: Int64s, life: Life) -> Int64s:
        kind = np.zeros(len(part), np.int64)
        for end, at in enumerate(life.silent_at):
            if at is not None:
                silent = self._end_ns - self._t_ns[begins + at] >= SILENT_NS
                kind += silent * (1 << end)
        if life.crossing is not None:
            sent, arrived = (self._t_ns[begins + at] for at in life.crossing)
            kind += (sent >= arrived) * 4
        found = np.empty(len(part), np.int64)
        for one in np.flatnonzero(np.bincount(kind)).tolist():
            silent_ends = tuple(bool(one >> end & 1) for end in range(len(life.silent_at)))
            course = life.course(silent_ends, crossed=not one & 4)
            rows = np.flatnonzero(kind == one)
            found[rows] = self._place(course)
            for row in rows[self.slow[part[rows]]].tolist():
                begin = int(begins[row])
                times = _without_pauses(self._tuples, begin, int(self._tuples.counts[part[row]]))
                found[row] = self._place(self._shared.timed(course, life, times.tolist()))
        return found

    def _place(self, course: Course) -> int:
        return self._courses.setdefault(course, len(self._courses))

    def batch(self, aged: Bools, ends: Ends) -> Batch:
        """The rows, in the order of their numbers."""
        joined = [np.concatenate(column) for column in zip(*self._parts, strict=True)]
        order = np.lexsort((joined[3], joined[2]))
        part, of, number, generation, start, last, counts, life = (one[order] for one in joined)
        sent, octets, repeated, lacking, zero = (
            counts[:, at : at + 2] for at in range(0, RECORD - SEGMENTS, 2)
        )
        source, target = (
            one[self._tuples.starts]
            for one in (self._tuples.segments.source, self._tuples.segments.target)
        )
        starts, t_ns, lives, begun_ns = self._tuples.starts, self._t_ns, self._lives, self._begun_ns
        ends = ends.lasting()

        def connection_id(row: int) -> ConnectionId:
            forth = FourTuple(
                ends.address(int(source[part[row]])), ends.address(int(target[part[row]]))
            )
            forward = lives[life[row]].forward
            return ConnectionId(forth if forward else forth.flipped, int(generation[row]))

        def times_ns(row: int) -> Times:
            begin = int(starts[part[row]])
            moved_at = lives[life[row]].moved_at
            return tuple(tuple(int(t_ns[begin + at]) - begun_ns for at in one) for one in moved_at)

        return Batch(
            list(self._courses),
            of,
            number,
            start,
            last,
            sent,
            octets,
            repeated,
            lacking,
            zero,
            aged[part],
            connection_id,
            times_ns,
        )


def _sums(tuples: Tuples) -> Int64s:
    """The counts of each tuple, as in a record; of what a machine must tell, none."""
    segments, starts, out = tuples.segments, tuples.starts, tuples.out
    payload = segments.payload.astype(np.int64)
    zero = ((segments.window == 0) & ((tuples.flags & RST) == 0)) * 1
    sums = np.zeros((len(starts), RECORD - SEGMENTS), np.int64)
    for column, values in ((0, out * 1), (OCTETS - SEGMENTS, payload), (ZERO - SEGMENTS, zero)):
        forth = per_group(np.where(out, values, 0), starts)
        both = tuples.counts if column == 0 else per_group(values, starts)
        sums[:, column], sums[:, column + 1] = forth, both - forth
    return sums


def _may_meet_timers(tuples: Tuples) -> Bools:
    """Which tuples last so long, and in such a way, that a timer of Zeek's may have gone off."""
    starts, counts, t_ns = tuples.starts, tuples.counts, tuples.segments.t_ns
    first, last = t_ns[starts], t_ns[starts + counts - 1]
    slow: Bools = last - first >= _TIMER_NS
    if not slow.any():
        return slow
    gaps = np.diff(t_ns, prepend=t_ns[:1])
    gaps[starts] = 0
    gaps[(tuples.flags & THINNED) != 0] = 0  # any pause is kept that is long enough to matter there
    flags, count = tuples.flags, len(t_ns)
    closing = np.where((flags & (FIN | RST)) != 0, np.arange(count), count)
    closed = np.append(t_ns, last.max())[np.minimum.reduceat(closing, starts)]
    speaks = ~tuples.out & (((flags & (SYN | RST)) != 0) | (tuples.segments.payload > 0))
    answer = np.minimum.reduceat(np.where(speaks, np.arange(count), count), starts)
    answered = np.append(t_ns, last.max() + _TIMER_NS)[answer]
    called = np.bitwise_or.reduceat(flags & SYN, starts) != 0
    late = np.maximum.reduceat(gaps, starts) >= _TIMER_NS
    late |= last - closed >= _TIMER_NS
    late |= called & (answered - first >= _TIMER_NS)
    return slow & late


def _without_pauses(tuples: Tuples, begin: int, count: int) -> Int64s:
    """When each segment of a tuple came, without the time of those that are not kept.

    It is taken out in whole rounds of the timer that looks for connections which are over.
    """
    rows = slice(begin, begin + count)
    times = tuples.segments.t_ns[rows]
    gaps = np.diff(times, prepend=times[:1])
    thin = (tuples.flags[rows] & THINNED) != 0
    spent = np.cumsum(np.where(thin, gaps // SESSION_NS * SESSION_NS, 0))
    left: Int64s = times - spent
    return left
