"""What every screen has: themes, help, the palette's commands, copy, save, a clean way out.

Owns: the base of the applications. Must not know what any of them shows.
"""

from __future__ import annotations

import select
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import ClassVar, Generic

from textual.actions import parse
from textual.app import App, ReturnType, SystemCommand
from textual.binding import Binding, BindingType
from textual.notifications import SeverityLevel
from textual.screen import Screen

from tcpwatch.tui.help import Help, Legend, keys_of
from tcpwatch.tui.pane import Pane
from tcpwatch.tui.themes import COLOUR_BLIND, DARK, LIGHT, THEMES
from tcpwatch.views.wording import escaped

BASE_SHEET = Path(__file__).with_name("base.tcss")
"""What a subclass's ``CSS_PATH`` begins with, before its own."""

FRAME_S = 0.1
"""Ten frames a second are the most that any screen draws."""


COMMON_KEYS: tuple[Binding, ...] = (
    Binding("question_mark", "help", "help", key_display="?"),
    Binding("q", "quit", "quit", tooltip="quit; nothing stays behind"),
    Binding(
        "ctrl+c", "stop", "quit", tooltip="quit; nothing stays behind", show=False, priority=True
    ),
    Binding("ctrl+s", "save", "save", tooltip="save what there is, and a picture", show=False),
    Binding("y", "copy", "copy", tooltip="copy the pane that has the focus", show=False),
    Binding("T", "next_theme", "theme", tooltip="dark, light, colour-blind safe", show=False),
)
"""What every screen's keys end with, so that its own stand first in the footer."""


class TcpwatchApp(App[ReturnType], Generic[ReturnType]):
    """Base of the screens. A subclass sets ``LEGEND``, ``NAME`` and what `saveable` gives."""

    CSS_PATH: ClassVar[list[str | PurePath]] = [BASE_SHEET]
    ENABLE_COMMAND_PALETTE = True
    LEGEND: ClassVar[Legend] = ()
    NAME: ClassVar[str] = "tcpwatch"

    BINDINGS: ClassVar[list[BindingType]] = [*COMMON_KEYS]

    def __init__(self) -> None:
        super().__init__()
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = DARK

    def on_mount(self) -> None:
        """Textual calls a subclass's own as well."""
        if self.is_web:
            self.set_interval(1.0, self._leave_with_the_server)

    def _leave_with_the_server(self) -> None:
        """Of `textual serve`, where it was killed, only the end of its pipe tells."""
        pipe = select.poll()
        pipe.register(sys.__stdin__ or 0, 0)
        if pipe.poll(0):
            self.exit()

    # ------------------------------------------------------------------ what one can do

    def action_stop(self) -> None:
        """ctrl+c: copies what the mouse has marked, else quits in order."""
        marked = self.screen.get_selected_text()
        if marked:
            self._copy(marked)
            self.screen.clear_selection()
            return
        self.run_action_safely("quit")

    def run_action_safely(self, action: str) -> None:
        self.call_later(self.run_action, action)

    def action_help(self) -> None:
        """?: the keys of this screen, and its signs."""
        if isinstance(self.screen, Help):
            return
        ours = list(Binding.make_bindings(self.BINDINGS))
        others = [active.binding for active in self.screen.active_bindings.values()]
        own = [key for key in dict.fromkeys([*ours, *others]) if _is_own(key)]
        self.push_screen(Help(f"{self.title}: help", keys_of(own), self.LEGEND))

    def action_next_theme(self) -> None:
        """T: the next of our three themes."""
        names = [DARK, LIGHT, COLOUR_BLIND]
        here = names.index(self.theme) if self.theme in names else -1
        self.theme = names[(here + 1) % len(names)]

    def action_copy(self) -> None:
        """y: the text of the pane with the focus, else of the largest one."""
        pane = self.focused if isinstance(self.focused, Pane) else None
        panes = list(self.screen.query(Pane))
        if pane is None and panes:
            pane = max(panes, key=lambda one: len(one.text))
        if pane is not None:
            self._copy(pane.text)

    def _copy(self, text: str) -> None:
        self.copy_to_clipboard(text)
        lines = text.count("\n") + 1
        self.say(f"copied {lines} line{'s' if lines > 1 else ''}")

    def saveable(self) -> Sequence[tuple[str, Callable[[Path], object]]]:
        """What can be saved beside the picture: a file's ending, and who writes it."""
        return ()

    def action_save(self, only: str = "") -> None:
        """ctrl+s: everything that can be saved, into the folder one is in."""
        stem = f"{_file_name(self.NAME)}-{datetime.now(tz=UTC).astimezone():%Y%m%d-%H%M%S}"
        saved: list[str] = []
        try:
            for ending, write in [*self.saveable(), ("svg", self._save_picture)]:
                if only in ("", ending):
                    path = Path(f"{stem}.{ending}")
                    write(path)
                    saved.append(path.name)
        except OSError as error:
            self.say(f"cannot save here: {error.strerror}", failed=True)
        if saved:
            self.say(f"saved {', '.join(saved)} in {Path.cwd()}")

    def _save_picture(self, path: Path) -> None:
        path.write_text(self.export_screenshot(title=self.NAME), encoding="utf-8")

    def say(self, text: str, *, failed: bool = False) -> None:
        """A notice for a moment. The text may be anybody's: it is shown as text."""
        severity: SeverityLevel = "error" if failed else "information"
        self.notify(escaped(text), severity=severity, markup=False, timeout=4)

    # ------------------------------------------------------------------ Textual's

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:  # noqa: ARG002
        """The command palette."""
        common = {key.action for key in COMMON_KEYS}
        bindings = Binding.make_bindings(self.BINDINGS)
        own = [key for key in bindings if key.action not in common]
        for keys, meaning in keys_of(key for key in own if self._works(key)):
            first = next(key for key in own if meaning in (key.tooltip, key.description))
            yield SystemCommand(
                f"{meaning[:1].upper()}{meaning[1:]}", keys, self._doer(first.action)
            )
        yield SystemCommand("Help", "the keys of this screen, and its signs", self.action_help)
        for name, what in ((DARK, "Dark"), (LIGHT, "Light"), (COLOUR_BLIND, "Colour-blind safe")):
            yield SystemCommand(f"Theme: {what}", "change the colours", self._to_theme(name))
        endings = [ending for ending, _ in self.saveable()]
        for ending in [*endings, "svg"]:
            what = _ENDINGS.get(ending, ending)
            yield SystemCommand(
                f"Save {what}", f"a .{ending} file in this folder", self._saver(ending)
            )
        yield SystemCommand("Copy", "the text of the pane that has the focus", self.action_copy)
        yield SystemCommand(
            "Quit", "and leave nothing behind", lambda: self.run_action_safely("quit")
        )

    def _works(self, key: Binding) -> bool:
        """Whether it does something now."""
        _, name, parameters = parse(key.action)
        return bool(self.check_action(name, parameters))

    def _doer(self, action: str) -> Callable[[], None]:
        return lambda: self.run_action_safely(action)

    def _to_theme(self, name: str) -> Callable[[], None]:
        def change() -> None:
            self.theme = name

        return change

    def _saver(self, ending: str) -> Callable[[], None]:
        return lambda: self.action_save(ending)


_TEXTUALS = ("scroll", "page_", "focus", "command_palette", "help_quit", "minimize", "copy_text")


def _is_own(binding: Binding) -> bool:
    """Whether a binding is ours, not one that every Textual program has."""
    return binding.key != "ctrl+q" and not binding.action.split(".")[-1].startswith(_TEXTUALS)


_ENDINGS = {"svg": "picture", "txt": "text", "jsonl": "recording", "pcapng": "capture"}


def _file_name(name: str) -> str:
    kept = "".join(c if c.isalnum() or c in "-_" else "-" for c in name)
    return kept.strip("-")[:60] or "tcpwatch"
