"""`tcpwatch explain`: every state has every part, every edge of the table can be explained."""

from __future__ import annotations

import re

import pytest

from tcpwatch.cli import main
from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.lab.scenario import catalogue
from tcpwatch.machine.coverage import declared
from tcpwatch.machine.table import TABLE, Outcome, Row
from tcpwatch.tcp.state import TcpState
from tcpwatch.views.canvas import width_of
from tcpwatch.views.explain import explain_edge, explain_state
from tcpwatch.views.figure import figure
from tcpwatch.views.meanings import ABOUT, ARROWS, SILENT, STIMULI

PARTS = (
    *("How one gets in", "How one gets out", "What changes nothing"),
    *("On Linux", "Stuck here", "Shown by"),
)
NAMES = re.compile(r"tcp_\w+|TCP_\w+|E[A-Z]{4,}|RFC \d+|3\.\d+[.\d]*|\b\w+\(\)")
MOVES = [row for row in TABLE.values() if row.outcome is Outcome.MOVES]
EDGES = sorted(
    {
        (row.state, row.next_state(passive=passive))
        for row in MOVES
        for passive in (True, False)
        if row.next_state(passive=passive) is not row.state
    },
    key=str,
)
PAIRS_WITHOUT_EDGE = [
    (before, after) for before in TcpState for after in TcpState if (before, after) not in EDGES
]


def in_one_line(text: str) -> str:
    return " ".join(text.split())


def sections(text: str) -> dict[str, list[str]]:
    """The indented lines under each heading."""
    found: dict[str, list[str]] = {}
    heading = ""
    for line in text.splitlines():
        if line and not line.startswith(" "):
            heading = line
            found[heading] = []
        elif line:
            found[heading].append(line)
    return found


@pytest.mark.parametrize("state", TcpState)
def test_a_state_has_every_part(state: TcpState) -> None:
    found = sections(explain_state(state, 80))

    title = next(iter(found))
    assert title.startswith(state.value)
    assert "RFC 9293 3." in title
    assert found[title]
    for part in PARTS:
        assert found[part], part


@pytest.mark.parametrize("state", TcpState)
def test_a_state_is_told_in_sentences(state: TcpState) -> None:
    about = ABOUT[state]

    for text in (about.meaning, about.linux, about.stuck):
        assert text.endswith((".", "?"))
        assert "  " not in text


def row_is_told(row: Row, lines: list[str], where: str) -> bool:
    text = in_one_line(" ".join(lines))
    return all(part in text for part in (row.stimulus.value.split()[0], row.section, where))


@pytest.mark.parametrize("row", MOVES, ids=lambda row: f"{row.state}-{row.stimulus.name}")
def test_every_transition_of_the_table_stands_at_both_its_ends(row: Row) -> None:
    after = row.next_state(passive=True)

    leaving = sections(explain_state(row.state, 80))["How one gets out"]
    arriving = sections(explain_state(after, 80))["How one gets in"]

    assert row_is_told(row, leaving, after.value)
    assert row_is_told(row, arriving, row.state.value)


@pytest.mark.parametrize("before, after", EDGES)
def test_every_edge_is_explained_with_all_that_can_cause_it(
    before: TcpState, after: TcpState
) -> None:
    text = explain_edge(before, after, 80)

    assert text.startswith(f"{before} > {after}\n")
    for row in MOVES:
        ends = {row.next_state(passive=True), row.next_state(passive=False)}
        if row.state is before and after in ends:
            assert f"\n{row.stimulus.value} (RFC 9293 {row.section})\n" in text
            # What the table names, such as a sysctl or an errno, the page names too.
            assert set(NAMES.findall(row.note)) <= set(NAMES.findall(text))
    assert in_one_line(ABOUT[after].meaning) in in_one_line(text)


@pytest.mark.parametrize("width", [40, 60, 80, 132])
def test_nothing_is_wider_than_the_page(width: int) -> None:
    texts = [explain_state(state, width) for state in TcpState]
    texts += [explain_edge(before, after, width) for before, after in EDGES]

    assert max(width_of(line) for text in texts for line in text.splitlines()) <= width


def test_a_page_that_is_too_narrow_for_a_table_is_not_used() -> None:
    assert explain_state(TcpState.CLOSED, 1) == explain_state(TcpState.CLOSED, 40)


def test_no_line_ends_in_a_space() -> None:
    texts = [explain_state(state, 80) for state in TcpState]

    assert [line for text in texts for line in text.splitlines() if line != line.rstrip()] == []


@pytest.mark.parametrize("before, after", PAIRS_WITHOUT_EDGE)
def test_what_is_no_edge_is_refused_with_the_edges_there_are(
    before: TcpState, after: TcpState
) -> None:
    with pytest.raises(TcpwatchError) as caught:
        explain_edge(before, after, 80)

    assert caught.value.exit_code is ExitCode.USAGE
    assert f"from {before} to {after}" in caught.value.message
    named = caught.value.remedy.partition(" leads to ")[2].split(", ")
    assert {TcpState.parse(name) for name in named} == {end for one, end in EDGES if one is before}


def test_the_way_round_is_told_where_there_is_one() -> None:
    with pytest.raises(TcpwatchError, match="only by way of FIN-WAIT-2 or CLOSING"):
        explain_edge(TcpState.FIN_WAIT_1, TcpState.TIME_WAIT, 80)


def test_of_several_long_ways_round_one_is_told() -> None:
    with pytest.raises(TcpwatchError) as caught:
        explain_edge(TcpState.CLOSED, TcpState.TIME_WAIT, 80)

    assert caught.value.message == (
        "there is no transition from CLOSED to TIME-WAIT (the shortest way is by"
        " SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2)"
    )


def test_an_edge_that_depends_on_the_way_of_opening_says_so() -> None:
    to_listen = explain_edge(TcpState.SYN_RECEIVED, TcpState.LISTEN, 80)
    to_closed = explain_edge(TcpState.SYN_RECEIVED, TcpState.CLOSED, 80)

    assert "It goes there if it opened passively." in to_listen
    assert "It goes there if it opened actively." in to_closed


def test_the_figures_arrow_of_a_reset_in_syn_received_leads_to_listen_only() -> None:
    """RFC 9293 3.3.2, note 1: in the table one row, whose end depends on the way of opening."""
    to_listen = explain_edge(TcpState.SYN_RECEIVED, TcpState.LISTEN, 80)
    to_closed = explain_edge(TcpState.SYN_RECEIVED, TcpState.CLOSED, 80)

    assert "An arrow of RFC 9293's Figure 5." in to_listen
    assert "An arrow of RFC 9293's Figure 5." not in to_closed


@pytest.mark.parametrize("row", MOVES, ids=lambda row: f"{row.state}-{row.stimulus.name}")
def test_what_is_sent_is_told_unless_the_words_on_the_arrow_say_when(row: Row) -> None:
    text = explain_edge(row.state, row.next_state(passive=True), 80)
    told = text.split(f"\n{row.stimulus.value} (RFC")[1].split("Figure 5.")[0]

    sends = bool(row.sends) and (row.state, row.stimulus) not in SILENT
    assert (f"\n  Sent with it: {row.sends}.\n" in told) is sends


def test_every_word_on_an_arrow_is_of_an_arrow_of_the_table() -> None:
    moving = {(row.state, row.stimulus) for row in MOVES}

    assert ARROWS.keys() <= moving
    assert ARROWS.keys() >= SILENT


@pytest.mark.parametrize("words", [*STIMULI.values(), *ARROWS.values()])
def test_arrows_are_told_in_sentences(words: str) -> None:
    assert words.endswith((".", ".)"))
    assert "  " not in words


def test_a_command_is_not_torn_apart() -> None:
    for width in range(40, 100, 9):
        for before, after in EDGES:
            lines = explain_edge(before, after, width, ["normal-close"]).splitlines()
            assert [line for line in lines if line.endswith((" ss", " tcpwatch", " run"))] == []


# ------------------------------------------------------------------ pictures


@pytest.mark.parametrize("before, after", EDGES)
def test_an_edge_with_a_way_of_its_own_is_drawn(before: TcpState, after: TcpState) -> None:
    drawn = figure(78)
    assert drawn is not None
    head = explain_edge(before, after, 80).split("(RFC")[0]

    assert any(sign in head for sign in "▶◀▲▼") is (drawn.route((before, after)) is not None)
    if drawn.route((before, after)) is not None:
        assert f" {before} " in head.split("\n", 1)[1]
        assert f" {after} " in head.split("\n", 1)[1]


def test_the_picture_is_the_edge_and_its_two_boxes() -> None:
    page = explain_edge(TcpState.FIN_WAIT_2, TcpState.TIME_WAIT, 80)

    assert page.splitlines()[1:11] == [
        "",
        "  ╭──────────────╮",
        "  │  FIN-WAIT-2  │",
        "  │              │",
        "  ╰──────────┬───╯",
        "             │",
        "             │                 ╭──────────────╮",
        "             ╰── FIN / ACK ───▶│  TIME-WAIT   │",
        "                               │              │",
        "                               ╰──────────────╯",
    ]


def test_a_page_that_is_too_narrow_has_no_picture() -> None:
    assert "▶" not in explain_edge(TcpState.FIN_WAIT_2, TcpState.TIME_WAIT, 70)


def test_a_picture_is_ascii_where_the_output_is() -> None:
    page = explain_edge(TcpState.FIN_WAIT_2, TcpState.TIME_WAIT, 80, ascii_only=True)

    assert page.isascii()
    assert "'-- FIN / ACK --->|  TIME-WAIT   |" in page


# ------------------------------------------------------------------ scenarios


def shown_by(text: str) -> str:
    return in_one_line(text.split("\nShown by\n")[1])


def test_the_scenarios_are_named_with_an_example() -> None:
    names = ["simultaneous-close", "closing-timeout"]
    edge = explain_edge(TcpState.FIN_WAIT_1, TcpState.CLOSING, 80, names)
    state = explain_state(TcpState.CLOSING, 80, names)

    told = "simultaneous-close, closing-timeout. For example: tcpwatch run simultaneous-close"
    assert (shown_by(edge), shown_by(state)) == (told, told)


def test_of_few_scenarios_those_come_first_that_are_named_for_the_state() -> None:
    names = [*(f"play-{number}" for number in range(8)), "closing-timeout"]
    told = shown_by(explain_state(TcpState.CLOSING, 80, names))

    assert told.startswith("play-0, closing-timeout, play-1, play-2, play-3, play-4, and 3 more.")


def test_of_many_scenarios_the_first_are_named() -> None:
    names = [*(f"play-{number}" for number in range(40)), "closing-timeout"]
    told = shown_by(explain_state(TcpState.CLOSING, 80, names))

    assert told.startswith("play-0, play-1, play-2, play-3, play-4, play-5, and 35 more.")


def test_where_no_pattern_can_name_an_edge_it_says_where_to_look() -> None:
    told = shown_by(explain_edge(TcpState.LISTEN, TcpState.CLOSED, 80))

    assert told.endswith(
        "since a listener is no connection: tcpwatch coverage tells which show it."
    )


def test_what_linux_cannot_produce_no_scenario_shows() -> None:
    assert "Shown by" not in explain_edge(TcpState.LISTEN, TcpState.SYN_SENT, 80)


def test_the_command_names_scenarios_of_the_catalogue(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "FIN-WAIT-1>CLOSING"]) == 0
    assert "simultaneous-close" in shown_by(capsys.readouterr().out)
    assert main(["explain", "time-wait"]) == 0
    assert "normal-close" in shown_by(capsys.readouterr().out)


@pytest.mark.parametrize("before, after", EDGES)
def test_every_edge_that_a_path_can_show_is_expected_of_some_scenario(
    before: TcpState, after: TcpState
) -> None:
    expected = {edge for one in catalogue().values() for edge in declared(one.expect)}
    barred = {(row.state, row.next_state(passive=True)) for row in MOVES if not row.linux}
    hidden = {(TcpState.LISTEN, TcpState.CLOSED)}  # of a listener, which is no connection

    assert ((before, after) in expected) is ((before, after) not in barred | hidden)


def test_an_edge_that_linux_cannot_produce_says_so() -> None:
    text = explain_edge(TcpState.LISTEN, TcpState.SYN_SENT, 80)

    assert "Socket calls on Linux cannot produce it." in text
    assert "The application calls: connect()" not in text


@pytest.mark.parametrize(
    "state, told",
    [
        (TcpState.CLOSE_WAIT, "has not called close()"),
        (TcpState.CLOSE_WAIT, "ino:0"),
        (TcpState.FIN_WAIT_2, "tcp_fin_timeout"),
        (TcpState.TIME_WAIT, "60 s"),
        (TcpState.SYN_SENT, "accept queue is full"),
        (TcpState.SYN_RECEIVED, "SYN flood"),
        (TcpState.LISTEN, "A backlog of N admits N+1"),
    ],
)
def test_what_one_looks_for_is_there(state: TcpState, told: str) -> None:
    assert told in in_one_line(explain_state(state, 80))
