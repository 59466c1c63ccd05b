"""The transition table against RFC 9293, and against the ledgers that must reach its rows."""

from __future__ import annotations

import re
from itertools import pairwise, product
from typing import TYPE_CHECKING

import pytest

from tcpwatch.machine.stimulus import Kind, Stimulus
from tcpwatch.machine.table import (
    TABLE,
    IllegalStimulusError,
    Outcome,
    Row,
    edges,
    paths_between,
    reachable,
    silent_moves,
    step,
)
from tcpwatch.tcp.state import TcpState

if TYPE_CHECKING:
    from tests.machine.conftest import Ledgers

S, T = TcpState, Stimulus

FIGURE_5 = {
    # RFC 9293 3.3.2, copied arrow by arrow from the drawing.
    (S.CLOSED, T.PASSIVE_OPEN, S.LISTEN),
    (S.CLOSED, T.ACTIVE_OPEN, S.SYN_SENT),
    (S.LISTEN, T.CLOSE, S.CLOSED),
    (S.LISTEN, T.ACTIVE_OPEN, S.SYN_SENT),  # drawn as SEND
    (S.LISTEN, T.SYN, S.SYN_RECEIVED),
    (S.SYN_SENT, T.CLOSE, S.CLOSED),
    (S.SYN_SENT, T.SYN, S.SYN_RECEIVED),
    (S.SYN_SENT, T.SYN_ACK, S.ESTABLISHED),
    (S.SYN_RECEIVED, T.RST, S.LISTEN),  # note 1: only after a passive OPEN
    (S.SYN_RECEIVED, T.CLOSE, S.FIN_WAIT_1),
    (S.SYN_RECEIVED, T.ACK_OF_SYN, S.ESTABLISHED),
    (S.ESTABLISHED, T.CLOSE, S.FIN_WAIT_1),
    (S.ESTABLISHED, T.FIN, S.CLOSE_WAIT),
    (S.FIN_WAIT_1, T.ACK_OF_FIN, S.FIN_WAIT_2),
    (S.FIN_WAIT_1, T.FIN, S.CLOSING),
    (S.FIN_WAIT_2, T.FIN, S.TIME_WAIT),
    (S.CLOSE_WAIT, T.CLOSE, S.LAST_ACK),
    (S.CLOSING, T.ACK_OF_FIN, S.TIME_WAIT),
    (S.LAST_ACK, T.ACK_OF_FIN, S.CLOSED),
    (S.TIME_WAIT, T.TIME_WAIT_TIMEOUT, S.CLOSED),
}

SILENT = "the call sends nothing"
TIMER = "no segment shows that a timer ran out"
NOT_REACHED_BY_A_SEGMENT = {
    (S.CLOSED, T.PASSIVE_OPEN): SILENT,
    (S.LISTEN, T.CLOSE): SILENT,
    (S.LISTEN, T.ABORT): SILENT,
    (S.SYN_SENT, T.CLOSE): SILENT,
    (S.TIME_WAIT, T.ABORT): SILENT,
    (S.TIME_WAIT, T.SYN): "the tracker begins another connection with it (test_tracker.py)",
    (S.SYN_SENT, T.USER_TIMEOUT): TIMER,
    (S.SYN_RECEIVED, T.USER_TIMEOUT): TIMER,
    (S.ESTABLISHED, T.USER_TIMEOUT): TIMER,
    (S.FIN_WAIT_1, T.USER_TIMEOUT): TIMER,
    (S.FIN_WAIT_2, T.USER_TIMEOUT): TIMER,
    (S.CLOSE_WAIT, T.USER_TIMEOUT): TIMER,
    (S.CLOSING, T.USER_TIMEOUT): TIMER,
    (S.LAST_ACK, T.USER_TIMEOUT): TIMER,
    (S.TIME_WAIT, T.TIME_WAIT_TIMEOUT): TIMER,
}

ROWS = list(TABLE.values())


def name_of(row: Row) -> str:
    return f"{row.state}-{row.stimulus.name}"


def test_every_pair_of_state_and_stimulus_stands_in_the_table() -> None:
    """Exactly once: a second row of a pair fails an assertion where the table is built."""
    assert set(TABLE) == set(product(TcpState, Stimulus))
    assert all((row.state, row.stimulus) == pair for pair, row in TABLE.items())


def test_the_arrows_of_the_rfcs_figure_are_the_rows_that_say_so() -> None:
    drawn = {(row.state, row.stimulus, row.after) for row in ROWS if row.in_figure}

    assert drawn == FIGURE_5


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_a_row_cites_its_section(row: Row) -> None:
    assert re.fullmatch(r"3\.\d+(\.\d+)*", row.section)


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_a_row_moves_or_says_why_not(row: Row) -> None:
    if row.outcome is Outcome.MOVES:
        assert row.after is not None
        assert row.after is not row.state
    else:
        assert row.after is None
        assert row.note


@pytest.mark.parametrize("row", ROWS, ids=name_of)
@pytest.mark.parametrize("passive", [True, False])
def test_a_stimulus_leads_where_its_row_says(row: Row, *, passive: bool) -> None:
    if row.outcome is Outcome.ILLEGAL:
        with pytest.raises(IllegalStimulusError) as caught:
            step(row.state, row.stimulus, passive=passive)
        assert caught.value.row is row
        assert row.next_state(passive=passive) is row.state
    elif row.outcome is Outcome.IGNORED:
        assert step(row.state, row.stimulus, passive=passive) is row.state
    else:
        expected = row.after if passive else row.after_if_active or row.after
        assert step(row.state, row.stimulus, passive=passive) is expected


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_a_segment_is_never_illegal_unless_it_acknowledges_a_fin_that_was_not_sent(
    row: Row,
) -> None:
    """Anybody may send anything; only what our own calls must precede can be excluded."""
    if row.stimulus.kind is Kind.SEGMENT and row.outcome is Outcome.ILLEGAL:
        assert row.stimulus is T.ACK_OF_FIN


def test_only_a_reset_in_syn_received_depends_on_the_way_of_opening() -> None:
    depends = {(row.state, row.stimulus) for row in ROWS if row.after_if_active is not None}

    assert depends == {(S.SYN_RECEIVED, T.RST), (S.SYN_RECEIVED, T.SYN)}


def test_every_state_can_be_entered_and_left() -> None:
    assert {before for before, _ in edges()} == set(TcpState)
    assert {after for _, after in edges()} == set(TcpState)


def test_edges_are_the_moves_that_linux_makes() -> None:
    expected: dict[tuple[TcpState, TcpState], set[Stimulus]] = {}
    for row in ROWS:
        if row.outcome is Outcome.MOVES and row.linux:
            for passive in (True, False):
                after = row.next_state(passive=passive)
                if after is not row.state:
                    expected.setdefault((row.state, after), set()).add(row.stimulus)

    assert {edge: {row.stimulus for row in rows} for edge, rows in edges().items()} == expected
    assert (S.LISTEN, S.SYN_SENT) not in edges()


@pytest.mark.parametrize(
    "before, after, ways",
    [
        (S.ESTABLISHED, S.CLOSE_WAIT, {()}),
        (S.ESTABLISHED, S.LAST_ACK, {(S.CLOSE_WAIT,)}),
        (S.ESTABLISHED, S.TIME_WAIT, {(S.FIN_WAIT_1, S.FIN_WAIT_2), (S.FIN_WAIT_1, S.CLOSING)}),
        (S.CLOSED, S.ESTABLISHED, {(S.SYN_SENT,)}),
        (S.LISTEN, S.ESTABLISHED, {(S.SYN_RECEIVED,)}),
        (S.FIN_WAIT_2, S.ESTABLISHED, set()),
        (S.LAST_ACK, S.TIME_WAIT, set()),
    ],
)
def test_the_shortest_ways_are_those_through_the_least_states(
    before: TcpState, after: TcpState, ways: set[tuple[TcpState, ...]]
) -> None:
    assert set(paths_between(before, after)) == ways


@pytest.mark.parametrize("before, after", list(product(TcpState, TcpState)))
def test_a_way_is_made_of_edges(before: TcpState, after: TcpState) -> None:
    for way in paths_between(before, after):
        stations = (before, *way, after)
        assert all(edge in edges() for edge in pairwise(stations))


def test_what_is_reachable_is_closed_under_every_edge() -> None:
    found = reachable(frozenset({S.LAST_ACK}))

    assert S.LAST_ACK in found
    assert all(after in found for before, after in edges() if before in found)


def test_every_row_that_a_segment_can_show_is_reached_by_a_ledger(ledgers: Ledgers) -> None:
    by_cause = {stimulus.value: stimulus for stimulus in Stimulus}
    reached: set[tuple[TcpState, Stimulus]] = set()
    for name in ledgers.names:
        tracker = ledgers.tracker()
        for event in ledgers.read(name).events():
            tracker.feed(event)
        for connection in tracker.timeline(0).connections:
            for endpoint in connection.endpoints:
                for transition in endpoint.transitions:
                    if transition.before.certain is not None:
                        reached.add((transition.before.certain, by_cause[transition.cause]))
    moves = {
        (row.state, row.stimulus) for row in ROWS if row.outcome is Outcome.MOVES and row.linux
    }

    assert moves - reached == set(NOT_REACHED_BY_A_SEGMENT)
    assert reached <= moves


@pytest.mark.parametrize(
    "state, unseen",
    [
        (S.SYN_SENT, {S.CLOSED}),
        (S.ESTABLISHED, {S.FIN_WAIT_1, S.CLOSED}),
        (S.CLOSE_WAIT, {S.LAST_ACK, S.CLOSED}),
        (S.FIN_WAIT_2, {S.CLOSED}),
        (S.TIME_WAIT, {S.CLOSED}),
    ],
)
def test_timers_and_calls_move_an_end_with_no_segment_to_show_it(
    state: TcpState, unseen: set[TcpState]
) -> None:
    """A FIN waits behind data, for ever where the window is closed."""
    assert silent_moves(frozenset({state})) == unseen
