"""The ladder: golden texts, and what holds for any run at any width."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tcpwatch.model.events import Fate, ProcessChange
from tcpwatch.model.timeline import Belief
from tcpwatch.tcp.state import TcpState
from tcpwatch.views.canvas import width_of
from tcpwatch.views.ladder import Ladder
from tcpwatch.views.wording import labels

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.views.telling import Story

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


def page(story: Story, width: int = 120) -> list[str]:
    """What stands in the columns, without times."""
    drawn = draw(story, width).partition("segments")[2].partition("\n\n")[0]
    return [" ".join(line[6:].split()) for line in drawn.splitlines()[1:]]


def test_a_program_prints_and_reads_what_is_typed(new_story: type[Story]) -> None:
    story = new_story("talking", "What is said is text.")
    story.call(0, "client", "run", "chat connect 10.77.0.2 7000", returns=False)
    story.call(5, "client", "read", "stdin", returns_ms=20, result=r"b'hello\n'")
    story.call(25, "client", "print", r"b'it is \xc3\xa9t\xc3\xa9\n'", result=12)
    story.call(30, "client", "print", "b'the beginning o'... 500 octets", result=500)
    story.call(35, "client", "print", r"b'two\nlines\n'", result=10)
    story.call(40, "client", "read", "stdin", result=0)
    story.call(45, "client", "print", "not octets at all", result=1)
    assert page(story) == [
        "runs chat connect 10.77.0.2 7000",
        "waits in read(stdin)",
        "reads 'hello'",
        "prints 'it is été'",
        "prints 'the beginning o'... 500",
        "octets",
        r"prints 'two\nlines'",
        "reads EOF",
        "prints not octets at all",
    ]


def test_a_call_that_does_not_wait_is_never_said_to(new_story: type[Story]) -> None:
    story = new_story("polling", "It may be kept from the CPU all the same.")
    story.call(0, "client", "recv", "10", returns_ms=8, errno="EAGAIN")
    story.call(10, "client", "setblocking", "False")
    story.call(12, "client", "recv", "10", returns_ms=20, errno="EAGAIN")
    story.call(24, "client", "setblocking", "True")
    story.call(26, "client", "recv", "10", returns_ms=30, result=3)
    assert page(story) == [
        "waits in recv()",
        "recv() EWOULDBLOCK after 8 ms",
        "recv() EWOULDBLOCK",
        "waits in recv()",
        "recv() = 3",
    ]


def test_calls_that_find_nothing_are_counted(new_story: type[Story]) -> None:
    story = new_story("polls", "The same again and again.")
    story.call(0, "client", "setblocking", "False")
    for t_ms in (1, 1.1, 1.2, 8, 16, 24, 40, 48):
        story.call(t_ms, "client", "recv", "10", errno="EAGAIN")
    story.call(32, "client", "recv", "10", result=5)
    story.call(32.2, "client", "recv", "10", result=5)
    for t_ms in (60, 68):
        story.call(t_ms, "server", "send", "b'x'", errno="EAGAIN", process="child 1")
    assert page(story) == [
        "recv() EWOULDBLOCK ×3",
        "recv() EWOULDBLOCK +3",
        "recv() = 5 ×2",
        "recv() EWOULDBLOCK",
        "child 1: send() EWOULDBLOCK",
        "child 1: send() EWOULDBLOCK",
        "recv() EWOULDBLOCK +1",
    ]


def test_only_what_waits_for_data_is_said_to_have_found_none(new_story: type[Story]) -> None:
    story = new_story("again", "EAGAIN of fork() is no empty queue.")
    story.call(0, "server", "fork", errno="EAGAIN")
    story.call(5, "server", "accept", errno="EAGAIN")
    story.call(10, "client", "connect", "10.77.0.2:7000", errno="EINPROGRESS")
    story.call(15, "client", "connect", "10.77.0.2:7000", returns_ms=3085, errno="ETIMEDOUT")
    assert page(story) == [
        "fork() EAGAIN",
        "accept() EWOULDBLOCK",
        "connect() EINPROGRESS",
        "connect()",
        "connect() ETIMEDOUT after 3070",
        "ms",
    ]


def test_waiting_for_several_tells_for_which_and_what_came(new_story: type[Story]) -> None:
    story = new_story("select", "Who watches several must know which is which.")
    story.call(0, "server", "select", "read listener, 5", returns_ms=9, result="listener readable")
    story.call(9.2, "server", "accept", result=6)
    story.call(10, "server", "poll", "listener, 5, 6; 0.5 s", returns_ms=510, result="timeout")
    story.call(520, "server", "select", "write 5; 1 s", result="5 writable")
    story.call(530, "server", "epoll_ctl", "ADD, listener", result=0)
    assert page(story) == [
        "waits in select(listener, 5)",
        "select() = listener readable",
        "accept() = 6",
        "waits in poll(listener, 5, 6;",
        "0.5 s)",
        "poll() = timeout after 500 ms",
        "select() = 5 writable",
        "epoll_ctl(ADD, listener)",
    ]


def test_a_child_is_told_from_its_birth_to_its_reaping(new_story: type[Story]) -> None:
    story = new_story("family", "Each end is told once.")
    child, second = story.pid("server", "child 1"), story.pid("server", "child 2")
    fork, end, reap = ProcessChange.FORKED, ProcessChange.EXITED, ProcessChange.REAPED
    story.call(0, "server", "fork", returns_ms=0.5, result=child)
    story.process(0.4, "server", fork, "child 1", parent="server")
    story.call(5, "server", "fork", returns_ms=6, result=second)
    story.process(12, "server", fork, "child 2", parent="server")
    story.call(20, "server", "exit", "0", process="child 1", returns=False)
    story.process(20.5, "server", end, "child 1", parent="server", exit_status=0)
    story.call(30, "server", "exit", "7", process="child 2", returns=False)
    story.process(38, "server", end, "child 2", parent="server", exit_status=7)
    story.call(50, "server", "kill", f"{second}, SIGTERM")
    story.process(60, "server", reap, "child 1", parent="server")
    story.call(60.1, "server", "waitpid", "-1", result=child)
    story.process(70, "server", reap, "child 2", parent="server")
    assert page(story) == [
        "fork() = child 1",
        "fork()",
        "child 2: begins",
        "child 1: exits (a zombie)",
        "child 2: exits, status 7",
        "child 2: is a zombie now",
        "kill(child 2, SIGTERM)",
        "waitpid() = child 1",
        "child 2: is reaped",
    ]


def test_who_is_waited_for_or_has_no_parent_any_more_is_no_zombie(new_story: type[Story]) -> None:
    story = new_story("reaping", "A parent that waits reaps at once.")
    fork, end, reap = ProcessChange.FORKED, ProcessChange.EXITED, ProcessChange.REAPED
    for child in ("child 1", "child 2", "child 3"):
        story.process(0, "server", fork, child, parent="server")
    first = story.pid("server", "child 1")
    story.call(5, "server", "waitpid", "-1", returns_ms=20, result=first)
    story.process(10, "server", end, "child 1", parent="server", exit_status=0)
    story.process(20, "server", reap, "child 1", parent="server")
    story.process(30, "server", end, "child 2", parent="server", signal="SIGTERM")
    story.process(30, "server", reap, "child 2", parent="server")
    story.process(40, "server", end, exit_status=0)
    story.process(50, "server", end, "child 3", parent="server", exit_status=1)
    assert "zombie" not in draw(story)


def test_a_signal_s_handler_reads_as_one(new_story: type[Story]) -> None:
    story = new_story("signals", "A handler comes in between.")
    story.call(0, "server", "signal", "SIGCHLD, reap")
    story.call(5, "server", "accept", returns_ms=30, connected=False)
    story.call(10, "server", "SIGCHLD handler", returns_ms=12)
    assert page(story) == [
        "signal(SIGCHLD, reap)",
        "waits in accept()",
        "SIGCHLD: its handler runs",
        "accept() returns",
    ]


def test_an_exit_is_told_once(new_story: type[Story]) -> None:
    story = new_story("exits", "The call, or the end where there was none.")
    story.call(0, "client", "exit", "0", returns=False)
    story.process(0.2, "client", ProcessChange.EXITED, exit_status=0)
    story.call(10, "server", "exit", "1", returns=False)
    story.process(18, "server", ProcessChange.EXITED, exit_status=1)
    story.process(30, "server", ProcessChange.EXITED, "second", exit_status=2)
    assert page(story) == ["exits", "exits, status 1", "second: process exits, status 2"]


def test_data_that_is_no_text_or_too_long_is_counted(new_story: type[Story]) -> None:
    story = new_story("data", "What is sent is text, or so many octets.")
    story.call(0, "client", "send", r"b'\x00\x00\x00\x05hello'", result=9)
    story.call(5, "client", "send", "b'a line of a text'", process="child 1", result=16)
    story.call(10, "client", "send", "b'a line of a text'", result=16)
    assert page(story) == [
        "send(9 octets)",
        "child 1: send(16 octets)",
        "send(b'a line of a text')",
    ]


def test_a_move_that_was_taken_for_another_replaces_it(new_story: type[Story]) -> None:
    story = new_story("revised", "The table shows that there was no room for TIME-WAIT.")
    story.move(5, "client", "FIN-WAIT-2", "ACK of FIN received")
    story.move(30, "client", "TIME-WAIT", "FIN received")
    first = story.happenings()[-1]
    (told,) = first.moves
    known = replace(told.transition, after=Belief.of(TcpState.CLOSED))
    later = replace(
        first,
        event=replace(first.event, t_ns=30_500_000),
        moves=(replace(told, transition=known),),
    )
    drawn: list[str] = []
    ladder = Ladder(drawn.append, width=120)
    ladder.begin(story.record())
    for happening in (*story.happenings(), later):
        ladder.feed(happening)
    ladder.finish(story.judged())
    ladder_only = "".join(drawn).partition("segments")[2].partition("\n\n")[0]
    assert "FIN-WAIT-2 > CLOSED" in ladder_only
    assert "TIME-WAIT" not in ladder_only


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


def test_a_window_of_zero_is_said_beside_the_segment(new_story: type[Story]) -> None:
    story = new_story("windows", "Who has no room says so; a RST's window means nothing.")
    for letters in ("A", "R"):
        story.segment(0, "server", letters, arrives_ms=20)
    closed, reset = (
        labels(replace(trace, segment=replace(trace.segment, window=0)))
        for trace in story.connection().segments
    )
    assert closed == ("A 0:0(0) ack 0 win 0", "A 0:0(0) win 0", "A win 0", "A")
    assert reset == ("R 0:0(0)", "R 0:0(0)", "R", "R")


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


@example(steps=[(0.0, "client", "S", 0, None, [], False)], texts=["", "²", "", ""], width=94)
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
        for name in ("run", "print", "read", "select", "kill", "exit", "waitpid", texts[3]):
            story.call(t_ms, sender, name, texts[2], process=texts[3], result=texts[1])
        change = list(ProcessChange)[length % len(ProcessChange)]
        story.process(t_ms, sender, change, texts[3], parent=texts[2], signal=texts[1])
        story.measured(t_ms, texts[0], texts[1], texts[2])
    for ascii_only in (False, True):
        drawn = draw(story, width, ascii_only=ascii_only)
        lines = drawn.split("\n")
        assert all(line.isprintable() for line in lines)
        assert all(width_of(line) <= width for line in lines)
