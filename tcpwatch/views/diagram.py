"""The machine's figure drawn in text: what each arrow of the table is worth told by its ink.

Owns: box drawing, arrowheads, labels. An arrow with a line of its own is drawn on it; the others,
which lead to CLOSED from everywhere (RST, abort, timeout), are signs within their state's box.
Must not know why an arrow has the ink that it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import groupby, pairwise

from tcpwatch.machine.coverage import Arrow, Edge, arrows
from tcpwatch.machine.stimulus import Stimulus
from tcpwatch.tcp.state import TcpState
from tcpwatch.views.canvas import Span, width_of
from tcpwatch.views.figure import Box, Figure, Point, Route
from tcpwatch.views.palette import LINE, PLAIN, state_style

_S, _T = TcpState, Stimulus

NAMES: dict[Stimulus, str] = {
    _T.PASSIVE_OPEN: "listen()",
    _T.ACTIVE_OPEN: "connect()",
    _T.CLOSE: "close()",
    _T.ABORT: "abort",
    _T.RST: "RST",
    _T.SYN: "SYN",
    _T.SYN_ACK: "SYN,ACK",
    _T.ACK_OF_SYN: "ACK of SYN",
    _T.ACK_OF_FIN: "ACK of FIN",
    _T.FIN: "FIN",
    _T.USER_TIMEOUT: "timeout",
    _T.TIME_WAIT_TIMEOUT: "2 MSL",
}
"""A stimulus in the words of the sockets, as short as a label must be."""


class Line(Enum):
    """How a line is drawn. What it says is never said by a colour alone."""

    DASHED = "dashed"
    PLAIN = "plain"
    HEAVY = "heavy"


@dataclass(frozen=True, slots=True)
class Ink:
    """How an arrow is drawn: its line, what stands behind its name, in which style."""

    line: Line = Line.PLAIN
    mark: str = ""
    style: str = PLAIN


_UP, _DOWN, _LEFT, _RIGHT = 1, 2, 4, 8
_GLYPHS = {
    _UP: "│", _DOWN: "│", _UP | _DOWN: "│",
    _LEFT: "─", _RIGHT: "─", _LEFT | _RIGHT: "─",
    _DOWN | _RIGHT: "╭", _DOWN | _LEFT: "╮", _UP | _RIGHT: "╰", _UP | _LEFT: "╯",
    _UP | _DOWN | _RIGHT: "├", _UP | _DOWN | _LEFT: "┤",
    _LEFT | _RIGHT | _DOWN: "┬", _LEFT | _RIGHT | _UP: "┴",
    _UP | _DOWN | _LEFT | _RIGHT: "┼",
}  # fmt: skip
_AS_DRAWN = {
    Line.PLAIN: dict[int, int](),
    Line.DASHED: str.maketrans("─│", "┄┆"),
    Line.HEAVY: str.maketrans("─│╭╮╰╯├┤┬┴┼", "━┃┏┓┗┛┣┫┳┻╋"),
}
_HEADS = {(0, -1): "▲", (0, 1): "▼", (-1, 0): "◀", (1, 0): "▶"}
_EMPTY_HEADS = str.maketrans("▲▼◀▶", "△▽◁▷")
_STEPS = {(0, -1): _UP, (0, 1): _DOWN, (-1, 0): _LEFT, (1, 0): _RIGHT}


def draw(
    figure: Figure, inks: Mapping[Arrow, Ink], lit: Mapping[TcpState, str] | None = None
) -> list[list[Span]]:
    """The figure as lines of spans; only what is in ``inks`` is drawn of the arrows.

    ``lit``: states whose frames are heavy, in that style.
    """
    sheet = Sheet(figure.width, figure.height)
    for box in figure.boxes:
        style = (lit or {}).get(box.state)
        sheet.frame(box, Line.PLAIN if style is None else Line.HEAVY, style or LINE)
        sheet.write(
            _centred(box, 1, box.state.value),
            [Span(box.state.value, state_style(box.state, bold=True))],
        )
    by_edge: dict[tuple[TcpState, TcpState], list[Arrow]] = {}
    for arrow in arrows():
        if arrow in inks:
            by_edge.setdefault(arrow.edge, []).append(arrow)
    for route in figure.routes:
        own = [arrow for arrow in by_edge.get(route.edge, ()) if not in_box(arrow)]
        if own:
            _draw_route(sheet, route, own, inks)
    for box in figure.boxes:
        signs = [arrow for arrow in inks if arrow.before is box.state and in_box(arrow)]
        if signs and box.state is not _S.CLOSED:
            _draw_signs(sheet, box, signs, inks, roomy=figure.roomy)
    return sheet.lines()


def piece(figure: Figure, edge: Edge, inks: Mapping[Arrow, Ink]) -> list[list[Span]]:
    """One edge's way and its two boxes, cut out; nothing where it has no way of its own."""
    route = figure.route(edge)
    if route is None:
        return []
    ends = (route.points[0], route.points[-1])
    # CLOSED has two boxes: the one that the way touches.
    boxes = [box for box in figure.boxes if box.state in edge and any(map(box.touches, ends))]
    alone = replace(figure, boxes=tuple(boxes), routes=(route,))
    lines = draw(alone, {arrow: ink for arrow, ink in inks.items() if not in_box(arrow)})
    top, bottom = min(box.y for box in boxes), max(box.bottom for box in boxes)
    # However far apart they stand, a line that only goes on is drawn once.
    cut = [line for line, _ in groupby(lines[top : bottom + 1])]
    margin = min(width_of(text) - width_of(text.lstrip()) for text in map(_text_of, cut))
    return [_without_margin(line, margin) for line in cut]


def _text_of(line: Sequence[Span]) -> str:
    return "".join(span.text for span in line)


def _without_margin(line: Sequence[Span], columns: int) -> list[Span]:
    """The line without its first blanks."""
    first, *others = line
    return [Span(first.text[columns:], first.style), *others]


def in_box(arrow: Arrow) -> bool:
    """Whether it is a sign within its state's box: it leads to CLOSED, beside RFC 9293's figure."""
    drawn = arrow.row.in_figure and arrow.row.after is _S.CLOSED
    return arrow.after is _S.CLOSED and not drawn


def _draw_route(
    sheet: Sheet, route: Route, own: Sequence[Arrow], inks: Mapping[Arrow, Ink]
) -> None:
    best = max((inks[arrow] for arrow in own), key=lambda ink: list(Line).index(ink.line))
    sheet.route(route, best.line, best.style)
    place = route.label
    room = place.room - 4 if place.inline else place.room
    label = _label(own, inks, room)
    length = sum(width_of(span.text) for span in label)
    if place.inline:
        label = [Span(" "), *label, Span(" ")]
        at = Point(place.start.x + (place.room - length - 2) // 2, place.start.y)
    elif place.leftwards:
        at = Point(place.start.x + 1 - length, place.start.y)
    else:
        at = place.start
    sheet.write(at, label)


def _label(own: Sequence[Arrow], inks: Mapping[Arrow, Ink], room: int) -> list[Span]:
    """The names of the arrows with their marks; with what is sent, where there is room for it."""
    spans: list[Span] = []
    for arrow in own:
        ink = inks[arrow]
        name = NAMES[arrow.stimulus] if arrow.row.linux else arrow.stimulus.value
        mark = f" {ink.mark}".rstrip()
        sends = f" / {arrow.row.sends}" if arrow.row.sends and len(own) == 1 else ""
        if len(name) + len(sends) + len(mark) > room:
            sends = ""
        spans += [Span(", ")] if spans else []
        spans += [Span(name), Span(sends, LINE), Span(mark, ink.style)]
    return spans


def _draw_signs(
    sheet: Sheet, box: Box, signs: Iterable[Arrow], inks: Mapping[Arrow, Ink], *, roomy: bool
) -> None:
    order = (_T.RST, _T.ABORT, _T.USER_TIMEOUT)
    spans: list[Span] = []
    for arrow in sorted(signs, key=lambda arrow: order.index(arrow.stimulus)):
        name = NAMES[arrow.stimulus]
        spans += [Span(" ")] if spans else []
        spans += [
            Span(name if roomy else name[0].upper()),
            Span(inks[arrow].mark, inks[arrow].style),
        ]
    sheet.write(_centred(box, 2, "".join(span.text for span in spans)), spans)


def _centred(box: Box, line: int, text: str) -> Point:
    return Point(box.x + (box.width - width_of(text)) // 2, box.y + line)


@dataclass(slots=True)
class Sheet:
    """Cells: which of their four sides a line reaches, how it is drawn there, and text over it."""

    width: int
    height: int
    _reach: dict[Point, int] = field(default_factory=dict)
    _line: dict[Point, tuple[Line, str]] = field(default_factory=dict)
    _text: dict[Point, Span] = field(default_factory=dict)

    def frame(self, box: Box, line: Line, style: str, *, over: bool = False) -> None:
        corners = [
            Point(box.x, box.y),
            Point(box.right, box.y),
            Point(box.right, box.bottom),
            Point(box.x, box.bottom),
            Point(box.x, box.y),
        ]
        for here, there in pairwise(corners):
            self._stroke(here, there, line, style, over=over)

    def route(self, route: Route, line: Line, style: str, *, over: bool = False) -> None:
        """``over``: a line of another kind that it runs along or crosses is not seen there."""
        first = self._line.get(route.points[0])
        reach = self._reach.get(route.points[0], 0)
        for here, there in pairwise(route.points):
            self._stroke(here, there, line, style, over=over)
        if first is not None:  # where it leaves, the frame stays the frame's
            self._line[route.points[0]] = first
            self._reach[route.points[0]] |= reach
        before, end = route.cells[-2:]
        head = _HEADS[end.x - before.x, end.y - before.y]
        self._text[end] = Span(head.translate(_EMPTY_HEADS) if line is Line.DASHED else head, style)

    def write(self, at: Point, spans: Iterable[Span]) -> None:
        """Text, one cell a character."""
        x = at.x
        for span in spans:
            for character in span.text:
                self._text[Point(x, at.y)] = Span(character, span.style)
                x += width_of(character)

    def lines(self) -> list[list[Span]]:
        """Each line in as few spans as its styles need, without blanks at its end."""
        found = []
        for y in range(self.height):
            cells = [self._cell(Point(x, y)) for x in range(self.width)]
            while cells and cells[-1].text == " ":
                cells.pop()
            runs = groupby(cells, key=lambda cell: cell.style)
            found.append([Span("".join(cell.text for cell in run), style) for style, run in runs])
        return found

    def _stroke(
        self, here: Point, there: Point, line: Line, style: str, *, over: bool = False
    ) -> None:
        step = ((there.x > here.x) - (there.x < here.x), (there.y > here.y) - (there.y < here.y))
        out, back = _STEPS[step], _STEPS[-step[0], -step[1]]
        at = here
        while at != there:
            after = Point(at.x + step[0], at.y + step[1])
            for cell in (at, after) if over else ():
                if self._line.get(cell, (line,))[0] is not line:
                    self._reach[cell] = 0
                    self._text.pop(cell, None)  # the head of one that comes the other way
            self._reach[at] = self._reach.get(at, 0) | out
            self._reach[after] = self._reach.get(after, 0) | back
            self._line[at] = self._line[after] = (line, style)
            at = after

    def _cell(self, at: Point) -> Span:
        if at in self._text:
            return self._text[at]
        if at not in self._reach:
            return Span(" ")
        line, style = self._line[at]
        return Span(_GLYPHS[self._reach[at]].translate(_AS_DRAWN[line]), style)
