"""The table of sockets as a widget: ten thousand rows, of which only the visible are ever drawn.

Owns: scrolling, the selected row and that it stays where the eye is when the order changes. Rows
are turned into lines by whoever owns them. Must not know what a socket is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.style import Style
from textual.binding import Binding
from textual.events import Click, Resize
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tcpwatch.tui.themes import inks_of
from tcpwatch.views.canvas import Span
from tcpwatch.views.palette import DIM

_MOVE, _PAGE = "the connection above, or below", "a page up, or down"
_ENDS = "the first, or the last"

Line = Sequence[Span]


class RowTable(ScrollView, can_focus=True):
    """Rows by their keys, in the order given; ``draw`` makes a line of one, ``head`` the first."""

    BINDINGS = [  # noqa: RUF012 - Textual's own annotation
        Binding("up,k", "cursor(-1)", "up", show=False, tooltip=_MOVE),
        Binding("down,j", "cursor(1)", "down", show=False, tooltip=_MOVE),
        Binding("pageup", "cursor_page(-1)", "page up", show=False, tooltip=_PAGE),
        Binding("pagedown,space", "cursor_page(1)", "page down", show=False, tooltip=_PAGE),
        Binding("home,g", "cursor_to(0)", "first", show=False, tooltip=_ENDS),
        Binding("end,G", "cursor_to(-1)", "last", show=False, tooltip=_ENDS),
        Binding("enter", "open", "open", tooltip="the selected connection's own page"),
    ]

    class Opened(Message):
        """The selected row is wanted."""

        def __init__(self, key: int) -> None:
            super().__init__()
            self.key = key

    class HeadClicked(Message):
        """The head was clicked, at that cell."""

        def __init__(self, cell: int) -> None:
            super().__init__()
            self.cell = cell

    class Moved(Message):
        """Other rows are in sight, or another one is selected."""

    def __init__(
        self,
        draw: Callable[[int, bool], Line],
        head: Callable[[], Line],
        *,
        id: str | None = None,  # noqa: A002 - Textual's name for it
    ) -> None:
        super().__init__(id=id)
        self._draw, self._head = draw, head
        self._keys: Sequence[int] = ()
        self._nothing: Line = (Span("   nothing fits", DIM),)
        self._place = 0
        self._chosen: int | None = None
        self._lines: dict[int, Line] = {}

    # ------------------------------------------------------------------ what it shows

    def order(self, keys: Sequence[int]) -> None:
        """The rows, in this order from now on. The selected one stays at its height in sight."""
        old = self._place - self.scroll_offset.y
        self._keys = keys
        if self._chosen is not None:
            try:
                self._place = keys.index(self._chosen)
            except ValueError:
                self._chosen = None  # it is gone: whoever is there now is selected
        self._place = max(min(self._place, len(keys) - 1), 0)
        size = Size(max(self.size.width, 1), len(keys) + 1)
        if size != self.virtual_size:
            self.virtual_size = size
        if self._chosen is not None and self._place - self.scroll_offset.y != old:
            self.scroll_to(y=max(self._place - old, 0), animate=False, force=True)
        self.redraw()

    @property
    def in_sight(self) -> Sequence[int]:
        """The keys in sight."""
        top = self.scroll_offset.y
        return self._keys[top : top + max(self.size.height - 1, 0)]

    @property
    def current(self) -> int | None:
        return self._keys[self._place] if self._keys else None

    def select(self, key: int) -> None:
        """Selects that row, and keeps to it wherever it goes."""
        if key in self._keys:
            self._go(self._keys.index(key))

    def redraw(self) -> None:
        """Draws the lines in sight anew, those of them that have changed."""
        for y in range(self.size.height):
            line = self._line(y)
            if self._lines.get(y) != line:
                self._lines[y] = line
                self.refresh(Region(0, y, self.size.width, 1))

    def text(self) -> str:
        """The lines in sight as plain text."""
        lines = (self._line(y) for y in range(min(self.size.height, len(self._keys) + 1)))
        return "\n".join("".join(span.text for span in line).rstrip() for line in lines)

    def _line(self, y: int) -> Line:
        if y == 0:
            return self._head()
        place = y - 1 + self.scroll_offset.y
        if place >= len(self._keys):
            return self._nothing if y == 1 else ()
        return self._draw(self._keys[place], place == self._place)

    # ------------------------------------------------------------------ keys and mouse

    def action_cursor(self, by: int) -> None:
        self._go(self._place + by)

    def action_cursor_page(self, by: int) -> None:
        self._go(self._place + by * max(self.size.height - 2, 1))

    def action_cursor_to(self, place: int) -> None:
        self._go(place if place >= 0 else len(self._keys) - 1)
        if place == 0:
            self._chosen = None  # the first, whoever that is

    def action_open(self) -> None:
        if self.current is not None:
            self.post_message(self.Opened(self.current))

    def _go(self, place: int) -> None:
        self._place = max(min(place, len(self._keys) - 1), 0)
        self._chosen = self.current
        top, height = self.scroll_offset.y, max(self.size.height - 1, 1)
        if self._place < top:
            self.scroll_to(y=self._place, animate=False, force=True)
        elif self._place >= top + height:
            self.scroll_to(y=self._place - height + 1, animate=False, force=True)
        self.redraw()
        self.post_message(self.Moved())

    def on_click(self, event: Click) -> None:
        """A click selects, a second one opens; on the head it decides the order."""
        offset = event.get_content_offset(self)
        if offset is None:
            return
        if offset.y == 0:
            self.post_message(self.HeadClicked(offset.x))
            return
        place = offset.y - 1 + self.scroll_offset.y
        if place < len(self._keys):
            again = place == self._place and event.chain > 1
            self._go(place)
            if again:
                self.action_open()

    # ------------------------------------------------------------------ Textual's

    def watch_scroll_y(self, old: float, new: float) -> None:
        super().watch_scroll_y(old, new)
        if round(old) != round(new):
            self._lines.clear()
            self.post_message(self.Moved())

    def on_resize(self, _event: Resize) -> None:
        self._lines.clear()
        self.redraw()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._lines.clear()
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One line (Textual's line API)."""
        line = self._lines.get(y)
        if line is None:
            line = self._lines[y] = self._line(y)
        ground = self.rich_style
        chosen = y > 0 and y - 1 + self.scroll_offset.y == self._place and bool(self._keys)
        if chosen or y == 0:
            theme = self.app.current_theme
            panel = theme.panel if chosen and self.has_focus else theme.surface
            ground += Style.parse(f"on {panel or '#303030'}")
        strip = inks_of(self.app.current_theme).strip(line)
        width = self.size.width
        return strip.crop_extend(0, width, ground).apply_style(ground)
