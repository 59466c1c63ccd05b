"""The ladder: both ends' states, the segments between and the calls beside them, live.

Owns: the page (columns, times, head and foot) and when a moment is complete enough to be drawn.
Must not know how a lane runs or what belongs to a moment: see `lanes`, `moment` and `layout`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from tcpwatch.model.events import SegmentSeen, UserCall
from tcpwatch.model.identity import SocketAddress
from tcpwatch.model.timeline import Happening, Judged, RunRecord
from tcpwatch.views.canvas import Canvas, Span, width_of, words, wrap
from tcpwatch.views.lanes import Lanes, Mark
from tcpwatch.views.layout import Layout, Line
from tcpwatch.views.moment import Before, Deed, Entry, Telling, side_of
from tcpwatch.views.palette import BOLD, DIM
from tcpwatch.views.summary import foot_lines, head_lines
from tcpwatch.views.wording import Wording

_MS = 1_000_000
_WIDEST = 120
_NARROWEST = 40
_WIDE_STATE = 14  # cells of "> SYN-RECEIVED"
_PAUSE_NS = 1_500_000  # on a busy machine two witnesses of one deed lie a millisecond apart
LONGEST_MOMENT_NS = 4 * _MS  # well below the way from end to end, or cause and effect would merge
_PATIENCE_NS = 250 * _MS
"""How long the column heads wait for the ports that the first segment tells."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Where the columns stand, in cells."""

    width: int
    time: int  # the width of a time in ms, right-aligned
    side: tuple[int, int]  # the widths of the two state columns
    wire: int  # the width between them

    @classmethod
    def within(cls, width: int) -> Columns:
        """Shares out a terminal's width: at 80 each column holds what it usually has to.

        Where it is narrow the names of states stay whole, at the cost of the wire and its labels.
        """
        width = min(max(width, _NARROWEST), _WIDEST)
        time = 5 if width >= 50 else 4
        room = width - time - 3
        if width < 80:
            wire = max(8, min(room - 2 * _WIDE_STATE, 22))
            left = (room - wire) // 2
        else:
            left = 24 + (width - 80) // 5
            wire = room - left - min(26 + (width - 80) // 5, 32)
        return cls(width, time, (left, room - wire - left), wire)

    @property
    def left(self) -> int:
        return self.time + 1

    @property
    def middle(self) -> int:
        return self.left + self.side[0] + 1

    @property
    def right(self) -> int:
        return self.middle + self.wire + 1

    def at(self, side: int) -> int:
        """The first cell of that side's state column."""
        return self.right if side else self.left


class Ladder:
    """Draws a run line by line through ``write`` (which gets whole lines with their newline).

    ``width`` is the terminal's, in cells: no line is longer. ``ascii_only`` is for an output that
    is not UTF-8. Happenings come in order of time; those about a millisecond apart are one
    moment, which is drawn when a later one begins, at `tick`, or at `finish`.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        *,
        width: int = 80,
        colour: bool = False,
        ascii_only: bool = False,
    ) -> None:
        self._write = write
        self._colour = colour
        self._ascii = ascii_only
        self._width = width
        self._columns = Columns.within(width)
        self._wording = Wording(ascii_only)
        self._lanes = Lanes(self._columns.middle, self._columns.wire)
        self._moment: list[Happening] = []
        self._waiting: list[list[Happening]] = []  # moments from before the column heads
        self._headed = False
        self._roles = ["client", "server"]
        self._addresses: dict[int, str] = {}
        self._connections: dict[int, None] = {}  # those seen, in order
        self._before = Before()
        self._time = ""
        self.drawing_ns = 0  # when all was over of the moment that is being drawn

    def begin(self, record: RunRecord) -> None:
        """Prints the claim and the lab; the column heads follow with the first moment."""
        if not record.roles:  # nobody gave any: a capture, or programs of anybody's
            self._roles = ["active", "passive"]
        for ip, role in record.roles.items():
            side = side_of(role)
            if side is not None:
                self._roles[side] = role
                self._addresses.setdefault(side, self._wording.safe(ip))
        self._print_all(head_lines(record, self._width, self._wording))
        self._print([])

    def feed(self, happening: Happening) -> None:
        """Takes what happened next."""
        if self._moment:
            first, last = self._moment[0].event.t_ns, self._moment[-1].event.t_ns
            now = happening.event.t_ns
            if now - last > _PAUSE_NS or now - first > LONGEST_MOMENT_NS:
                self.tick()
        self._moment.append(happening)

    def happened(self, happening: Happening) -> None:
        """The same, by the name that a session calls its sinks with."""
        self.feed(happening)

    def tick(self, now_ns: int | None = None) -> None:
        """Draws a moment that is over: nothing earlier than ``now_ns`` will be fed any more.

        Without a time it draws all that was fed.
        """
        if not self._moment:
            return
        if now_ns is not None and now_ns - self._moment[-1].event.t_ns <= _PAUSE_NS:
            return
        self._waiting.append(self._moment)
        self._moment = []
        if not self._headed and not self._ready():
            return
        self._flush()

    def finish(self, judged: Judged) -> None:
        """Draws the rest, what never arrived, the paths, the findings and the verdict."""
        if self._moment:
            self._waiting.append(self._moment)
            self._moment = []
        self._flush()
        self._draw_entries(Telling.rest(self._before), self._time)
        for arrow in self._lanes.in_flight():
            canvas = self._canvas()
            self._lanes.mark(canvas, arrow, Mark.LOST)
            self._lanes.pass_through(canvas)
            self._emit(canvas)
        self._print([])
        self._print_all(foot_lines(judged, self._width, self._wording))

    def _ready(self) -> bool:
        """Whether the column heads can be printed with both ends' ports, or have waited enough."""
        moments = self._waiting
        if any(isinstance(h.event.payload, SegmentSeen) for moment in moments for h in moment):
            return True
        return moments[-1][-1].event.t_ns - moments[0][0].event.t_ns > _PATIENCE_NS

    def _flush(self) -> None:
        if not self._headed:
            self._head()
        for moment in self._waiting:
            self._draw(moment)
        self._waiting.clear()

    def _head(self) -> None:
        self._headed = True
        for happening in (h for moment in self._waiting for h in moment):
            found = _ends(happening)
            self._addresses.update({side: str(address) for side, address in found.items()})
            if isinstance(happening.event.payload, SegmentSeen):
                break
        columns, canvas = self._columns, self._canvas()
        canvas.put(columns.time - 2, "ms", DIM)
        canvas.put(columns.middle + (columns.wire - 8) // 2, "segments", DIM)
        ends = [(role, self._addresses.get(side, "")) for side, role in enumerate(self._roles)]
        long = any(
            len(role) + 1 + width_of(address) > columns.side[side]
            for side, (role, address) in enumerate(ends)
        )
        for side, (role, address) in enumerate(ends):
            text = [Span(role, BOLD), Span(" "), Span(address, DIM)]
            if long:
                self._print_all(wrap([(text[0],), (text[2],)], self._width))
                text = text[:1]
            canvas.write(columns.at(side), text)
        self._emit(canvas)

    def _draw(self, moment: Sequence[Happening]) -> None:
        self.drawing_ns = moment[-1].event.t_ns
        self._meet(moment)
        many = len(self._connections) > 1
        telling = Telling(moment, self._wording, self._before, many=many)
        self._draw_entries(telling.entries(), str(round(moment[0].event.t_ns / _MS)))

    def _draw_entries(self, entries: Iterable[Entry], time: str) -> None:
        for line in Layout().place(entries):
            self._draw_line(line, time)

    def _meet(self, moment: Iterable[Happening]) -> None:
        """Introduces each connection after the first with its addresses."""
        for happening in moment:
            number = happening.connection
            if number is None or number in self._connections:
                continue
            if not isinstance(happening.event.payload, SegmentSeen):
                continue
            self._connections[number] = None
            if len(self._connections) > 1:
                ends = dict(sorted(_ends(happening).items()))
                text = ", ".join(f"{self._roles[side]} {ends[side]}" for side in ends)
                said = [*words(f"#{number}", BOLD), *words(text, DIM)]
                for spans in wrap(said, self._columns.width - self._columns.left):
                    canvas = self._canvas()
                    canvas.write(self._columns.left, spans)
                    self._emit(canvas)

    def _draw_line(self, line: Line, time: str) -> None:
        columns = self._columns
        if line.note:
            for spans in wrap(line.note, columns.width - columns.left, indent=2):
                canvas = self._timed(time)
                canvas.write(columns.left, spans)
                self._emit(canvas)
            return
        left, right = (wrap(line.texts.get(side, []), columns.side[side], 2) for side in (0, 1))
        rows = list(zip_longest(left, right, fillvalue=list[Span]())) or [([], [])]
        for index, texts in enumerate(rows):
            canvas = self._timed(time)
            if index == 0:
                self._draw_arrows(canvas, line)
            self._lanes.pass_through(canvas)
            for side, spans in enumerate(texts):
                canvas.write(columns.at(side), spans)
            self._emit(canvas)

    def _draw_arrows(self, canvas: Canvas, line: Line) -> None:
        for entry in line.arrows:
            assert entry.arrow is not None
            match entry.deed:
                case Deed.LAUNCH:
                    self._lanes.launch(canvas, entry.arrow, line.mark)
                case Deed.WHOLE:
                    self._lanes.whole(canvas, entry.arrow)
                case Deed.LAND:
                    self._lanes.land(canvas, entry.arrow)
                case Deed.MARK if entry.mark is not None:
                    self._lanes.mark(canvas, entry.arrow, entry.mark)
                case _:
                    raise AssertionError(f"an arrow without a deed: {entry}")

    def _canvas(self) -> Canvas:
        return Canvas(min(self._width, self._columns.width))

    def _timed(self, time: str) -> Canvas:
        """A new line; its time stands there only where it differs from the line above."""
        canvas = self._canvas()
        if time != self._time:
            self._time = time
            room = self._columns.time
            canvas.put(max(room - len(time), 0), time, DIM)
            if len(time) > room:  # it would touch the words
                self._lanes.pass_through(canvas)
                self._emit(canvas)
                return self._canvas()
        return canvas

    def _emit(self, canvas: Canvas) -> None:
        text = canvas.render(colour=self._colour, ascii_only=self._ascii)
        self._write(text + "\n")

    def _print(self, spans: Iterable[Span]) -> None:
        canvas = Canvas(self._width)
        canvas.write(0, spans)
        self._emit(canvas)

    def _print_all(self, lines: Iterable[Iterable[Span]]) -> None:
        for line in lines:
            self._print(line)


def _ends(happening: Happening) -> dict[int, SocketAddress]:
    """Which address each side has, as far as this happening tells."""
    payload, trace = happening.event.payload, happening.segment
    if isinstance(payload, SegmentSeen) and trace is not None:
        sender = side_of(trace.sender) or 0
        return {1 - sender: payload.dst, sender: payload.src}
    side = side_of(happening.role)
    if isinstance(payload, UserCall) and side is not None:
        known = {side: payload.local}
        if payload.remote != payload.local:  # else its socket has called itself
            known[1 - side] = payload.remote
        return {end: address for end, address in known.items() if address and address.port}
    return {}
