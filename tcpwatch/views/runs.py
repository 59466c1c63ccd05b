"""Several runs: a line for each as it ends, and the table of all by topic with its totals.

Owns: the columns of that table, and what several scenarios measured side by side. Must not know in
which order they were played, nor how.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tcpwatch.model.events import Measured
from tcpwatch.model.timeline import Judged, Verdict
from tcpwatch.views.canvas import Span, Word, shortened, width_of, words, wrap
from tcpwatch.views.contrast import Row, contrast_lines
from tcpwatch.views.palette import BAD, BOLD, DIM
from tcpwatch.views.summary import VERDICT_STYLES, Lines, seconds
from tcpwatch.views.wording import Wording, title

_COUNTED = (
    (Verdict.PASS, "passed"),
    (Verdict.FAIL, "failed"),
    (Verdict.INCONCLUSIVE, "inconclusive"),
    (None, "could not be played"),
)
_WEIGHT = (Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL, None)  # the last is the worst
_WIDEST_VERDICT = max(len(verdict.value) for verdict in Verdict)
_SHORTEST_CLAIM = 12  # columns: less of it says nothing


@dataclass(frozen=True, slots=True)
class Unplayed:
    """A scenario of which there was no run, and why."""

    scenario: str
    claim: str
    reason: str


Run = Judged | Unplayed


def run_line(
    run: Run, number: int, total: int, width: int, wording: Wording, *, explained: bool
) -> Lines:
    """One of many as it ends: ``12/36 PASS  0.2 s  normal-close``.

    And why it did not pass, unless that is ``explained`` above.
    """
    done: Word = (Span(f"{number:>{len(str(total))}}/{total}", DIM),)
    head = _head(run, wording, _WIDEST_VERDICT, 0)
    reason = [] if explained else [(Span(""),), *words(_reason(run, wording), DIM)]
    return wrap([done, head, *reason], width, min(8, width // 2))


def table_lines(
    topics: Iterable[tuple[str, Sequence[Run]]],
    width: int,
    wording: Wording,
    planned: int = 0,
    wall_s: float | None = None,
) -> Lines:
    """All runs by topic, a line each; where one was played again, a line a scenario.

    Then what several of a topic measured, side by side, and the totals. ``planned``: how many there
    were to be, where not all were played; ``wall_s``: how long it took.
    """
    groups = [(wording.safe(topic), _by_scenario(runs)) for topic, runs in topics if runs]
    scenarios = [scenario for _, group in groups for scenario in group]
    runs = [run for scenario in scenarios for run in scenario]
    repeated = len(scenarios) < len(runs)
    indent = 2 if len(groups) > 1 else 0
    columns = _Columns.of(scenarios, width - indent, wording)
    lines: Lines = []
    for topic, group in groups:
        if indent:
            lines.append([Span(topic, BOLD)])
        for scenario in group:
            row = columns.of_scenario(scenario) if repeated else columns.of_run(scenario[0])
            lines += [[Span(" " * indent), *line] for line in row] if indent else row
    tables = [table for _, group in groups for table in contrasts(r for s in group for r in s)]
    for names, rows in tables:
        lines += [[], *contrast_lines(names, rows, width, wording)]
    lines += [[]] if tables else []
    of = f" of {planned}" if planned > len(runs) else ""
    totals = f"{len(runs)}{of} runs: {_counts(runs) or 'none'}"
    if wall_s is not None:
        played_ns = sum(run.record.end_ns for run in runs if isinstance(run, Judged))
        totals += f"; {played_ns / 1e9:.1f} s of play in {wall_s:.1f} s"
    return [*lines, *wrap(words(totals, BOLD), width)]


def contrasts(runs: Iterable[Run]) -> list[tuple[list[str], list[Row]]]:
    """What more than one scenario measured: tables as `contrast_lines` draws them.

    A column is a scenario, or a case of it. What some of them measured stands in their table.
    """
    found: dict[str, dict[tuple[str, str], dict[str, None]]] = {}
    for run in runs:
        for event in run.timeline.events if isinstance(run, Judged) else ():
            if isinstance(event.payload, Measured):
                column = (_name(run), event.payload.case)
                values = found.setdefault(event.payload.what, {}).setdefault(column, {})
                values[str(event.payload.value)] = None
    shared = {w: cs for w, cs in found.items() if len({scenario for scenario, _ in cs}) > 1}
    tables: list[tuple[list[tuple[str, str]], list[Row]]] = []
    for what, of in sorted(shared.items(), key=lambda item: -len(item[1])):
        columns, rows = next((t for t in tables if of.keys() <= {*t[0]}), ([*of], []))
        if not rows:
            tables.append((columns, rows))
        rows.append((what, [" or ".join(of.get(column, ())) for column in columns]))
    return [
        ([f"{name}: {case}" if case else name for name, case in columns], rows)
        for columns, rows in tables
    ]


@dataclass(frozen=True, slots=True)
class _Columns:
    """How wide the columns of the table are. All its rows align, whatever their topic."""

    verdict: int
    passed: int
    name: int
    width: int
    wording: Wording

    @classmethod
    def of(cls, scenarios: Sequence[Sequence[Run]], width: int, wording: Wording) -> _Columns:
        names = [width_of(wording.safe(_name(runs[0]))) for runs in scenarios]
        verdicts = [len(_verdict_word(run)[0]) for runs in scenarios for run in runs]
        return cls(
            max(verdicts, default=0),
            max((len(_passed(runs)) for runs in scenarios), default=0),
            min(max(names, default=0), max(width // 2, 8)),
            width,
            wording,
        )

    def of_run(self, run: Run) -> Lines:
        """Verdict, time, scenario and the first reason; if none, the claim as far as it fits."""
        reason = _reason(run, self.wording)
        head = _head(run, self.wording, self.verdict, self.name)
        if reason:
            return wrap([head, (Span(""),), *words(reason, DIM)], self.width, self.width // 3)
        claim = self.wording.safe(title(_claim(run)))
        room = self.width - sum(width_of(span.text) for span in head) - 2
        if claim and room >= _SHORTEST_CLAIM:
            return [[*head, Span("  "), Span(shortened(claim, room), DIM)]]
        return wrap([head], self.width)

    def of_scenario(self, runs: Sequence[Run]) -> Lines:
        """``7 of 8 passed   normal-close   0.21 to 0.30 s   1 failed: `` and the first reason."""
        worst = max(runs, key=lambda run: _WEIGHT.index(_verdict(run)))
        name = self.wording.safe(_name(runs[0]))
        head: list[Word] = [
            (Span(_passed(runs).rjust(self.passed), _verdict_word(worst)[1]), Span("  ")),
            (Span(name + " " * (self.name - width_of(name))), Span("  ")),
            (Span(_times(runs)),),
        ]
        other = _counts([run for run in runs if _verdict(run) is not Verdict.PASS])
        if other:
            reason = _reason(worst, self.wording)
            head += [(Span("  "), Span(f"{other}{':' if reason else ''}")), *words(reason, DIM)]
        return wrap(head, self.width, min(self.passed + 3, self.width // 2))


def _by_scenario(runs: Iterable[Run]) -> list[list[Run]]:
    scenarios: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        scenarios.setdefault((_name(run), _claim(run)), []).append(run)
    return list(scenarios.values())


def _head(run: Run, wording: Wording, verdict_width: int, name_width: int) -> Word:
    """Verdict, time and scenario."""
    verdict, style = _verdict_word(run)
    time = f"{seconds(run)} s" if isinstance(run, Judged) else ""
    name = wording.safe(_name(run))
    return (
        Span(verdict, style),
        Span(f"{' ' * (verdict_width - len(verdict))}  {time:>6}  "),
        Span(name + " " * (name_width - width_of(name))),
    )


def _name(run: Run) -> str:
    return run.scenario if isinstance(run, Unplayed) else run.record.scenario


def _claim(run: Run) -> str:
    return run.claim if isinstance(run, Unplayed) else run.record.claim


def _verdict(run: Run) -> Verdict | None:
    return None if isinstance(run, Unplayed) else run.verdict


def _verdict_word(run: Run) -> tuple[str, str]:
    """The verdict as it is told, and its style."""
    if isinstance(run, Unplayed):
        return "ERROR", BAD
    return run.verdict.value.upper(), VERDICT_STYLES[run.verdict]


def _reason(run: Run, wording: Wording) -> str:
    """The first reason why it did not pass."""
    if isinstance(run, Unplayed):
        return wording.safe(run.reason)
    return wording.safe(run.reasons[0]) if run.reasons else ""


def _passed(runs: Sequence[Run]) -> str:
    return f"{sum(_verdict(run) is Verdict.PASS for run in runs)} of {len(runs)} passed"


def _counts(runs: Iterable[Run]) -> str:
    counts = Counter(_verdict(run) for run in runs)
    return ", ".join(f"{counts[verdict]} {word}" for verdict, word in _COUNTED if counts[verdict])


def _times(runs: Iterable[Run]) -> str:
    """From the shortest to the longest run."""
    ends_ns = sorted(r.record.end_ns or r.timeline.end_ns for r in runs if isinstance(r, Judged))
    times = [f"{end_ns / 1e9:.2f}" for end_ns in ends_ns]
    if not times:
        return ""
    return f"{times[0]} to {times[-1]} s" if times[0] != times[-1] else f"{times[0]} s"
