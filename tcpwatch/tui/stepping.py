"""The debugger's half of the screen: the wire stops, and keys say what becomes of each segment.

Owns: those keys, which segment is chosen, the kernel's timers above the figures. Must not touch a
packet: it asks the lab's gate and its wire, which do it in the wire's thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar, Protocol

from textual.binding import Binding, BindingType

from tcpwatch.errors import TcpwatchError
from tcpwatch.lab.failures import LabClosed
from tcpwatch.lab.wire import Wire
from tcpwatch.tui.app import COMMON_KEYS
from tcpwatch.tui.lab import LAB_KEYS, LabScreen, Run, in_order
from tcpwatch.tui.pace import Mode, Pace
from tcpwatch.tui.scene import End
from tcpwatch.tui.timers import Timer

DELAY_MS = 500.0
_LOOKS_EVERY_S = 0.25
_TOGETHER = "deliver the next segment; 1 to 9 choose another, for this and what follows"


class SteppedRun(Run, Protocol):
    """A run whose wire can be worked."""

    @property
    def wire(self) -> Wire | None:
        """None before the lab is open, and where it has no wire."""

    def choose(self, place: int) -> None:
        """Of what is stopped, this one is meant (from 0)."""

    def timers(self) -> dict[str, tuple[Timer, ...]]:
        """What each end's kernel is about to do, by role."""


_RST, _SYN = "inject a RST at the {}", "inject a SYN at the {}"

_AT_THE_GATE = frozenset({"deliver", "drop", "duplicate", "delay", "reorder", "choose", "run_on"})
STEP_KEYS: tuple[Binding, ...] = (
    Binding("enter,d", "deliver", "deliver", tooltip=_TOGETHER, key_display="⏎"),
    Binding("x", "drop", "drop", tooltip="drop the chosen segment"),
    Binding("u", "duplicate", "dup", tooltip="duplicate the chosen segment", show=False),
    Binding("w", "delay", "delay", tooltip="deliver it half a second later, by itself", show=False),
    Binding("o", "reorder", "reorder", tooltip="let the next one pass the chosen one", show=False),
    Binding("r", "rst('client')", "RST", tooltip=_RST.format("client"), show=False),
    Binding("R", "rst('server')", "RST", tooltip=_RST.format("server"), show=False),
    Binding("s", "syn('client')", "SYN", tooltip=_SYN.format("client"), show=False),
    Binding("S", "syn('server')", "SYN", tooltip=_SYN.format("server"), show=False),
    Binding("g", "run_on", "run on", tooltip="let everything go on, and stop no more"),
    Binding("p", "pause", "stop", tooltip="stop every segment from now on"),
    *(Binding(str(n), f"choose({n - 1})", "", show=False) for n in range(1, 10)),
)


_NO_ROOM = ("space", "c")  # in the footer at 80 columns


class StepScreen(LabScreen, inherit_bindings=False):
    """The lab's screen of a live run, with the wire in the person's hand."""

    BINDINGS: ClassVar[list[BindingType]] = in_order(
        *STEP_KEYS,
        *(replace(key, show=key.show and key.key not in _NO_ROOM) for key in LAB_KEYS),
        *COMMON_KEYS,
    )

    def __init__(self, run: SteppedRun, **settings: object) -> None:
        super().__init__(run, **settings)  # type: ignore[arg-type] # LabScreen's own
        self._stepped = run
        self._doors: bool | None = None  # whether the gate is shut; None: there is none
        self._kernels_timers: dict[str, tuple[Timer, ...]] = {}

    def on_mount(self) -> None:
        """Looks at the kernel's timers now and then; Textual calls `LabScreen.on_mount` itself."""
        self.set_interval(_LOOKS_EVERY_S, self._look)

    def _look(self) -> None:
        timers = self._stepped.timers()
        if timers != self._kernels_timers:
            self._kernels_timers = timers
            self._draw()

    def extra_state(self) -> object:
        """The timers stand above the figures; the keys are those that do something now."""
        gate = self._stepped.gate()
        doors = None if gate is None else gate.shut
        if doors != self._doors:
            self._doors = doors
            self.refresh_bindings()
        return tuple(sorted(self._kernels_timers.items()))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Textual's question whether a key does something now."""
        if action in _AT_THE_GATE:
            return bool(self._doors)
        if action == "pause":
            return self._doors is False
        return super().check_action(action, parameters)

    def title_of(self, end: End | None, name: str) -> str:
        """The end, and what its kernel is about to do."""
        title = super().title_of(end, name)
        timers = self._kernels_timers.get(name, ())
        if not timers or self.pace.mode is Mode.STILL:
            return title
        first = timers[0]
        warning = "⚠ " if first.is_soon else ""
        room = self.query_one(f"#{name}").size.width - 2
        role = end.role if end else name
        fitting = (f"{title} · {warning}{first}", f"{role} · {warning}{first}")
        return next((t for t in fitting if len(t) <= room), f"{role} · {warning}{first.brief}")

    # ------------------------------------------------------------------ deeds

    def action_choose(self, place: int) -> None:
        """Of what is stopped, this one is meant."""
        self._stepped.choose(place)
        self._draw()

    def action_deliver(self) -> None:
        """Delivers the chosen segment."""
        self._to_chosen(lambda wire, n: wire.gate.deliver(n))

    def action_drop(self) -> None:
        """Drops the chosen segment."""
        self._to_chosen(lambda wire, n: wire.gate.drop(n))

    def action_duplicate(self) -> None:
        """Puts a copy behind the chosen segment."""
        self._to_chosen(lambda wire, n: bool(wire.gate.duplicate(n)))

    def action_delay(self) -> None:
        """Lets the chosen segment arrive half a second later."""
        self._to_chosen(lambda wire, n: wire.gate.delay(n, DELAY_MS))

    def action_reorder(self) -> None:
        """Lets the next one pass the chosen segment."""
        self._to_chosen(
            lambda wire, n: wire.gate.reorder(n), "nothing waits behind it that could pass"
        )

    def action_rst(self, host: str) -> None:
        """Injects a RST that the host accepts."""
        self._with_wire(lambda wire: wire.inject_rst(host))

    def action_syn(self, host: str) -> None:
        """Injects a SYN with the number that the host expects next."""
        self._with_wire(lambda wire: wire.inject(host, flags="S"))

    def action_run_on(self) -> None:
        """Opens the gate."""
        self._with_wire(lambda wire: wire.gate.open())

    def action_pause(self) -> None:
        """Shuts the gate."""
        self._with_wire(lambda wire: wire.gate.shut())

    def _to_chosen(self, deed: Callable[[Wire, int], bool], unless: str = "") -> None:
        gate = self._stepped.gate()
        if gate is None or not gate.waiting:
            self.say("nothing waits at the gate")
            return
        n = gate.waiting[min(gate.chosen, len(gate.waiting) - 1)].n

        def act(wire: Wire) -> None:
            if not deed(wire, n) and unless:
                self.say(unless)

        self._with_wire(act)
        self._stepped.choose(0)

    def _with_wire(self, deed: Callable[[Wire], object]) -> None:
        """Acts now: whoever was looking at a moment gone by is back in the present."""
        wire = self._stepped.wire
        if wire is None:
            self.say("there is no wire (yet) to act on")
            return
        try:
            deed(wire)
        except LabClosed:
            self.say("the run is over")
        except TcpwatchError as error:
            self.say(str(error), failed=True)
        if self.pace.mode is not Mode.LIVE and self.reel.judged is None:
            self.go(Pace(Mode.LIVE, self.reel.end_ns, self.pace.tempo))
