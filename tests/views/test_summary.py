"""A run in words."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tcpwatch.model.timeline import Expectation, Verdict
from tcpwatch.views.summary import count_lines, foot_lines, head_lines, render
from tcpwatch.views.wording import Wording

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.views.telling import Story

    Stories = dict[str, Callable[[], Story]]
WORDING = Wording()


def test_a_failed_expectation_shows_its_difference(stories: Stories) -> None:
    text = render(foot_lines(stories["fin-lost"]().judged(), 80, WORDING))
    assert "FIN-WAIT-1 > FIN-WAIT-2  as expected\n" in text
    assert "CLOSE-WAIT  NOT as expected\n        (- expected, + witnessed)\n" in text
    assert "\n    - LAST-ACK\n" in text
    assert "FAIL in 1.4 s\n  server: the witnessed path ends in CLOSE-WAIT" in text


def test_transitions_are_counted_by_how_many_saw_them(stories: Stories) -> None:
    text = render(count_lines(stories["normal-close"]().judged(), 200, WORDING))
    assert text == (
        "10 transitions: 8 seen by all three witnesses, 2 by two (kernel cannot see TIME-WAIT; "
        "kernel: a request socket emits no event)\n"
    )


def test_an_expectation_of_an_end_that_was_not_seen_is_told_too(stories: Stories) -> None:
    judged = stories["normal-close"]().judged()
    missing = Expectation("client 2", "CLOSED > SYN-SENT", None, "no such connection was seen")
    text = render(foot_lines(replace(judged, expectations=(missing,)), 80, WORDING))
    assert "client 2  CLOSED > SYN-SENT  cannot be told\n    no such connection was seen\n" in text


def test_the_second_connections_expectation_stands_at_its_path(stories: Stories) -> None:
    judged = stories["two-connections"]().judged()
    expected = (Expectation("client", "...", met=True), Expectation("client 2", "...", met=False))
    text = render(foot_lines(replace(judged, expectations=expected), 80, WORDING))
    assert "#1 client  CLOSED > SYN-SENT > ESTABLISHED  as expected\n" in text
    assert "#2 client  CLOSED > SYN-SENT > ESTABLISHED  NOT as expected\n" in text


def test_zombies_and_measured_values_stand_under_the_paths(stories: Stories) -> None:
    text = render(foot_lines(stories["fork-server"]().judged(), 80, WORDING))
    told = text.partition("zombies of")[2].partition("7 transitions")[0]
    assert told == (
        " the server: child 2\n"
        "clients: 1\n"
        "              wait() once  waitpid() in a loop\n"
        "zombies left  1            0\n"
    )


def test_values_of_one_case_are_listed_and_others_contrasted(new_story: type[Story]) -> None:
    story = new_story("measured", "Some things have cases.")
    for index, case in enumerate(("", "", "on", "off")):
        story.measured(index, "segments" if case else "reads", index, case)
    story.measured(5, "held", "LISTEN", "the parent")
    story.measured(6, "held", "ESTABLISHED", "each child")
    story.measured(7, "errno", "")
    text = render(foot_lines(story.judged(), 80, WORDING))
    assert "reads: 0, 1\nerrno: -\n          on  off\nsegments  2   3\n" in text
    assert "      the parent  each child\nheld  LISTEN      ESTABLISHED\n" in text


def test_a_missing_witness_is_told_with_the_reason(stories: Stories) -> None:
    record = stories["normal-close"]().record()
    kernel, *others = record.sources
    absent = {**kernel, "available": False, "detail": "tracefs needs root"}
    text = render(head_lines(replace(record, sources=(absent, *others)), 80, WORDING))
    assert "witnesses: table, wire\nwithout kernel: tracefs needs root\n" in text


def test_a_path_that_was_shown_is_not_told_again_as_the_reason(stories: Stories) -> None:
    judged = stories["fin-lost"]().judged()
    server = judged.expectations[1]
    told = f"server: the witnessed path LISTEN is not {server.pattern}"
    text = render(foot_lines(replace(judged, reasons=(told, "a check failed")), 80, WORDING))
    assert text.endswith("FAIL in 1.4 s\n  server: NOT as expected, see above\n  a check failed\n")
    # Where nothing above shows the difference, the reason does.
    bare = replace(judged, reasons=(told,), expectations=(replace(server, explanation=""),))
    assert "the witnessed path LISTEN is not" in render(foot_lines(bare, 200, WORDING))


def test_a_claim_beside_a_name_has_no_full_stop(stories: Stories) -> None:
    record = stories["normal-close"]().record()
    for claim, shown in (("It closes.", "It closes"), ("And so on...", "And so on...")):
        text = render(head_lines(replace(record, claim=claim), 80, WORDING))
        assert text.startswith(f"normal-close   {shown}\n")


def test_a_verdict_stands_first_on_its_line(stories: Stories) -> None:
    judged = replace(stories["normal-close"]().judged(), verdict=Verdict.INCONCLUSIVE)
    assert render(foot_lines(judged, 80, WORDING)).endswith("\nINCONCLUSIVE in 0.3 s\n")
