"""The lab's screen without a terminal: how it looks at three sizes, and what its keys do.

The golden screens are in tests/data/screens; TCPWATCH_NEW_SCREENS=1 writes them anew, to be looked
at before they are kept.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from textual.pilot import Pilot

from tcpwatch.model.events import CallPhase, UserCall
from tcpwatch.tcp.state import TcpState
from tcpwatch.tui.help import Help
from tcpwatch.tui.lab import LabScreen
from tcpwatch.tui.pace import Mode, Pace
from tcpwatch.tui.pane import Pane
from tcpwatch.tui.reel import Reel
from tcpwatch.tui.showing import Recorded
from tcpwatch.tui.statemap import StateFigure
from tcpwatch.tui.themes import COLOUR_BLIND, DARK, LIGHT

if TYPE_CHECKING:
    from tests.tui.conftest import LitOn, Play, TextOf

SCREENS = Path(__file__).parents[1] / "data" / "screens"
SIZES = [(80, 24), (120, 40), (200, 50)]
MS = 1_000_000
MOMENTS = {"handshake": 30, "crossing": 91, "closing": 104, "end": 1000}


def screen_of(reel: Reel, ms: float = -1) -> LabScreen:
    pace = Pace(Mode.STILL, round(ms * MS))
    return LabScreen(Recorded(reel), name="simultaneous-close", pace=pace, clock=lambda: 0.0)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_screen_is_as_it_was_looked_at(
    reel: Reel, play: Play, text_of: TextOf, lit_on: LitOn, size: tuple[int, int]
) -> None:
    app = screen_of(reel)

    async def look(pilot: Pilot[Any]) -> None:
        for moment, ms in MOMENTS.items():
            app.go(Pace(Mode.STILL, ms * MS))
            await pilot.pause()
            golden = SCREENS / f"lab-{moment}-{size[0]}x{size[1]}.txt"
            shown = f"{text_of(app)}\nlit: {', '.join(lit_on(app))}\n"
            if os.environ.get("TCPWATCH_NEW_SCREENS"):
                golden.write_text(shown, encoding="utf-8")
            assert shown == golden.read_text(encoding="utf-8")

    play(app, size, look)


@pytest.mark.parametrize("size", [(40, 12), (79, 23), (300, 80), (20, 5)])
def test_any_size_has_a_screen(reel: Reel, play: Play, size: tuple[int, int]) -> None:
    async def look(pilot: Pilot[Any]) -> None:
        await pilot.pause()
        await pilot.resize_terminal(120, 40)
        await pilot.pause()
        await pilot.resize_terminal(*size)
        await pilot.pause()

    play(screen_of(reel, 104), size, look)


def test_arrow_keys_walk_through_the_events(reel: Reel, play: Play, text_of: TextOf) -> None:
    app = screen_of(reel)
    stops = reel.stops()

    async def walk(pilot: Pilot[Any]) -> None:
        await pilot.press("right", "right")
        assert app.pace.t_ns == stops[1]
        await pilot.press("left")
        assert app.pace.t_ns == stops[0]
        await pilot.press("end")
        assert app.pace.t_ns == reel.end_ns
        assert "TIME-WAIT" in text_of(app)
        await pilot.press("home")
        assert app.pace.t_ns == -1

    play(app, (120, 40), walk)


def test_up_and_down_go_from_transition_to_transition(reel: Reel, play: Play) -> None:
    app = screen_of(reel)

    async def walk(pilot: Pilot[Any]) -> None:
        for _ in range(3):
            await pilot.press("down")
        detail = app.query_one("#detail", Pane).text
        assert detail.startswith("SYN-SENT > ESTABLISHED")
        await pilot.press("up")
        assert app.query_one("#detail", Pane).text.startswith("LISTEN > SYN-RECEIVED")

    play(app, (120, 40), walk)


def test_space_plays_the_film_by_its_own_clock(reel: Reel, play: Play) -> None:
    now = [0.0]
    app = LabScreen(Recorded(reel), name="x", pace=Pace(Mode.STILL, 16 * MS), clock=lambda: now[0])

    async def watch(pilot: Pilot[Any]) -> None:
        await pilot.press("space")
        assert app.pace.mode is Mode.FILM
        here = app.pace.t_ns
        now[0] += 0.2
        app.frame()
        assert app.pace.t_ns > here
        now[0] += 60
        app.frame()
        assert (app.pace.mode, app.pace.t_ns) == (Mode.STILL, reel.end_ns)
        await pilot.press("space")  # from the end it begins again
        assert app.pace.t_ns < reel.end_ns

    play(app, (120, 40), watch)


def test_a_click_into_the_ladder_goes_to_that_moment(reel: Reel, play: Play) -> None:
    app = screen_of(reel, 1000)

    async def click(pilot: Pilot[Any]) -> None:
        ladder = app.query_one("#ladder", Pane)
        ladder.scroll_to(y=0, animate=False, force=True)
        await pilot.pause()
        await pilot.click("#ladder", offset=(10, 5))
        await pilot.pause()
        assert 0 < app.pace.t_ns < 60 * MS

    play(app, (120, 40), click)


def test_pages_take_turns_where_there_is_no_room(reel: Reel, play: Play, text_of: TextOf) -> None:
    app = screen_of(reel, 104)

    async def turn(pilot: Pilot[Any]) -> None:
        for words in ("def play", "connect(10.77.0.2:7000) = 0", "FIN-WAIT-1 > CLOSING\n"):
            await pilot.press("v")
            await pilot.pause()
            assert words in text_of(app)

    play(app, (80, 24), turn)


def test_the_runs_of_a_file_take_turns(reel: Reel, play: Play, text_of: TextOf) -> None:
    record = replace(reel.record, scenario="[b]another[/b]", problem="it broke")
    other = replace(reel, record=record, happenings=reel.happenings[:20])
    app = LabScreen(
        Recorded(reel, other), name="simultaneous-close", pace=Pace(Mode.STILL, 104 * MS)
    )

    async def turn(pilot: Pilot[Any]) -> None:
        await pilot.pause()
        assert "simultaneous-close  run 1 of 2" in text_of(app).splitlines()[0]
        assert "n run" in text_of(app).splitlines()[-1]
        await pilot.press("n")
        await pilot.pause()
        assert text_of(app).startswith(" [b]another[/b]  run 2 of 2")
        assert "it broke" in text_of(app)
        assert app.pace == Pace(Mode.STILL, -1)
        assert app.query_one("#client", StateFigure).marks.current == {TcpState.CLOSED}
        await pilot.press("N")
        await pilot.press("l")
        await pilot.pause()
        assert "simultaneous-close  run 1 of 2" in text_of(app).splitlines()[0]
        assert app.query_one("#client", StateFigure).marks.current == {TcpState.TIME_WAIT}

    play(app, (80, 24), turn)


def test_help_names_every_key_of_the_screen(reel: Reel, play: Play) -> None:
    app = screen_of(reel)

    async def ask(pilot: Pilot[Any]) -> None:
        await pilot.press("question_mark")
        await pilot.pause()
        assert isinstance(app.screen, Help)
        text = app.screen.query_one(Pane).text
        for words in ("← →", "space", "ctrl+s", "quit", "held ║", "✗ dropped"):
            assert words in text
        await pilot.press("escape")
        await pilot.pause()
        assert not isinstance(app.screen, Help)

    play(app, (120, 40), ask)


def test_themes_take_turns(reel: Reel, play: Play) -> None:
    app = screen_of(reel)

    async def change(pilot: Pilot[Any]) -> None:
        seen = [app.theme]
        for _ in range(3):
            await pilot.press("T")
            seen.append(app.theme)
        assert seen == [DARK, LIGHT, COLOUR_BLIND, DARK]

    play(app, (120, 40), change)


def test_save_writes_the_recording_the_capture_and_a_picture(
    reel: Reel, play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    app = screen_of(reel, 104)

    async def save(pilot: Pilot[Any]) -> None:
        await pilot.press("ctrl+s")
        await pilot.pause()

    play(app, (120, 40), save)
    jsonl, pcapng, svg = sorted(tmp_path.iterdir())
    recorded = Path(__file__).parents[1] / "data" / "recordings" / "simultaneous-close.jsonl"
    assert jsonl.read_text(encoding="utf-8") == recorded.read_text(encoding="utf-8")
    assert pcapng.read_bytes()[:4] == b"\x0a\x0d\x0d\x0a"
    assert "CLOSING" in svg.read_text(encoding="utf-8")


def test_a_folder_that_may_not_be_written_is_told(
    reel: Reel, play: Play, text_of: TextOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    app = screen_of(reel, 104)

    async def save(pilot: Pilot[Any]) -> None:
        await pilot.press("ctrl+s")
        for _ in range(100):
            await pilot.pause()
            if "cannot save here" in text_of(app):
                return
        pytest.fail(text_of(app))

    play(app, (120, 40), save)


def test_copy_takes_the_pane_with_the_focus(reel: Reel, play: Play) -> None:
    app = screen_of(reel, 104)

    async def copy(pilot: Pilot[Any]) -> None:
        app.query_one("#detail", Pane).focus()
        await pilot.press("y")
        assert app.clipboard.startswith("FIN-WAIT-1 > CLOSING")

    play(app, (120, 40), copy)


EVIL = "[bold red]x[/] \x1b[31m\x1b]0;owned\x07\u202e"


def test_texts_from_outside_are_shown_as_text(reel: Reel, play: Play, text_of: TextOf) -> None:
    def poisoned(payload: Any) -> Any:
        if isinstance(payload, UserCall):
            result = EVIL if payload.phase is CallPhase.RETURNED else None
            return replace(payload, process=EVIL, arguments=EVIL, result=result)
        return payload

    happenings = tuple(
        replace(one, event=replace(one.event, payload=poisoned(one.event.payload)))
        for one in reel.happenings
    )
    record = replace(reel.record, scenario=EVIL, claim=EVIL, problem=EVIL)
    events = tuple(one.event for one in happenings)
    assert reel.judged is not None
    evil = replace(
        reel,
        record=record,
        happenings=happenings,
        timeline=replace(reel.timeline, events=events),
        judged=replace(reel.judged, record=record),
    )
    app = LabScreen(Recorded(evil), name=EVIL, pace=Pace(Mode.STILL, 104 * MS), clock=lambda: 0.0)

    async def look(pilot: Pilot[Any]) -> None:
        await pilot.pause()
        text = text_of(app)
        assert "[bold red]x[/] \\x1b[31m" in text
        assert not any(ord(sign) < 32 and sign != "\n" for sign in text)
        assert "\u202e" not in text
        await pilot.press("question_mark")
        await pilot.pause()
        assert "\x1b" not in text_of(app)

    play(app, (200, 50), look)
