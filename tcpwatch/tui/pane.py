"""The one widget that shows text: lines of spans, of which only those that changed are redrawn.

Owns: scrolling, following the end, a marked line. What it shows is frozen, and comes from a pure
function of a snapshot. Must not know what the lines say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from rich.style import Style
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.events import Click, Resize
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tcpwatch.tui.themes import inks_of
from tcpwatch.views.canvas import Span, visible, width_of

Lines = Sequence[Sequence[Span]]
_MANY = 1000  # lines whose widths are not measured again while they are as many


class Pane(ScrollView, can_focus=True, inherit_bindings=False):
    """Shows lines of spans, under a title where it has one."""

    # Only these: left and right are the screens' own, and would stand first in their footers.
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "scroll_up", "scroll", show=False),
        Binding("down", "scroll_down", "scroll", show=False),
        Binding("pageup", "page_up", "scroll", show=False),
        Binding("pagedown", "page_down", "scroll", show=False),
    ]

    class Picked(Message):
        """A line was clicked."""

        def __init__(self, pane: Pane, line: int, column: int) -> None:
            super().__init__()
            self.pane, self.line, self.column = pane, line, column

        @property
        def control(self) -> Pane:
            return self.pane

    class Resized(Message):
        """There is another room to draw for."""

        def __init__(self, pane: Pane) -> None:
            super().__init__()
            self.pane = pane

        @property
        def control(self) -> Pane:
            return self.pane

    def __init__(self, title: str = "", *, id: str | None = None, classes: str = "") -> None:  # noqa: A002 - Textual's name for it
        super().__init__(id=id, classes=classes or None)
        self._title = ""
        if title:
            self.entitle(title)
        self._lines: tuple[tuple[Span, ...], ...] = ()
        self._marked: int | None = None
        self._room = Size(0, 0)
        self._width = 1

    # ------------------------------------------------------------------ what it shows

    def entitle(self, title: str) -> None:
        """The words in its upper border: shown as they are, whatever brackets they have."""
        if title != self._title:
            self._title = title
            self.border_title = Text(visible(title))

    def show(self, lines: Lines, *, marked: int | None = None, follow: bool = False) -> None:
        """Shows these lines; redraws those that differ from what is shown.

        ``marked``: this line stands out and is kept in sight; ``follow``: the last one is.
        """
        new = tuple(line if isinstance(line, tuple) else tuple(line) for line in lines)
        old, was = self._lines, self._marked
        if new == old and marked == was:
            return
        self._lines, self._marked = new, marked
        if len(new) != len(old) or len(new) < _MANY:
            self._width = max((sum(width_of(s.text) for s in line) for line in new), default=1)
        size = Size(max(self._width, 1), len(new))
        if size != self.virtual_size:
            self.virtual_size = size
        top = self.scroll_offset.y
        for y in range(self.size.height):
            number = y + top
            before = old[number] if number < len(old) else None
            after = new[number] if number < len(new) else None
            if before != after or number in (marked, was):
                self.refresh(Region(0, y, self.size.width, 1))
        if marked is not None and marked != was:
            self._keep_in_sight(marked)
        elif follow and (len(new) != len(old) or was is not None):
            self.scroll_to(y=max(len(new) - self.size.height, 0), animate=False, force=True)

    def _keep_in_sight(self, line: int) -> None:
        height = self.size.height
        if height and not self.scroll_offset.y <= line < self.scroll_offset.y + height:
            self.scroll_to(y=max(line - height // 2, 0), animate=False, force=True)

    @property
    def text(self) -> str:
        """All that it shows, as plain text."""
        return "\n".join("".join(span.text for span in line).rstrip() for line in self._lines)

    @property
    def shown(self) -> tuple[tuple[Span, ...], ...]:
        return self._lines

    # ------------------------------------------------------------------ Textual's

    def render_line(self, y: int) -> Strip:
        """One line as it is to be drawn (Textual's line API)."""
        left, top = self.scroll_offset
        number = y + top
        ground = self.rich_style
        inks = inks_of(self.app.current_theme)
        if number >= len(self._lines):
            return Strip.blank(self.size.width, ground)
        strip = inks.strip(self._lines[number])
        if number == self._marked:
            ground = ground + Style.from_color(bgcolor=self._mark_colour())
        strip = strip.crop_extend(left, left + self.size.width, ground)
        return strip.apply_style(ground).apply_offsets(left, number)

    def _mark_colour(self) -> Any:
        from rich.color import Color

        return Color.parse(self.app.current_theme.panel or "#303030")

    def get_selection(self, selection: Any) -> tuple[str, str] | None:
        """What the mouse has marked (Textual copies it on ctrl+c)."""
        return selection.extract(self.text), "\n"

    def on_resize(self, event: Resize) -> None:
        """Tells who draws for it."""
        if event.size != self._room:
            self._room = event.size
            self.post_message(self.Resized(self))

    def on_click(self, event: Click) -> None:
        """Tells which line was meant."""
        offset = event.get_content_offset(self)
        if offset is not None:
            line = offset.y + self.scroll_offset.y
            self.post_message(self.Picked(self, line, offset.x + self.scroll_offset.x))

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self.refresh()
