"""The machine's figure as a map of where one end is: its state, its way, the edge just taken.

Owns: which of the figure's sizes fits, and how state and way are told there without a colour.
Pure. Must not know where the states come from: one end of a run, or all connections of a host.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from tcpwatch.machine.coverage import Edge, arrows
from tcpwatch.tcp.state import TcpState
from tcpwatch.views.canvas import Span, shortened, width_of
from tcpwatch.views.diagram import Line, Sheet
from tcpwatch.views.figure import Box, Figure, Point, Shape, small_figure
from tcpwatch.views.palette import BAD, BOLD, DIM, LINE, PLAIN, state_style

Lines = tuple[tuple[Span, ...], ...]

_S = TcpState
_FRAMED, _NOTED = 3, 4  # the heights of a box with its name, and with a line below that
_FRAMED_COLUMNS, _CHIP_COLUMNS = 56, 30
_REVERSED = ";7"


@dataclass(frozen=True, slots=True)
class StateMap:
    """What is marked. Everything may be empty: then it is the figure alone.

    ``current`` are the states it may be in (more than one: not certain), ``edges`` those taken so
    far, ``last`` the one just taken and ``cause`` what it was. ``notes`` stand with their states:
    a count and its trend, for example; ``heat`` (a style) draws a state that has some.
    """

    current: frozenset[TcpState] = frozenset()
    visited: frozenset[TcpState] = frozenset()
    edges: frozenset[Edge] = frozenset()
    last: Edge | None = None
    cause: str = ""
    ended: bool = False  # CLOSED is where it ended, not where it began
    notes: Mapping[TcpState, tuple[Span, ...]] = field(default_factory=dict)


def fitting(columns: int, lines: int, aside: int = 0) -> Shape | None:
    """The largest figure for so much room; ``aside`` cells a state for notes. None: too little."""
    noted = _NOTED if aside else _FRAMED
    for shape in (
        Shape(min(columns, 96), noted, 2, aside),
        Shape(min(columns, 80), noted, 1, aside),
        Shape(min(columns, 72), _FRAMED, 1, aside),
    ):
        if columns >= _FRAMED_COLUMNS and lines >= shape.lines and (shape.box_height == noted):
            return shape
    for gap in (2, 1):
        shape = Shape(min(columns, 64), 1, gap, aside)
        if columns >= _CHIP_COLUMNS + 3 * aside and lines >= shape.lines:
            return shape
    return None


def draw_map(shape: Shape, marks: StateMap) -> Lines:
    """The figure with its marks, as lines of spans without blanks at their ends."""
    figure = small_figure(shape)
    sheet = Sheet(figure.width, figure.height)
    drawn = _in_figure()
    for route in figure.routes:
        if route.edge in drawn:
            sheet.route(route, Line.PLAIN, DIM)
    for route in figure.routes:
        if route.edge in marks.edges and route.edge != marks.last:
            sheet.route(route, Line.HEAVY, LINE, over=True)
    for box in figure.boxes:
        if box.height > 1:
            _draw_frame(sheet, box, figure, marks)
    last = figure.route(marks.last) if marks.last else None
    if last is not None:
        sheet.route(last, Line.HEAVY, state_style(last.edge[1], bold=True), over=True)
    for box in figure.boxes:
        if box.height == 1 and marks.notes:
            _draw_sides(sheet, box, figure, marks)
    for box in figure.boxes:
        _draw_name(sheet, box, figure, marks)
    return tuple(tuple(line) for line in sheet.lines())


def _draw_frame(sheet: Sheet, box: Box, figure: Figure, marks: StateMap) -> None:
    if _is_here(box, figure, marks):
        sheet.frame(box, Line.HEAVY, state_style(box.state, bold=True), over=True)
    elif box.state in marks.visited and _is_meant(box, figure, marks):
        sheet.frame(box, Line.PLAIN, PLAIN, over=True)
    else:
        sheet.frame(box, Line.PLAIN, DIM, over=True)


def _draw_name(sheet: Sheet, box: Box, figure: Figure, marks: StateMap) -> None:
    """A state it is in is reversed, with a pointer at either side, or ``?`` where it is a doubt."""
    name, note = box.state.value, _note(box, marks)
    here = _is_here(box, figure, marks)
    if here:
        style = state_style(box.state, bold=True) + _REVERSED
    elif box.state in marks.visited and _is_meant(box, figure, marks):
        style = state_style(box.state, bold=True)
    elif note or marks.notes:
        style = state_style(box.state, bold=bool(note)) if note else DIM
    else:
        style = DIM
    spans = [Span(name, style)]
    if marks.last and marks.last[0] is box.state and figure.route(marks.last) is None:
        spans.append(Span(" ✗", BAD))  # from there straight to CLOSED: RST, abort, timeout
    if here and box.height > 1:
        left, right = ("▸", "◂") if len(marks.current) == 1 else ("?", "?")
        beside = " " if len(name) + 6 <= box.width else ""
        spans = [Span(f"{left}{beside}{name}{beside}{right}", style)]
    elif here and len(marks.current) > 1:
        spans = [Span(f"{name}?", style)]
    y = box.y + (1 if box.height > 1 else 0)
    if box.height == _NOTED:
        sheet.write(_centred(box, y, spans), spans)
        sheet.write(_centred(box, y + 1, note), note)
        return
    if box.height == 1 and marks.notes:
        sheet.write(_beside(box, marks)[0], [*spans, *([Span(" "), *note] if note else [])])
        return
    sheet.write(_centred(box, y, spans), spans)


def _note(box: Box, marks: StateMap) -> tuple[Span, ...]:
    """What stands with a state, without blanks at its end."""
    note = marks.notes.get(box.state, ())
    while note and not note[-1].text.strip():
        note = note[:-1]
    return (*note[:-1], note[-1]._replace(text=note[-1].text.rstrip())) if note else ()


def _beside(box: Box, marks: StateMap) -> tuple[Point, int]:
    """Where the name in a low box with room for notes begins, and its cells with what follows."""
    name, note = box.state.value, _note(box, marks)
    if not note:
        return _centred(box, box.y, (Span(name),)), len(name)
    return Point(box.x, box.y), len(name) + 1 + sum(width_of(span.text) for span in note)


def _draw_sides(sheet: Sheet, box: Box, figure: Figure, marks: StateMap) -> None:
    """Lines at the sides of a low box with room for notes go on to what stands in it."""
    routes = [route.points for route in figure.routes if route.edge in _in_figure()]
    begins, ends = {points[0] for points in routes}, {points[-1] for points in routes}
    place, length = _beside(box, marks)
    right = place.x + length + (1 if _note(box, marks) else 0)
    others = [one.x for one in figure.boxes if one.y == box.y and one.x > box.x]
    last = min([box.right, *(x - 1 for x in others)])
    sheet.write(Point(box.x, box.y), [Span(" " * (last - box.x + 1))])
    before, after = place.x - box.x, last - right + 1
    if before > 0 and Point(box.x - 1, box.y) in ends:
        sheet.write(Point(box.x - 1, box.y), [Span("─" * before + "▶", DIM)])
    elif before > 0 and Point(box.x, box.y) in begins:
        sheet.write(Point(box.x, box.y), [Span("─" * before, DIM)])
    if after > 0 and Point(last, box.y) in ends:  # the next box's
        sheet.write(Point(right, box.y), [Span("─" * (after - 1) + "▶", DIM)])
    elif after > 0 and Point(box.right + 1, box.y) in ends:
        sheet.write(Point(right, box.y), [Span("◀" + "─" * after, DIM)])
    elif after > 0 and begins & {Point(box.right, box.y), Point(box.right + 1, box.y)}:
        sheet.write(Point(right, box.y), [Span("─" * after, DIM)])


def _centred(box: Box, y: int, spans: list[Span] | tuple[Span, ...]) -> Point:
    length = sum(width_of(span.text) for span in spans)
    return Point(box.x + max((box.width - length) // 2, 0), y)


def _is_meant(box: Box, figure: Figure, marks: StateMap) -> bool:
    """Whether this box of CLOSED's two is the one where it began, or ended."""
    if box.state is not _S.CLOSED:
        return True
    first = next(one for one in figure.boxes if one.state is _S.CLOSED)
    begins = box is first
    return begins or marks.ended


def _is_here(box: Box, figure: Figure, marks: StateMap) -> bool:
    if box.state not in marks.current:
        return False
    if box.state is not _S.CLOSED:
        return True
    first = next(one for one in figure.boxes if one.state is _S.CLOSED)
    return (box is first) is not marks.ended


@lru_cache(maxsize=1)
def _in_figure() -> frozenset[Edge]:
    return frozenset(arrow.edge for arrow in arrows() if arrow.row.in_figure)


def tell(marks: StateMap, columns: int) -> tuple[Span, ...]:
    """One line below the figure: the edge just taken and its cause, in words."""
    if marks.last is None:
        states = " or ".join(state.value for state in _S if state in marks.current)
        return (Span(states or "not seen yet", DIM),)
    before, after = marks.last
    cause = marks.cause
    room = columns - len(before.value) - len(after.value) - 5
    if len(cause) > room:
        cause = cause.removesuffix(" received")
    spans = [Span(" > ", DIM), Span(after.value, state_style(after, bold=True))]
    if len(cause) <= room:
        spans.insert(0, Span(before.value, state_style(before)))
    else:  # the figure shows where it came from
        room += len(before.value)
    if cause:
        spans += [Span("  "), Span(shortened(cause, max(room, 2)), BOLD)]
    return tuple(spans)
