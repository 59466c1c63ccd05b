"""A run in the person's hand: keys decide what becomes of each segment of two real stacks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from textual.events import Key
from textual.pilot import Pilot

from tcpwatch.lab.scenario import find
from tcpwatch.model.events import Fate
from tcpwatch.model.timeline import SegmentTrace
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
TALKING = """
import socket
from tcpwatch.lab import Lab
EXPECT = {}
def play(lab: Lab) -> None:
    client, server = lab.connect()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else the second awaits an ACK
    client.send(b"one")
    client.send(b"two")
    server.recv_exactly(6)
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


def press(pilot: Pilot[Any], *keys: str) -> None:
    """Keys, as the terminal brings them.

    Textual's pilot waits with each until the process is idle. A process that samples a socket
    table is not, so that it would be two seconds, in which Linux sends its SYNs again.
    """
    for key in keys:
        pilot.app.post_message(Key(key, key if len(key) == 1 else None))


async def at_gate(pilot: Pilot[Any], *keys: str) -> None:
    """Keys that do something at the gate, once the screen knows of that."""
    await until(pilot, lambda: pilot.app.check_action("deliver", ()))
    press(pilot, *keys)


def states(screen: StepScreen) -> list[frozenset[TcpState]]:
    return [screen.query_one(f"#{name}").marks.current for name in ("client", "server")]  # type: ignore[attr-defined]


def waiting(run: LiveRun) -> list[int]:
    """The numbers of what waits at the gate, in its order."""
    gate = run.gate()
    return [one.n for one in gate.waiting] if gate else []


def letters(run: LiveRun, screen: StepScreen) -> list[str]:
    """The flags of what waits at the gate, in its order."""
    connection = screen.reel.connection(None)
    segments = connection.segments if connection else ()
    known = {trace.n: trace.segment.flags.letters for trace in segments}
    return [known.get(n, "") for n in waiting(run)]


def trace_of(screen: StepScreen, n: int) -> SegmentTrace | None:
    """What the screen knows of that segment; None: it has not heard of it yet."""
    known = {one.n: one for it in screen.reel.connections for one in it.segments}
    return known.get(n)


def injected(screen: StepScreen) -> list[tuple[str, str]]:
    """The flags of what no stack sent, and the end that it claims to come from."""
    found = [one for it in screen.reel.connections for one in it.segments if one.injected]
    return [(one.segment.flags.letters, one.sender) for one in found]


def last_sent(screen: StepScreen, end: int) -> int:
    """The number of the last bare ACK that this end sent itself."""
    sender = ("client", "server")[end]
    sent = [one for it in screen.reel.connections for one in it.segments if one.sender == sender]
    return max((one.n for one in sent if one.segment.flags.letters == "A"), default=0)


async def let_pass(pilot: Pilot[Any], run: LiveRun, screen: StepScreen, *flags: str) -> None:
    """Delivers one segment with each of those flags, wherever in the gate's order it waits.

    A slow machine's SYN waits longer than a second: Linux sends another, which waits with the rest.
    """
    for one in flags:
        await until(pilot, partial(waits, run, screen, one))
        at = letters(run, screen).index(one)
        here = waiting(run)[at]
        await at_gate(pilot, str(at + 1), "enter")
        await until(pilot, partial(has_gone, run, here))


def waits(run: LiveRun, screen: StepScreen, flags: str) -> bool:
    return flags in letters(run, screen)


def has_gone(run: LiveRun, n: int) -> bool:
    return n not in waiting(run)


def sequence(run: LiveRun, screen: StepScreen) -> list[int]:
    """Where the data that waits at the gate begins, in its order."""
    connection = screen.reel.connection(None)
    segments = connection.segments if connection else ()
    known = {one.n: one.seq for one in segments if one.segment.payload_len}
    return [known[n] for n in waiting(run) if n in known]


def acknowledged(screen: StepScreen) -> list[int | None]:
    """What the server has acknowledged since its SYN, in order."""
    connection = screen.reel.connection(None)
    segments = connection.segments if connection else ()
    return [one.ack for one in segments if one.sender == "server" and not one.segment.syn]


@pytest.fixture
def opening(tmp_path: Path) -> str:
    path = tmp_path / "opening.py"
    path.write_text(f'"""One connection."""\n{OPEN}', encoding="utf-8")
    return str(path)


def test_a_dropped_syn_comes_again_and_is_counted_while_it_waits(play: Play, opening: str) -> None:
    with stepped(opening) as (run, screen):

        async def step(pilot: Pilot[Any]) -> None:
            await until(pilot, lambda: letters(run, screen) == ["S"])
            await at_gate(pilot, "x")
            await until(pilot, lambda: len(waiting(run)) == 0)
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
            await until(pilot, lambda: len(waiting(run)) == 1)
            await at_gate(pilot, "u")
            await until(pilot, lambda: len(waiting(run)) == 2)
            original, copy = waiting(run)
            await at_gate(pilot, "2", "x")
            await until(pilot, lambda: (c := trace_of(screen, copy)) and c.fate == "dropped")
            assert waiting(run) == [original]
            await until(pilot, lambda: states(screen)[1] == frozenset({S.LISTEN}))

        play(screen, (120, 40), step)


def test_keys_act_in_the_order_in_which_they_come(play: Play, opening: str) -> None:
    with stepped(opening) as (run, screen):

        async def step(pilot: Pilot[Any]) -> None:
            await until(pilot, lambda: letters(run, screen) == ["S"])
            await at_gate(pilot, "u")
            await until(pilot, lambda: len(waiting(run)) == 2)
            original, copy = waiting(run)
            await at_gate(pilot, "2", "enter")  # at once, as over a slow line
            await until(pilot, lambda: (c := trace_of(screen, copy)) and c.delivered_ns)
            assert original in waiting(run)

        play(screen, (120, 40), step)


def test_a_rst_ends_the_client_that_waits_for_its_answer(play: Play, opening: str) -> None:
    with stepped(opening) as (run, screen):

        async def step(pilot: Pilot[Any]) -> None:
            await until(pilot, lambda: len(waiting(run)) == 1)
            press(pilot, "r")
            await until(pilot, lambda: states(screen)[0] == frozenset({S.CLOSED}))
            assert injected(screen) == [("RA", "server")]

        play(screen, (120, 40), step)


def test_a_segment_lets_the_next_one_pass(play: Play, tmp_path: Path) -> None:
    path = tmp_path / "talking.py"
    path.write_text(f'"""Two segments."""\n{TALKING}', encoding="utf-8")
    with stepped(str(path)) as (run, screen):

        async def step(pilot: Pilot[Any]) -> None:
            await let_pass(pilot, run, screen, "S", "SA", "A")
            await until(pilot, lambda: sequence(run, screen) == [1, 4])
            first = letters(run, screen).index("PA")
            await at_gate(pilot, str(first + 1), "o")
            await until(pilot, lambda: sequence(run, screen) == [4, 1])
            await let_pass(pilot, run, screen, "PA")
            # RFC 9293 3.10.7.4: what came out of order is answered with what is still missing.
            await until(pilot, lambda: acknowledged(screen) and acknowledged(screen)[-1] == 1)
            await let_pass(pilot, run, screen, "PA")
            await until(pilot, lambda: 7 in acknowledged(screen))
            traces = screen.reel.timeline.connections[0].segments
            reordered = [one for one in traces if Fate.REORDERED in [fate for _, fate in one.marks]]
            assert [(one.seq, one.segment.payload_len) for one in reordered] == [(1, 3)]

        play(screen, (120, 40), step)


@pytest.mark.parametrize("key, end", [("s", 0), ("S", 1)])
def test_a_syn_in_an_open_connection_is_challenged(
    play: Play, opening: str, key: str, end: int
) -> None:
    with stepped(opening) as (run, screen):

        async def step(pilot: Pilot[Any]) -> None:
            await let_pass(pilot, run, screen, "S", "SA", "A")
            both = [frozenset({S.ESTABLISHED})] * 2
            await until(pilot, lambda: states(screen) == both)
            before = last_sent(screen, end)
            press(pilot, key)
            # RFC 5961 4.2: such a SYN is answered with an ACK, and changes nothing.
            await until(pilot, lambda: last_sent(screen, end) > before)
            assert injected(screen) == [("S", ("client", "server")[1 - end])]
            assert states(screen) == both

        play(screen, (120, 40), step)


def test_rsts_end_one_end_after_the_other(play: Play, opening: str) -> None:
    with stepped(opening) as (run, screen):

        async def step(pilot: Pilot[Any]) -> None:
            await let_pass(pilot, run, screen, "S", "SA", "A")
            here, gone = frozenset({S.ESTABLISHED}), frozenset({S.CLOSED})
            await until(pilot, lambda: states(screen) == [here, here])
            press(pilot, "R")
            await until(pilot, lambda: states(screen) == [here, gone])  # half open
            press(pilot, "r")
            await until(pilot, lambda: states(screen) == [gone, gone])
            assert injected(screen) == [("R", "client"), ("R", "server")]

        play(screen, (120, 40), step)


def test_a_delayed_segment_arrives_by_itself(play: Play, opening: str) -> None:
    with stepped(opening) as (run, screen):

        async def step(pilot: Pilot[Any]) -> None:
            await until(pilot, lambda: len(waiting(run)) == 1)
            await at_gate(pilot, "w")
            await until(pilot, lambda: states(screen)[1] == frozenset({S.SYN_RECEIVED}))
            marks = screen.reel.timeline.connections[0].segments[0].marks
            assert Fate.DELAYED in [fate for _, fate in marks]

        play(screen, (120, 40), step)


def test_who_looks_back_stays_there_while_the_run_goes_on_recording(
    play: Play, opening: str
) -> None:
    with stepped(opening) as (run, screen):

        async def step(pilot: Pilot[Any]) -> None:
            await until(pilot, lambda: len(waiting(run)) == 1)
            press(pilot, "left")
            await until(pilot, lambda: screen.pace.mode is Mode.STILL)
            here, known = screen.pace, len(screen.reel.happenings)
            await until(pilot, lambda: len(screen.reel.happenings) > known)  # its SYN comes again
            assert screen.pace == here
            press(pilot, "l")
            await until(pilot, lambda: screen.pace.mode is Mode.LIVE)

        play(screen, (120, 40), step)


def test_the_kernels_next_timer_stands_above_its_end(play: Play, opening: str) -> None:
    with stepped(opening) as (run, screen):

        async def step(pilot: Pilot[Any]) -> None:
            await until(pilot, lambda: len(waiting(run)) == 1)
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
            await until(pilot, lambda: len(waiting(run)) == 1)
            script = screen.query_one("#script")
            await until(pilot, lambda: "▶  6     lab.connect()" in script.text)  # type: ignore[attr-defined]

        play(screen, (120, 40), step)
