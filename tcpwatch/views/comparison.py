"""Runs against a baseline: what is otherwise now, scenario by scenario, as a diff.

Owns: how a comparison is put. Must not know what is compared, nor when it counts as a change.
"""

from __future__ import annotations

from tcpwatch.machine.baseline import Change, Compared, Comparison
from tcpwatch.views.canvas import Span, words, wrap
from tcpwatch.views.palette import BAD, BOLD, DIM, GOOD, WARN
from tcpwatch.views.summary import Lines
from tcpwatch.views.wording import Wording

_STYLES = {"-": BAD, "+": GOOD, " ": ""}


def comparison_lines(comparison: Comparison, width: int, wording: Wording) -> Lines:
    """What has changed, what could not be compared, and how many of each."""
    before, after = wording.safe(comparison.before), wording.safe(comparison.after)
    head = [*words("against the baseline:", BOLD)]
    head += words(f"kernel {before} (-), and now {after} (+)", DIM)
    lines = wrap(head, width, 2)
    for note in comparison.notes:
        lines += wrap(words(wording.safe(note), WARN), width, 2)
    for compared in comparison.scenarios:
        if compared.changes or compared.incomparable:
            lines += _scenario(compared, width, wording)
    return [*lines, *wrap(words(_totals(comparison), BOLD), width)]


def _scenario(compared: Compared, width: int, wording: Wording) -> Lines:
    name = wording.safe(compared.scenario)
    lines = [[Span(name, BOLD)]]
    for change in compared.changes:
        lines += _change(change, width, wording)
    if compared.incomparable:
        why = f"cannot be compared: {wording.safe(compared.incomparable)}"
        lines += [[Span("  "), *line] for line in wrap(words(why, WARN), width - 2, 2)]
    return lines


def _change(change: Change, width: int, wording: Wording) -> Lines:
    head = words(wording.safe(change.what))
    if not change.certain:
        head += words("(the evidence does not suffice to call it a change)", WARN)
    lines = [[Span("  "), *line] for line in wrap(head, width - 2, 2)]
    for sign, text in change.diff():
        style = _STYLES[sign]
        told = wrap([(Span(sign, style),), *words(wording.safe(text), style)], width - 4, 2)
        lines += [[Span("    "), *line] for line in told]
    return lines


def _totals(comparison: Comparison) -> str:
    count = len(comparison.scenarios)
    same = count - comparison.changed - comparison.undecided
    scenarios = "1 scenario" if count == 1 else f"{count} scenarios"
    told = f"{scenarios}: {same} as in the baseline, {comparison.changed} changed"
    undecided = comparison.undecided
    return f"{told}, {undecided} could not be compared" if undecided else told
