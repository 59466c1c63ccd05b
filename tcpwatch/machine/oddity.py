"""What is odd about a connection, in words, and how odd: for `--top`.

Owns: what counts as odd, and how much one oddity weighs against another. A weight only orders: it
is nothing that was measured, and no view shows it. Must not know how many are shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import log2, sqrt
from typing import Final

from tcpwatch.machine.rows import Course, Ending, Row
from tcpwatch.model.durations import lasting
from tcpwatch.model.timeline import Severity
from tcpwatch.tcp.state import TcpState

_S: Final = 1_000_000_000

_PASSING: Final = {
    TcpState.SYN_SENT: _S,
    TcpState.SYN_RECEIVED: _S,
    TcpState.FIN_WAIT_1: _S,
    TcpState.FIN_WAIT_2: 5 * _S,
    TcpState.CLOSING: _S,
    TcpState.CLOSE_WAIT: _S,
    TcpState.LAST_ACK: _S,
}
"""The states that nobody means to stay in, and how long one may be there without being odd, in ns:
a retransmission's time, and FIN-WAIT-2's for a peer that has something left to say."""

_FINDINGS: Final = {Severity.ERROR: 100.0, Severity.WARNING: 50.0, Severity.INFO: 5.0}
_OPEN: Final = frozenset({TcpState.ESTABLISHED, TcpState.FIN_WAIT_2, TcpState.CLOSE_WAIT})
_GONE: Final = frozenset({TcpState.CLOSED})


@dataclass(frozen=True, slots=True)
class Oddity:
    """One thing that is odd, in words."""

    weight: float
    words: str


def oddities(row: Row, end_ns: int) -> tuple[Oddity, ...]:
    """All that is odd about a connection, the oddest first. ``end_ns``: when the capture ended."""
    found = [
        *_of_course(row.course),
        *_silence(row, end_ns),
        *_stays(row, end_ns),
        *_losses(row),
    ]
    return tuple(sorted(found, key=lambda one: -one.weight))


@lru_cache(4096)
def _of_course(course: Course) -> tuple[Oddity, ...]:
    """What all connections of that course have in common."""
    findings = (Oddity(_FINDINGS[f.severity], f"{f.code}: {f.message}") for f in course.findings)
    return (*findings, *_ending(course), *_halves(course), *_ways(course))


def weight(found: tuple[Oddity, ...]) -> float:
    """How odd all that is together."""
    return sum(one.weight for one in found)


def _ending(course: Course) -> Iterator[Oddity]:
    match course.ending:
        case Ending.REFUSED:
            yield Oddity(15, "refused: a RST answered the SYN")
        case Ending.TIMEOUT:
            yield Oddity(30, "it timed out")
        case Ending.RST:
            states = [
                (move.before.certain, end.role)
                for end in course.ends
                for move in end.moves
                if move.after.states == _GONE
            ]
            inside = " and ".join(f"the {role} end, in {state}" for state, role in states if state)
            yield Oddity(20, "a RST ended it" + (f": {inside}" if inside else ""))
        case _:
            pass


def _silence(row: Row, end_ns: int) -> Iterator[Oddity]:
    silent_ns = end_ns - row.last_ns
    match row.course.ending:
        case Ending.UNANSWERED:
            asked = max(row.segments)
            times = "once" if asked == 1 else f"{asked} times"
            yield Oddity(25, f"nobody answered its SYN, sent {times}")
        case Ending.OPEN if row.aged:
            yield Oddity(10, f"never closed, and silent for the last {lasting(silent_ns)}")
        case Ending.OPEN if silent_ns > 60 * _S:
            yield Oddity(8, f"not closed, and silent for the last {lasting(silent_ns)}")
        case _:
            pass


def _roles(row: Row) -> list[str]:
    return [end.role for end in row.course.ends]


def _halves(course: Course) -> Iterator[Oddity]:
    """Half-open: one end is gone, and the other does not know (RFC 9293 3.5.1)."""
    ends = [(end.role, end.path[-1].certain, len(end.path)) for end in course.ends]
    for (role, state, _), (other, gone, steps) in zip(ends, reversed(ends), strict=True):
        if state in _OPEN and gone is TcpState.CLOSED and steps > 1:
            yield Oddity(30, f"half-open: the {role} end is still {state}, the {other} end CLOSED")


@dataclass(frozen=True, slots=True)
class _Stay:
    """Step ``index`` of end number ``place``: a state to pass through, within ``limit_ns``."""

    place: int
    index: int
    limit_ns: int
    words: str
    last: bool


@lru_cache(4096)
def _passed(course: Course) -> tuple[_Stay, ...]:
    unanswered = course.ending in (Ending.UNANSWERED, Ending.REFUSED)
    return tuple(
        _Stay(place, index, _PASSING[state], f"in {state}", index == len(path) - 1)
        for place, path in enumerate(end.path for end in course.ends)
        for index, state in enumerate(belief.certain for belief in path)
        if state in _PASSING and not (unanswered and state is TcpState.SYN_SENT)  # told already
    )


def _stays(row: Row, end_ns: int) -> Iterator[Oddity]:
    """Long stays in the states that one passes through."""
    for stay in _passed(row.course):
        times = row.times_ns[stay.place]
        entered = times[stay.index - 1] if stay.index else row.start_ns
        lasted_ns = (end_ns if stay.last else times[stay.index]) - entered
        if lasted_ns > stay.limit_ns:
            role = row.course.ends[stay.place].role
            so_far = ", and still is" if stay.last else ""
            said = f"the {role} end was {lasting(lasted_ns)} {stay.words}{so_far}"
            yield Oddity(10 + 2 * log2(lasted_ns / stay.limit_ns), said)


def _ways(course: Course) -> Iterator[Oddity]:
    """Ways that hardly any connection goes."""
    calling = 0
    for end in course.ends:
        beliefs = [belief.certain for belief in end.path]
        calling += TcpState.SYN_SENT in beliefs
        if TcpState.CLOSING in beliefs:
            yield Oddity(6, f"simultaneous close: the {end.role} end passed CLOSING")
        if (TcpState.TIME_WAIT, TcpState.SYN_RECEIVED) in pairwise(beliefs):
            yield Oddity(6, f"the {end.role} end took a SYN in TIME-WAIT")
    if calling > 1:
        yield Oddity(12, "simultaneous open: both ends sent a SYN")


def _losses(row: Row) -> Iterator[Oddity]:
    repeated, segments = sum(row.retransmissions), sum(row.segments)
    unanswered = row.course.ending is Ending.UNANSWERED
    if repeated and not unanswered:
        share = repeated / segments
        yield Oddity(3 * sqrt(repeated) + 20 * share, f"{_of(repeated, segments)} sent again")
    if row.id.generation:
        yield Oddity(1, f"use {row.id.generation + 1} of its addresses and ports")
    lost = sum(row.missing)
    if lost:
        many = f"{lost:,} octet" + ("" if lost == 1 else "s")
        yield Oddity(4 + log2(lost), f"{many} acknowledged and not captured")
    for role, count in zip(_roles(row), row.zero_windows, strict=False):
        if count:
            times = "once" if count == 1 else f"{count} times"
            yield Oddity(5 * sqrt(count), f"the {role} end took nothing more (window 0), {times}")


def _of(count: int, total: int) -> str:
    return f"{count:,} of {total:,} segment" + ("" if total == 1 else "s")
