"""The lab's screen: both ends' figures, the wire between them, the ladder, script, calls, evidence.

Owns: the layout, the keys, and where in time the person is. Everything that it shows is computed
by pure functions from a frozen `Reel`. Must not know how a run is played: see `live` and `still`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import ClassVar, Protocol

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Footer

from tcpwatch.model.events import WIRE
from tcpwatch.model.recording import encode_event, encode_foot, encode_head
from tcpwatch.model.timeline import CAPTURE
from tcpwatch.tui.app import BASE_SHEET, COMMON_KEYS, FRAME_S, TcpwatchApp
from tcpwatch.tui.heading import heading_line
from tcpwatch.tui.help import Legend
from tcpwatch.tui.pace import Mode, Pace
from tcpwatch.tui.pages import LadderPage, call_lines, evidence_lines, read_script, script_lines
from tcpwatch.tui.pane import Pane
from tcpwatch.tui.reel import Reel, transitions_of
from tcpwatch.tui.scene import End, Scene, scene_at
from tcpwatch.tui.statemap import StateFigure
from tcpwatch.tui.wire import Gate, wire_lines
from tcpwatch.views.canvas import visible, words, wrap
from tcpwatch.views.palette import DIM
from tcpwatch.views.statemap import StateMap

_UNKNOWN = StateMap()
PAGES = ("ladder", "script", "calls", "detail")


class Run(Protocol):
    """A run that is played, or one that was: where the screen's reels come from."""

    @property
    def script(self) -> Path | None:
        """The scenario's file, where there is one."""

    @property
    def place(self) -> tuple[int, int]:
        """Which of how many runs this is, from 1."""

    def turn(self, by: int) -> None:
        """To another of them: the next, or the one before."""

    def reel(self) -> Reel:
        """What was told until now."""

    def gate(self) -> Gate | None:
        """What a person has stopped on the wire; None where there is nothing to stop."""

    def trouble(self) -> str:
        """What went wrong with it, in words."""


_ONE, _MOVE = "one event back, or on", "the transition before, or after"
_END, _TEMPO = "the present moment; of a recording, the end", "the film twice as fast, or half"

_WHICH = "one connection alone: the next, or the one before"
_RUN = "the next run of the file, or the one before"

LAB_KEYS: tuple[Binding, ...] = (
    Binding("left", "step(-1)", "back", tooltip=_ONE),
    Binding("right", "step(1)", "on", tooltip=_ONE),
    Binding("up", "move(-1)", "transition", tooltip=_MOVE, show=False),
    Binding("down", "move(1)", "transition", tooltip=_MOVE, show=False),
    Binding("space", "film", "play", tooltip="play slowly, or stand"),
    Binding("l", "live", "live", tooltip=_END),
    Binding("end", "live", "end", tooltip=_END, show=False),
    Binding("home", "begin", "begin", tooltip="the beginning", show=False),
    Binding("plus", "tempo(2.0)", "faster", tooltip=_TEMPO, show=False, key_display="+"),
    Binding("minus", "tempo(0.5)", "slower", tooltip=_TEMPO, show=False, key_display="-"),
    Binding("v", "page", "page", tooltip="ladder, script, calls, evidence, where all have no room"),
    Binding("c", "connection(1)", "connection", tooltip=_WHICH),
    Binding("C", "connection(-1)", "connection", tooltip=_WHICH, show=False),
)
RUN_KEYS: tuple[Binding, ...] = (
    Binding("n", "run(1)", "run", tooltip=_RUN),
    Binding("N", "run(-1)", "run", tooltip=_RUN, show=False),
)


def in_order(*keys: Binding) -> list[BindingType]:
    """Keys that act in the order in which they come.

    Textual asks the focused pane first for all but priority ones, which so overtake the others:
    of 2 and enter, pressed at once, enter came first, and another segment was delivered.
    """
    return [replace(key, priority=True) for key in keys]


class LabScreen(TcpwatchApp[None], inherit_bindings=False):
    """Shows a run, live or recorded. ``pace`` is where it begins."""

    CSS_PATH: ClassVar[list[str | PurePath]] = [BASE_SHEET, Path(__file__).with_name("lab.tcss")]
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 - Textual's own annotation
        (0, "-narrow"),
        (110, "-normal"),
        (170, "-wide"),
    ]
    VERTICAL_BREAKPOINTS = [  # noqa: RUF012
        (0, "-low"),
        (36, "-tall"),
        (46, "-high"),
    ]
    LEGEND: ClassVar[Legend] = (
        (
            "▸ STATE ◂",
            "the state this end is in (reversed); STATE? where the evidence allows others",
        ),
        ("━━▶", "the way it took; in its colour the edge just taken, told with its cause below"),
        ("STATE ✗", "from here it went to CLOSED at once: a RST, an abort, a timeout"),
        ("──SA▶", "a segment on its way: S SYN, F FIN, R RST, P PSH, A ACK"),
        ("held ║", "it waits at its receiver's door; ×3: its sender sent it three times"),
        ("╮ ✗ dropped", "the wire dropped it"),
        ("✦", "the wire made this segment: no stack sent it"),
        ("ms", "milliseconds since the run began"),
    )
    BINDINGS: ClassVar[list[BindingType]] = in_order(*LAB_KEYS, *RUN_KEYS, *COMMON_KEYS)

    def __init__(
        self,
        run: Run,
        *,
        name: str,
        pace: Pace | None = None,
        stop: threading.Event | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._entitle(name)
        self._run = run
        self._clock = clock
        self._stop = stop or threading.Event()
        self._pace = pace or Pace()
        self._number: int | None = None
        self._seen_s = clock()
        self._drawn: object = None
        self._several = (False, False)  # connections, and runs
        self._ladder = LadderPage(80)
        self._source = read_script(run.script)
        self._troubled = ""
        self._leaving = False
        self.reel = Reel()

    def _entitle(self, name: str) -> None:
        self.NAME = self.title = visible(name)  # type: ignore[misc] # of this run

    def compose(self) -> ComposeResult:
        yield Pane(id="head")
        with Horizontal(id="stage"):
            yield StateFigure("client", id="client")
            yield Pane("wire", id="wire", classes="titled")
            yield StateFigure("server", id="server")
        with Horizontal(id="story"):
            yield Pane("ladder", id="ladder", classes="titled")
            with Vertical(id="side"):
                yield Pane("script", id="script", classes="titled")
                yield Pane("calls", id="calls", classes="titled")
                yield Pane("evidence", id="detail", classes="titled")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Looks for news ten times a second."""
        self.query_one("#head").can_focus = False
        self.query_one("#story").set_class(not self._source, "-unscripted")
        self.query_one("#ladder").focus()
        self.set_interval(FRAME_S, self.frame)
        self.call_after_refresh(self.frame)

    # ------------------------------------------------------------------ time

    @property
    def pace(self) -> Pace:
        return self._pace

    def frame(self) -> None:
        """Takes what is new, lets time pass, draws what has changed."""
        if self._stop.is_set() and not self._leaving:  # SIGTERM, or its terminal is gone
            self._leaving = True
            self.exit()
            return
        self.reel = self._run.reel()
        if self._number is None and self._is_capture and self.reel.connections:
            self._number = self.reel.connections[0].number
        now_s = self._clock()
        passed_s, self._seen_s = now_s - self._seen_s, now_s
        stops = self.reel.stops(self._number)
        self._pace = self._pace.passed(
            passed_s, stops, self.reel.end_ns, over=self.reel.judged is not None
        )
        trouble = self._run.trouble()
        if trouble and trouble != self._troubled:
            self._troubled = trouble
            self.say(trouble, failed=True)
        self._draw()

    @property
    def _is_capture(self) -> bool:
        return self.reel.record.lab.get("kind") == CAPTURE

    def _connection(self) -> int | None:
        """The connection that is shown: the chosen one, else that which did something last."""
        return self._number or self.reel.busy_at(min(self._pace.t_ns, self.reel.end_ns))

    def go(self, pace: Pace) -> None:
        """To that moment, in that way."""
        self._pace = pace
        self._draw()

    def action_step(self, by: int) -> None:
        """One event back, or on."""
        self.go(self._pace.stepped(by, self.reel.stops(self._number)))

    def action_move(self, by: int) -> None:
        """To the transition before this moment, or after it."""
        shown = [self.reel.connection(self._number)] if self._number else self.reel.connections
        times = sorted(t_ns for one in shown for t_ns, _ in transitions_of(one))
        self.go(self._pace.stepped(by, tuple(times)))

    def action_film(self) -> None:
        """Plays on slowly from here, or stands here."""
        if self._pace.mode is not Mode.STILL:
            self.go(self._pace.in_mode(Mode.STILL))
            return
        at_end = self.reel.judged is not None and self._pace.t_ns >= self.reel.end_ns
        self.go(Pace(Mode.FILM, -1 if at_end else self._pace.t_ns, self._pace.tempo))

    def action_live(self) -> None:
        """To the present moment."""
        if self.reel.judged is not None:
            self.go(self._pace.at(self.reel.end_ns))
        else:
            self.go(Pace(Mode.LIVE, self.reel.end_ns, self._pace.tempo))

    def action_begin(self) -> None:
        """To the beginning."""
        self.go(self._pace.at(-1))

    def action_tempo(self, factor: float) -> None:
        """The film faster or slower."""
        self.go(self._pace.faster(factor))

    def action_connection(self, by: int) -> None:
        """One connection alone, the next or the one before; after the last whichever acts.

        Of a capture always one: there whatever acts changes too fast to be followed.
        """
        numbers: list[int | None] = [one.number for one in self.reel.connections]
        if len(numbers) > 1:
            numbers += [] if self._is_capture else [None]
            self._number = numbers[(numbers.index(self._number) + by) % len(numbers)]
            self._draw()

    def action_run(self, by: int) -> None:
        """The next run of the file from its beginning, or the one before."""
        self._run.turn(by)
        self.reel, self._number, self._troubled = self._run.reel(), None, ""
        self._entitle(self.reel.record.scenario or self.NAME)
        self._source = read_script(self._run.script)
        self._ladder = LadderPage(self._ladder.width)
        self.query_one("#story").set_class(not self._source, "-unscripted")
        self.go(Pace(Mode.STILL, -1, self._pace.tempo))
        self.frame()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Textual's question whether a key does something now."""
        if action in ("connection", "run"):
            return self._several[action == "run"]
        return super().check_action(action, parameters)

    def action_page(self) -> None:
        """The next of the pages below, where there is no room for all."""
        story = self.query_one("#story")
        here = next((page for page in PAGES if story.has_class(f"-{page}")), PAGES[0])
        after = PAGES[(PAGES.index(here) + 1) % len(PAGES)]
        story.remove_class(*(f"-{page}" for page in PAGES)).add_class(f"-{after}")
        self.query_one(f"#{after}").focus()

    # ------------------------------------------------------------------ drawing

    def _draw(self) -> None:
        if not self.is_running or not self.screen.query("#wire"):
            return
        moment = min(self._pace.t_ns, self.reel.end_ns)
        gate = self._run.gate()
        extra = self.extra_state()
        drawn = (id(self.reel), moment, self._pace, self._number, gate, extra, self.size)
        if drawn == self._drawn:
            return
        self._drawn = drawn
        several = (len(self.reel.connections) > 1, self._run.place[1] > 1)
        if several != self._several:
            self._several = several
            self.refresh_bindings()
        scene = scene_at(self.reel, moment, self._connection())
        self._draw_stage(scene, gate)
        self._draw_story(scene)

    def extra_state(self) -> object:
        """What else the drawing depends on."""
        return None

    def _pane(self, name: str) -> Pane:
        return self.query_one(f"#{name}", Pane)

    def _draw_stage(self, scene: Scene, gate: Gate | None) -> None:
        head = self._pane("head")
        line = heading_line(
            self.reel, scene, self._pace, self.size.width, self._number, self._run.place
        )
        head.show([line])
        for index, name in enumerate(("client", "server")):
            figure = self.query_one(f"#{name}", StateFigure)
            end = scene.ends[index]
            figure.entitle(self.title_of(end, name))
            figure.mark(end.marks if end else _UNKNOWN)
        wire = self._pane("wire")
        wire.entitle(self.wire_title(gate))
        if self._sees_the_wire or not self.reel.begun:
            wire.show(wire_lines(scene, *wire.size, gate))
        else:
            wire.show(wrap(words("nobody sees the segments here", DIM), wire.size.width))

    @property
    def _sees_the_wire(self) -> bool:
        sources = self.reel.record.sources
        return any(one.get("name") == WIRE and one.get("available") for one in sources)

    def wire_title(self, gate: Gate | None) -> str:
        """What stands above the wire."""
        if gate is not None and gate.shut:
            return "wire stopped"
        latency = self.reel.record.lab.get("latency_ms")
        return f"wire {latency:g} ms" if isinstance(latency, int | float) and latency else "wire"

    def title_of(self, end: End | None, name: str) -> str:
        """What stands above a figure."""
        return f"{end.role} {end.address}".strip() if end else name

    def _draw_story(self, scene: Scene) -> None:
        ladder = self._pane("ladder")
        width = max(ladder.size.width - 1, 40)
        only = self._number if self._is_capture else None
        if (width, only) != (self._ladder.width, self._ladder.number):
            self._ladder = LadderPage(width, only)
        stands = self._pace.mode is Mode.STILL
        lines, last = self._ladder.at(self.reel, scene.t_ns, future=stands)
        ended = self.reel.judged is not None and scene.t_ns >= self.reel.end_ns
        before_all = -1  # nothing stands out, and the first line is in sight
        marked = before_all if last is None else last
        ladder.show(lines, marked=None if ended or not stands else marked, follow=True)
        script = self._pane("script")
        source, at = script_lines(self._source, self.reel.line_at(scene.t_ns), script.size.width)
        script.show(source, marked=at)
        calls = self._pane("calls")
        calls.show(call_lines(self.reel, scene.t_ns, calls.size.width - 1, 400), follow=True)
        detail = self._pane("detail")
        detail.show(evidence_lines(self.reel, scene, max(detail.size.width - 1, 20)))

    def on_pane_resized(self, message: Pane.Resized) -> None:
        """There is another room to draw for."""
        message.stop()
        self._drawn = None
        self.call_after_refresh(self._draw)

    def on_pane_picked(self, message: Pane.Picked) -> None:
        """A click into the ladder goes to that moment."""
        if message.pane.id == "ladder":
            t_ns = self._ladder.time_of(message.line)
            if t_ns is not None:
                self.go(self._pace.at(t_ns))

    # ------------------------------------------------------------------ saving

    def saveable(self) -> Sequence[tuple[str, Callable[[Path], object]]]:
        """The recording, and its segments as a capture."""
        if not self.reel.begun:
            return ()
        return (("jsonl", self._save_recording), ("pcapng", self._save_capture))

    def _save_recording(self, path: Path) -> None:
        reel = self.reel
        with path.open("w", encoding="utf-8") as out:
            out.write(encode_head(reel.record) + "\n")
            for happening in reel.happenings:
                out.write(encode_event(happening.event) + "\n")
            if reel.judged is not None:
                out.write(encode_foot(reel.judged.record) + "\n")

    def _save_capture(self, path: Path) -> None:
        from tcpwatch.machine.verdict import judge
        from tcpwatch.views.pcap import write_pcapng

        judged = self.reel.judged or judge(self.reel.record, self.reel.timeline)
        with path.open("wb") as out:
            write_pcapng(judged, out)
