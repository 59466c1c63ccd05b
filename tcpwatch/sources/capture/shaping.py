"""Which connections are of one shape: so that the machine is asked once for all of them.

Owns: what two connections may differ in without the machine's taking one for another. A *regular*
one is told by the order of its numbers: all of them are places where some segment began or ended,
no window is anywhere near, and no two lengths differ that the machine compares with anything. Any
other one is told by its numbers themselves, counted from its first. Must not know the machine.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tcpwatch.machine.shapes import Between, Seen
from tcpwatch.sources.capture.columns import ACK, CONTROL, CUT, FIN, HERE, LOCAL, RST, SYN, Segments
from tcpwatch.sources.capture.frames import Int64s

Bools = NDArray[np.bool_]
UInt64s = NDArray[np.uint64]

_APART: Final = 1 << 42  # so far apart lie the numbers of two tuples, where all are in one column
_FARTHEST: Final = 1 << 40
_LEAST_MSS: Final = 536  # what the machine compares an amount in flight with
_SMALL_SUM: Final = 530  # less than that, with the octets of SYN and FIN
_UNKNOWN_WINDOW: Final = 65_535
_NEAR: Final = 1 << 20  # octets: farther off, Zeek does not believe a SYN or RST
_MOST_LAG: Final = (1 << 13) - 1
_RANDOM: Final = [np.uint64(int.from_bytes(os.urandom(8)) | 1) for _ in range(4)]
_S29, _S32 = np.uint64(29), np.uint64(32)


def per_group(values: Int64s, starts: Int64s) -> Int64s:
    """The sum of each group."""
    sums: Int64s = np.add.reduceat(values, starts)
    return sums


def _first(chosen: Bools, starts: Int64s) -> Int64s:
    """The first of those chosen from each place on; their end where there is none."""
    rows = np.append(np.flatnonzero(chosen), len(chosen))
    found: Int64s = rows[np.searchsorted(rows, starts)]
    return found


def ranges(begins: Int64s, counts: Int64s) -> Int64s:
    """The numbers from each beginning on, so many of each, one behind the other."""
    total = int(counts.sum())
    within = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    found: Int64s = np.repeat(begins, counts) + within
    return found


@dataclass(eq=False)
class Tuples:
    """The segments of some tuples, those of one beside each other in their order.

    ``starts`` is where each begins. A number of a segment lies in one of two spaces: the octets of
    the end that sent the tuple's first segment, and those of its peer. There it is counted from the
    first number that is known.
    """

    segments: Segments
    starts: Int64s

    # ------------------------------------------------------------------ what is where

    @cached_property
    def counts(self) -> Int64s:
        """How many segments each tuple has."""
        return np.diff(self.starts, append=len(self.segments)).astype(np.int64)

    @cached_property
    def of(self) -> Int64s:
        """Which tuple each segment is of."""
        return np.repeat(np.arange(len(self.starts)), self.counts)

    @cached_property
    def out(self) -> Bools:
        """Whether a segment goes the way of its tuple's first."""
        source = self.segments.source
        found: Bools = np.equal(source, np.repeat(source[self.starts], self.counts))
        return found

    @cached_property
    def flags(self) -> Int64s:
        return self.segments.flags.astype(np.int64)

    @cached_property
    def acks(self) -> Bools:
        found: Bools = np.not_equal(self.flags & ACK, 0)
        return found

    @cached_property
    def _spaces(self) -> tuple[tuple[Int64s, NDArray[np.uint32]], ...]:
        """In either space: each segment's number there, and what the first number is."""
        segments, out = self.segments, self.out
        return (
            self._numbers(np.where(out, segments.seq, segments.ack), out | self.acks),
            self._numbers(np.where(out, segments.ack, segments.seq), ~out | self.acks),
        )

    def _numbers(
        self, values: NDArray[np.uint32], known: Bools
    ) -> tuple[Int64s, NDArray[np.uint32]]:
        """Numbers counted on from the first, across wraps; those not ``known`` are as before."""
        starts, count = self.starts, len(values)
        before = np.arange(count)
        if not known.all():
            before = np.maximum.accumulate(np.where(known, before, -1))
            first = np.repeat(starts, self.counts)
            lone = before < first
            if lone.any():  # the first known one counts for those before it
                later = np.minimum.accumulate(np.where(known, np.arange(count), count)[::-1])[::-1]
                last = first + np.repeat(self.counts, self.counts)
                before = np.where(lone, np.where(later < last, later, first), before)
            values = values[before]
        steps = np.empty(count, np.int64)
        steps[1:] = (values[1:] - values[:-1]).view(np.int32)
        steps[starts] = 0
        numbers = np.cumsum(steps)
        numbers -= np.repeat(numbers[starts], self.counts)
        if numbers.min() < -_FARTHEST or numbers.max() > _FARTHEST:
            np.clip(numbers, -_FARTHEST, _FARTHEST, out=numbers)
        return numbers, values[starts]

    @cached_property
    def own(self) -> Int64s:
        """Where each segment begins, in its sender's space."""
        return np.where(self.out, self._spaces[0][0], self._spaces[1][0])

    @cached_property
    def other(self) -> Int64s:
        """What each acknowledges, in its receiver's space."""
        return np.where(self.out, self._spaces[1][0], self._spaces[0][0])

    @cached_property
    def length(self) -> Int64s:
        """The sequence space that each occupies."""
        space: Int64s = ((self.flags & SYN) >> 1) + (self.flags & FIN)
        return space + self.segments.payload.astype(np.int64)

    @cached_property
    def end(self) -> Int64s:
        """Where each ends."""
        return self.own + self.length

    @cached_property
    def _apart(self) -> Int64s:
        return self.of * _APART

    def _highest(self, values: Int64s, of_those: Bools, least: int) -> Int64s:
        """The highest value of those up to and with each segment; ``least`` where there is none."""
        apart = self._apart
        levels = np.where(of_those, values, least)
        levels += apart
        np.maximum.accumulate(levels, out=levels)
        return np.subtract(levels, apart, out=levels)

    def _before(self, levels: Int64s, least: int) -> Int64s:
        """The same, without the segment itself."""
        shifted = np.empty_like(levels)
        shifted[1:] = levels[:-1]
        shifted[self.starts] = least
        return shifted

    @cached_property
    def tops(self) -> tuple[Int64s, Int64s]:
        """How far each end had sent, with each segment."""
        return self._highest(self.end, self.out, 0), self._highest(self.end, ~self.out, 0)

    @cached_property
    def _both_ahead(self) -> tuple[Int64s, Int64s]:
        return self._beyond(self.tops)

    @property
    def ahead(self) -> Int64s:
        """How far each segment begins beyond all that its sender had sent."""
        return self._both_ahead[0]

    @property
    def ack_ahead(self) -> Int64s:
        """How far each acknowledges beyond all that its receiver had sent."""
        return self._both_ahead[1]

    def _beyond(self, tops: tuple[Int64s, Int64s]) -> tuple[Int64s, Int64s]:
        mine, theirs = (self._before(top, 0) for top in tops)
        ahead = self.own - np.where(self.out, mine, theirs)
        ack_ahead = self.other - np.where(self.out, theirs, mine)
        return ahead, np.where(self.acks, ack_ahead, 0)

    @cached_property
    def behind_holes(self) -> Bools:
        """Whether nothing is missing so far, of what its sender sent, from each segment on."""
        holes = self.ahead > 0
        if not holes.any():
            return np.ones(len(holes), np.bool_)
        forth, back = (self._highest(self.own, holes & way, 0) for way in (self.out, ~self.out))
        found: Bools = self.own >= np.where(self.out, forth, back)
        return found

    def beyond(self, counting: Bools) -> tuple[Int64s, Int64s]:
        """`ahead` and `ack_ahead`, where only some segments count for what was sent."""
        return self._beyond(
            (
                self._highest(self.end, self.out & counting, 0),
                self._highest(self.end, ~self.out & counting, 0),
            )
        )

    def highest_ack(self, *, of_first: bool) -> Int64s:
        """How much of one end's data its peer has acknowledged, with each segment."""
        return self._acked[0 if of_first else 1]

    @cached_property
    def _acked(self) -> tuple[Int64s, Int64s]:
        forth, back = self.acks & ~self.out, self.acks & self.out
        return self._highest(self.other, forth, 0), self._highest(self.other, back, 0)

    def gaps_acknowledged(self, *, of_first: bool) -> Int64s:
        """How many pieces of an end's data each segment acknowledges first that the capture lacks.

        Those are the segments that it cut, where these stand beside each other as one.
        """
        acked = self.highest_ack(of_first=of_first)
        before = self._before(acked, 0)
        acks = np.flatnonzero((acked > before) & self.acks & (self.out != of_first))
        data = np.flatnonzero(
            (self.out == of_first) & (self.segments.payload > 0) & (self.ahead == 0)
        )
        gaps = np.zeros(len(acked), np.int64)
        if not len(acks) or not len(data):
            return gaps
        begin = self.own[data] + self.of[data] * _APART
        cut = (self.flags[data] & CUT) != 0
        opens = cut & ~np.append(False, cut[:-1] & (self.of[data][1:] == self.of[data][:-1]))
        apart = self.of[acks] * _APART
        low, high = before[acks] + apart, acked[acks] + apart
        places = begin[opens]
        count = np.searchsorted(places, high) - np.searchsorted(places, low)
        at = np.maximum(np.searchsorted(begin, low, side="right") - 1, 0)
        ends = self.end[data][at] + self.of[data][at] * _APART
        inside = cut[at] & (begin[at] <= low) & (low < ends) & ~(opens[at] & (begin[at] == low))
        gaps[acks] = count + inside
        return gaps

    def until_first(self, chosen: Bools) -> Bools:
        """Which segments come before their tuple's first of those."""
        if not chosen.any():
            return np.ones(len(chosen), np.bool_)
        found: Bools = np.arange(len(chosen)) < np.repeat(_first(chosen, self.starts), self.counts)
        return found

    def firsts(self, starts: Int64s, *, way: bool, data: bool) -> Int64s:
        """An end's first segment with data, or without, from each of those places on.

        Where it has none, it is a later tuple's, or the end of all.
        """
        of_kind = (self.out == way) & ((self.segments.payload > 0) == data)
        of_kind &= (self.flags & (SYN | FIN | RST)) == 0
        return _first(of_kind, starts)

    # ------------------------------------------------------------------ windows

    @cached_property
    def scales(self) -> Int64s | None:
        """What windows are shifted by, of the first's peer and of the first; 0 where not sure.

        None: all of them are as they stand there.
        """
        syns = np.flatnonzero(self.segments.flags & SYN)
        if not (self.segments.shift[syns] > 0).any():
            return None
        of, way, shift = self.of[syns], self.out[syns] * 1, self.segments.shift[syns]
        least, most = (np.full((2, len(self.starts)), number, np.int64) for number in (99, -1))
        np.minimum.at(least, (way, of), shift)
        np.maximum.at(most, (way, of), shift)
        offers = np.where(least == most, most, -1)
        scales: Int64s = np.where((offers >= 0).all(axis=0), offers, 0)
        return scales

    @cached_property
    def windows(self) -> Int64s:
        """Each segment's window in octets; at least that much, where the scale is not sure."""
        windows = self.segments.window.astype(np.int64)
        if self.scales is None:
            return windows
        scaled = np.where(self.out, *(np.repeat(one, self.counts) for one in self.scales[::-1]))
        scaled[np.flatnonzero(self.flags & SYN)] = 0
        return np.left_shift(windows, scaled, out=windows)

    @cached_property
    def within(self) -> Bools:
        """Whether each segment begins before its receiver's window ends, as the machine asks."""
        edges = self.other + self.windows
        mine = self._highest(edges, ~self.out & self.acks, _UNKNOWN_WINDOW)
        theirs = self._highest(edges, self.out & self.acks, _UNKNOWN_WINDOW)
        edge = np.where(
            self.out, self._before(mine, _UNKNOWN_WINDOW), self._before(theirs, _UNKNOWN_WINDOW)
        )
        found: Bools = self.own < edge
        return found

    # ------------------------------------------------------------------ shapes

    @cached_property
    def _bounds(self) -> tuple[tuple[Int64s, Int64s, Int64s], ...]:
        """In either space: the places where a segment ended, how many by each, and before each."""
        found: list[tuple[Int64s, Int64s, Int64s]] = []
        apart = self.of * _APART
        for top in self.tops:
            grown = top > self._before(top, 0)
            places = (top + apart)[grown]
            number: Int64s = np.cumsum(grown, dtype=np.int64)
            found.append((places, number, number - grown))
        return tuple(found)

    def _lag(self, rows: Int64s, numbers: Int64s, space: Int64s) -> tuple[Int64s, Bools]:
        """How many ends of segments each number lies behind the last before the row.

        And whether it is one of them.
        """
        lag, met = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.bool_)
        for which, (places, _, before) in enumerate(self._bounds):
            chosen = np.flatnonzero(space == which)
            if not len(chosen):
                continue
            row, number = rows[chosen], numbers[chosen]
            sought = number + self.of[row] * _APART
            at = np.searchsorted(places, sought)
            exact = np.zeros(len(chosen), np.bool_)
            inside = at < len(places)
            exact[inside] = places[at[inside]] == sought[inside]
            zero = number == 0
            lag[chosen] = before[row] - at - (number != 0)
            met[chosen] = exact | zero
        return lag, met

    @cached_property
    def tokens(self) -> tuple[UInt64s, Bools]:
        """What a regular one's segment is, and whether a segment is as in a regular one."""
        flags, ahead, ack_ahead, payload = (
            self.flags,
            self.ahead,
            self.ack_ahead,
            self.segments.payload,
        )
        control = flags & CONTROL
        fits = (ahead <= 0) & (ack_ahead <= 0) & self.within & (payload < 1 << 30)
        fits &= (self.windows >= _LEAST_MSS) | ((flags & RST) != 0)
        fits &= ~(self.acks & (self.segments.ack == 0))
        far = (flags & (SYN | RST)) != 0
        fits &= ~far | (np.abs(ahead + self.length) <= _NEAR)
        lags = np.zeros((3, len(payload)), np.int64)
        again = np.flatnonzero((ahead < 0) & fits)
        if len(again):
            space = np.where(self.out[again], 0, 1)
            old = (ahead + self.length)[again] <= 0
            begin, begin_met = self._lag(again, self.own[again], space)
            end, end_met = self._lag(again, self.end[again], space)
            fits[again] &= old & begin_met & end_met
            lags[0, again], lags[1, again] = begin + 1, end + 1
        late = np.flatnonzero((ack_ahead < 0) & fits)
        if len(late):
            lag, met = self._lag(late, self.other[late], np.where(self.out[late], 1, 0))
            fits[late] &= met
            lags[2, late] = lag + 1
        fits &= (lags <= _MOST_LAG).all(axis=0)
        kind = self._length_kinds(payload.astype(np.int64), ahead)
        token = control | self.out << 10 | kind << 12 | (payload > 0) << 22
        for place, lag in enumerate(lags):
            token = token ^ (lag << (23 + 13 * place))
        return token.astype(np.uint64), fits

    def _length_kinds(self, payload: Int64s, ahead: Int64s) -> Int64s:
        """A length as far as it matters: below 3 exactly, else whether it is small.

        Where small ones may come to more than the least MSS together, these exactly too.
        """
        small = (payload < _LEAST_MSS) & (ahead == 0)
        kind = np.where(payload < 3, payload, np.where(small, 3, 4))
        some = np.where(small, payload, 0)
        for way in (self.out, ~self.out):
            many = per_group(np.where(way, some, 0), self.starts) > _SMALL_SUM
            if many.any():
                exactly = np.repeat(many, self.counts) & way & small
                kind = np.where(exactly, 8 + payload, kind)
        return np.where(ahead < 0, 0, kind)

    @cached_property
    def regular(self) -> Bools:
        """Which tuples are."""
        found: Bools = np.logical_and.reduceat(self.tokens[1], self.starts)
        return found

    @cached_property
    def between(self) -> Int64s:
        """Of each tuple: 1 where both ends have one address, 2 where they are one."""
        source, target = (
            ends[self.starts] for ends in (self.segments.source, self.segments.target)
        )
        local = (self.segments.flags[self.starts] & LOCAL) != 0
        kind: Int64s = local * 1 + (source == target) * 2
        return kind

    @cached_property
    def hashes(self) -> UInt64s:
        """The same for two regular tuples where their shape is the same."""
        place = np.arange(len(self.segments)) - np.repeat(self.starts, self.counts)
        mixed = (self.tokens[0] + _RANDOM[0]) * _RANDOM[1]
        mixed ^= mixed >> _S32
        mixed += place.astype(np.uint64) * _RANDOM[2]
        mixed *= _RANDOM[3]
        mixed ^= mixed >> _S29
        mixed *= _RANDOM[1]
        mixed ^= mixed >> _S32
        sums = np.add.reduceat(mixed, self.starts)
        beside = (self.counts * 4 + self.between).astype(np.uint64)
        sums ^= beside * _RANDOM[0]
        return sums

    @cached_property
    def numbers(self) -> NDArray[np.uint32]:
        """What tells any tuple from one of another shape: a row a segment."""
        segments, out = self.segments, self.out
        bases = [np.repeat(base, self.counts) for _, base in self._spaces]
        zero = self.acks & (segments.ack == 0)
        own, other = np.where(out, *bases), np.where(out, *bases[::-1])
        control = (self.flags & CONTROL) | out << 10 | zero << 12
        columns = (
            control.astype(np.uint32),
            segments.seq - own,
            np.where(self.acks, segments.ack - other, 0),
            segments.window.astype(np.uint32)
            | segments.shift.astype(np.uint8).astype(np.uint32) << 16,
            segments.payload,
        )
        return np.ascontiguousarray(np.stack(columns, axis=1))

    def seen(self, index: int) -> tuple[list[Seen], Between]:
        """One tuple's segments, as the machine takes them."""
        rows = slice(int(self.starts[index]), int(self.starts[index] + self.counts[index]))
        one = self.segments.at(rows)
        columns = (self.out[rows], one.flags & 0x1FF, one.seq, one.ack, one.window, one.shift)
        rest = (one.payload, (one.flags & HERE) != 0, (one.flags & CUT) != 0)
        seen = [Seen(*row) for row in zip(*(c.tolist() for c in (*columns, *rest)), strict=True)]
        between = int(self.between[index])
        return seen, Between(bool(between & 1), bool(between & 2))
