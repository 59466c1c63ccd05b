"""Many rows as columns: so that a million connections need no object each.

Owns: how a row is made of columns. Must not know where they come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tcpwatch.machine.rows import Course, Pair, Row
from tcpwatch.model.identity import ConnectionId
from tcpwatch.sources.capture.frames import Int64s

Times = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Rows that became known together. Each column has an entry a row, as in `Row`.

    ``of`` is the place of each row's course in ``courses``. The counts have two columns: of the
    opener and of its peer. What few ask for is made on demand: ``ids`` and ``times_ns`` by index.
    """

    courses: Sequence[Course]
    of: Int64s
    number: Int64s
    start_ns: Int64s
    last_ns: Int64s
    segments: Int64s
    octets: Int64s
    retransmissions: Int64s
    missing: Int64s
    zero_windows: Int64s
    aged: Int64s
    ids: Callable[[int], ConnectionId]
    times_ns: Callable[[int], Times]

    def __len__(self) -> int:
        return len(self.of)

    def __iter__(self) -> Iterator[Row]:
        return map(self.row, range(len(self)))

    def row(self, index: int) -> Row:
        """One of them as an object."""

        def pair(column: Int64s) -> Pair:
            return int(column[index, 0]), int(column[index, 1])

        return Row(
            int(self.number[index]),
            self.ids(index),
            int(self.start_ns[index]),
            int(self.last_ns[index]),
            self.times_ns(index),
            pair(self.segments),
            pair(self.octets),
            pair(self.retransmissions),
            pair(self.missing),
            pair(self.zero_windows),
            self.courses[self.of[index]],
            bool(self.aged[index]),
        )


def batch_of(rows: Sequence[Row]) -> Batch:
    """Those rows as columns."""
    courses = list(dict.fromkeys(row.course for row in rows))
    places = {course: place for place, course in enumerate(courses)}

    def column(values: Sequence[object]) -> Int64s:
        return np.array(values, dtype=np.int64)

    def pairs(values: Sequence[object]) -> Int64s:
        return column(values).reshape(len(rows), 2)

    return Batch(
        courses,
        column([places[row.course] for row in rows]),
        column([row.number for row in rows]),
        column([row.start_ns for row in rows]),
        column([row.last_ns for row in rows]),
        pairs([row.segments for row in rows]),
        pairs([row.octets for row in rows]),
        pairs([row.retransmissions for row in rows]),
        pairs([row.missing for row in rows]),
        pairs([row.zero_windows for row in rows]),
        column([row.aged for row in rows]),
        lambda index: rows[index].id,
        lambda index: rows[index].times_ns,
    )
