"""Measured values side by side: what is told apart stands in columns, a row a thing measured.

Owns: the width of the columns, and when a list is the better table. Must not know what was
measured, nor whether the columns are cases of one run or several runs.
"""

from __future__ import annotations

from collections.abc import Sequence

from tcpwatch.views.canvas import Span, width_of, words, wrap
from tcpwatch.views.palette import BOLD, DIM, PLAIN
from tcpwatch.views.wording import Wording

Lines = list[list[Span]]
Row = tuple[str, Sequence[str]]
_GAP = 2  # blanks between two columns
NONE = "-"  # stands where a column has no value


def contrast_lines(
    columns: Sequence[str], rows: Sequence[Row], width: int, wording: Wording
) -> Lines:
    """A table within the width: above it the columns' names, a row's name at its left.

    No word is cut: where the columns are too many for that, it lies on its side, or is a list.
    A value that is empty stands as ``-``.
    """
    names = [wording.safe(name) for name in columns]
    safe = [
        (wording.safe(what), [wording.safe(v) or NONE for v in values]) for what, values in rows
    ]
    upright = [["", *names], *([what, *values] for what, values in safe)]
    for grid in (upright, _turned(upright)):
        widths = _widths(_turned(grid), width)
        if widths is not None:
            heads = [BOLD, *(PLAIN for _ in grid[1:])]
            rows_of = zip(grid, heads, strict=True)
            return [line for cells, style in rows_of for line in _row(cells, widths, style)]
    return _listed(names, safe, width)


def _turned(grid: Sequence[Sequence[str]]) -> list[list[str]]:
    return [list(column) for column in zip(*grid, strict=True)]


def _widths(columns: Sequence[Sequence[str]], width: int) -> list[int] | None:
    """What each column gets: all it wants, else the widest are narrowed, down to their words."""
    wanted = [max(map(width_of, cells)) for cells in columns]
    needed = [
        max((width_of(w) for cell in cells for w in cell.split()), default=0) for cells in columns
    ]
    room = width - _GAP * (len(columns) - 1)
    for cap in range(max(wanted), 0, -1):
        given = [max(min(want, cap), need) for want, need in zip(wanted, needed, strict=True)]
        if sum(given) <= room:
            return given
    return None


def _row(cells: Sequence[str], widths: Sequence[int], style: str) -> Lines:
    """One row, as many lines as its highest cell; none where all are empty."""
    wrapped = [
        wrap(words(cell, style), max(width, 1)) for cell, width in zip(cells, widths, strict=True)
    ]
    lines: Lines = []
    for level in range(max(map(len, wrapped))):
        line: list[Span] = []
        behind = 0  # blanks due before the next text
        for cell, width in zip(wrapped, widths, strict=True):
            spans = cell[level] if level < len(cell) else []
            if spans:
                line += [Span(" " * behind), *spans] if behind else spans
                behind = 0
            behind += width - sum(width_of(span.text) for span in spans) + _GAP
        lines.append(line)
    return lines


def _listed(names: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], width: int) -> Lines:
    """Each row's name on a line, below it the columns' names with their values."""
    lines: Lines = []
    for what, values in rows:
        lines += wrap(words(what), width)
        for name, value in zip(names, values, strict=True):
            entry = [*words(f"{name}:" if name else "", DIM), *words(value)]
            lines += [[Span("  "), *spans] for spans in wrap(entry, max(width - 2, 4), 2)]
    return lines
