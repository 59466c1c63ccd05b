"""Segments to tuples, block after block: what belongs together, and what is over.

Owns: the store of connections that have gone silent, which is bounded, and when they are given up.
A tuple that goes on is taken out of it again. Must not know what the machine thinks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from tcpwatch.machine.shapes import SILENT_NS
from tcpwatch.sources.capture.batch import Batch
from tcpwatch.sources.capture.columns import (
    ACK,
    FIN,
    RST,
    SYN,
    Bools,
    Ends,
    Segments,
    UInt64s,
)
from tcpwatch.sources.capture.courses import (
    GENERATION,
    NUMBER,
    OCTETS,
    RECORD,
    REPEATED,
    SEGMENTS,
    ZERO,
    Courses,
    Told,
)
from tcpwatch.sources.capture.frames import Int64s
from tcpwatch.sources.capture.shaping import Tuples, per_group, ranges
from tcpwatch.sources.capture.thinning import LONG, Retold, thinned

_ODD: Final = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))
_S32: Final = np.uint64(32)
_MOST_TRIES: Final = 20
_MOST_CALLED: Final = 1000  # segments from a refused SYN to the same that is not


@dataclass(frozen=True, slots=True)
class Limits:
    """How long silent connections are remembered, and how many; beyond it they are given up.

    One that is ``over`` (both FINs, or a RST) may still get late segments, and no new connection
    can have its tuple before TIME-WAIT ends.
    """

    open_ns: int = 3_600_000_000_000
    over_ns: int = 120_000_000_000
    connections: int = 200_000
    segments: int = 1_500_000


@dataclass(eq=False)
class _Chunk:
    """Tuples that were stored together. ``there`` are those that have not been taken out again."""

    tuples: Tuples
    records: Int64s
    keys: list[int]
    due_ns: Int64s
    over: Bools
    there: Bools = field(init=False)

    def __post_init__(self) -> None:
        self.there = np.ones(len(self.keys), np.bool_)


class Gatherer:
    """Takes segments, in order of time, and gives rows of what is over and silent.

    ``aged`` counts the connections that were given up while they were open.
    """

    def __init__(self, ends: Ends, limits: Limits, begun_ns: int) -> None:
        self._ends, self._limits, self._begun_ns = ends, limits, begun_ns
        self._courses = Courses()
        self._chunks: dict[int, _Chunk] = {}
        self._stored: dict[int, tuple[int, int]] = {}  # by key: which chunk, which tuple in it
        self._serial = 0
        self._numbered = 0
        self._told = Told()
        self.aged = 0

    @property
    def asked(self) -> int:
        """How often the machine had to be asked."""
        return self._courses.asked

    # ------------------------------------------------------------------ in

    def add(self, segments: Segments) -> Iterator[Batch]:
        """Takes some more."""
        if not len(segments):
            return
        keys = _keys(segments)
        order, starts = _grouped(keys)
        tuples, met, fresh = self._with_stored(segments, keys, order, starts)
        now_ns = int(segments.t_ns[-1])
        pieces, last = self._apart(tuples)
        records = self._recorded(pieces, met, fresh)
        if not last.all():
            self._note_calls(pieces, records, last)
            self._store_ended(_chosen(pieces, ~last), records[~last])
            pieces, records = _chosen(pieces, last), records[last]
        pieces = self._thinned(pieces, records)
        self._store(pieces, records, keys[order[starts]].tolist())
        yield from self._give_up(now_ns)
        self._ends.forget(self._used)

    def finish(self, end_ns: int) -> Iterator[Batch]:
        """Gives all that is left."""
        for serial in list(self._chunks):
            chunk = self._chunks.pop(serial)
            if chunk.there.any():
                yield self._given_of(chunk, chunk.there, end_ns, aged=False)
        self._stored.clear()

    def _used(self) -> list[UInt64s]:
        chunks = [chunk.tuples.segments for chunk in self._chunks.values()]
        return [ends for each in chunks for ends in (each.source, each.target)] or [
            np.empty(0, np.uint64)
        ]

    # ------------------------------------------------------------------ what goes on

    def _with_stored(
        self, segments: Segments, keys: UInt64s, order: Int64s, starts: Int64s
    ) -> tuple[Tuples, Int64s, Int64s]:
        """The tuples of these segments, with what is stored of them in front.

        Beside them their records, and the place of each segment among the new ones, -1 if stored.
        """
        found = [self._stored.pop(key, None) for key in keys[order[starts]].tolist()]
        counts = np.diff(starts, append=len(order))
        records = np.zeros((len(starts), RECORD), np.int64)
        records[:, GENERATION] = -1
        chosen = [index for index, one in enumerate(found) if one is not None]
        if not chosen:
            return Tuples(segments.at(order), starts), records, order
        parts, before, rows_of = (
            [],
            np.zeros(len(starts), np.int64),
            np.zeros(len(starts), np.int64),
        )
        by_chunk: dict[int, list[tuple[int, int]]] = {}
        for index in chosen:
            serial, place = found[index] or (0, 0)
            by_chunk.setdefault(serial, []).append((index, place))
        taken = 0
        for serial, pairs in by_chunk.items():
            chunk = self._chunks[serial]
            into, at = (np.array(one, np.int64) for one in zip(*pairs, strict=True))
            chunk.there[at] = False
            part = _chosen(chunk.tuples, at)
            records[into] = chunk.records[at]
            before[into] = part.counts
            rows_of[into] = taken + part.starts
            taken += len(part.segments)
            parts.append(part.segments)
            if not chunk.there.any():
                del self._chunks[serial]
        begins = np.concatenate(([0], np.cumsum(counts + before)[:-1]))
        rows = np.empty(taken + len(order), np.int64)
        rows[ranges(begins, before)] = ranges(rows_of, before)
        rows[ranges(begins + before, counts)] = taken + order
        joined = Segments.joined([*parts, segments]).at(rows)
        fresh = np.maximum(rows - taken, -1)
        return Tuples(joined, begins), records, fresh

    def _apart(self, tuples: Tuples) -> tuple[Tuples, Bools]:
        """Each connection of a tuple's by itself; and which is its tuple's last."""
        again = _may_begin_anew(tuples)
        for _ in range(_MOST_TRIES):
            if not len(again):
                break
            starts = np.union1d(tuples.starts, again)
            pieces = Tuples(tuples.segments, starts)
            behind = np.searchsorted(starts, again)
            before = _chosen(pieces, behind - 1)
            ways = tuples.segments.source[again] == before.segments.source[before.starts]
            numbers = tuples.segments.seq[again].astype(np.int64)
            anew = self._courses.may_begin_again(before, ways, numbers)
            if anew.all():
                last = np.ones(len(starts), np.bool_)
                last[behind - 1] = False
                return pieces, last
            # What comes after one that does not begin anew must be looked at once more.
            of = np.searchsorted(tuples.starts, again, side="right")
            refused = np.flatnonzero(~anew)
            _, first = np.unique(of[refused], return_index=True)
            again = np.delete(again, refused[first])
        return tuples, np.ones(len(tuples.starts), np.bool_)

    def _note_calls(self, pieces: Tuples, records: Int64s, last: Bools) -> None:
        """Which connections began with a SYN that their tuple's earlier one had refused."""
        segments, flags = pieces.segments, pieces.segments.flags
        asks = (flags & (SYN | ACK)) == SYN
        asked = per_group(asks * 1, pieces.starts) - asks[pieces.starts]
        for index in np.flatnonzero(~last & (asked > 0)).tolist():
            begin, anew = int(pieces.starts[index]), int(pieces.starts[index + 1])
            rows = np.arange(begin, anew)
            same = (flags[rows] & (SYN | ACK)) == SYN
            same &= segments.seq[rows] == segments.seq[anew]
            same &= segments.source[rows] == segments.source[anew]
            place = int(same.argmax())
            if not place or len(rows) - place > _MOST_CALLED:
                continue
            seen, _ = pieces.seen(index)
            before = (segments.t_ns[anew] - segments.t_ns[rows[place:]]).tolist()
            turned = segments.source[begin] != segments.source[anew]
            called = [one._replace(out=one.out != turned) for one in seen[place:]]
            number, following = records[index : index + 2, NUMBER].tolist()
            self._told.ceded[number] = int(segments.seq[anew])
            self._told.called[following] = tuple(zip(called, before, strict=True))

    def _recorded(self, pieces: Tuples, met: Int64s, fresh: Int64s) -> Int64s:
        """The record of each piece: those that begin here get their number in order of time."""
        records = met
        if len(pieces.starts) != len(met):
            records = self._of_pieces(pieces, met)
        new = np.flatnonzero(records[:, NUMBER] == 0)
        order = np.argsort(fresh[pieces.starts[new]], kind="stable")
        records[new[order], NUMBER] = self._numbered + 1 + np.arange(len(new))
        records[new, GENERATION] += 1
        self._numbered += len(new)
        return records

    def _of_pieces(self, pieces: Tuples, met: Int64s) -> Int64s:
        """A tuple's record is its first piece's; the others follow it."""
        keys = _keys(pieces.segments.at(pieces.starts))
        opens = np.concatenate(([True], keys[1:] != keys[:-1]))
        of = np.cumsum(opens) - 1
        records = np.zeros((len(keys), RECORD), np.int64)
        records[opens] = met
        later = np.flatnonzero(~opens)
        nth = later - np.flatnonzero(opens)[of[later]]
        begun = np.where(met[:, NUMBER] == 0, met[:, GENERATION] + 1, met[:, GENERATION])
        records[later, GENERATION] = begun[of[later]] + nth - 1
        return records

    def _thinned(self, tuples: Tuples, records: Int64s) -> Tuples:
        """The same, without what need not be kept; ``records`` then have it."""
        long = tuples.counts > LONG
        if not long.any():
            return tuples
        which = np.flatnonzero(long)
        less = thinned(tuples if long.all() else _chosen(tuples, which))
        if less is None:
            return tuples
        for column, counts in (
            (SEGMENTS, less.segments),
            (OCTETS, less.octets),
            (REPEATED, less.repeated),
            (ZERO, less.zero),
        ):
            records[which, column : column + 2] += counts
        for index, kinds in less.retold.items():
            number = int(records[which[index], NUMBER])
            self._told.retold.setdefault(number, Retold()).add(kinds)
        if long.all():
            return less.tuples
        short = np.flatnonzero(~long)
        rest = _chosen(tuples, short)
        both = Segments.joined([less.tuples.segments, rest.segments])
        begins = np.concatenate([less.tuples.starts, len(less.tuples.segments) + rest.starts])
        counts = np.concatenate([less.tuples.counts, rest.counts])
        order = np.argsort(np.concatenate([which, short]), kind="stable")
        return _chosen(_Parts(both, begins, counts), order)

    # ------------------------------------------------------------------ what is silent

    def _store_ended(self, tuples: Tuples, records: Int64s) -> None:
        """Those whose tuple is another's now: only their silence is waited for."""
        tuples = self._thinned(tuples, records)
        last_ns = tuples.segments.t_ns[tuples.starts + tuples.counts - 1]
        self._serial += 1
        over = np.ones(len(records), np.bool_)
        keys = [-1] * len(records)
        self._chunks[self._serial] = _Chunk(tuples, records, keys, last_ns + SILENT_NS, over)

    def _store(self, tuples: Tuples, records: Int64s, keys: list[int]) -> None:
        segments, starts = tuples.segments, tuples.starts
        over = _is_over(tuples)
        last_ns = segments.t_ns[starts + tuples.counts - 1]
        limits = self._limits
        due_ns = last_ns + np.where(over, limits.over_ns, limits.open_ns)
        self._serial += 1
        self._chunks[self._serial] = _Chunk(Tuples(segments, starts), records, keys, due_ns, over)
        serial = self._serial
        self._stored.update((key, (serial, place)) for place, key in enumerate(keys))

    def _give_up(self, now_ns: int) -> Iterator[Batch]:
        """What is silent for too long; and the longest silent where there is too much of it."""
        for serial, chunk in list(self._chunks.items()):
            due = chunk.there & (chunk.due_ns < now_ns)
            if due.any():
                yield self._taken(serial, due, now_ns)
        limits = self._limits
        held = sum(len(chunk.tuples.segments) for chunk in self._chunks.values())
        while len(self._chunks) > 1 and (
            held > limits.segments or len(self._stored) > limits.connections
        ):
            serial = next(iter(self._chunks))
            chunk = self._chunks[serial]
            held -= len(chunk.tuples.segments)
            yield self._taken(serial, chunk.there.copy(), now_ns)

    def _taken(self, serial: int, due: Bools, now_ns: int) -> Batch:
        chunk = self._chunks[serial]
        for place in np.flatnonzero(due).tolist():
            self._stored.pop(chunk.keys[place], None)
        batch = self._given_of(chunk, due, now_ns, aged=True)
        chunk.there &= ~due
        if not chunk.there.any():
            del self._chunks[serial]
        return batch

    # ------------------------------------------------------------------ out

    def _given_of(self, chunk: _Chunk, chosen: Bools, now_ns: int, *, aged: bool) -> Batch:
        if chosen.all():
            return self._given(chunk.tuples, chunk.records, now_ns, ~chunk.over if aged else None)
        rows = np.flatnonzero(chosen)
        given_up = ~chunk.over[rows] if aged else None
        return self._given(_chosen(chunk.tuples, rows), chunk.records[rows], now_ns, given_up)

    def _given(
        self, tuples: Tuples, records: Int64s, now_ns: int, aged: Bools | None = None
    ) -> Batch:
        given_up = np.zeros(len(tuples.starts), np.bool_) if aged is None else aged
        self.aged += int(given_up.sum())
        batch = self._courses.rows(
            tuples, records, self._told, self._ends, given_up, self._begun_ns, now_ns
        )
        if self._told:
            self._told.forget(records[:, NUMBER].tolist())
        return batch


def _keys(segments: Segments) -> UInt64s:
    """One number for a tuple, whichever way a segment goes."""
    source, target = segments.source, segments.target
    low, high = np.minimum(source, target), np.maximum(source, target)
    mixed: UInt64s = (low * _ODD[0]) ^ (high * _ODD[1] + (low >> _S32))
    return (mixed ^ (mixed >> _S32)) * _ODD[0]


def _grouped(keys: UInt64s) -> tuple[Int64s, Int64s]:
    """The rows of one key beside each other, in their order; and where each key begins.

    One sort of numbers that hold a row's place in their lower bits, which is faster than to sort
    places by their keys.
    """
    room = np.uint64(max(len(keys) - 1, 1).bit_length())
    low = (np.uint64(1) << room) - np.uint64(1)
    packed = (keys & ~low) | np.arange(len(keys), dtype=np.uint64)
    packed.sort()
    order = (packed & low).astype(np.int64)
    kept = keys[order]
    changes = kept[1:] != kept[:-1]
    short = (packed[1:] ^ packed[:-1]) > low
    if (changes != short).any():  # two keys that differ in the lower bits only
        order = np.argsort(keys, kind="stable")
        kept = keys[order]
        changes = kept[1:] != kept[:-1]
    return order, np.concatenate(([0], np.flatnonzero(changes) + 1))


class _Parts(NamedTuple):
    """Tuples that need not lie in order."""

    segments: Segments
    starts: Int64s
    counts: Int64s


def _chosen(tuples: Tuples | _Parts, which: Int64s | Bools) -> Tuples:
    """Some of the tuples, by place or by mask."""
    starts, counts = tuples.starts[which], tuples.counts[which]
    segments = tuples.segments.at(ranges(starts, counts))
    return Tuples(segments, np.concatenate(([0], np.cumsum(counts)[:-1])))


def _may_begin_anew(tuples: Tuples) -> Int64s:
    """The segments that ask for a connection with another number than their end had.

    Or with the same that it was refused, while its peer held the earlier one (RFC 9293 3.5.1).
    """
    flags = tuples.segments.flags
    asking = (flags & (SYN | ACK)) == SYN
    asking[tuples.starts] = False
    syns = np.flatnonzero(asking)
    if not len(syns):
        return syns
    of = np.searchsorted(tuples.starts, syns, side="right") - 1
    begins = tuples.starts[of].tolist()
    found = [
        row
        for row, begin in zip(syns.tolist(), begins, strict=True)
        if _is_anew(tuples.segments, begin, row)
    ]
    return np.array(found, np.int64)


def _is_anew(segments: Segments, begin: int, row: int) -> bool:
    """Whether that SYN may begin another connection than those since ``begin``."""
    number, flags = segments.seq[row], segments.flags
    mine = segments.source[begin:row] == segments.source[row]
    before = begin + np.flatnonzero(mine)
    if not len(before):
        return False
    # Of one that was met in midstream the number before its first is taken for its SYN's.
    begun = segments.seq[before] - ((flags[before] & SYN) == 0).astype(np.uint32)
    asked = (flags[before] & SYN) != 0
    asked[0] = True
    other = begun[asked] != number
    if other[-1]:
        return True
    # Only a RST, or what its end says to an earlier connection, ends that at its peer.
    again = int(before[asked][np.flatnonzero(np.append(True, other))[-1]])
    since = flags[again:row]
    spoke = mine[again - begin :] & ((since & SYN) == 0)
    return bool((spoke | ((since & RST) != 0)).any())


def _is_over(tuples: Tuples) -> Bools:
    flags, out, starts = tuples.segments.flags, tuples.out, tuples.starts
    reset = np.bitwise_or.reduceat(flags, starts) & RST
    forth = np.bitwise_or.reduceat(np.where(out, flags, 0), starts) & FIN
    back = np.bitwise_or.reduceat(np.where(out, 0, flags), starts) & FIN
    found: Bools = (reset != 0) | ((forth & back) != 0)
    return found
