"""Even stretches of long transfers: one end sends, the other acknowledges, and nothing else.

Owns: which segments change nothing, and finding many of them at once by what neighbours have in
common, before anything is counted from the connection's beginning. What is left of a stretch must
be in its place there, else all of it stays. Must not know what the left out count for in the end.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tcpwatch.sources.capture.columns import ACK, CUT, FIN, HERE, RST, SYN, Bools
from tcpwatch.sources.capture.frames import Int64s
from tcpwatch.sources.capture.shaping import Tuples, per_group, ranges

THINNED: Final = 0x1000
"""In ``flags``: there were segments between this one and the one before it."""

PAUSE_NS: Final = 60_000_000_000

_HEAD, _TAIL = 16, 32  # so many of a stretch stay
_LEAST: Final = 96
_MOST_DATA: Final = 2048  # segments of data in a stretch, which are less than `_LARGEST` together
_LARGEST: Final = 1 << 17  # octets: what is larger was left by another stretch
_FAR: Final = 1 << 26
_ANY_WINDOW: Final = 1 << 30

UInt32s = NDArray[np.uint32]


@dataclass(frozen=True, slots=True, eq=False)
class Brief:
    """Tuples without the inside of their even stretches, whose data came with what is left.

    ``segments`` has how many were left out of each tuple, of the first's way and of the other's;
    ``gaps`` how often a segment in front of each acknowledged data that the capture has cut.
    """

    tuples: Tuples
    segments: Int64s
    gaps: Int64s


@dataclass(frozen=True, slots=True, eq=False)
class _Stretches:
    """Of each: its first row, and that behind its last; what is left out of it.

    That is what lies from ``begin`` to ``data``, whose octets begin earlier then, and from there to
    ``ack``, which acknowledges nothing beyond them. ``before`` are the last rows with data and
    without in front of it. ``many`` counts the data and the others that are left out.
    """

    first: Int64s
    stop: Int64s
    begin: Int64s
    data: Int64s
    ack: Int64s
    seq: UInt32s
    before: tuple[Int64s, Int64s]
    many: tuple[Int64s, Int64s]
    gaps: Int64s

    def at(self, which: Bools) -> _Stretches:
        """Some of them."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        for name, value in found.items():
            pair = isinstance(value, tuple)
            found[name] = tuple(one[which] for one in value) if pair else value[which]
        return _Stretches(**found)


def brief(tuples: Tuples) -> Brief | None:
    """The same, told briefly; None where there is nothing to leave out."""
    found = _stretches(tuples)
    while found is not None and len(found.first):
        rows, less = _left(tuples, found)
        sound = _are_sound(less, rows, found)
        if sound.all():
            return _counted(tuples, less, rows, found)
        of = tuples.of[found.first]
        found = found.at(~np.isin(of, of[~sound]))
    return None


def neutral(tuples: Tuples) -> Bools:
    """The segments that change nothing."""
    segments, flags = tuples.segments, tuples.flags
    plain = (flags & (SYN | FIN | RST | ACK | HERE)) == ACK
    begun = np.repeat((flags[tuples.starts] & SYN) == 0, tuples.counts)
    found: Bools = plain & (tuples.ahead <= 0) & (tuples.ack_ahead <= 0) & (tuples.within | begun)
    found &= segments.ack != 0
    # Nor are numbers that go back: they may be another connection's, whose SYN was not seen.
    forth, back = (tuples.highest_ack(of_first=way) for way in (True, False))
    found &= tuples.other == np.where(tuples.out, back, forth)
    again = (tuples.ahead + tuples.length <= 0) & tuples.behind_holes  # else it may fill one
    found &= (tuples.ahead == 0) | again
    # What is no part of the opening, or far away, may be another connection's on the same tuple.
    strange = ((flags & SYN) != 0) & ((tuples.own != 0) | (tuples.ahead < -1))
    strange |= np.abs(tuples.ahead) > _FAR
    found &= ~np.repeat(np.logical_or.reduceat(strange, tuples.starts), tuples.counts)
    found &= tuples.until_first((flags & RST) != 0) & _is_steady(tuples)
    return found


def _is_steady(tuples: Tuples) -> Bools:
    """Where nobody closes: no end has sent a FIN, or one has and got its acknowledgement."""
    fins = (tuples.flags & FIN) != 0
    if not fins.any():
        return np.ones(len(fins), np.bool_)
    closed = [~tuples.until_first(fins & (tuples.out == way)) for way in (True, False)]
    steady = ~(closed[0] & closed[1])
    for way, top, closing in zip((True, False), tuples.tops, closed, strict=True):
        steady &= ~closing | (tuples.highest_ack(of_first=way) >= top)
    found: Bools = steady
    return found


# ---------------------------------------------------------------------- neighbours


def _stretches(tuples: Tuples) -> _Stretches | None:
    """Where each segment goes on from the one before it, as far as the two can tell."""
    segments = tuples.segments
    data = segments.payload > 0
    data_at, acks_at = np.flatnonzero(data), np.flatnonzero(~data)
    if not len(data_at) or not len(acks_at):
        return None
    goes_on = _like_the_last(tuples, data)
    seq, ack = segments.seq[data_at], segments.ack[acks_at]
    end = seq + segments.payload[data_at]
    cut = segments.flags[data_at] & CUT
    apart = (seq[1:] != end[:-1]) | (cut[1:] != cut[:-1])
    apart[_MOST_DATA - 1 :: _MOST_DATA] = True
    goes_on[data_at[1:][apart]] = False
    # The last of the one kind in front of each of the other: -1 where there is none.
    data_before, acks_before = _places_before(acks_at), _places_before(data_at)
    wrong = _less(end[data_before], ack)
    wrong[1:] |= _less(ack[1:], ack[:-1])
    goes_on[acks_at[wrong]] = False
    edge = ack + _least_windows(tuples, acks_at)
    goes_on[data_at[~_less(seq, edge[acks_before])]] = False

    first = np.flatnonzero(~goes_on)
    stop = np.append(first[1:], len(data))
    long = stop - first >= _LEAST
    if not long.any():
        return None
    kinds = _Kinds(data_at, acks_at, seq, ack, cut != 0)
    return _inside(kinds, data_before, first[long], stop[long])


def _like_the_last(tuples: Tuples, data: Bools) -> Bools:
    """Which segments are as plain as the one before them, and have the same sender and receiver.

    The number that stays is the receiver's: what it sends, and what is acknowledged to it.
    """
    segments = tuples.segments
    even = (segments.flags & (SYN | FIN | RST | ACK | HERE)) == ACK
    even &= (segments.ack != 0) & (segments.window != 0) & (segments.payload < _LARGEST)
    chosen = np.negative(data.astype(np.uint32))
    still = segments.seq ^ ((segments.seq ^ segments.ack) & chosen)
    side = tuples.out ^ data
    found = np.empty(len(data), np.bool_)
    found[1:] = even[1:] & even[:-1] & (still[1:] == still[:-1]) & (side[1:] == side[:-1])
    found[1:] &= segments.t_ns[1:] - segments.t_ns[:-1] < PAUSE_NS
    found[tuples.starts] = False
    return found


def _least_windows(tuples: Tuples, rows: Int64s) -> UInt32s:
    """The windows of some segments; of what was met in midstream none is known to be too small."""
    windows = tuples.segments.window[rows].astype(np.uint32)
    of = tuples.of[rows]
    scales = tuples.scales
    if scales is not None:
        windows <<= scales[tuples.out[rows] * 1, of].astype(np.uint32)
    begun = (tuples.segments.flags[tuples.starts] & SYN) == 0
    if begun.any():
        windows[begun[of]] = _ANY_WINDOW
    return windows


def _places_before(rows: Int64s) -> Int64s:
    """How many of the other rows lie in front of each, less one."""
    return rows - np.arange(len(rows)) - 1


def _less(one: UInt32s, other: UInt32s) -> Bools:
    """Sequence numbers, which wrap around."""
    found: Bools = (one - other).view(np.int32) < 0
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Kinds:
    """The rows with data and those without, and their numbers."""

    data_at: Int64s
    acks_at: Int64s
    seq: UInt32s
    ack: UInt32s
    cut: Bools


def _inside(kinds: _Kinds, data_before: Int64s, first: Int64s, stop: Int64s) -> _Stretches | None:
    """What of each stretch is left out, where that is worth it.

    Its beginning stays until data of its own are acknowledged, and its end from the last segment
    on whose octets are acknowledged within it, or begin to be.
    """
    data_at, acks_at, seq, ack = kinds.data_at, kinds.acks_at, kinds.seq, kinds.ack
    own = np.searchsorted(data_at, first)
    begins, stops = np.searchsorted(acks_at, first), np.searchsorted(acks_at, stop)
    there = (stops > begins) & (own < np.searchsorted(data_at, stop))
    if not there.any():
        return None
    first, stop, own, begins, stops = (one[there] for one in (first, stop, own, begins, stops))
    counts = stops - begins
    at, of = ranges(begins, counts), np.repeat(np.arange(len(first)), counts)
    parts = np.cumsum(counts) - counts
    begins = begins + per_group(_less(ack[at], seq[own[of]]) * 1, parts)
    enough = ~_less(ack[stops - 1][of], seq[data_before[at]])
    enough &= (at >= begins[of]) & (acks_at[at] < (stop - _TAIL)[of])
    last = begins + per_group(enough * 1, parts) - 1

    good = last >= begins
    first, stop, begins, last = (one[good] for one in (first, stop, begins, last))
    data = data_before[last]
    behind = np.maximum(first + _HEAD, acks_at[begins] + 1)
    begin = np.minimum(np.searchsorted(data_at, behind), data)
    acks = np.searchsorted(acks_at, data_at[begin])
    many = data - begin, last - acks
    good = (many[0] > 0) & (many[1] > 0) & (many[0] + many[1] >= _HEAD)
    gaps = np.zeros(len(last), np.int64)
    if kinds.cut.any():
        rises = np.zeros(len(ack) + 1, np.int64)
        rises[1:-1] = ack[1:] != ack[:-1]
        told = per_group(rises, np.stack([acks, last + 1], axis=1).ravel())[::2]
        gaps = np.maximum(told - 1, 0) * kinds.cut[data]  # what is left tells of one itself
    found = _Stretches(
        first,
        stop,
        data_at[begin],
        data_at[data],
        acks_at[last],
        seq[begin],
        (data_at[begin - 1], acks_at[acks - 1]),
        many,
        gaps,
    )
    return found.at(good)


# ---------------------------------------------------------------------- what is left


def _left(tuples: Tuples, found: _Stretches) -> tuple[Int64s, Tuples]:
    """The rows that stay, and what they are then."""
    kept = np.ones(len(tuples.segments), np.bool_)
    for begins, stops in ((found.begin, found.data), (found.data + 1, found.ack)):
        for begin, stop in zip(begins.tolist(), stops.tolist(), strict=True):
            kept[begin:stop] = False
    rows = np.flatnonzero(kept)
    segments = tuples.segments.at(rows)
    data = np.searchsorted(rows, found.data)
    segments.payload[data] += segments.seq[data] - found.seq
    segments.seq[data] = found.seq
    segments.flags[1:][rows[1:] - rows[:-1] > 1] |= THINNED
    return rows, Tuples(segments, np.searchsorted(rows, tuples.starts))


def _are_sound(less: Tuples, rows: Int64s, found: _Stretches) -> Bools:
    """Whether what is left of each stretch changes nothing, and is in order.

    Then all that was left out is so too, since it goes on from there.
    """
    odd = ~neutral(less) | (less.ahead != 0)
    count = np.concatenate(([0], np.cumsum(odd)))
    begin, stop = np.searchsorted(rows, found.data), np.searchsorted(rows, found.stop)
    sound: Bools = count[stop] == count[begin]
    for before in found.before:
        sound &= ~odd[np.searchsorted(rows, before)]
    return sound


def _counted(tuples: Tuples, less: Tuples, rows: Int64s, found: _Stretches) -> Brief:
    segments = np.zeros((len(tuples.starts), 2), np.int64)
    of, way = tuples.of[found.data], ~tuples.out[found.data] * 1
    for ways, many in zip((way, 1 - way), found.many, strict=True):
        np.add.at(segments, (of, ways), many)
    gaps = np.zeros(len(rows), np.int64)
    gaps[np.searchsorted(rows, found.ack)] = found.gaps
    return Brief(less, segments, gaps)
