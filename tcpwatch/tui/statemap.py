"""The 11-state figure as a widget: draws a `StateMap` as large as its room allows.

Owns: fitting the figure to the widget, in the middle of it. Must not know where states come from.
"""

from __future__ import annotations

from textual.geometry import Size

from tcpwatch.tcp.state import TcpState
from tcpwatch.tui.pane import Lines, Pane
from tcpwatch.views.canvas import Span
from tcpwatch.views.palette import BOLD, DIM, state_style
from tcpwatch.views.statemap import StateMap, draw_map, fitting, tell


class StateFigure(Pane):
    """The figure with its marks. ``told``: a line below says the edge just taken in words.

    ``aside``: so many cells a state are kept for its notes (a count, a trend).
    """

    def __init__(
        self,
        title: str = "",
        *,
        id: str | None = None,  # noqa: A002 - Textual's name for it
        aside: int = 0,
        told: bool = True,
    ) -> None:
        super().__init__(title, id=id, classes="titled" if title else "")
        self._aside, self._told = aside, told
        self._marks = StateMap()
        self._drawn: tuple[StateMap, Size] | None = None

    @property
    def marks(self) -> StateMap:
        return self._marks

    def mark(self, marks: StateMap) -> None:
        """Draws these marks; only lines that changed are redrawn."""
        if (marks, self.size) == self._drawn:
            return
        self._marks, self._drawn = marks, (marks, self.size)
        self.show(figure_lines(marks, *self.size, aside=self._aside, told=self._told))

    def on_pane_resized(self) -> None:
        """Draws it for its new room."""
        self.mark(self._marks)


def figure_lines(
    marks: StateMap, columns: int, lines: int, *, aside: int = 0, told: bool = True
) -> Lines:
    """The figure in the middle of so much room; where there is too little, the states in words."""
    room = lines - (1 if told else 0)
    shape = fitting(columns, room, aside)
    if shape is None:
        return _in_words(marks, columns, lines)
    margin = Span(" " * ((columns - shape.columns) // 2))
    drawn = [[margin, *line] for line in draw_map(shape, marks)]
    if told:
        said = tell(marks, columns)
        length = sum(len(span.text) for span in said)
        drawn += [[]] * min(room - shape.lines, 1)
        drawn.append([Span(" " * max((columns - length) // 2, 0)), *said])
    return drawn


def _in_words(marks: StateMap, columns: int, lines: int) -> Lines:
    found: list[list[Span]] = []
    for state in TcpState:
        here = state in marks.current
        sign = ("▸ " if len(marks.current) == 1 else "? ") if here else "  "
        known = here or state in marks.visited
        style = state_style(state, bold=here) if known else DIM
        note = marks.notes.get(state, ())
        if here or known or note or len(found) < lines:
            found.append([Span(sign, BOLD), Span(state.value, style), Span(" "), *note])
    seen = [line for line in found if line[1].style != DIM] or found
    return [tell(marks, columns), *(seen if len(found) >= lines else found)][:lines]
