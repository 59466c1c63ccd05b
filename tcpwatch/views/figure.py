"""Where the machine's figure stands on a grid of cells: RFC 9293's Figure 5, box by box.

Owns: the places of the eleven states and the ways between them, for a given width. Pure data, so
that whatever draws it (text, a live dashboard) has the same picture. Must not know how a line
looks, nor what any of it means to a run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from tcpwatch.tcp.state import TcpState

_S = TcpState
Edge = tuple[TcpState, TcpState]

NARROWEST = 78  # columns: three boxes, and the shortest labels between them
_WIDEST = 122
_ROOMY = 104  # from here on boxes and gaps have room for whole words
_MARGIN = 4  # left of all boxes, for the way back from TIME-WAIT
_NARROW = 30  # columns of the smallest figure that there is
_RAIL = 1  # the column of that way
_HEIGHT, _GAP = 4, 2  # of a box, and between two


class Point(NamedTuple):
    """A cell: its column and its line, from 0."""

    x: int
    y: int


class Side(Enum):
    """A side of a box, by the step that leads out of it."""

    TOP = (0, -1)
    BOTTOM = (0, 1)
    LEFT = (-1, 0)
    RIGHT = (1, 0)

    @property
    def upright(self) -> bool:
        """Whether what leaves there goes up or down."""
        return self in (Side.TOP, Side.BOTTOM)


@dataclass(frozen=True, slots=True)
class Box:
    """A state's frame. CLOSED has two: where one begins, and where one ends."""

    state: TcpState
    x: int
    y: int
    width: int
    height: int = _HEIGHT
    ports: tuple[int, int, int] | None = None  # of its top and bottom, where these are the column's

    @property
    def right(self) -> int:
        return self.x + self.width - 1

    @property
    def bottom(self) -> int:
        return self.y + self.height - 1

    def touches(self, cell: Point) -> bool:
        """Whether that cell is of the frame, or beside it."""
        return self.x - 1 <= cell.x <= self.right + 1 and self.y - 1 <= cell.y <= self.bottom + 1

    def port(self, side: Side, place: int) -> Point:
        """A cell of the frame: the first, second or third place of a side, from left or top."""
        if side.upright:
            inset = self.width // 4
            columns = (self.x + inset, self.x + self.width // 2, self.right - inset)
            return Point((self.ports or columns)[place], self.y if side is _T else self.bottom)
        # A low box has one place at a side, or is nothing but its name.
        line = min(1 + place, max(self.height - 2, 0))
        return Point(self.x if side is Side.LEFT else self.right, self.y + line)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a label goes: ``room`` cells from ``start``, or up to it where ``leftwards``.

    ``inline``: it interrupts its line, in the middle of that room.
    """

    start: Point
    room: int
    leftwards: bool = False
    inline: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """The way of an edge: from a cell of one frame, by corners, to the cell before the other."""

    edge: Edge
    points: tuple[Point, ...]
    label: Place

    @property
    def cells(self) -> tuple[Point, ...]:
        """Every cell that it goes through, the first one on the frame, the last one its head's."""
        found = [self.points[0]]
        for here, there in pairwise(self.points):
            found += _between(here, there)
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Figure:
    """The whole picture. ``roomy``: its boxes have room for words where others have letters."""

    width: int
    height: int
    boxes: tuple[Box, ...]
    routes: tuple[Route, ...]
    roomy: bool

    def route(self, edge: Edge) -> Route | None:
        """The edge's way, where it has one of its own."""
        return next((route for route in self.routes if route.edge == edge), None)


@dataclass(frozen=True, slots=True)
class Shape:
    """A smaller figure: how high its boxes are, how far apart, how much stands beside a name.

    A box of height 1 is a name without a frame. ``aside``: cells kept at a name's right.
    """

    columns: int
    box_height: int
    gap: int
    aside: int = 0

    @property
    def lines(self) -> int:
        return len(_LAYERS) * (self.box_height + self.gap) - self.gap


class _Way(NamedTuple):
    """How an edge goes: out of a side of one box, into a side of another.

    ``beside``: the side of an upright line that its label stands at.
    """

    before: str
    out: Side
    out_place: int
    after: str
    into: Side
    into_place: int
    beside: Side = Side.RIGHT


_T, _B, _L, _R = Side.TOP, Side.BOTTOM, Side.LEFT, Side.RIGHT
_BEGIN, _END = "CLOSED", "CLOSED at the end"
_LAYERS: tuple[tuple[str | None, str | None, str | None], ...] = (
    (None, _BEGIN, None),
    (None, "LISTEN", None),
    ("SYN-RECEIVED", None, "SYN-SENT"),
    (None, "ESTABLISHED", None),
    ("FIN-WAIT-1", None, "CLOSE-WAIT"),
    ("FIN-WAIT-2", "CLOSING", "LAST-ACK"),
    (None, "TIME-WAIT", _END),
)
"""The boxes from top to bottom; left, in the middle and right."""

_WAYS = (
    _Way(_BEGIN, _B, 0, "LISTEN", _T, 0, _L),
    _Way("LISTEN", _T, 2, _BEGIN, _B, 2),
    _Way(_BEGIN, _R, 0, "SYN-SENT", _T, 2),
    _Way("SYN-SENT", _T, 1, _BEGIN, _R, 1),
    _Way("LISTEN", _R, 0, "SYN-SENT", _T, 0),
    _Way("SYN-RECEIVED", _T, 0, "LISTEN", _L, 0),
    _Way("LISTEN", _L, 1, "SYN-RECEIVED", _T, 2),
    _Way("SYN-SENT", _L, 0, "SYN-RECEIVED", _R, 0),
    _Way("SYN-RECEIVED", _R, 1, "ESTABLISHED", _T, 0),
    _Way("SYN-SENT", _L, 1, "ESTABLISHED", _T, 2),
    _Way("SYN-RECEIVED", _B, 0, "FIN-WAIT-1", _T, 0),
    _Way("ESTABLISHED", _L, 0, "FIN-WAIT-1", _T, 2),
    _Way("ESTABLISHED", _R, 0, "CLOSE-WAIT", _T, 1),
    _Way("FIN-WAIT-1", _B, 0, "FIN-WAIT-2", _T, 0),
    _Way("FIN-WAIT-1", _R, 0, "CLOSING", _T, 1),
    _Way("CLOSE-WAIT", _B, 1, "LAST-ACK", _T, 1, _L),
    _Way("FIN-WAIT-2", _B, 2, "TIME-WAIT", _L, 0),
    _Way("CLOSING", _B, 1, "TIME-WAIT", _T, 1, _L),
    _Way("LAST-ACK", _B, 1, _END, _T, 1, _L),
    _Way("TIME-WAIT", _R, 0, _END, _L, 0),
    _Way("TIME-WAIT", _L, 1, "SYN-RECEIVED", _L, 0),
)


@lru_cache(maxsize=16)
def figure(width: int) -> Figure | None:
    """The figure for so many columns, or for fewer where that is enough; None where too few."""
    if width < NARROWEST:
        return None
    width = min(width, _WIDEST)
    roomy = width >= _ROOMY
    box_width = 24 if roomy else 16
    gap = (width - _MARGIN - 3 * box_width) // 2
    boxes: dict[str, Box] = {}
    for layer, names in enumerate(_LAYERS):
        for column, name in enumerate(names):
            if name is not None:
                x = _MARGIN + column * (box_width + gap)
                state = _S.parse("CLOSED" if name == _END else name)
                boxes[name] = Box(state, x, layer * (_HEIGHT + _GAP), box_width)
    width = _MARGIN + 3 * box_width + 2 * gap
    height = len(_LAYERS) * (_HEIGHT + _GAP) - _GAP
    routes = tuple(_route(way, boxes, width) for way in _WAYS)
    return Figure(width, height, tuple(boxes.values()), routes, roomy)


@lru_cache(maxsize=64)
def small_figure(shape: Shape) -> Figure:
    """The same figure where there is little room: three columns that share out the width.

    Neighbours may stand within each other's column, where nothing of it is on their line. What
    leaves or enters at one side of a low box does so on one line.
    """
    framed = shape.box_height > 1
    aside = shape.aside if not framed else 0
    longest = [
        max(len(_name(layer[column])) for layer in _LAYERS if layer[column]) for column in range(3)
    ]
    more = 4 if framed else aside
    slack = max(shape.columns - _NARROW, 0)
    left = (longest[0] + more) // 2 + min(slack // 4, 4)
    right = shape.columns - 1 - (longest[2] + more + 1) // 2
    centres = (left, (left + right) // 2, right)
    spread = 2 if shape.columns < 48 else 4
    boxes: dict[str, Box] = {}
    for layer, names in enumerate(_LAYERS):
        for column, name in enumerate(names):
            if name is not None:
                centre = centres[column]
                width = (longest[column] if framed else len(_name(name))) + more
                y = layer * (shape.box_height + shape.gap)
                boxes[name] = Box(
                    _S.parse(_name(name)),
                    centre - width // 2,
                    y,
                    width,
                    shape.box_height,
                    (centre - spread, centre, centre + spread),
                )
    routes = tuple(_route(way, boxes, shape.columns) for way in _WAYS)
    return Figure(shape.columns, shape.lines, tuple(boxes.values()), routes, roomy=False)


def _name(name: str | None) -> str:
    return "CLOSED" if name == _END else name or ""


def _route(way: _Way, boxes: dict[str, Box], width: int) -> Route:
    before, after = boxes[way.before], boxes[way.after]
    start = before.port(way.out, way.out_place)
    frame = after.port(way.into, way.into_place)
    step_x, step_y = way.into.value
    end = Point(frame.x + step_x, frame.y + step_y)
    if way.out.upright is not way.into.upright:
        corner = Point(start.x, end.y) if way.out.upright else Point(end.x, start.y)
        corners = [corner]
    elif start.x == end.x or start.y == end.y:
        corners = []
    else:  # out and back on the same side: round the others
        corners = [Point(_RAIL, start.y), Point(_RAIL, end.y)]
    points = (start, *corners, end)
    return Route((before.state, after.state), points, _place(points, way, width))


def _place(points: tuple[Point, ...], way: _Way, width: int) -> Place:
    """Within its longest level piece; beside its beginning where it goes only up or down."""
    level = [sorted(piece) for piece in pairwise(points) if piece[0].y == piece[1].y]
    if level:
        left, right = max(level, key=lambda piece: piece[1].x - piece[0].x)
        return Place(Point(left.x + 1, left.y), right.x - left.x - 1, inline=True)
    x, y = points[0].x, points[0].y + way.out.value[1]
    if way.beside is _L:
        return Place(Point(x - 2, y), x - 2, leftwards=True)
    return Place(Point(x + 2, y), width - x - 2)


def _between(here: Point, there: Point) -> Iterator[Point]:
    """The cells after the one up to the other, along a row or a column."""
    step_x = (there.x > here.x) - (there.x < here.x)
    step_y = (there.y > here.y) - (there.y < here.y)
    for count in range(1, max(abs(there.x - here.x), abs(there.y - here.y)) + 1):
        yield Point(here.x + step_x * count, here.y + step_y * count)
