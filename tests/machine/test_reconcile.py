"""Claims of several witnesses become one path: aligned, extended, or contradicted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tcpwatch.machine.reconcile import Claim, History
from tcpwatch.model.timeline import Basis, Belief
from tcpwatch.tcp.state import TcpState

S = TcpState
BEGINNING = frozenset({S.CLOSED, S.LISTEN})


def claim(
    witness: str,
    *states: TcpState,
    t_ns: int = 0,
    before: TcpState | None = None,
    since_ns: int | None = None,
) -> Claim:
    return Claim(
        witness,
        frozenset(states),
        t_ns,
        t_ns,
        Basis.INFERRED if witness == "wire" else Basis.REPORTED,
        before=None if before is None else frozenset({before}),
        since_ns=since_ns,
    )


def history(*claims: Claim, alone: bool = False, begin: frozenset[TcpState] = BEGINNING) -> History:
    found = History.begin(begin)
    for one in claims:
        found = found.admit(one, alone=alone)
    return found


def told(found: History) -> str:
    """The path, each step with who saw it."""
    return " > ".join(
        str(Belief(step.states)) + "".join(f" {witness}" for witness in sorted(step.witnesses))
        for step in found.steps
    )


def all_saw(*states: TcpState, witness: str = "wire") -> list[Claim]:
    return [claim(witness, state, t_ns=10 * number) for number, state in enumerate(states, 1)]


# ------------------------------------------------------------------ alignment


def test_two_witnesses_of_one_step_make_one_step() -> None:
    found = history(claim("wire", S.SYN_SENT, t_ns=2), claim("kernel", S.SYN_SENT, t_ns=1))

    assert told(found) == "CLOSED > SYN-SENT kernel wire"
    assert found.last.t_ns == 1
    assert found.last.basis is Basis.REPORTED
    assert found.last.evidence == (2, 1)


def test_a_late_witness_is_looked_for_from_its_own_place() -> None:
    wire = all_saw(S.SYN_SENT, S.ESTABLISHED, S.FIN_WAIT_1, S.FIN_WAIT_2)
    found = history(*wire, *all_saw(S.SYN_SENT, S.ESTABLISHED, witness="kernel"))

    assert told(found) == (
        "CLOSED > SYN-SENT kernel wire > ESTABLISHED kernel wire > "
        "FIN-WAIT-1 wire > FIN-WAIT-2 wire"
    )
    assert found.contradictions == ()


def test_the_same_state_twice_is_two_steps() -> None:
    """TIME-WAIT assassinated and reopened: a witness never goes back."""
    states = (S.SYN_RECEIVED, S.LISTEN, S.SYN_RECEIVED, S.ESTABLISHED)
    found = history(*all_saw(*states), *all_saw(*states, witness="kernel"))

    assert told(found) == (
        "LISTEN > SYN-RECEIVED kernel wire > LISTEN kernel wire > "
        "SYN-RECEIVED kernel wire > ESTABLISHED kernel wire"
    )


def test_a_witness_that_says_it_again_adds_nothing() -> None:
    once = history(claim("table", S.SYN_SENT))

    assert history(claim("table", S.SYN_SENT), claim("table", S.SYN_SENT)) == once


def test_the_first_step_tells_how_it_opened() -> None:
    assert told(history(claim("kernel", S.SYN_RECEIVED))).startswith("LISTEN > ")
    assert told(history(claim("kernel", S.SYN_SENT))).startswith("CLOSED > ")


def test_what_is_seen_of_the_first_state_is_no_step() -> None:
    begin = frozenset(TcpState)

    assert told(history(claim("table", S.ESTABLISHED), begin=begin)) == "ESTABLISHED"


# ------------------------------------------------------------------ what was missed


def test_a_state_too_short_to_be_seen_is_assumed() -> None:
    found = history(
        *all_saw(S.SYN_RECEIVED, S.ESTABLISHED, witness="table"),
        claim("table", S.LAST_ACK, t_ns=99, since_ns=80),
    )

    assert told(found) == (
        "LISTEN > SYN-RECEIVED table > ESTABLISHED table > CLOSE-WAIT > LAST-ACK table"
    )
    assert found.steps[3].basis is Basis.ASSUMED
    assert not found.last.gap
    assert found.steps[3].missed_since == (("table", 80),)


def test_a_witness_that_saw_the_step_fills_it_in_later() -> None:
    found = history(
        *all_saw(S.SYN_RECEIVED, S.ESTABLISHED, witness="table"),
        claim("table", S.LAST_ACK, t_ns=99),
        *all_saw(S.SYN_RECEIVED, S.ESTABLISHED, S.CLOSE_WAIT, witness="kernel"),
    )

    assert told(found).endswith("CLOSE-WAIT kernel > LAST-ACK table")
    assert found.steps[3].basis is Basis.REPORTED
    assert found.steps[3].t_ns == 30


def test_several_shortest_ways_leave_the_state_between_open() -> None:
    found = history(
        *all_saw(S.SYN_SENT, S.ESTABLISHED, S.FIN_WAIT_1, witness="table"),
        claim("table", S.TIME_WAIT, t_ns=50),
        alone=True,
    )

    assert told(found).endswith("FIN-WAIT-1 table > FIN-WAIT-2 or CLOSING > TIME-WAIT table")
    assert found.last.gap


def test_with_another_witness_there_what_it_did_not_see_is_no_gap() -> None:
    states = (S.SYN_SENT, S.ESTABLISHED, S.FIN_WAIT_1)
    found = history(*all_saw(*states), claim("wire", S.TIME_WAIT, t_ns=50))

    assert not found.last.gap


@pytest.mark.parametrize(
    "states, gap",
    [
        ((S.SYN_SENT, S.ESTABLISHED, S.CLOSED), True),  # reset, or closed in between
        ((S.SYN_SENT, S.CLOSED), False),
        ((S.SYN_RECEIVED, S.ESTABLISHED, S.CLOSE_WAIT, S.LAST_ACK, S.CLOSED), False),
        ((S.SYN_RECEIVED, S.ESTABLISHED, S.CLOSE_WAIT, S.CLOSED), True),
    ],
)
def test_one_that_is_gone_may_have_gone_a_longer_way(
    states: tuple[TcpState, ...], *, gap: bool
) -> None:
    assert history(*all_saw(*states, witness="table"), alone=True).last.gap is gap


@pytest.mark.parametrize("alone", [True, False])
def test_one_that_closed_at_once_may_have_been_open_between_two_looks(*, alone: bool) -> None:
    found = history(*all_saw(S.SYN_RECEIVED, S.FIN_WAIT_1, witness="table"), alone=alone)

    assert told(found) == "LISTEN > SYN-RECEIVED table > FIN-WAIT-1 table"
    assert found.last.gap is alone


def test_lost_evidence_leaves_all_that_is_reachable() -> None:
    found = history(*all_saw(S.SYN_SENT, S.ESTABLISHED)).widened(t_ns=40, evidence=7)

    assert found.last.states == frozenset(TcpState)
    assert found.last.gap
    assert (found.last.t_ns, found.last.evidence) == (40, (7,))


def test_what_is_seen_after_the_loss_keeps_the_gap() -> None:
    found = history(*all_saw(S.SYN_SENT, S.ESTABLISHED)).widened(t_ns=40, evidence=7)
    found = found.admit(claim("table", S.TIME_WAIT, t_ns=50))

    assert told(found) == "CLOSED > SYN-SENT wire > ESTABLISHED wire > TIME-WAIT table"
    assert found.last.gap


def test_what_is_known_better_narrows_the_last_step_only() -> None:
    found = history().narrow(frozenset({S.CLOSED, S.TIME_WAIT}))

    assert told(found) == "CLOSED"
    assert found.narrow(frozenset({S.LISTEN})) == found


# ------------------------------------------------------------------ ambiguous last words


FIN_WAIT_2 = (S.SYN_SENT, S.ESTABLISHED, S.FIN_WAIT_1, S.FIN_WAIT_2)
LAST_WORD = claim("kernel", S.TIME_WAIT, S.FIN_WAIT_2, S.CLOSED, t_ns=60)


def test_an_ambiguous_last_word_is_a_bound_and_no_step() -> None:
    found = history(*all_saw(*FIN_WAIT_2, witness="kernel"), LAST_WORD)

    assert told(found).endswith("FIN-WAIT-2 kernel")
    assert found.bounds["kernel"].states == LAST_WORD.states


@pytest.mark.parametrize("after", [S.TIME_WAIT, S.CLOSED])
def test_another_witness_settles_an_ambiguous_last_word(after: TcpState) -> None:
    found = history(
        *all_saw(*FIN_WAIT_2, witness="kernel"),
        LAST_WORD,
        claim("wire", after, t_ns=61, before=S.FIN_WAIT_2),
    )

    assert told(found).endswith(f"FIN-WAIT-2 kernel > {after} wire")
    assert found.contradictions == ()


def test_a_last_word_that_the_path_does_not_allow_moves_it() -> None:
    states = (S.SYN_SENT, S.ESTABLISHED, S.FIN_WAIT_1, S.CLOSING)
    last_word = claim("kernel", S.TIME_WAIT, S.CLOSED, t_ns=60)

    found = history(*all_saw(*states, witness="kernel"), last_word)
    assert told(found).endswith("CLOSING kernel > TIME-WAIT or CLOSED")


# ------------------------------------------------------------------ contradiction


def test_what_the_table_does_not_allow_is_a_contradiction_and_no_step() -> None:
    path = history(*all_saw(S.SYN_SENT, S.ESTABLISHED, S.FIN_WAIT_1))
    odd = claim("kernel", S.SYN_RECEIVED, before=S.FIN_WAIT_2)
    found = path.admit(odd)

    assert found.steps == path.steps
    assert [each.claim for each in found.contradictions] == [odd]
    assert found.contradictions[0].path == tuple(step.states for step in path.steps)


def test_what_was_left_must_be_where_the_path_is() -> None:
    path = history(*all_saw(S.SYN_SENT))
    found = path.admit(claim("kernel", S.ESTABLISHED, before=S.SYN_RECEIVED))

    assert len(found.contradictions) == 1


def test_a_history_is_a_value() -> None:
    before = history(*all_saw(S.SYN_SENT))
    copy = replace(before)
    before.admit(claim("table", S.ESTABLISHED))

    assert before == copy
