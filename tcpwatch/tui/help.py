"""The help on ``?``: the keys of the screen that one is on, and how to read it.

Owns: the page. The keys are read off the screen's own bindings. Must not know any screen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from tcpwatch.tui.pane import Pane
from tcpwatch.views.canvas import Span, words, wrap
from tcpwatch.views.palette import BOLD, DIM

_KEY_COLUMN = 16
Legend = Sequence[tuple[str, str]]


class Help(ModalScreen[None]):
    """What one can do here (``keys``: key and what it does) and how to read it (``legend``)."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter", "dismiss", "close"),
    ]

    def __init__(self, title: str, keys: Legend, legend: Legend) -> None:
        super().__init__()
        self._title, self._keys, self._legend = title, keys, legend

    def compose(self) -> ComposeResult:
        with Vertical(id="help"):
            yield Static(self._title, id="help-title", markup=False)
            yield Pane(id="help-text")
            yield Static("ctrl+p has all commands    escape closes", id="help-foot", markup=False)

    def on_mount(self) -> None:
        self.query_one(Pane).focus()

    def on_pane_resized(self, message: Pane.Resized) -> None:
        """Draws it for the room that there is."""
        width = message.pane.size.width - 1
        message.pane.show(
            [*_section("keys", self._keys, width), *_section("signs", self._legend, width)]
        )


def _section(title: str, rows: Legend, width: int) -> Iterable[Sequence[Span]]:
    if not rows:
        return
    yield [Span(title, DIM)]
    for key, meaning in rows:
        lines = wrap(words(meaning), max(width - _KEY_COLUMN, 10)) or [[]]
        for index, line in enumerate(lines):
            first = key if index == 0 else ""
            if len(first) >= _KEY_COLUMN:
                yield [Span(first, BOLD)]
                first = ""
            yield [Span(first.ljust(_KEY_COLUMN), BOLD), *line]
    yield []


def keys_of(bindings: Iterable[Binding]) -> list[tuple[str, str]]:
    """Bindings as the help has them: those with a description, the same deed on one line."""
    found: dict[str, list[str]] = {}
    for binding in bindings:
        if binding.description:
            shown = binding.key_display or _SIGNS.get(binding.key, binding.key)
            found.setdefault(binding.tooltip or binding.description, []).append(shown)
    return [(" ".join(dict.fromkeys(keys)), meaning) for meaning, keys in found.items()]


_SIGNS = {
    "question_mark": "?",
    "left": "←",
    "right": "→",
    "up": "↑",
    "down": "↓",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "less_than_sign": "<",
    "greater_than_sign": ">",
    "slash": "/",
}
