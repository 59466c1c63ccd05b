"""A run in the person's hand: keys decide what becomes of each segment of two real stacks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from textual.pilot import Pilot

from tcpwatch.lab.scenario import find
from tcpwatch.model.events import Fate
from tcpwatch.outputs.opening import open_outputs
from tcpwatch.outputs.settings import Settings
from tcpwatch.playing.options import Options
from tcpwatch.tcp.state import TcpState
from tcpwatch.tui.pace import Mode, Pace
from tcpwatch.tui.showing import LiveRun
from tcpwatch.tui.stepping import StepScreen
from tcpwatch.tui.timers import Timer

if TYPE_CHECKING:
    from tests.tui.conftest import Play

pytestmark = pytest.mark.needs("lab", "table")

S = TcpState
LOOKS = 3000  # a frame each: minutes on a slow machine
OPEN = """
from tcpwatch.lab import Lab
EXPECT = {}
def play(lab: Lab) -> None:
    lab.connect()
"""


@contextmanager
def stepped(path: str) -> Iterator[tuple[LiveRun, StepScreen]]:
    """A run whose wire stops every segment, and its screen."""
    settings = Settings(options=replace(Options(), latency_ms=2, timeout_s=600), quiet=True)
    with open_outputs(settings) as outputs:
        run = LiveRun(find(path), outputs, threading.Event(), stepped=True)
        run.start()
        try:
            yield run, StepScreen(run, name=path, pace=Pace(Mode.LIVE))
        finally:
            run.end()


async def until(pilot: Pilot[Any], true: Callable[[], object]) -> None:
    """Frames pass until that is so."""
    for _ in range(LOOKS):
        if true():
            return
        await pilot.pause(0.02)
    pytest.fail(f"it never came to that: {pilot.app.screen}")


async def press(pilot: Pilot[Any], key: str) -> None:
    """A key that does something at the gate, once the screen knows of that."""
    await until(pilot, lambda: pilot.app.check_action("deliver", ()))
    await pilot.press(key)


def states(screen: StepScreen) -> list[frozenset[TcpState]]:
    return [screen.query_one(f"#{name}").marks.current for name in ("client", "server")]  # type: ignore[attr-defined]


def stopped(run: LiveRun) -> int:
    gate = run.gate()
    return len(gate.waiting) if gate else 0


def letters(run: LiveRun, screen: StepScreen) -> list[str]:
    """The flags of what waits at the gate, in its order."""
    gate, connection = run.gate(), screen.reel.connection(None)
    segments = connection.segments if connection else ()
    known = {trace.n: trace.segment.flags.letters for trace in segments}
    return [known.get(one.n, "") for one in gate.waiting] if gate else []


@pytest.fixture
def opening(tmp_path: Path) -> str:
    path = tmp_path / "opening.py"
    path.write_text(f'"""One connection."""\n{OPEN}', encoding="utf-8")
    return str(path)


def test_a_dropped_syn_comes_again_and_is_counted_while_it_waits(play: Play, opening: str) -> None:
    with stepped(opening) as (run, screen):

        async def step(pilot: Pilot[Any]) -> None:
            await until(pilot, lambda: letters(run, screen) == ["S"])
            await press(pilot, "x")
            await until(pilot, lambda: letters(run, screen) == ["S"])  # after Linux's second
            await until(pilot, lambda: (gate := run.gate()) and gate.waiting[0].again)
            segments = screen.reel.timeline.connections[0].segments
            assert segments[0].fate == "dropped"
            assert segments[1].retransmission
            await until(pilot, lambda: "held ×2" in screen.query_one("#wire").text)  # type: ignore[attr-defined]

        play(screen, (120, 40), step)


def test_a_chosen_segment_is_duplicated_and_the_copy_waits(play: Play, opening: str) -> None:
    with stepped(opening) as (run, screen):

        async def step(pilot: Pilot[Any]) -> None:
            await until(pilot, lambda: stopped(run) == 1)
            await press(pilot, "u")
            await until(pilot, lambda: stopped(run) == 2)
            await press(pilot, "2")
            gate = run.gate()
            assert gate is not None
            assert gate.chosen == 1
            await press(pilot, "x")  # the copy
            await until(pilot, lambda: stopped(run) == 1)
            await until(pilot, lambda: states(screen)[1] == frozenset({S.LISTEN}))

        play(screen, (120, 40), step)


def test_a_rst_ends_the_client_that_waits_for_its_answer(play: Play, opening: str) -> None:
    with stepped(opening) as (run, screen):

        async def step(pilot: Pilot[Any]) -> None:
            await until(pilot, lambda: stopped(run) == 1)
            await pilot.press("r")
            await until(pilot, lambda: states(screen)[0] == frozenset({S.CLOSED}))
            injected = [t for c in screen.reel.connections for t in c.segments if t.injected]
            assert [trace.segment.rst for trace in injected] == [True]

        play(screen, (120, 40), step)


def test_a_delayed_segment_arrives_by_itself(play: Play, opening: str) -> None:
    with stepped(opening) as (run, screen):

        async def step(pilot: Pilot[Any]) -> None:
            await until(pilot, lambda: stopped(run) == 1)
            await press(pilot, "w")
            await until(pilot, lambda: states(screen)[1] == frozenset({S.SYN_RECEIVED}))
            marks = screen.reel.timeline.connections[0].segments[0].marks
            assert Fate.DELAYED in [fate for _, fate in marks]

        play(screen, (120, 40), step)


def test_who_looks_back_stays_there_while_the_run_goes_on_recording(
    play: Play, opening: str
) -> None:
    with stepped(opening) as (run, screen):

        async def step(pilot: Pilot[Any]) -> None:
            await until(pilot, lambda: stopped(run) == 1)
            await pilot.press("left")
            here, known = screen.pace, len(screen.reel.happenings)
            assert here.mode is Mode.STILL
            await until(pilot, lambda: len(screen.reel.happenings) > known)  # its SYN comes again
            assert screen.pace == here
            await pilot.press("l")
            assert screen.pace.mode is Mode.LIVE

        play(screen, (120, 40), step)


def test_the_kernels_next_timer_stands_above_its_end(play: Play, opening: str) -> None:
    with stepped(opening) as (run, screen):

        async def step(pilot: Pilot[Any]) -> None:
            await until(pilot, lambda: stopped(run) == 1)
            await until(
                pilot, lambda: "resends in" in str(screen.query_one("#client").border_title)
            )

        play(screen, (120, 40), step)


def test_a_timer_that_is_about_to_fire_is_told_as_a_warning() -> None:
    assert Timer("resends", 400, 2).is_soon
    assert not Timer("resends", 4000).is_soon
    assert str(Timer("resends", 400, 2)) == "resends in 0.4 s (2nd time)"
    assert str(Timer("leaves TIME-WAIT", 59_000)) == "leaves TIME-WAIT in 59.0 s"


def test_the_script_is_marked_where_the_play_stands(play: Play, opening: str) -> None:
    with stepped(opening) as (run, screen):

        async def step(pilot: Pilot[Any]) -> None:
            await until(pilot, lambda: stopped(run) == 1)
            script = screen.query_one("#script")
            await until(pilot, lambda: "▶  6     lab.connect()" in script.text)  # type: ignore[attr-defined]

        play(screen, (120, 40), step)
