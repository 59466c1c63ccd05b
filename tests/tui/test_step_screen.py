"""The help, and the debugger with something held: as they were looked at, at three sizes.

TCPWATCH_NEW_SCREENS=1 writes them anew, to be looked at before they are kept.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from textual.pilot import Pilot

from tcpwatch.tui.pace import Mode, Pace
from tcpwatch.tui.reel import Reel
from tcpwatch.tui.showing import Recorded
from tcpwatch.tui.stepping import StepScreen
from tcpwatch.tui.timers import Timer
from tcpwatch.tui.wire import Gate, Waiting

if TYPE_CHECKING:
    from tests.tui.conftest import LitOn, Play, TextOf

SCREENS = Path(__file__).parents[1] / "data" / "screens"
SIZES = [(80, 24), (120, 40), (200, 50)]
BOTH_HELD_NS = 101_900_000


class Held(Recorded):
    """The recording at the moment when both FINs wait, the client's sent twice more since."""

    wire = None

    def choose(self, place: int) -> None:
        raise AssertionError(place)

    def timers(self) -> dict[str, tuple[Timer, ...]]:
        return {}

    def gate(self) -> Gate:
        segments = self.reel().timeline.connections[0].segments
        fins = [trace.n for trace in segments if trace.segment.fin][:2]
        return Gate((Waiting(fins[0], 2), Waiting(fins[1])), 0, shut=True)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_debugger_and_its_help_are_as_they_were_looked_at(
    reel: Reel, play: Play, text_of: TextOf, lit_on: LitOn, size: tuple[int, int]
) -> None:
    pace = Pace(Mode.STILL, BOTH_HELD_NS)
    app = StepScreen(Held(reel), name="simultaneous-close", pace=pace, clock=lambda: 0.0)

    def compare(name: str) -> None:
        golden = SCREENS / f"{name}-{size[0]}x{size[1]}.txt"
        shown = f"{text_of(app)}\nlit: {', '.join(lit_on(app))}\n"
        if os.environ.get("TCPWATCH_NEW_SCREENS"):
            golden.write_text(shown, encoding="utf-8")
            if pictures := os.environ.get("TCPWATCH_PICTURES"):
                (Path(pictures) / f"{golden.stem}.svg").write_text(app.export_screenshot())
        assert shown == golden.read_text(encoding="utf-8")

    async def look(pilot: Pilot[Any]) -> None:
        await pilot.pause()
        compare("step-held")
        await pilot.press("question_mark")
        await pilot.pause()
        compare("step-help")

    play(app, size, look)


def test_the_palette_has_each_deed_that_a_key_does_now(reel: Reel, play: Play) -> None:
    app = StepScreen(Held(reel), name="x", pace=Pace(Mode.STILL, BOTH_HELD_NS), clock=lambda: 0.0)

    async def look(pilot: Pilot[Any]) -> None:
        await pilot.pause()
        found = {one.title: one for one in app.get_system_commands(app.screen)}
        assert found["Drop the chosen segment"].help == "x"
        assert "Inject a RST at the server" in found
        assert "Save capture" in found
        assert "Stop every segment from now on" not in found  # all are stopped
        found["The beginning"].callback()
        await pilot.pause()
        assert app.pace == Pace(Mode.STILL, -1)

    play(app, (80, 24), look)
