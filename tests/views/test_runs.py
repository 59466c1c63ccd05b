"""Several runs: a line each, a table of all, and what they measured side by side."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tcpwatch.model.events import CALLS, Event, Measured, Vantage
from tcpwatch.model.timeline import Judged, Verdict
from tcpwatch.views.canvas import width_of
from tcpwatch.views.runs import Run, Unplayed, contrasts, run_line, table_lines
from tcpwatch.views.summary import render
from tcpwatch.views.wording import Wording

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.views.telling import Story

    Stories = dict[str, Callable[[], Story]]
BROKEN = Unplayed("mine", "It is mine.", "mine.py:2: ModuleNotFoundError: No module named 'ours'")


def drawn(*topics: tuple[str, list[Run]], width: int = 80, planned: int = 0) -> str:
    return render(table_lines(topics, width, Wording(), planned))


def measuring(judged: Judged, name: str, *values: tuple[str, int | str, str]) -> Judged:
    """The run, as that scenario's, with what it measured."""
    events = tuple(
        Event(number, number, Vantage(CALLS), Measured(*value))
        for number, value in enumerate(values, 1)
    )
    record = replace(judged.record, scenario=name)
    return replace(judged, record=record, timeline=replace(judged.timeline, events=events))


def test_one_topic_is_a_table_with_totals(stories: Stories) -> None:
    runs: list[Run] = [stories[n]().judged() for n in ("normal-close", "fin-lost", "odd-wire")]
    assert drawn(("the-five", [*runs, BROKEN])) == (
        "PASS           0.3 s  normal-close  One end closes, the other reads the end of…\n"
        "FAIL           1.4 s  fin-lost      server: the witnessed path ends in\n"
        "                          CLOSE-WAIT, LAST-ACK was expected\n"
        "INCONCLUSIVE   0.3 s  odd-wire      kernel lost 3 events\n"
        "ERROR                 mine          mine.py:2: ModuleNotFoundError: No module\n"
        "                          named 'ours'\n"
        "4 runs: 1 passed, 1 failed, 1 inconclusive, 1 could not be played\n"
    )


def test_several_topics_are_told_apart(stories: Stories) -> None:
    normal, lost = (stories[name]().judged() for name in ("normal-close", "fin-lost"))
    passed = replace(lost, verdict=Verdict.PASS, reasons=())
    assert drawn(("the-five", [normal]), ("the-edges", [passed]), ("select", [])) == (
        "the-five\n"
        "  PASS   0.3 s  normal-close  One end closes, the other reads the end of the st…\n"
        "the-edges\n"
        "  PASS   1.4 s  fin-lost      The first FIN is dropped; FIN-WAIT-1 sends it aga…\n"
        "2 runs: 2 passed\n"
    )


def test_what_was_not_played_and_how_long_it_took_is_told(stories: Stories) -> None:
    run = stories["normal-close"]().judged()
    assert drawn(("", [run]), planned=9).endswith("\n1 of 9 runs: 1 passed\n")
    lines = table_lines([("", [run])], 80, Wording(), 1, 2.04)
    assert render(lines).endswith("\n1 runs: 1 passed; 0.3 s of play in 2.0 s\n")


def test_of_a_scenario_played_again_one_line_is_left(stories: Stories) -> None:
    normal, lost, odd = (
        stories[name]().judged() for name in ("normal-close", "fin-lost", "odd-wire")
    )
    slower = replace(normal, record=replace(normal.record, end_ns=412_000_000))
    unsure = replace(lost, verdict=Verdict.INCONCLUSIVE, reasons=("the kernel lost 3 events",))
    runs: list[Run] = [slower, normal, normal, lost, unsure]
    runs += [replace(lost, verdict=Verdict.PASS, reasons=()), odd, BROKEN]
    assert drawn(("", runs), width=120) == (
        "3 of 3 passed   normal-close   0.30 to 0.41 s\n"
        "1 of 3 passed   fin-lost       1.40 s   1 failed, 1 inconclusive: server: the witnessed"
        " path ends in CLOSE-WAIT,\n"
        "                LAST-ACK was expected\n"
        "0 of 1 passed   odd-wire       0.30 s   1 inconclusive: kernel lost 3 events\n"
        "0 of 1 passed   mine              1 could not be played: mine.py:2: ModuleNotFoundError:"
        " No module named 'ours'\n"
        "8 runs: 4 passed, 1 failed, 2 inconclusive, 1 could not be played\n"
    )


def test_a_run_is_a_line_as_it_ends(stories: Stories) -> None:
    normal, lost = (stories[name]().judged() for name in ("normal-close", "fin-lost"))

    def line(run: Run, number: int, *, explained: bool = False) -> str:
        return render(run_line(run, number, 36, 80, Wording(), explained=explained))

    assert line(normal, 7) == " 7/36 PASS           0.3 s  normal-close\n"
    assert line(lost, 8, explained=True) == " 8/36 FAIL           1.4 s  fin-lost\n"
    assert line(lost, 8) == (
        " 8/36 FAIL           1.4 s  fin-lost  server: the witnessed path ends in\n"
        "        CLOSE-WAIT, LAST-ACK was expected\n"
    )


def test_what_scenarios_measured_alike_stands_side_by_side(stories: Stories) -> None:
    judged = stories["normal-close"]().judged()
    ignored = measuring(judged, "ignored", ("zombies", 3, "default"), ("zombies", 0, "SIG_IGN"))
    once = measuring(judged, "wait-once", ("zombies", 2, ""), ("signals", 1, ""), ("own", 1, ""))
    loop = measuring(judged, "waitpid-loop", ("signals", 1, ""), ("zombies", 0, ""))
    again = measuring(judged, "waitpid-loop", ("zombies", 1, ""))
    runs = [ignored, once, loop, again]
    columns = ["ignored: default", "ignored: SIG_IGN", "wait-once", "waitpid-loop"]
    assert contrasts(runs) == [
        (columns, [("zombies", ["3", "0", "2", "0 or 1"]), ("signals", ["", "", "1", "1"])])
    ]
    assert drawn(("", [ignored, once, loop])).split("\n\n")[1] == (
        "         ignored: default  ignored: SIG_IGN  wait-once  waitpid-loop\n"
        "zombies  3                 0                 2          0\n"
        "signals  -                 -                 1          1"
    )
    assert contrasts([ignored, judged, BROKEN]) == []


@pytest.mark.parametrize("width", [40, 80, 132])
def test_no_line_is_wider_than_the_page(width: int, stories: Stories) -> None:
    runs: list[Run] = [story().judged() for story in stories.values()]
    runs += [Unplayed("x" * 50, "y " * 90, "z" * 200), BROKEN]
    text = drawn(("one", runs), ("two", runs[:1]), width=width)
    text += drawn(("one", runs), ("", runs), width=width)
    for run in runs:
        text += render(run_line(run, 1, 999, width, Wording(), explained=False))
    assert max(map(width_of, text.splitlines())) <= width


def test_nothing_from_outside_reaches_the_terminal_raw() -> None:
    evil = "\x1b]0;owned\x07"
    run = Unplayed(evil, evil, evil)
    text = drawn((evil, [run]), (evil + "2", [run, run]))
    text += render(run_line(run, 1, 1, 80, Wording(), explained=False))
    assert "\x1b" not in text
    assert "\\x1b" in text
