"""What is odd about a connection, in words, and how odd: for `--top`.

Owns: what counts as odd, and how much one oddity weighs against another. A weight only orders: it
is nothing that was measured, and no view shows it. Must not know how many are shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import log2, sqrt
from typing import Final

from tcpwatch.machine.rows import Ending, Row
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
        *(Oddity(_FINDINGS[f.severity], f"{f.code}: {f.message}") for f in row.course.findings),
        *_ending(row, end_ns),
        *_halves(row),
        *_stays(row, end_ns),
        *_ways(row),
        *_losses(row),
    ]
    return tuple(sorted(found, key=lambda one: -one.weight))


def weight(found: tuple[Oddity, ...]) -> float:
    """How odd all that is together."""
    return sum(one.weight for one in found)


def _ending(row: Row, end_ns: int) -> Iterator[Oddity]:
    course, asked = row.course, max(row.segments)
    match course.ending:
        case Ending.UNANSWERED:
            times = "once" if asked == 1 else f"{asked} times"
            yield Oddity(25, f"nobody answered its SYN, sent {times}")
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
        case Ending.OPEN if row.aged:
            silent = _time(end_ns - row.last_ns)
            yield Oddity(10, f"never closed, and silent for the last {silent}")
        case Ending.OPEN if end_ns - row.last_ns > 60 * _S:
            yield Oddity(8, f"not closed, and silent for the last {_time(end_ns - row.last_ns)}")
        case _:
            pass


def _roles(row: Row) -> list[str]:
    return [end.role for end in row.course.ends]


def _halves(row: Row) -> Iterator[Oddity]:
    """Half-open: one end is gone, and the other does not know (RFC 9293 3.5.1)."""
    ends = [(end.role, end.path[-1].certain, len(end.path)) for end in row.course.ends]
    for (role, state, _), (other, gone, steps) in zip(ends, reversed(ends), strict=True):
        if state in _OPEN and gone is TcpState.CLOSED and steps > 1:
            yield Oddity(30, f"half-open: the {role} end is still {state}, the {other} end CLOSED")


def _stays(row: Row, end_ns: int) -> Iterator[Oddity]:
    """Long stays in the states that one passes through."""
    unanswered = row.course.ending in (Ending.UNANSWERED, Ending.REFUSED)
    for end, times in zip(row.course.ends, row.durations_ns(end_ns), strict=True):
        for index, (belief, lasted_ns) in enumerate(times):
            state = belief.certain
            limit_ns = _PASSING.get(state) if state is not None else None
            if state is None or limit_ns is None or lasted_ns <= limit_ns:
                continue
            so_far = ", and still is" if index == len(times) - 1 else ""
            if unanswered and state is TcpState.SYN_SENT:
                continue  # told already
            said = f"the {end.role} end was {_time(lasted_ns)} in {state}{so_far}"
            yield Oddity(10 + 2 * log2(lasted_ns / limit_ns), said)


def _ways(row: Row) -> Iterator[Oddity]:
    """Ways that hardly any connection goes."""
    calling = 0
    for end in row.course.ends:
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


def _time(t_ns: int) -> str:
    if t_ns < _S:
        return f"{t_ns / 1e6:.3g} ms"
    return f"{t_ns / 1e9:.3g} s" if t_ns < 100 * _S else f"{t_ns / 1e9:,.0f} s"
