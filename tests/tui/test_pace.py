"""The film's clock: slow where something happens, never boring, and the person's steps."""

from __future__ import annotations

import pytest

from tcpwatch.tui.pace import Mode, Pace

MS = 1_000_000
STOPS = (0, 20 * MS, 21 * MS, 60_000 * MS)


def film(t_ms: float = 0, tempo: float = 1.0) -> Pace:
    return Pace(Mode.FILM, round(t_ms * MS), tempo)


def test_a_way_of_twenty_milliseconds_takes_four_tenths_of_a_second() -> None:
    assert film().passed(0.2, STOPS, STOPS[-1], over=True).t_ns == 10 * MS
    assert film().passed(0.4, STOPS, STOPS[-1], over=True).t_ns == 20 * MS


def test_what_comes_soon_after_is_still_seen_by_itself() -> None:
    assert film(20).passed(0.05, STOPS, STOPS[-1], over=True).t_ns == 20_500_000


def test_a_minute_in_which_nothing_happens_takes_less_than_one_second() -> None:
    assert film(21).passed(0.7, STOPS, STOPS[-1], over=True).t_ns == STOPS[-1]


def test_at_twice_the_tempo_it_is_twice_as_far() -> None:
    assert film(tempo=2).passed(0.1, STOPS, STOPS[-1], over=True).t_ns == 10 * MS


def test_it_waits_for_a_run_that_has_not_told_more() -> None:
    waiting = film(21).passed(5, STOPS[:3], 90 * MS, over=False)
    assert (waiting.mode, waiting.t_ns) == (Mode.FILM, 21 * MS)


def test_it_stands_at_the_end_of_a_run_that_is_over() -> None:
    ended = film(21).passed(5, STOPS[:3], 90 * MS, over=True)
    assert (ended.mode, ended.t_ns) == (Mode.STILL, 90 * MS)


def test_the_present_goes_with_the_run() -> None:
    live = Pace(Mode.LIVE, 0)
    assert live.passed(0.1, STOPS, 77 * MS, over=False) == Pace(Mode.LIVE, 77 * MS)
    assert live.passed(0.1, STOPS, 77 * MS, over=True).mode is Mode.STILL


def test_who_stands_stays() -> None:
    still = Pace(Mode.STILL, 5 * MS)
    assert still.passed(9, STOPS, STOPS[-1], over=False) == still


@pytest.mark.parametrize(
    "start,by,to",
    [(-1, 1, 0), (0, 1, 20), (10, 1, 20), (10, -1, 0), (20, -1, 0), (60_000, 1, 60_000)],
)
def test_a_step_is_to_the_next_moment_at_which_something_happened(
    start: int, by: int, to: int
) -> None:
    stepped = Pace(Mode.FILM, start * MS).stepped(by, STOPS)
    assert (stepped.mode, stepped.t_ns) == (Mode.STILL, to * MS)


def test_before_the_first_there_is_the_beginning() -> None:
    assert Pace(Mode.STILL, 0).stepped(-1, STOPS).t_ns == -1
    assert Pace(Mode.STILL, -1).stepped(-1, STOPS).t_ns == -1
