"""Many connections counted: how they ended, which ways they went, what was repeated or lost.

Owns: what is counted, in memory that grows with the number of ways and not of connections (but for
eight octets each, their length). Must not know how it is shown.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Final

from tcpwatch.machine.rows import Course, Ending, Row
from tcpwatch.model.identity import FourTuple
from tcpwatch.model.timeline import Belief, Finding

MOST_FINDINGS: Final = 20
"""So many are kept to be shown; the others are counted."""


@dataclass(frozen=True, slots=True)
class Example:
    """One connection of a kind; the tuple is as its opener has it."""

    number: int
    four_tuple: FourTuple


@dataclass(slots=True)
class Way:
    """The path of each end, with its role, and the connections that went so."""

    paths: tuple[tuple[str, tuple[Belief, ...]], ...]
    example: Example
    lasted_ns: array[int] = field(default_factory=lambda: array("q"))

    @property
    def count(self) -> int:
        return len(self.lasted_ns)

    @property
    def times_ns(self) -> tuple[int, float, int]:
        """The shortest, the median and the longest."""
        return min(self.lasted_ns), median(self.lasted_ns), max(self.lasted_ns)


@dataclass(slots=True)
class Some:
    """How many there are of something, and in how many connections."""

    total: int = 0
    connections: int = 0

    def add(self, total: int, connections: int) -> None:
        self.total += total
        self.connections += connections


@dataclass(slots=True)
class Census:
    """Counts connections that are given a row at a time, or many of one course at once."""

    connections: int = 0
    segments: int = 0
    endings: Counter[tuple[Ending, str | None]] = field(default_factory=Counter)
    retransmitted: Some = field(default_factory=Some)
    missing: Some = field(default_factory=Some)
    zero_windows: Some = field(default_factory=Some)
    midstream: int = 0
    aged: int = 0
    findings: list[Finding] = field(default_factory=list)
    more_findings: int = 0
    _ways: dict[tuple[tuple[str, tuple[Belief, ...]], ...], Way] = field(default_factory=dict)
    _way_of: dict[Course, Way] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """One more connection."""
        self.add_course(
            row.course,
            [row.last_ns - row.start_ns],
            lambda: Example(row.number, row.id.four_tuple),
            (row.number,),
        )
        self.segments += sum(row.segments)
        self.aged += row.aged
        for some, pair in zip(
            self.somes, (row.retransmissions, row.missing, row.zero_windows), strict=True
        ):
            some.add(sum(pair), int(any(pair)))

    @property
    def somes(self) -> tuple[Some, Some, Some]:
        """What is counted of segments: retransmissions, what is missing, zero windows."""
        return self.retransmitted, self.missing, self.zero_windows

    def add_course(
        self,
        course: Course,
        lasted_ns: Sequence[int],
        example: Callable[[], Example],
        numbers: Iterable[int],
    ) -> None:
        """So many more as there are ``lasted_ns``, all of that course; not what rows count."""
        way = self._way_of.get(course)
        if way is None:
            paths = tuple((end.role, end.path) for end in course.ends)
            way = self._ways.get(paths) or Way(paths, example())
            self._ways[paths] = self._way_of[course] = way
        way.lasted_ns.extend(lasted_ns)
        count = len(lasted_ns)
        self.connections += count
        self.endings[course.ending, course.closed_by] += count
        self.midstream += count if course.midstream else 0
        if course.findings:
            for number in numbers:
                self._find(number, course)

    def _find(self, number: int, course: Course) -> None:
        for finding in course.findings:
            if len(self.findings) < MOST_FINDINGS:
                self.findings.append(replace(finding, connection=number))
            else:
                self.more_findings += 1

    @property
    def ways(self) -> list[Way]:
        """The most frequent first; where they are even, the one that was met first."""
        return sorted(self._ways.values(), key=lambda way: (-way.count, way.example.number))
