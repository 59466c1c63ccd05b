"""From record to record, each of which only says where the next begins: many ways at once.

Owns: where to begin in the middle. That is a guess, which counts only where the way from in front
of it leads right there: then all of it is as if walked record by record. Must not know what stands
in a record beyond its header's lengths and seconds.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tcpwatch.sources.capture.frames import LONGEST_FRAME, Int64s, column, numbers

_STRIDE: Final = 4096  # octets from one guess to the next
_LEARNT_FROM: Final = 64  # records
_SMALL: Final = 512  # octets: larger records are so few that it does not pay
_NEAR_S: Final = 1 << 17


def records(buffer: bytes, order: str, header_len: int) -> Int64s:
    """Where each record begins whose header is there: seconds, a part, octets captured and sent.

    ``order`` is struct's byte order. No length is checked, but none leads back.
    """
    first = _one_by_one(buffer, order, header_len, _LEARNT_FROM)
    if len(first) < _LEARNT_FROM or first[-1] > _LEARNT_FROM * _SMALL or len(buffer) < 4 * _STRIDE:
        return _all(buffer, order, header_len)
    words = numbers(buffer, f"{order}u4")
    starts = _guesses(buffer, words, first, order, header_len)
    found = _side_by_side(words, starts, header_len, len(buffer) - header_len)
    return _all(buffer, order, header_len) if found is None else found


def _all(buffer: bytes, order: str, header_len: int) -> Int64s:
    return np.array(_one_by_one(buffer, order, header_len, len(buffer)), dtype=np.int64)


def _one_by_one(buffer: bytes, order: str, header_len: int, most: int) -> list[int]:
    length = struct.Struct(order + "8xI").unpack_from
    found: list[int] = []
    at, last = 0, len(buffer) - header_len
    for _ in range(most):
        if at > last:
            break
        found.append(at)
        at += header_len + length(buffer, at)[0]
    return found


def _guesses(
    buffer: bytes,
    words: NDArray[np.unsignedinteger],
    first: list[int],
    order: str,
    header_len: int,
) -> Int64s:
    """Where records probably begin: at the first, and one behind every so many octets.

    The upper half of the seconds is looked for, which stays the same for eighteen hours.
    """
    length = len(buffer)
    longest = max(after - at for at, after in pairwise(first))
    most = min(longest, _SMALL) + header_len
    count = (length - most - 2 * header_len) // _STRIDE
    upper = (0, 1) if order == ">" else (2, 3)
    found = np.ones((count, most), np.bool_)
    for at in upper:
        octets = np.ndarray((count, most), np.uint8, buffer, _STRIDE + at, (_STRIDE, 1))
        found &= octets == buffer[at]
    row, within = np.divmod(np.flatnonzero(found), most)
    places = (row + 1) * _STRIDE + within
    captured, sent = column(words[places + 8]), column(words[places + 12])
    following = places + header_len + captured
    likely = (captured <= sent) & (captured <= LONGEST_FRAME) & (following <= length - header_len)
    places, following = places[likely], following[likely]
    places = places[np.abs(column(words[following]) - int(words[0])) < _NEAR_S]
    _, chosen = np.unique(places // _STRIDE, return_index=True)
    return np.concatenate(([0], places[chosen]))


def _side_by_side(
    words: NDArray[np.unsignedinteger], starts: Int64s, header_len: int, last: int
) -> Int64s | None:
    """All records; None where a guess was wrong."""
    at, stops = starts, np.append(starts[1:], last + 1)
    captured = words[8:]
    met: list[Int64s] = []
    while len(at):
        met.append(at)
        at = at + captured[at]
        at += header_len
        going = at < stops
        if not going.all():
            arrived = at[~going], stops[~going]
            if (np.not_equal(*arrived) & (arrived[1] <= last)).any():
                return None
            at, stops = at[going], stops[going]
    places = np.concatenate(met)
    places.sort()
    return places
