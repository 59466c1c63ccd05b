"""The ladder: golden texts, and what holds for any run at any width."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcpwatch.model.events import Fate, ProcessChange
from tcpwatch.model.timeline import Belief
from tcpwatch.tcp.state import TcpState
from tcpwatch.views.canvas import width_of
from tcpwatch.views.ladder import Ladder

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.views.conftest import Story

    Stories = dict[str, Callable[[], Story]]

GOLDEN = Path(__file__).parents[1] / "data" / "ladder"
REWRITE = os.environ.get("TCPWATCH_REWRITE_GOLDEN", "0") not in ("", "0")
"""Set it to accept what is drawn now; then read the difference before committing it."""

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def draw(story: Story, width: int = 80, **more: Any) -> str:
    drawn: list[str] = []
    ladder = Ladder(drawn.append, width=width, **more)
    ladder.begin(story.record())
    for happening in story.happenings():
        ladder.feed(happening)
    ladder.finish(story.judged())
    return "".join(drawn)


@pytest.mark.parametrize("width", [80, 120])
def test_a_story_is_drawn_as_it_was(request: pytest.FixtureRequest, width: int) -> None:
    stories: Stories = request.getfixturevalue("stories")
    for name, tell in stories.items():
        path = GOLDEN / f"{name}-{width}.txt"
        drawn = draw(tell(), width)
        if REWRITE:
            path.write_text(drawn, encoding="utf-8")
        assert drawn == path.read_text(encoding="utf-8"), name


def test_every_golden_text_has_its_story(stories: Stories) -> None:
    expected = {f"{name}-{width}.txt" for name in stories for width in (80, 120)}
    assert {path.name for path in GOLDEN.iterdir()} == expected


@pytest.mark.parametrize("width", [1, 20, 40, 56, 72, 79, 80, 81, 100, 119, 120, 200])
def test_no_line_is_wider_than_the_terminal(story: Story, width: int) -> None:
    widest = max(width_of(line) for line in draw(story, width).splitlines())
    assert widest <= width


def test_colours_add_nothing_but_colours(story: Story) -> None:
    coloured = draw(story, colour=True)
    assert "\x1b[" in coloured
    without = "\n".join(line.rstrip() for line in ESCAPES.sub("", coloured).split("\n"))
    assert without == draw(story)


def test_an_ascii_terminal_gets_ascii_of_the_same_shape(story: Story) -> None:
    drawn = draw(story, ascii_only=True)
    assert drawn.isascii()
    if drawn.count("\\u") == draw(story).count("\\u"):
        assert [len(line) for line in drawn.splitlines()] == [
            len(line) for line in draw(story).splitlines()
        ]


def test_a_moment_is_drawn_when_a_later_one_begins(
    stories: Stories,
) -> None:
    story = stories["simultaneous-close"]()
    drawn: list[str] = []
    ladder = Ladder(drawn.append)
    ladder.begin(story.record())
    for happening in story.happenings():
        ladder.feed(happening)
        if happening.moves and happening.event.t_ns > 30_000_000:
            break
    assert any("LISTEN > SYN-RECEIVED" in line for line in drawn)
    assert not any("SYN-SENT > ESTABLISHED" in line for line in drawn)
    ladder.tick()
    assert any("SYN-SENT > ESTABLISHED" in line for line in drawn)


def test_segments_that_cross_are_seen_to_cross(stories: Stories) -> None:
    drawn = draw(stories["simultaneous-close"]()).splitlines()
    second_fin = next(line for line in drawn if line.endswith("ESTABLISHED > FIN-WAIT-1"))
    first_fin = next(line for line in drawn if "ESTABLISHED > FIN-WAIT-1 ─" in line)
    # The second one's line crosses the first one's lane.
    assert second_fin[first_fin.index("╮")] == "┼"
    both_arrive = next(line for line in drawn if line.count("CLOSING") == 2)
    assert "◀" in both_arrive
    assert "▶" in both_arrive


def test_segments_that_do_not_cross_are_not(stories: Stories) -> None:
    assert "┼" not in draw(stories["normal-close"]())


def test_what_the_wire_does_is_said_in_words(stories: Stories) -> None:
    drawn = draw(stories["fin-lost"]()) + draw(stories["held-close"]())
    drawn += draw(stories["odd-wire"](), 120)
    for word in ("dropped", "retransmits", "duplicated", "held", "delayed", "injected", "lost"):
        assert word in drawn


def test_calls_that_tell_nothing_are_left_out_unless_they_fail(new_story: type[Story]) -> None:
    story = new_story("calls", "Some calls are noise.")
    story.call(0, "client", "setsockopt")
    story.call(2, "server", "bind", errno="EADDRINUSE")
    story.call(4, "client", "recv", "10", result=0)
    story.call(6, "client", "recv", "10", returns_ms=9, result=7)
    story.call(12, "client", "send", "b'four'", result=2)
    story.call(14, "client", "send", "b'four'", result=4)
    story.process(16, "server", ProcessChange.EXITED, signal="SIGPIPE")
    story.process(18, "client", ProcessChange.EXITED, exit_status=0)
    drawn = draw(story)
    assert "setsockopt" not in drawn
    texts = (
        "bind() EADDRINUSE",
        "recv() = EOF",
        "waits in recv(",
        "recv() = 7",
        "send() = 2",
        "send(b'four')",
        "killed by SIGPIPE",
        "process exits",
    )
    for text in texts:
        assert text in drawn, text
    assert "send() = 4" not in drawn


def test_a_move_known_late_tells_when_it_was_made(new_story: type[Story]) -> None:
    story = new_story("late", "A witness may be slow.")
    story.move(5, "client", "SYN-SENT", "connect()")
    happening = story.happenings()[0]
    drawn: list[str] = []
    ladder = Ladder(drawn.append)
    ladder.begin(story.record())
    ladder.feed(replace(happening, event=replace(happening.event, t_ns=50_000_000)))
    ladder.finish(story.judged())
    assert "(at 5 ms)" in "".join(drawn)


def test_a_move_that_only_narrows_another_says_so(new_story: type[Story]) -> None:
    story = new_story("narrowed", "At first the evidence allows two ends.")
    story.move(5, "server", "CLOSING", "FIN received")
    story.move(30, "server", "TIME-WAIT or CLOSED", "")
    first = story.happenings()[-1]
    (told,) = first.moves
    known = replace(
        told.transition, after=Belief.of(TcpState.TIME_WAIT), cause="ACK of FIN received"
    )

    def drawn_when(known_ns: int) -> str:
        later = replace(
            first,
            event=replace(first.event, t_ns=known_ns),
            moves=(replace(told, transition=known),),
        )
        drawn: list[str] = []
        ladder = Ladder(drawn.append, width=120)
        ladder.begin(story.record())
        for happening in (*story.happenings(), later):
            ladder.feed(happening)
        ladder.finish(story.judged())
        return "".join(drawn).partition("segments")[2].partition("\n\n")[0]

    at_once = drawn_when(30_500_000)
    assert "CLOSING > TIME-WAIT" in at_once
    assert "TIME-WAIT or CLOSED" not in at_once
    afterwards = drawn_when(60_000_000)
    assert "CLOSING > TIME-WAIT or CLOSED" in afterwards
    assert "TIME-WAIT or CLOSED: it is TIME-WAIT" in " ".join(afterwards.split())
    assert afterwards.count("CLOSING >") == 1


def test_only_the_close_of_a_listener_is_told_as_one(new_story: type[Story]) -> None:
    story = new_story("listeners", "A bound socket has no peer either, and does not listen.")
    story.call(1, "server", "listen", "8", connected=False)
    story.call(5, "server", "close", connected=True)
    story.call(10, "server", "close", process="child", connected=False)
    story.call(15, "server", "close", connected=False)
    story.call(20, "server", "bind", process="second", connected=False)
    story.call(25, "server", "close", process="second", connected=False)
    closes = [line.split("   ")[-1].strip() for line in draw(story, 120).splitlines()]
    assert [text for text in closes if "close()" in text] == [
        "close()",
        "child: close() of the listener",
        "close() of the listener",
        "second: close()",
    ]


STATES = re.compile("|".join(re.escape(state.value) for state in TcpState))


@pytest.mark.parametrize("width", [40, 48, 56, 64, 72, 80])
def test_a_states_name_is_not_cut(stories: Stories, width: int) -> None:
    for name in ("normal-close", "simultaneous-close", "rst-on-write"):
        story = stories[name]()
        moves = sum(len(happening.moves) for happening in story.happenings())
        page = draw(story, width).partition("segments")[2].partition("\n\n")[0]
        assert len(STATES.findall(page)) == 2 * moves, name


@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_segment_that_crosses_another_has_its_flags(stories: Stories, width: int) -> None:
    drawn = draw(stories["simultaneous-close"](), width).splitlines()
    crossing = [line for line in drawn if "┼" in line]
    assert len(crossing) == 2
    assert "FA" in crossing[0]
    assert "A" in crossing[1]


def test_a_time_too_wide_for_its_column_touches_no_word(new_story: type[Story]) -> None:
    story = new_story("long", "It lasts over a minute.")
    story.call(61_234, "client", "send", "b'x'", errno="EPIPE")
    assert "\n61234\n     send() EPIPE\n" in draw(story, 40)


def test_a_state_change_stands_beside_the_segment_that_shows_it(new_story: type[Story]) -> None:
    story = new_story("killed", "The kernel says goodbye for a process that is killed.")
    # The kernel reports first; which segment it will be is not known yet.
    story.move(70.0, "server", "FIN-WAIT-1", "SIGKILL")
    story.segment(70.2, "server", "FA", arrives_ms=90)
    line = next(line for line in draw(story).splitlines() if "FIN-WAIT-1" in line)
    assert "FA 0:0(0)" in line
    assert "SIGKILL" not in line


def test_data_stands_beside_the_call_that_gave_it(new_story: type[Story]) -> None:
    story = new_story("order", "The wire sees the data only after the next call was made.")
    story.call(10.0, "client", "send", "b'count!'", result=6)
    story.call(10.2, "client", "shutdown", "SHUT_WR")
    story.segment(10.3, "client", "PA", 6, arrives_ms=30)
    drawn = draw(story).splitlines()
    assert any("send(b'count!')" in line and "PA" in line for line in drawn)
    assert not any("shutdown" in line and "PA" in line for line in drawn)


def test_an_acknowledgement_stands_beside_no_call(new_story: type[Story]) -> None:
    story = new_story("ack", "The kernel acknowledges, whatever the process does.")
    story.call(10.0, "client", "recv", "10", result=0)
    story.segment(10.3, "client", "A", arrives_ms=30)
    assert not any("recv" in line and "─ A " in line for line in draw(story).splitlines())


def test_more_segments_than_lanes_still_arrive_or_are_told_as_lost(
    new_story: type[Story],
) -> None:
    story = new_story("many", "More in flight than the page has room for.")
    for index in range(12):
        arrives = 100.0 + 5 * index if index < 11 else None
        story.segment(5.0 * index, "client", "PA", index + 1, arrives_ms=arrives)
    drawn = draw(story).splitlines()
    assert sum("▶" in line for line in drawn) == 11
    assert sum("lost: never arrived" in line for line in drawn) == 1


def test_a_moment_that_may_go_on_is_not_drawn(new_story: type[Story]) -> None:
    story = new_story("tick", "A moment ends when nothing can join it any more.")
    story.segment(10, "client", "S")
    drawn: list[str] = []
    ladder = Ladder(drawn.append)
    ladder.begin(story.record())
    ladder.feed(story.happenings()[0])
    ladder.tick(10_900_000)
    assert not any("S 0:0(0)" in line for line in drawn)
    ladder.tick(11_600_000)
    assert any("S 0:0(0)" in line for line in drawn)


TEXTS = st.text(max_size=60)
STEPS = st.lists(
    st.tuples(
        st.floats(0, 40),  # ms after the step before
        st.sampled_from(["client", "server"]),
        st.sampled_from(["S", "SA", "A", "PA", "FA", "R", "RA", "none"]),
        st.integers(0, 100_000),
        st.one_of(st.none(), st.floats(0, 90)),  # ms until it arrives
        st.lists(st.sampled_from(list(Fate)), max_size=3),
        st.booleans(),
    ),
    max_size=25,
)


@settings(max_examples=60)
@given(steps=STEPS, texts=st.lists(TEXTS, min_size=4, max_size=4), width=st.integers(30, 130))
def test_no_run_however_odd_breaks_the_page(
    new_story: type[Story], steps: list[Any], texts: list[str], width: int
) -> None:
    story = new_story(texts[0], texts[1])
    t_ms = 0.0
    for later, sender, letters, length, takes, fates, injected in steps:
        t_ms += later
        arrives = None if takes is None else t_ms + takes
        marks = tuple((t_ms + 0.01 * index, fate) for index, fate in enumerate(fates))
        story.segment(
            t_ms, sender, letters, length, arrives_ms=arrives, fates=marks, injected=injected
        )
        story.call(t_ms, sender, "send", texts[2], process=texts[3], errno=texts[2] or None)
    for ascii_only in (False, True):
        drawn = draw(story, width, ascii_only=ascii_only)
        lines = drawn.split("\n")
        assert all(line.isprintable() for line in lines)
        assert all(width_of(line) <= width for line in lines)
