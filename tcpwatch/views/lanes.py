"""The middle of the ladder: each segment in flight has a lane, so that two that cross are seen to.

Owns: which lane a segment takes and how arrows cross lanes. A lane lies near its receiver, so an
arrow crosses another's lane exactly where the two segments cross, or where one overtakes.
Must not know times, states or the columns beside it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import assert_never

from tcpwatch.views.canvas import Canvas, width_of
from tcpwatch.views.palette import BAD, LINE, PLAIN, WARN

_STUB = 3  # cells from the outermost lane to its receiver, the lane's own included
_STEP = 2  # cells from lane to lane
_LABEL_AT = 2  # cells from the sender to the label
_MAX_LANES = 6


class Mark(Enum):
    """What the wire did to a segment: sign and word."""

    HELD = ("║", "held", WARN)
    RELEASED = ("│", "released", WARN)
    DROPPED = ("✗", "dropped", BAD)
    DUPLICATED = ("│", "duplicated", WARN)
    DELAYED = ("│", "delayed", WARN)
    REORDERED = ("│", "reordered", WARN)
    LOST = ("✗", "lost: never arrived", BAD)

    def __init__(self, sign: str, word: str, style: str) -> None:
        self.sign = sign
        self.word = word
        self.style = style


@dataclass(frozen=True, slots=True)
class Arrow:
    """A segment (or a burst of them) to draw: ``labels`` from the fullest to the shortest."""

    numbers: tuple[int, ...]
    forward: bool  # from the left to the right
    labels: tuple[str, ...]
    style: str = PLAIN
    injected: bool = False
    copy: int | None = None  # the number under which the wire's duplicate of it arrives


@dataclass(slots=True)
class _Flight:
    arrow: Arrow
    lane: int | None  # None: more were in flight than have room
    outstanding: Counter[int] = field(default_factory=Counter)
    held: bool = False


@dataclass(frozen=True, slots=True)
class _Pen:
    """Draws by distances from an arrow's sender: one rule serves both directions."""

    canvas: Canvas
    left: int
    width: int
    forward: bool

    def column(self, distance: int) -> int:
        return self.left + (distance if self.forward else self.width - 1 - distance)

    def put(self, distance: int, sign: str, style: str) -> None:
        self.canvas.put(self.column(distance), sign, style)

    def line(self, start: int, end: int) -> None:
        """Dashes from ``start`` up to, not including, ``end``."""
        for distance in range(start, end):
            self.put(distance, "─", LINE)

    def text(self, distance: int, text: str, style: str) -> None:
        """Text whose end nearest to the sender is at that distance; it reads from the left."""
        column = self.column(distance)
        self.canvas.put(column if self.forward else column - width_of(text) + 1, text, style)

    @property
    def tip(self) -> str:
        return "▶" if self.forward else "◀"


class Lanes:
    """The segments in flight, and the drawing of one line after the other."""

    def __init__(self, left: int, width: int) -> None:
        self._left = left
        self._width = width
        self._limit = max(1, min(_MAX_LANES, (width - 15) // 4 + 1))
        self._flights: list[_Flight] = []

    def in_flight(self) -> tuple[Arrow, ...]:
        """What has been sent and has neither arrived nor been dropped, the oldest first."""
        return tuple(flight.arrow for flight in self._flights)

    def launch(self, canvas: Canvas, arrow: Arrow, mark: Mark | None = None) -> None:
        """A segment leaves its sender; ``mark`` is what the wire did to it in the same moment."""
        pen = self._pen(canvas, arrow)
        lane = self._free_lane(forward=arrow.forward)
        stopped = mark in (Mark.HELD, Mark.DROPPED)
        end = self._width - 1 if lane is None else self._distance(lane)
        corner = ("╮" if arrow.forward else "╭") if lane is not None else "┄"
        self._stroke(pen, arrow, end, "" if stopped else corner)
        self._flights.append(_Flight(arrow, lane, Counter(arrow.numbers)))
        if mark is not None:
            self._write(pen, end, mark, sign=mark.sign if stopped else "")
            self._apply(arrow, mark)

    def land(self, canvas: Canvas, arrow: Arrow) -> None:
        """A segment arrives at its receiver."""
        flight = self._find(arrow.numbers[0])
        if flight is None:
            self.whole(canvas, arrow, start="┄")
            return
        flight.outstanding.subtract(arrow.numbers)
        flight.outstanding = +flight.outstanding  # what is still under way
        if flight.lane is None:
            self.whole(canvas, arrow, start="┄")
        else:
            pen = self._pen(canvas, arrow)
            turns = "├┤" if flight.outstanding else "╰╯"
            start = self._distance(flight.lane)
            pen.put(start, turns[0 if arrow.forward else 1], LINE)
            pen.line(start + 1, self._width - 1)
            pen.put(self._width - 1, pen.tip, arrow.style)
        if not flight.outstanding:
            self._flights.remove(flight)

    def whole(self, canvas: Canvas, arrow: Arrow, start: str = "─") -> None:
        """A segment whose whole way is drawn on one line."""
        pen = self._pen(canvas, arrow)
        self._stroke(pen, arrow, self._width - 1, pen.tip, start)

    def mark(self, canvas: Canvas, arrow: Arrow, mark: Mark) -> None:
        """The wire does something to a segment that is already on its way."""
        flight = self._find(arrow.numbers[0])
        pen = self._pen(canvas, arrow)
        if flight is None or flight.lane is None:
            end = self._width - 1
            self._stroke(pen, arrow, end, "┄", start="┄")
        else:
            end = self._distance(flight.lane)
        self._write(pen, end, mark, sign=mark.sign)
        self._apply(arrow, mark)

    def pass_through(self, canvas: Canvas) -> None:
        """Draws the lanes of all that is in flight behind what the line already shows."""
        for flight in self._flights:
            if flight.lane is None:
                continue
            pen = self._pen(canvas, flight.arrow)
            distance = self._distance(flight.lane)
            style = WARN if flight.held else LINE
            match canvas.at(pen.column(distance)):
                case " ":
                    pen.put(distance, "║" if flight.held else "│", style)
                case "─":
                    pen.put(distance, "╫" if flight.held else "┼", style)

    def _stroke(self, pen: _Pen, arrow: Arrow, end: int, tip: str, start: str = "─") -> None:
        """The line from the sender to ``end``, with the fullest label that has room on it."""
        pen.put(0, "✦" if arrow.injected else start, WARN if arrow.injected else LINE)
        pen.line(1, end)
        pen.put(end, tip, arrow.style if tip in "▶◀" else LINE)
        label_at = self._label_at(forward=arrow.forward)
        lanes = self._lanes(forward=arrow.forward)
        stop = min(end, self._distance(max(lanes)) if lanes else end)
        label = _fullest(arrow.labels, stop - label_at - 1)
        if label:
            pen.put(label_at - 1, " ", "")
            pen.text(label_at, label, arrow.style)
            pen.put(label_at + width_of(label), " ", "")
            return
        # Without the blanks around it, rather than not at all.
        label_at = max(label_at - _LABEL_AT, 1)
        pen.text(label_at, _fullest(arrow.labels, stop - label_at), arrow.style)

    def _write(self, pen: _Pen, end: int, mark: Mark, sign: str) -> None:
        pen.put(end, sign, mark.style)
        pen.text(end + 2, mark.word, mark.style)

    def _apply(self, arrow: Arrow, mark: Mark) -> None:
        number = arrow.numbers[0]
        flight = self._find(number)
        if flight is None:
            return
        match mark:
            case Mark.HELD:
                flight.held = True
            case Mark.RELEASED:
                flight.held = False
            case Mark.DUPLICATED:
                flight.outstanding[arrow.copy or number] += 1
            case Mark.DROPPED | Mark.LOST:
                del flight.outstanding[number]
                if not flight.outstanding:
                    self._flights.remove(flight)
            case Mark.DELAYED | Mark.REORDERED:
                pass
            case _:
                assert_never(mark)

    def _find(self, number: int) -> _Flight | None:
        return next((flight for flight in self._flights if flight.outstanding[number] > 0), None)

    def _free_lane(self, *, forward: bool) -> int | None:
        """The lane inside all taken ones: a later segment overtakes only by crossing them."""
        lane = max(self._lanes(forward=forward), default=-1) + 1
        return lane if lane < self._limit else None

    def _lanes(self, *, forward: bool) -> list[int]:
        return [
            flight.lane
            for flight in self._flights
            if flight.arrow.forward is forward and flight.lane is not None
        ]

    def _label_at(self, *, forward: bool) -> int:
        """Where a label begins, from its sender: past the lanes that arrows to the sender use."""
        taken = self._lanes(forward=not forward)
        nearest = self._width - 1 - self._distance(max(taken)) if taken else -1
        return nearest + _LABEL_AT + 1

    def _distance(self, lane: int) -> int:
        """How far from its sender a lane lies, in cells."""
        return self._width - _STUB - _STEP * lane

    def _pen(self, canvas: Canvas, arrow: Arrow) -> _Pen:
        return _Pen(canvas, self._left, self._width, arrow.forward)


def _fullest(labels: tuple[str, ...], room: int) -> str:
    """The first label that fits; nothing where none does."""
    return next((label for label in labels if width_of(label) <= room), "")
