"""What the tests of the screens share: a recorded run as a reel, and screens as text."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from rich.color import Color
from textual.pilot import Pilot

from tcpwatch.outputs.opening import open_outputs
from tcpwatch.outputs.settings import Settings
from tcpwatch.replaying.files import read_file
from tcpwatch.tui.app import TcpwatchApp
from tcpwatch.tui.reel import Recorder, Reel

DATA = Path(__file__).parents[1] / "data"
Story = Callable[[Pilot[Any]], Awaitable[None]]
Play = Callable[[TcpwatchApp[Any], tuple[int, int], Story], None]
TextOf = Callable[[TcpwatchApp[Any]], str]
LitOn = Callable[[TcpwatchApp[Any]], list[str]]


@pytest.fixture(scope="session")
def reel() -> Reel:
    """Simultaneous close, as it was once recorded."""
    (recording,) = read_file(str(DATA / "recordings" / "simultaneous-close.jsonl"))
    shown = Recorder()
    with open_outputs(Settings(quiet=True)) as outputs:
        outputs.replay(0, recording, screen=shown)
    return shown.reel()


@pytest.fixture(scope="session")
def text_of() -> TextOf:
    """What stands on a screen, line by line."""

    def read(app: TcpwatchApp[Any]) -> str:
        strips = app.screen._compositor.render_strips()  # noqa: SLF001 - a picture is unreadable
        return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)

    return read


@pytest.fixture(scope="session")
def lit_on() -> LitOn:
    """What stands there reversed, the ground's colour for its ink: the states and the verdict."""

    def read(app: TcpwatchApp[Any]) -> list[str]:
        ground = Color.parse(app.current_theme.background or "#000000")
        strips = app.screen._compositor.render_strips()  # noqa: SLF001 - as above
        return [
            segment.text.strip()
            for strip in strips
            for segment in strip
            if segment.style and segment.style.color == ground
        ]

    return read


@pytest.fixture(scope="session")
def play() -> Play:
    """Runs an application without a terminal, and a story in it."""

    def run(app: TcpwatchApp[Any], size: tuple[int, int], story: Story) -> None:
        async def in_app() -> None:
            async with app.run_test(size=size, notifications=True) as pilot:
                await pilot.pause()
                await story(pilot)

        asyncio.run(in_app())

    return run
