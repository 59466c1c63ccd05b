"""What a state or a transition means, as text: `tcpwatch explain`.

Owns: the pages. How one gets in and out is read from the transition table, what it means from
`meanings.py`; which scenarios show it, the caller says. Must not know a timeline.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.machine.coverage import arrows
from tcpwatch.machine.stimulus import Kind
from tcpwatch.machine.table import TABLE, Outcome, Row, paths_between
from tcpwatch.tcp.state import TcpState
from tcpwatch.views.canvas import joined
from tcpwatch.views.diagram import Ink, piece
from tcpwatch.views.figure import figure
from tcpwatch.views.meanings import ABOUT, ARROWS, SILENT, STIMULI

_NARROWEST = 40  # columns; below that a table of transitions is no table
_INDENT = 2  # of what stands under a heading
_TALLEST = 16  # lines of a picture
_NAMED, _FEW = 6, 24  # scenarios: that are named; up to which some are more telling than others
_UNBROKEN = re.compile(r"(?<=\bss) (?=-)|(?<=\btcpwatch) | (?=--)|(?<=\brun) ")


def explain_state(state: TcpState, width: int, shown_by: Sequence[str] = ()) -> str:
    """What ``state`` means, how one gets in and out, what being stuck there says.

    ``shown_by``: the scenarios that expect a connection to pass it.
    """
    about = ABOUT[state]
    page = _Page(width)
    page.title(state.value, f"RFC 9293 3.3.2, {about.section}")
    page.text(about.meaning)
    page.heading("How one gets in")
    page.table(_ways((row for row in _moves() if state in _ends(row)), arriving=True))
    page.heading("How one gets out")
    page.table(_ways((row for row in _moves() if row.state is state), arriving=False))
    page.heading("What changes nothing")
    page.table(_unmoved(state))
    page.heading("On Linux")
    page.text(about.linux)
    page.heading("Stuck here")
    page.text(about.stuck)
    page.scenarios(shown_by, state)
    return page.rendered()


def explain_edge(
    before: TcpState,
    after: TcpState,
    width: int,
    shown_by: Sequence[str] = (),
    *,
    ascii_only: bool = False,
) -> str:
    """What takes a connection from ``before`` to ``after``, and what follows.

    ``shown_by``: the scenarios that expect it. Raises TcpwatchError (wrong usage), naming the edges
    that leave ``before``, where there is none.
    """
    rows = [row for row in _moves() if row.state is before and after in _ends(row)]
    if not rows:
        raise _no_edge(before, after)
    page = _Page(width)
    page.title(f"{before} > {after}", "")
    page.picture(_picture(before, after, page.width, ascii_only=ascii_only))
    for row in rows:
        page.heading(f"{row.stimulus.value} (RFC 9293 {row.section})")
        for text in _told(row, after):
            page.text(text)
    page.heading(f"Then, in {after}")
    page.text(ABOUT[after].meaning)
    page.heading(f"Stuck in {before} instead")
    page.text(ABOUT[before].stuck)
    if any(row.linux for row in rows):
        page.scenarios(shown_by, before, after)
    return page.rendered()


def _picture(before: TcpState, after: TcpState, width: int, *, ascii_only: bool) -> list[str]:
    """The edge and its two boxes, where it has a line of its own that is not longer than a page."""
    drawn = figure(width - _INDENT)
    inks = {arrow: Ink() for arrow in arrows() if arrow.edge == (before, after)}
    lines = piece(drawn, (before, after), inks) if drawn is not None else []
    if len(lines) > _TALLEST:
        return []
    return [joined(line, colour=False, ascii_only=ascii_only) for line in lines]


def _moves() -> Iterator[Row]:
    return (row for row in TABLE.values() if row.outcome is Outcome.MOVES)


def _ends(row: Row) -> set[TcpState]:
    """Where the row leads, either way of opening; not where it stays."""
    return {row.next_state(passive=True), row.next_state(passive=False)} - {row.state}


def _ways(rows: Iterable[Row], *, arriving: bool) -> Iterator[tuple[str, str, str]]:
    """What happens, where it leads (or comes from) with what is to remark, and the section."""
    groups: dict[tuple[str, str, str], list[TcpState]] = {}
    for row in rows:
        what = row.stimulus.value + (f", sends {row.sends}" if row.sends else "")
        note = row.note if row.linux else f"{row.note} (not by socket calls on Linux)"
        states = groups.setdefault((what, note, row.section), [])
        states += [row.state] if arriving else [end for end in TcpState if end in _ends(row)]
    for (what, note, section), states in groups.items():
        others = ", ".join(map(str, states)) if arriving else " or ".join(map(str, states))
        where = f"from {others}" if arriving else f"to {others}"
        yield what, f"{where}: {note}" if note else where, section


def _unmoved(state: TcpState) -> Iterator[tuple[str, str, str]]:
    groups: dict[tuple[str, str], list[str]] = {}
    for row in TABLE.values():
        if row.state is state and row.outcome is Outcome.IGNORED:
            groups.setdefault((row.note, row.section), []).append(row.stimulus.value)
    for (note, section), stimuli in groups.items():
        # "RST received, SYN received" reads as "RST, SYN received".
        *others, last = stimuli
        names = [*(name.removesuffix(" received") for name in others), last]
        yield " / ".join(names), note, section


def _condition(row: Row, end: TcpState) -> str:
    """Which way it must have opened for the row to lead to ``end``; nothing where both do."""
    ends = {passive: row.next_state(passive=passive) for passive in (True, False)}
    if ends[True] is ends[False]:
        return ""
    return "if it opened passively" if ends[True] is end else "if it opened actively"


def _told(row: Row, after: TcpState) -> Iterator[str]:
    """What the stimulus is in this state, and what the table has to add."""
    pair = (row.state, row.stimulus)
    own = ARROWS.get(pair)
    yield own or STIMULI[row.stimulus]
    if opened := _condition(row, after):
        yield f"It goes there {opened}."
    if row.sends and pair not in SILENT:
        yield f"Sent with it: {row.sends}."
    elif row.stimulus.kind is Kind.CALL:
        yield "Nothing is sent."
    if row.note and own is None and row.note not in STIMULI[row.stimulus]:  # "listen()"
        yield f"Note: {row.note}."
    if not row.linux:
        yield "Socket calls on Linux cannot produce it."
    drawn = row.in_figure and after is row.after
    yield "An arrow of RFC 9293's Figure 5." if drawn else "Not drawn in RFC 9293's Figure 5."


def _no_edge(before: TcpState, after: TcpState) -> TcpwatchError:
    leaving = dict.fromkeys(
        end.value
        for row in _moves()
        if row.state is before
        for end in TcpState
        if end in _ends(row)
    )
    ways = [way for way in paths_between(before, after) if way] if before is not after else []
    detour = f" ({_detour(ways)})" if ways else ""
    return TcpwatchError(
        f"there is no transition from {before} to {after}{detour}",
        f"{before} leads to {', '.join(leaving)}",
        ExitCode.USAGE,
    )


def _detour(ways: Sequence[tuple[TcpState, ...]]) -> str:
    """How to get there all the same: of several long ways one, the most usual."""
    if all(len(way) == 1 for way in ways):
        return f"only by way of {' or '.join(str(state) for (state,) in ways)}"
    way = max(ways, key=lambda way: TcpState.ESTABLISHED in way)
    return f"the shortest way is by {' > '.join(map(str, way))}"


class _Page:
    """Headings, paragraphs and tables within a width. Plain text."""

    def __init__(self, width: int) -> None:
        self.width = max(width, _NARROWEST)
        self._lines: list[str] = []

    def title(self, left: str, right: str) -> None:
        space = self.width - len(left) - len(right)
        if right and space < 2:
            self._lines += [left, right]
        else:
            self._lines.append((left + " " * space + right).rstrip())

    def heading(self, text: str) -> None:
        self._lines += ["", text]

    def picture(self, lines: Sequence[str]) -> None:
        if lines:
            self._lines += ["", *(f"{' ' * _INDENT}{line}".rstrip() for line in lines)]

    def scenarios(self, names: Sequence[str], *about: TcpState) -> None:
        """Some of them: the first; then, where there are few, those named for one of the states."""
        self.heading("Shown by")
        if not names:
            self.text(
                "No scenario's expectation names it, since a listener is no connection: tcpwatch "
                "coverage tells which show it."
            )
            return
        first, *rest = names
        telling = [state.value.lower() for state in about]
        if len(rest) < _FEW:
            rest.sort(key=lambda name: not any(state in name for state in telling))
        shown, others = [first, *rest][:_NAMED], len(names) - _NAMED
        more = f", and {others} more" if others > 0 else ""
        self.text(f"{', '.join(shown)}{more}. For example: tcpwatch run {first}")

    def text(self, text: str) -> None:
        """A paragraph. A command is not torn from what makes it one."""
        lines = textwrap.wrap(
            _UNBROKEN.sub("\xa0", text),
            self.width,
            initial_indent=" " * _INDENT,
            subsequent_indent=" " * _INDENT,
            break_on_hyphens=False,
        )
        self._lines += [line.replace("\xa0", " ") for line in lines]

    def table(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Three columns; the first two are wrapped, the last one stands at the right edge."""
        listed = list(rows)
        first = min(max(len(row[0]) for row in listed), self.width // 3)
        last = max(len(row[2]) for row in listed)
        middle = self.width - first - last - 6  # the indent and two gaps of 2
        for name, what, section in listed:
            names = textwrap.wrap(name, first)
            whats = textwrap.wrap(what, middle, break_on_hyphens=False)
            lines = zip_longest(names, whats, [section], fillvalue="")
            self._lines += [
                f"  {one:<{first}}  {other:<{middle}}  {cited}".rstrip()
                for one, other, cited in lines
            ]

    def rendered(self) -> str:
        return "\n".join(self._lines)
