"""`tcpwatch explain`: every state has every part, every edge of the table can be explained."""

from __future__ import annotations

import pytest

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.machine.table import TABLE, Outcome, Row
from tcpwatch.tcp.state import TcpState
from tcpwatch.views.explain import ABOUT, explain_edge, explain_state

PARTS = ("How one gets in", "How one gets out", "What changes nothing", "On Linux", "Stuck here")
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
            assert in_one_line(row.note) in in_one_line(text)
    assert in_one_line(ABOUT[after].meaning) in in_one_line(text)


@pytest.mark.parametrize("width", [40, 60, 80, 132])
def test_nothing_is_wider_than_the_page(width: int) -> None:
    texts = [explain_state(state, width) for state in TcpState]
    texts += [explain_edge(before, after, width) for before, after in EDGES]

    assert max(len(line) for text in texts for line in text.splitlines()) <= width


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
