"""What was exercised of the machine: the figure, the table, the document, the README's part.

Owns: their layout within a width, the fields of the document. Must not know how the runs were
played, nor decide what counts as exercised.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from tcpwatch.machine.coverage import Arrow, Coverage, Covered, Edge, Sighting
from tcpwatch.tcp.state import TcpState
from tcpwatch.views.canvas import Span, shortened, visible, words, wrap
from tcpwatch.views.diagram import NAMES, Ink, Line, draw
from tcpwatch.views.figure import figure
from tcpwatch.views.json import SCHEMA, Document
from tcpwatch.views.palette import BAD, BOLD, DIM, GOOD, LINE, WARN, state_style
from tcpwatch.views.summary import Lines

_SHOWN = Ink(Line.PLAIN, "✓", state_style(TcpState.ESTABLISHED))  # green, and not bold: it is much
_PERHAPS = Ink(Line.DASHED, "?", WARN)
_MISSING = Ink(Line.DASHED, "✗", BAD)
_BARRED = Ink(Line.DASHED, "∅", LINE)

_LEGEND = (
    (_SHOWN, "was exercised"),
    (_PERHAPS, "perhaps"),
    (_MISSING, "was not"),
    (_BARRED, "cannot be, by socket calls on Linux"),
)
_WIDE = 72  # columns: room for all of the table
_BY, _TO = 12, 14  # columns of the table
_MOST_UNTOLD = 20
_NAMED = 2  # scenarios of an arrow in the README


def coverage_lines(coverage: Coverage, runs: Sequence[str], width: int) -> Lines:
    """The figure (where there is room for it), the table, what cannot be, and the totals.

    ``runs`` are the scenarios of the runs that were looked at.
    """
    counted = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
    title = f"TCP's state machine (RFC 9293), as exercised in {counted}"
    lines: Lines = [*wrap(words(title, BOLD), width), []]
    lines += [*_figure(coverage, width), *_table(coverage, width)]
    if coverage.unreachable:
        lines += [[], [Span("not by socket calls on Linux", BOLD)]]
        lines += [line for one in coverage.unreachable for line in _barred(one.arrow, width)]
    if coverage.untold:
        lines += [[], [Span("which arrow it was cannot be told", BOLD)]]
        told = coverage.untold[:_MOST_UNTOLD]
        lines += [line for sighting in told for line in _untold(sighting, width)]
        if rest := len(coverage.untold) - len(told):
            lines += [[Span(f"  and {rest:,} more, in --json", DIM)]]
    return [*lines, [], *_totals(coverage, width)]


def ink_of(covered: Covered) -> Ink:
    """How an arrow is drawn, by what is known of it."""
    if covered.seen:
        return _SHOWN
    if not covered.arrow.row.linux:
        return _BARRED
    return _PERHAPS if covered.perhaps else _MISSING


def _figure(coverage: Coverage, width: int) -> Lines:
    drawn = figure(width)
    if drawn is None:
        return []
    inks = {
        one.arrow: ink_of(one)
        for one in coverage.covered
        if one.arrow.row.linux or one.arrow.row.in_figure
    }
    lines = draw(drawn, inks)
    signs = "" if drawn.roomy else "; R, A, T: by RST, abort, timeout"
    legend = [
        (Span(ink.mark, ink.style), Span(f" {text}{',' if ink is not _BARRED else '.'}"))
        for ink, text in _LEGEND
    ]
    within = words(f"Within a box: what leads to CLOSED from there{signs}.")
    return [*lines, [], *wrap([*legend, *within], width), []]


def _table(coverage: Coverage, width: int) -> Lines:
    """A line an arrow; on a narrow page without section and witnesses, the names below it."""
    wide = width >= _WIDE
    head = f"    {'by':<{_BY}}{'to':<{_TO}}"
    head += f"{'RFC 9293':<10}{'times':>5}  seen by  " if wide else "times"
    lines: Lines = [[Span(head + ("shown in" if wide else ""), DIM)]]
    for state, group in groupby(coverage.reachable, key=lambda one: one.arrow.before):
        lines.append([Span("from "), Span(state.value, state_style(state, bold=True))])
        for one in group:
            ink, arrow = ink_of(one), one.arrow
            row = [
                Span(f"  {ink.mark} ", ink.style),
                Span(f"{NAMES[arrow.stimulus]:<{_BY}}"),
                Span(f"{arrow.after.value:<{_TO}}", state_style(arrow.after)),
            ]
            if wide:
                section, witnesses = arrow.row.section, str(one.witnesses or "-")
                row.append(Span(f"{section:<10}{len(one.seen):>5}  {witnesses:^7}  "))
                lines.append([*row, Span(_shown_in(one, width - len(head)))])
            else:
                lines.append([*row, Span(f"{len(one.seen):>5}")])
                lines.append([Span(" " * 6), Span(_shown_in(one, width - 6))])
    return lines


def _shown_in(one: Covered, room: int) -> str:
    """The scenarios of an arrow, as many names as there is room for."""
    perhaps = tuple(dict.fromkeys(sighting.scenario for sighting in one.perhaps))
    names = [visible(name) for name in one.scenarios or perhaps]
    if not names:
        return "-"
    return _first_of(names, room) if one.seen else f"perhaps {_first_of(names, room - 8)}"


def _first_of(names: Sequence[str], room: int) -> str:
    """As many names as there is room for, and how many more there are."""
    for count in range(len(names), 0, -1):
        more = f" +{len(names) - count}" if count < len(names) else ""
        text = ", ".join(names[:count]) + more
        if len(text) <= room:
            return text
    return shortened(", ".join(names), room)


def _barred(arrow: Arrow, width: int) -> Lines:
    said = f"{name_of(arrow)} ({arrow.row.section}): {arrow.row.note}"
    return [[Span("  "), *line] for line in wrap(words(said), width - 2, 2)]


def _untold(sighting: Sighting, width: int) -> Lines:
    where = f"{sighting.scenario}, {sighting.role}"
    if sighting.connection is not None:
        where += f" of connection {sighting.connection}"
    may = " or ".join(dict.fromkeys(NAMES[arrow.stimulus] for arrow in sighting.arrows))
    may = may or "no arrow of the table"
    cause = f" ({sighting.cause})" if sighting.cause else ""
    said = visible(f"{where}: {sighting.before} > {sighting.after}{cause}: {may}")
    return [[Span("  "), *line] for line in wrap(words(said), width - 2, 2)]


def _totals(coverage: Coverage, width: int) -> Lines:
    reachable, missing = len(coverage.reachable), coverage.missing
    done = "all" if not missing else f"{reachable - len(missing)}"
    said = f"exercised: {done} of the {reachable} arrows that socket calls on Linux can produce"
    lines = wrap(words(said, GOOD if not missing else BAD), width, 2)
    if missing:
        names = "; ".join(name_of(one.arrow) for one in missing)
        lines += wrap(words(f"missing: {names}"), width, 2)
    return lines


def name_of(arrow: Arrow) -> str:
    """The arrow in words: ``A > B by what``."""
    return f"{arrow.before} > {arrow.after} by {_by(arrow)}"


def _by(arrow: Arrow) -> str:
    return NAMES[arrow.stimulus] if arrow.row.linux else arrow.stimulus.value


# ---------------------------------------------------------------------- the document


def coverage_document(coverage: Coverage, runs: Sequence[str]) -> Document:
    """The same as data, schema ``tcpwatch/1``."""
    return {
        "schema": SCHEMA,
        "runs": list(runs),
        "reachable": len(coverage.reachable),
        "exercised": len(coverage.reachable) - len(coverage.missing),
        "arrows": [_arrow(one) for one in coverage.covered],
        "untold": [
            {**_sighting(sighting), "arrows": [_key(arrow) for arrow in sighting.arrows]}
            for sighting in coverage.untold
        ],
    }


def _arrow(one: Covered) -> Document:
    row = one.arrow.row
    return {
        **_key(one.arrow),
        "section": row.section,
        "sends": row.sends,
        "note": row.note,
        "in_figure": row.in_figure and one.arrow.after is row.after,
        "reachable": row.linux,
        "exercised": bool(one.seen),
        "witnesses": one.witnesses,
        "scenarios": list(one.scenarios),
        "seen": [_sighting(sighting) for sighting in one.seen],
        "perhaps": [_sighting(sighting) for sighting in one.perhaps],
    }


def _key(arrow: Arrow) -> dict[str, object]:
    return {
        "from": arrow.before.value,
        "to": arrow.after.value,
        "stimulus": arrow.stimulus.value,
        "kind": arrow.stimulus.kind.value,
    }


def _sighting(sighting: Sighting) -> dict[str, object]:
    return {
        "scenario": sighting.scenario,
        "role": sighting.role,
        "connection": sighting.connection,
        "t_ns": sighting.t_ns,
        "from": [state.value for state in TcpState if state in sighting.before.states],
        "to": [state.value for state in TcpState if state in sighting.after.states],
        "cause": sighting.cause,
        "witnesses": list(sighting.witnesses),
    }


# ---------------------------------------------------------------------- the README's part


def coverage_markdown(coverage: Coverage, declared: Mapping[str, Iterable[Edge]]) -> str:
    """A row a state: where it leads, by what, and two scenarios that show it.

    ``declared``: the catalogue's names in its order, with the edges that their patterns name. Of
    the scenarios that showed an arrow those count which promise its edge: what a play passes by
    chance, another may not. Where no pattern can name it, whoever showed it counts.
    """
    lines = ["| from | to, by what: shown by | RFC 9293 |", "|---|---|---|"]
    for state, group in groupby(coverage.reachable, key=lambda one: one.arrow.before):
        covered = list(group)
        by_end: dict[TcpState, list[str]] = {}
        for one in covered:
            by_end.setdefault(one.arrow.after, []).append(_shown(one, declared))
        cells = "<br>".join(f"{end} by {'; '.join(shown)}" for end, shown in by_end.items())
        lines.append(f"| {state} | {cells} | {_sections(covered)} |")
    reasons = "<br>".join(
        f"{name_of(one.arrow)}: {one.arrow.row.note}" for one in coverage.unreachable
    )
    lines.append(f"| not by Linux's calls | {reasons} | {_sections(coverage.unreachable)} |")
    return "\n".join(lines) + "\n"


def _sections(covered: Iterable[Covered]) -> str:
    return ", ".join(sorted({one.arrow.row.section for one in covered}, key=_by_number))


def _shown(one: Covered, declared: Mapping[str, Iterable[Edge]]) -> str:
    order = {name: place for place, name in enumerate(declared)}
    promised = [name for name in one.scenarios if one.arrow.edge in declared.get(name, ())]
    state = one.arrow.before.value.lower()

    def first(name: str) -> tuple[bool, int]:  # a name that has the state in it is about it
        return state not in name, order.get(name, len(order))

    names = sorted(promised or one.scenarios, key=first)[:_NAMED]
    return f"{_by(one.arrow)}: {', '.join(f'`{name}`' for name in names) or 'nothing yet'}"


def _by_number(section: str) -> list[int]:
    return [int(part) for part in section.split(".")]
