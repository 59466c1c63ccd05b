"""The wire between the two ends, drawn: one line a segment, its head where the segment is now.

Owns: how travelling, waiting, falling and having arrived look. Pure. Must not know time: a scene
says how far each has come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from tcpwatch.model.events import Fate
from tcpwatch.tui.scene import Flight, Scene, Stage
from tcpwatch.views.canvas import Canvas, Span, shortened, width_of
from tcpwatch.views.palette import BAD, BOLD, DIM, LINE, WARN
from tcpwatch.views.wording import labels, segment_style

_FRESH_NS = 2_000_000  # what has just arrived is still told in full ink


@dataclass(frozen=True, slots=True)
class Waiting:
    """A segment that a person has stopped, and how often it was sent again in the meantime."""

    n: int
    again: int = 0


@dataclass(frozen=True, slots=True)
class Gate:
    """What is stopped on the wire, in the order in which it would go on; one of it is chosen."""

    waiting: tuple[Waiting, ...] = ()
    chosen: int = 0
    shut: bool = False


def wire_lines(
    scene: Scene, columns: int, lines: int, gate: Gate | None = None
) -> list[list[Span]]:
    """The segments of the last moments, the latest at the bottom, and a line that counts them."""
    gate = gate or Gate()
    places = {one.n: index for index, one in enumerate(gate.waiting)}
    again = {one.n: one.again for one in gate.waiting}
    room = max(lines - 2, 1)
    rows: list[list[list[Span]]] = []
    told = [flight for flight in scene.flights if not (gate.shut and _is_counted(flight))]
    # What is stopped stands in the order in which it would go on, below all else.
    shown = sorted(_worth(told, room), key=lambda one: places.get(one.trace.n, -1))
    for flight in shown:
        n = flight.trace.n
        place = places.get(n)
        rows.append(
            _row(
                flight,
                columns,
                place=place,
                chosen=place is not None and place == gate.chosen,
                again=again.get(n, 0),
            )
        )
    drawn = [line for row in rows for line in row][-room:]
    if len(rows) * 2 <= room and all(len(row) == 1 for row in rows):
        drawn = [line for row in rows for line in (*row, [])]  # room to breathe
    blanks: list[list[Span]] = [[]] * (room - len(drawn))
    return [*drawn, *blanks, [], _count(scene.flights, gate, columns)][:lines]


def _is_counted(flight: Flight) -> bool:
    """Whether the gate took it for one more of what was stopped already, and counted it there."""
    return flight.trace.retransmission and flight.marks == (Fate.DROPPED,)


def _worth(flights: Sequence[Flight], room: int) -> list[Flight]:
    """As many as there is room for: those that are still under way before those that are not."""
    done = (Stage.ARRIVED, Stage.LOST, Stage.PERHAPS, Stage.FALLS)
    active = [flight for flight in flights if flight.stage not in done]
    others = [flight for flight in flights if flight.stage in done]
    heights = [2 if flight.stage is Stage.FALLS else 1 for flight in others]
    left = room - len(active)
    kept: list[Flight] = []
    for flight, height in zip(reversed(others), reversed(heights), strict=True):
        left -= height
        if left < 0:
            break
        kept.append(flight)
    return sorted([*kept, *active[-room:]], key=lambda flight: flight.trace.n)


def _row(
    flight: Flight, columns: int, *, place: int | None, chosen: bool, again: int
) -> list[list[Span]]:
    """A segment's line; a dropped one has a second, where it falls."""
    gutter = 2 if place is not None else 0
    body = _Body(columns - gutter, forward=flight.forward)
    style = segment_style(flight.trace)
    match flight.stage:
        case Stage.TRAVELS:
            drawn = [body.travelling(flight, style or BOLD)]
        case Stage.WAITS:
            word = "held" if Fate.REORDERED not in flight.marks else "behind"
            told = f"{word} ×{again + 1}" if again else word
            drawn = [body.waiting(flight, told, WARN + (";7" if chosen else ""))]
        case Stage.FALLS if flight.progress < 0.5:
            drawn = [body.travelling(flight, style or BOLD)]
        case Stage.FALLS:
            drawn = body.falling(flight)
        case Stage.LOST:
            drawn = [body.ending(flight, "✗", BAD)]
        case Stage.PERHAPS:
            drawn = [body.ending(flight, "?", LINE)]
        case Stage.ARRIVED:
            fresh = flight.age_ns < _FRESH_NS
            drawn = [body.ending(flight, "▶" if flight.forward else "◀", style if fresh else DIM)]
        case unreachable:
            assert_never(unreachable)
    if place is None:
        return drawn
    number = Span(f"{place + 1} " if place < 9 else "· ", BOLD if chosen else WARN)
    return [[number, *line] for line in drawn]


class _Body:
    """Draws by distances from the sender: one rule serves both directions."""

    def __init__(self, columns: int, *, forward: bool) -> None:
        self._columns = max(columns, 4)
        self._forward = forward

    def travelling(self, flight: Flight, style: str) -> list[Span]:
        """The label behind its head, and a trail to where it comes from."""
        head = min(max(round(flight.progress * (self._columns - 1)), 0), self._columns - 1)
        shown = _label(flight, max(head - 1, 2))
        shown = shown[: min(self._columns - 1, max(head, len(shown)))]
        head = max(head, len(shown))
        sign = "✦" if flight.trace.injected else ("▶" if self._forward else "◀")
        trail = head - len(shown)
        return self._line(
            [(0, "─" * trail, DIM), (head - len(shown), shown, style), (head, sign, style)]
        )

    def waiting(self, flight: Flight, word: str, style: str) -> list[Span]:
        """At the receiver's door."""
        room = self._columns
        label = _label(flight, room - len(word) - 6)
        at = room - 2 - len(word)
        return self._line(
            [
                (0, "─" * (room - 1), DIM),
                (2, f" {label} ", style),
                (at - 1, f" {word} ", style.removesuffix(";7")),
                (room - 1, "║", style.removesuffix(";7")),
            ]
        )

    def ending(self, flight: Flight, sign: str, style: str) -> list[Span]:
        """The whole way."""
        room = self._columns
        label = _label(flight, room - 6)
        line = DIM if style == DIM else LINE
        return self._line(
            [(0, "─" * (room - 1), line), (2, f" {label} ", style), (room - 1, sign, style or line)]
        )

    def falling(self, flight: Flight) -> list[list[Span]]:
        """Half the way, or as far as the door, and down."""
        at = min(round(flight.progress * self._columns), self._columns - 1)
        label = _label(flight, at - 4)
        corner = "╮" if self._forward else "╭"
        upper = self._line([(0, "─" * at, DIM), (1, f" {label} ", ""), (at, corner, BAD)])
        word = "✗ dropped" if self._forward else "dropped ✗"
        word = shortened(word, self._columns)
        return [upper, self._line([(min(at, self._columns - len(word)), word, BAD)])]

    def _line(self, pieces: Sequence[tuple[int, str, str]]) -> list[Span]:
        """Pieces of text at distances from the sender."""
        canvas = Canvas(self._columns)
        for distance, text, style in pieces:
            length = width_of(text)
            at = distance if self._forward else self._columns - distance - length
            canvas.put(at, text, style)
        return canvas.spans()


def _label(flight: Flight, room: int) -> str:
    prefix = "again " if flight.trace.retransmission else ""
    for text in (*labels(flight.trace, prefix), *labels(flight.trace)):
        if len(text) <= room:
            return text
    return flight.trace.segment.flags.letters[: max(room, 1)]


def _count(flights: Sequence[Flight], gate: Gate, columns: int) -> list[Span]:
    """What is on the wire, in words."""
    under_way = sum(flight.stage is Stage.TRAVELS for flight in flights)
    held = sum(flight.stage is Stage.WAITS for flight in flights)
    said = []
    if held:
        said.append(f"{held} held")
    if under_way:
        said.append(f"{under_way} in flight")
    nothing = "empty: g runs on" if gate.shut else "the wire is empty"
    text = ", ".join(said) or (nothing if flights or gate.shut else "")
    style = WARN if held else DIM
    return [Span(" " * max((columns - len(text)) // 2, 0)), Span(shortened(text, columns), style)]
