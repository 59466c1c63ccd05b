"""A host's sockets in words: a table as `ss` has it, moves as a log, and what was seen in the end.

Owns: how ages, holders and queues are put, with every text from outside made visible. Must not know
who found any of it out.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from tcpwatch.model.host import Holder, Holding, SocketFacts
from tcpwatch.model.identity import SocketAddress
from tcpwatch.model.timeline import Basis, Belief
from tcpwatch.model.witness import Availability
from tcpwatch.tcp.state import TcpState
from tcpwatch.views.canvas import Span, shortened, width_of
from tcpwatch.views.palette import BOLD, DIM, WARN, in_ascii, paint, state_style
from tcpwatch.views.wording import Wording

_SECOND_NS = 1_000_000_000
_UNITS = ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "m"), (60, "m", 1, "s"))


def age(age_ns: int, *, at_least: bool = False) -> str:
    """``340 ms``, ``5.2 s``, ``3m12s``, ``2h05m``, ``4d03h``; ``>`` before it: at least so long."""
    sign = ">" if at_least else ""
    if age_ns < _SECOND_NS:
        return f"{sign}{age_ns // 1_000_000} ms"
    seconds = age_ns / _SECOND_NS
    if seconds < 10:
        return f"{sign}{seconds:.1f} s"
    whole = int(seconds)
    for large, name, small, sub in _UNITS:
        if whole >= large:
            return f"{sign}{whole // large}{name}{whole % large // small:02d}{sub}"
    return f"{sign}{whole} s"


def octets(count: int | None) -> str:
    """A queue's length; ``-`` where nobody told."""
    return "-" if count is None else str(count)


def address(of: SocketAddress) -> str:
    """As `ss` puts it: a listener's other end is ``*``, and so is any address."""
    if of.port == 0:
        return "*"
    return f"*:{of.port}" if of.ip in ("0.0.0.0", "::") else str(of)  # noqa: S104 - nothing binds


def holder(one: Holder, wording: Wording) -> str:
    """``nginx[123]``."""
    return f"{wording.safe(one.name) or '?'}[{one.pid}]"


def _grouped(named: Sequence[Holder], wording: Wording) -> str:
    """``nginx[801,812],sshd[1]``: those of one name together."""
    pids: dict[str, list[str]] = {}
    for one in named:
        pids.setdefault(wording.safe(one.name) or "?", []).append(str(one.pid))
    return ",".join(f"{name}[{','.join(numbers)}]" for name, numbers in pids.items())


def holders(facts: SocketFacts, wording: Wording, *, most: int = 2) -> str:
    """Who has to do with it, in brackets where nobody has it open that we can see."""
    more = len(facts.holders) - most
    text = _grouped(facts.holders[:most], wording) + (f" +{more}" if more > 0 else "")
    match facts.holding:
        case Holding.LISTENS:
            return f"({text} listens)"
        case Holding.NOBODY:
            return "" if facts.is_listener or facts.ended else "(the kernel's)"
        case Holding.UNKNOWN:
            return "?" if facts.inode else ""
        case _:
            return text


@dataclass(frozen=True, slots=True)
class MoveFacts:
    """A move with what is known of its socket; ``unix_ns`` is the wall clock's time."""

    unix_ns: int
    before: Belief
    after: Belief
    cause: str
    basis: Basis
    gap: bool
    of: SocketFacts


def belief(states: Belief, *, bold: bool = False) -> list[Span]:
    """``A or B``, each state in its colour."""
    spans: list[Span] = []
    for state in TcpState:
        if state in states.states:
            spans += [Span(" or ", DIM)] * bool(spans)
            spans.append(Span(state.value, state_style(state, bold=bold)))
    return spans or [Span("contradiction", WARN)]


def clock(unix_ns: int) -> str:
    """``12:03:04.123``, the local time."""
    seconds, rest_ns = divmod(unix_ns, _SECOND_NS)
    return f"{_to_the_second(seconds)}.{rest_ns // 1_000_000:03d}"


@lru_cache(maxsize=8)
def _to_the_second(unix_s: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(unix_s))


def printed(line: Iterable[Span], *, colour: bool, ascii_only: bool) -> str:
    """A line as it is printed. Unlike `canvas.joined`, fast enough for thousands a second."""
    texts = [
        paint(in_ascii(text) if ascii_only else text, style if colour else "")
        for text, style in line
    ]
    return "".join(texts).rstrip()


def move_line(move: MoveFacts, wording: Wording) -> list[Span]:
    """One line of the log: time, from > to, endpoints, process, cause."""
    line = [Span(clock(move.unix_ns), DIM), Span("  ")]
    moved = [*belief(move.before), Span(" > ", DIM), *belief(move.after, bold=True)]
    line += _padded(moved, _MOVE_WIDTH)
    ends = f"{move.of.local} > {move.of.remote}"
    line += [Span("  "), *_padded([Span(ends)], _ENDS_WIDTH)]
    remarks = [holders(move.of, wording)]
    if move.cause:
        remarks.append(f"by {move.cause}")
    if move.basis is Basis.ASSUMED:
        remarks.append("(assumed)")
    if move.gap:
        remarks.append("(more may have happened)")
    return [*line, Span("  "), Span("  ".join(filter(None, remarks)))]


_MOVE_WIDTH = len("SYN-RECEIVED > ESTABLISHED")
_ENDS_WIDTH = len("192.168.100.100:50000 > 10.0.0.1:443")


def _padded(spans: list[Span], width: int) -> list[Span]:
    used = sum(width_of(span.text) for span in spans)
    return [*spans, Span(" " * max(width - used, 0))]


# ---------------------------------------------------------------------- the table

_HEAD = ("State", "Age", "Recv-Q", "Send-Q", "Local", "Remote", "Process")
_RIGHT = frozenset({1, 2, 3})


def table_lines(
    rows: Sequence[SocketFacts], width: int | None, wording: Wording
) -> list[list[Span]]:
    """The sockets as `ss` lists them; the last column is cut at ``width`` (None: not at all)."""
    cells = [_cells(facts, wording) for facts in rows]
    texts = [_HEAD, *(tuple("".join(s.text for s in cell) for cell in row) for row in cells)]
    widths = [max(width_of(row[column]) for row in texts) for column in range(len(_HEAD))]
    lines = [_table_line([[Span(name, BOLD)] for name in _HEAD], widths, width)]
    return lines + [_table_line(row, widths, width) for row in cells]


def _cells(facts: SocketFacts, wording: Wording) -> list[list[Span]]:
    old = "" if facts.is_listener else age(facts.age_ns, at_least=facts.age_is_least)
    return [
        belief(facts.belief),
        [Span(old)],
        [Span(octets(facts.receive_queue))],
        [Span(octets(facts.send_queue))],
        [Span(address(facts.local))],
        [Span(address(facts.remote))],
        [Span(holders(facts, wording))],
    ]


def _table_line(row: list[list[Span]], widths: list[int], width: int | None) -> list[Span]:
    line: list[Span] = []
    for column, cell in enumerate(row):
        used = sum(width_of(span.text) for span in cell)
        pad = Span(" " * (widths[column] - used))
        line += [Span("  ")] * bool(line)
        if column == len(row) - 1:
            room = None if width is None else width - sum(widths[:-1]) - 2 * column
            line += (
                cell
                if room is None
                else [Span(shortened(s.text, max(room, 8)), s.style) for s in cell]
            )
        else:
            line += [pad, *cell] if column in _RIGHT else [*cell, pad]
    return line


# ---------------------------------------------------------------------- head and foot


def head_line(witnesses: Sequence[Availability], every_s: float) -> str:
    """Who watches, in one line."""
    seen = []
    for one in witnesses:
        if one.available:
            pace = (
                f" every {every_s:g} s, what moves ten times a second"
                if one.name == "table"
                else ""
            )
            seen.append(f"{one.name} ({one.detail}{pace})")
    return f"watching by {' and '.join(seen)}"


def missing_lines(witnesses: Sequence[Availability]) -> list[str]:
    """Why a witness is not there, and what is not seen without it."""
    lines = []
    for one in witnesses:
        if not one.available:
            why = f"{one.detail}; {one.remedy}" if one.remedy else one.detail
            lines.append(f"without {one.name}: {why}")
    if not any(one.available for one in witnesses if one.name == "kernel"):
        lines.append("what begins and ends between two looks at the table is not seen")
    return lines


def foot_lines(
    counts: Mapping[TcpState, int], moves: Iterable[tuple[Belief, Belief, int]], lost: int
) -> list[list[Span]]:
    """What was seen in the end: the moves by their kind, the sockets by their state."""
    lines: list[list[Span]] = []
    for before, after, count in moves:
        moved = [*belief(before), Span(" > ", DIM), *belief(after)]
        lines.append([Span(f"{count:7}  "), *moved])
    now = [
        Span(f"{', ' if index else ''}{count} {state.value}", state_style(state))
        for index, (state, count) in enumerate(
            (state, counts[state]) for state in TcpState if counts.get(state)
        )
    ]
    lines.append([Span("now: ", DIM), *(now or [Span("no sockets")])])
    if lost:
        lines.append([Span(f"{lost} events of the kernel were lost: its buffer was full", WARN)])
    return lines
