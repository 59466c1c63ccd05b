"""What a replay's filter, `--top` and `--expect` came to, in words.

Owns: how the oddest connections and the answers to demands stand on the page. Must not know how
they were found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

from tcpwatch.machine.expecting import Demand
from tcpwatch.machine.oddity import Oddity
from tcpwatch.machine.rows import Row
from tcpwatch.model.durations import lasting
from tcpwatch.model.timeline import Answer
from tcpwatch.views.canvas import Span, Word, words, wrap
from tcpwatch.views.palette import BAD, BOLD, DIM, GOOD, WARN
from tcpwatch.views.paths import counted, path_words
from tcpwatch.views.summary import Lines, explanation_lines
from tcpwatch.views.wording import Wording

CASES_AT_MOST: Final = 3
"""Ways that are shown of those that were not as a demand had it, and of those that may not be."""


class Case(Protocol):
    """An end that did not go as demanded, the first of those that went its way."""

    @property
    def row(self) -> Row: ...
    @property
    def answer(self) -> Answer: ...
    @property
    def count(self) -> int: ...


_Case = TypeVar("_Case", bound=Case)


class Counted(Protocol):
    """The answers to one demand."""

    @property
    def demand(self) -> Demand: ...
    @property
    def met(self) -> int: ...
    @property
    def unmet(self) -> int: ...
    @property
    def doubtful(self) -> int: ...
    @property
    def wrong(self) -> Mapping[Any, Case]: ...
    @property
    def unsure(self) -> Mapping[Any, Case]: ...


def first_cases(cases: Iterable[_Case]) -> list[_Case]:
    """Those that are shown: of the most frequent ways."""
    return sorted(cases, key=lambda case: (-case.count, case.row.number))[:CASES_AT_MOST]


def selection(selects: str, seen: int, chosen: int) -> str:
    """How many connections a filter has left; empty where there is none."""
    if not selects:
        return ""
    left = "none" if not chosen else "all" if chosen == seen else f"{chosen:,}"
    return f"{left} of {counted(seen, 'connection')} selected by {selects}"


def top_lines(
    top: Sequence[tuple[Row, Sequence[Oddity]]],
    wanted: int,
    chosen: int,
    width: int,
    wording: Wording,
) -> Lines:
    """Each of the oddest with what is odd about it, and the way that its ends went.

    ``wanted``: how many there were to be, of ``chosen`` connections; fewer may be odd at all.
    """
    if not top:
        return [[Span(f"nothing odd about {counted(chosen, 'connection')}", BOLD)]]
    of = f"of {counted(chosen, 'connection')}"
    are = "is" if len(top) == 1 else "are"
    oddest = "the oddest" if len(top) == 1 else f"the {len(top)} oddest"
    said = f"{len(top)} {of} {are} odd" if len(top) < wanted else f"{oddest} {of}"
    lines: Lines = [[Span(said, BOLD)]]
    for row, odd in top:
        lines += [[], *_named(row, width, wording)]
        for one in odd:
            lines += _indented(words(wording.safe(one.words), WARN), 4, width)
        for end in row.course.ends:
            role: Word = (Span(wording.safe(end.role), DIM), Span(" "))
            lines += _indented([role, *path_words(end.path, wording)], 4, width)
    return lines


def demand_lines(tallies: Sequence[Counted], width: int, wording: Wording) -> Lines:
    """Each demand, how many connections went so, and of the first that did not what they did."""
    lines: Lines = []
    for tally in tallies:
        lines += [[]] if lines else []
        lines += wrap(words(wording.safe(tally.demand.text), BOLD), width, 2)
        lines += _indented(_counts(tally), 2, width)
        for label, count, cases in (
            ("NOT as expected", tally.unmet, tally.wrong),
            ("cannot be told", tally.doubtful, tally.unsure),
        ):
            shown = first_cases(cases.values())
            for case in shown:
                lines += _answered(case, label, width, wording)
            rest = count - sum(case.count for case in shown)
            if rest:
                lines.append([Span(f"  and {rest:,} that went other ways: {label}", DIM)])
    return lines


def _counts(tally: Counted) -> list[Word]:
    total = tally.met + tally.unmet + tally.doubtful
    if not total:
        return words("no connection is selected that has such an end", WARN)
    parts = [
        (f"{tally.met:,} as expected", GOOD, tally.met),
        (f"{tally.unmet:,} NOT as expected", BAD, tally.unmet),
        (f"{tally.doubtful:,} cannot be told", WARN, tally.doubtful),
    ]
    told = [(text, style) for text, style, count in parts if count]
    ends = "end" if total == 1 else "ends"
    found: list[Word] = words(f"of {total:,} {ends}:")
    for index, (text, style) in enumerate(told):
        comma = "," if index < len(told) - 1 else ""
        found += words(f"{text}{comma}", style)
    return found


def _answered(case: Case, label: str, width: int, wording: Wording) -> Lines:
    expectation, row = case.answer.expectation, case.row
    role = expectation.endpoint.partition(" ")[0]
    style = BAD if expectation.met is False else WARN
    others = f", and {case.count - 1:,} more that went this way" if case.count > 1 else ""
    said = [*_name(row, wording), (Span(wording.safe(role), BOLD), Span(" "))]
    said += words(f"{label}{others}", style)
    if expectation.met is False:
        said.append((Span("(- expected, + witnessed)", DIM),))
    lines = _indented(said, 2, width)
    if expectation.met is False:
        return [*lines, *explanation_lines(expectation, wording, width)]
    reason = expectation.explanation or f"that may be so, or not{_gaps(case.answer)}"
    ways = [end.path for end in row.course.ends if end.role == role]
    went = _indented(path_words(ways[0], wording), 4, width) if ways else []
    return [*lines, *went, *_indented(words(wording.safe(reason), DIM), 4, width)]


def _gaps(answer: Answer) -> str:
    """What the reason says beyond path and pattern."""
    return answer.reason.rpartition(answer.expectation.pattern)[2]


def _named(row: Row, width: int, wording: Wording) -> Lines:
    lasted = words(f"{lasting(row.last_ns - row.start_ns)}, from {lasting(row.start_ns)} on", DIM)
    return wrap([*_name(row, wording), (Span(""),), *lasted], width, 4)


def _name(row: Row, wording: Wording) -> list[Word]:
    """``#12 10.0.0.1:40000 > 10.0.0.2:80``."""
    ends = [row.id.four_tuple.local, row.id.four_tuple.remote][: len(row.course.ends)]
    met = " > ".join(wording.safe(str(address)) for address in ends)
    return [(Span(f"#{row.number}", BOLD),), *words(met)]


def _indented(content: list[Word], by: int, width: int) -> Lines:
    """Wrapped, the first line indented too; later ones two cells further."""
    return wrap([(Span(" " * by), *content[0]), *content[1:]], width, by + 2)
