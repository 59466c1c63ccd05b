"""The judgement: PASS and FAIL need evidence, and a failure shows the difference."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from tcpwatch.machine.pattern import PathElement
from tcpwatch.machine.verdict import describe, judge, path_elements
from tcpwatch.model.events import WIRE, Event, Gap, Vantage
from tcpwatch.model.identity import ConnectionId, FourTuple, SocketAddress
from tcpwatch.model.timeline import (
    Basis,
    Belief,
    Connection,
    Endpoint,
    Finding,
    RunRecord,
    Severity,
    Timeline,
    Transition,
    Verdict,
)
from tcpwatch.tcp.state import TcpState

CLIENT, SERVER = SocketAddress("10.77.0.1", 40000), SocketAddress("10.77.0.2", 7000)
RECORD = RunRecord("a-scenario", "it claims.", {}, (), {"client": "CLOSED > SYN-SENT"}, {})
GAP = Event(1, 5, Vantage(WIRE), Gap("it overran", 3, 0))
DISAGREEMENT = Finding("witnesses-disagree", Severity.ERROR, "kernel and wire disagree")


def endpoint(role: str, path: str) -> Endpoint:
    """A role's path, ``A B|C D``, a millisecond a step."""
    beliefs = [Belief.of(*map(TcpState.parse, word.split("|"))) for word in path.split()]
    transitions = tuple(
        Transition(before, after, n * 1_000_000, "close()", Basis.REPORTED, ("kernel",), (n,), n)
        for n, (before, after) in enumerate(pairwise(beliefs), 1)
    )
    return Endpoint(role, CLIENT if role == "client" else SERVER, beliefs[0], transitions)


def timeline(client: str, server: str = "LISTEN", number: int = 1) -> Timeline:
    ends = endpoint("client", client), endpoint("server", server)
    connection = Connection(number, ConnectionId(FourTuple(CLIENT, SERVER)), ends, ())
    return Timeline((connection,), (), (), 10_000_000)


GOOD = timeline("CLOSED SYN-SENT")
BAD = timeline("CLOSED SYN-SENT CLOSED")
DOUBTFUL = timeline("CLOSED SYN-SENT|LISTEN")


@pytest.mark.parametrize(
    "record, witnessed, verdict",
    [
        (RECORD, GOOD, Verdict.PASS),
        (RECORD, BAD, Verdict.FAIL),
        (RECORD, DOUBTFUL, Verdict.INCONCLUSIVE),
        (RECORD, Timeline((), (), ()), Verdict.INCONCLUSIVE),
        (RECORD, replace(GOOD, events=(GAP,)), Verdict.PASS),
        (RECORD, replace(BAD, events=(GAP,)), Verdict.INCONCLUSIVE),
        (RECORD, replace(GOOD, findings=(DISAGREEMENT,)), Verdict.INCONCLUSIVE),
        (
            RECORD,
            replace(GOOD, findings=(replace(DISAGREEMENT, severity=Severity.WARNING),)),
            Verdict.PASS,
        ),
        (replace(RECORD, expect={}), GOOD, Verdict.PASS),
        (replace(RECORD, problem="connect(): ENOENT"), GOOD, Verdict.FAIL),
        (replace(RECORD, failed_checks=("no EOF",)), GOOD, Verdict.FAIL),
        (replace(RECORD, failed_checks=("no EOF",)), replace(GOOD, events=(GAP,)), Verdict.FAIL),
        (replace(RECORD, inconclusive=("no witness",)), GOOD, Verdict.INCONCLUSIVE),
        (replace(RECORD, inconclusive=("no witness",)), BAD, Verdict.INCONCLUSIVE),
    ],
)
def test_it_is_certain_only_where_the_evidence_is(
    record: RunRecord, witnessed: Timeline, verdict: Verdict
) -> None:
    judged = judge(record, witnessed)

    assert judged.verdict is verdict
    assert bool(judged.reasons) is (verdict is not Verdict.PASS)


def test_a_reason_names_the_end_the_path_and_the_pattern() -> None:
    assert judge(RECORD, BAD).reasons == (
        "client: the witnessed path CLOSED > SYN-SENT > CLOSED is not CLOSED > SYN-SENT",
    )


def test_a_doubt_is_told_as_one() -> None:
    (reason,) = judge(RECORD, DOUBTFUL).reasons

    assert reason == (
        "client: the witnessed path CLOSED > LISTEN or SYN-SENT may or may not be CLOSED > SYN-SENT"
    )


def test_lost_evidence_is_told_with_the_doubt_it_raises() -> None:
    assert judge(RECORD, replace(BAD, events=(GAP,))).reasons[-1] == (
        "wire lost evidence: it overran"
    )


def test_the_weightiest_reason_comes_first() -> None:
    record = replace(RECORD, problem="it stopped")

    assert judge(record, DOUBTFUL).reasons[0] == "it stopped"


def test_an_expectation_knows_whether_it_was_met() -> None:
    record = replace(
        RECORD, expect={"client": "CLOSED > SYN-SENT", "server": "CLOSED", "nobody": "..."}
    )

    met = {each.endpoint: each.met for each in judge(record, GOOD).expectations}
    assert met == {"client": True, "server": False, "nobody": None}


def test_a_number_names_a_later_connection() -> None:
    second = timeline("CLOSED SYN-SENT ESTABLISHED", number=2)
    both = replace(GOOD, connections=GOOD.connections + second.connections)
    record = replace(RECORD, expect={"client 2": "... > ESTABLISHED", "client": "... > SYN-SENT"})

    assert judge(record, both).verdict is Verdict.PASS


def test_every_names_the_end_of_each_connection() -> None:
    connections = [
        timeline(path, number=number).connections[0]
        for number, path in enumerate(["CLOSED SYN-SENT", "CLOSED", "CLOSED SYN-SENT|LISTEN"], 1)
    ]
    record = replace(RECORD, expect={"every client": "CLOSED > SYN-SENT"})
    judged = judge(record, replace(GOOD, connections=tuple(connections)))

    met = {each.endpoint: each.met for each in judged.expectations}
    assert met == {"client 1": True, "client 2": False, "client 3": None}
    assert judged.verdict is Verdict.FAIL
    assert judged.reasons[0].startswith("client 2: the witnessed path CLOSED is not")
    good = replace(GOOD, connections=tuple(connections[:1]))
    assert judge(record, good).verdict is Verdict.PASS


def test_every_asks_for_one_at_least() -> None:
    record = replace(RECORD, expect={"every client": "..."})
    (expectation,) = judge(record, Timeline((), (), ())).expectations

    assert (expectation.endpoint, expectation.met) == ("every client", None)


def test_a_failure_shows_the_difference_and_the_evidence_under_it() -> None:
    record = replace(RECORD, expect={"client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1"})
    (expectation,) = judge(record, timeline("CLOSED SYN-SENT CLOSED")).expectations

    assert (
        expectation.explanation
        == """\
  CLOSED
  SYN-SENT
- ESTABLISHED
- FIN-WAIT-1
+ CLOSED
      at 2.000 ms; reported; close(); segment 2; seen by kernel"""
    )


def test_a_path_that_ends_too_early_shows_the_last_that_was_witnessed() -> None:
    record = replace(RECORD, expect={"client": "CLOSED > SYN-SENT > ESTABLISHED"})
    (expectation,) = judge(record, GOOD).expectations

    assert (
        expectation.explanation
        == """\
  CLOSED
  SYN-SENT
- ESTABLISHED
  the last that was witnessed: SYN-SENT
      at 1.000 ms; reported; close(); segment 1; seen by kernel"""
    )


def test_what_must_never_be_is_shown_against_the_whole_path() -> None:
    record = replace(RECORD, expect={"client": "never SYN-SENT"})
    (expectation,) = judge(record, GOOD).expectations

    assert (
        expectation.explanation
        == """\
- never SYN-SENT
  CLOSED
+ SYN-SENT
      for 9 ms; at 1.000 ms; reported; close(); segment 1; seen by kernel"""
    )


def test_the_last_state_goes_on_and_the_others_have_ended() -> None:
    elements = path_elements(endpoint("client", "CLOSED SYN-SENT ESTABLISHED"), 10_000_000)

    assert elements == (
        PathElement(frozenset({TcpState.CLOSED}), 1_000_000, ended=True),
        PathElement(frozenset({TcpState.SYN_SENT}), 1_000_000, ended=True),
        PathElement(frozenset({TcpState.ESTABLISHED}), 8_000_000, ended=False),
    )


def test_a_transition_is_described_with_all_its_evidence() -> None:
    transition = Transition(
        Belief.of(TcpState.FIN_WAIT_2),
        Belief.of(TcpState.TIME_WAIT),
        1_500_000,
        "FIN received",
        Basis.INFERRED,
        ("table", "wire"),
        (4, 5),
        segment=9,
        gap=True,
    )

    assert describe(transition) == (
        "at 1.500 ms; inferred; FIN received; segment 9; seen by table, wire; "
        "more may have happened before it"
    )


LINGERING = replace(RECORD, expect={"client": "... > TIME-WAIT"})
OVER = timeline("CLOSED SYN-SENT ESTABLISHED FIN-WAIT-1 FIN-WAIT-2 TIME-WAIT CLOSED")


def ended_by(end: Endpoint, segment: int | None) -> Endpoint:
    """The same endpoint, its last transition made by that segment or by none."""
    return replace(
        end, transitions=(*end.transitions[:-1], replace(end.transitions[-1], segment=segment))
    )


@pytest.mark.parametrize("segment, verdict", [(None, Verdict.PASS), (9, Verdict.FAIL)])
def test_who_expects_time_wait_accepts_its_timer_and_no_other_end_of_it(
    segment: int | None, verdict: Verdict
) -> None:
    (connection,) = OVER.connections
    ends = ended_by(connection.endpoints[0], segment), connection.endpoints[1]
    witnessed = replace(OVER, connections=(replace(connection, endpoints=ends),))

    assert judge(LINGERING, witnessed).verdict is verdict


def test_a_path_that_was_cut_short_is_not_called_wrong() -> None:
    record = replace(RECORD, expect={"client": "CLOSED > SYN-SENT > ESTABLISHED"}, problem="late")
    (expectation,) = judge(record, GOOD).expectations

    assert expectation.met is None
    assert "-" not in expectation.explanation


@pytest.mark.parametrize(
    "witnesses, witnessed, verdict",
    [
        ("wire", "CLOSED SYN-SENT", Verdict.INCONCLUSIVE),
        ("wire kernel", "CLOSED SYN-SENT", Verdict.FAIL),
        ("wire", "CLOSED SYN-SENT ESTABLISHED", Verdict.FAIL),
        ("wire", "CLOSED SYN-SENT CLOSED", Verdict.PASS),
    ],
)
def test_the_wire_alone_cannot_deny_an_end_that_no_segment_shows(
    witnesses: str, witnessed: str, verdict: Verdict
) -> None:
    sources: tuple[dict[str, object], ...] = tuple(
        {"name": name, "available": name in witnesses.split()}
        for name in ("kernel", "table", "wire")
    )
    record = replace(
        RECORD, sources=sources, expect={"client": "CLOSED > SYN-SENT[>=1ms] > CLOSED"}
    )
    assert judge(record, timeline(witnessed)).verdict is verdict


@pytest.mark.parametrize(
    "witnesses, expected, witnessed, verdict",
    [
        ("wire", "ESTABLISHED > FIN-WAIT-1 > CLOSED", "ESTABLISHED CLOSED", Verdict.INCONCLUSIVE),
        ("kernel", "ESTABLISHED > FIN-WAIT-1 > CLOSED", "ESTABLISHED CLOSED", Verdict.FAIL),
        ("kernel", "FIN-WAIT-2 > CLOSED", "FIN-WAIT-2", Verdict.INCONCLUSIVE),
        ("kernel wire", "FIN-WAIT-2 > CLOSED", "FIN-WAIT-2", Verdict.INCONCLUSIVE),
        ("table", "FIN-WAIT-2 > CLOSED", "FIN-WAIT-2", Verdict.FAIL),
        ("kernel", "LISTEN > SYN-RECEIVED > LISTEN", "LISTEN", Verdict.INCONCLUSIVE),
        ("kernel wire", "LISTEN > SYN-RECEIVED > LISTEN", "LISTEN", Verdict.FAIL),
        (
            "kernel",
            "LISTEN > SYN-RECEIVED[>=1s] > ESTABLISHED",
            "LISTEN SYN-RECEIVED ESTABLISHED",
            Verdict.INCONCLUSIVE,
        ),
        (
            "kernel wire",
            "LISTEN > SYN-RECEIVED[>=1s] > ESTABLISHED",
            "LISTEN SYN-RECEIVED ESTABLISHED",
            Verdict.FAIL,
        ),
    ],
)
def test_nobody_denies_what_they_could_not_have_seen(
    witnesses: str, expected: str, witnessed: str, verdict: Verdict
) -> None:
    sources: tuple[dict[str, object], ...] = tuple(
        {"name": name, "available": name in witnesses.split()}
        for name in ("kernel", "table", "wire")
    )
    record = replace(RECORD, sources=sources, expect={"client": expected})

    assert judge(record, timeline(witnessed)).verdict is verdict


def test_what_goes_on_may_not_have_ended() -> None:
    """A belief that holds the state before it too."""
    elements = path_elements(endpoint("client", "SYN-SENT SYN-SENT|CLOSED"), 10_000_000)

    assert elements == (
        PathElement(frozenset({TcpState.SYN_SENT}), 1_000_000, ended=False),
        PathElement(frozenset({TcpState.CLOSED}), 9_000_000, ended=False, perhaps=True),
    )


def test_a_path_that_went_wrong_before_it_was_cut_short_is() -> None:
    record = replace(RECORD, expect={"client": "CLOSED > SYN-SENT > ESTABLISHED"}, problem="late")
    (expectation,) = judge(record, BAD).expectations

    assert expectation.met is False


def test_nothing_expected_and_nothing_seen_is_no_pass() -> None:
    judged = judge(replace(RECORD, expect={}), Timeline((), (), ()))

    assert judged.verdict is Verdict.INCONCLUSIVE


def test_the_difference_takes_a_run_of_any_states_as_what_it_stands_for() -> None:
    record = replace(RECORD, expect={"client": "... > FIN-WAIT-1 > (CLOSING | LAST-ACK) > ..."})
    (expectation,) = judge(record, OVER).expectations

    assert expectation.explanation.splitlines() == [
        "  CLOSED",
        "  SYN-SENT",
        "  ESTABLISHED",
        "  FIN-WAIT-1",
        "- (CLOSING | LAST-ACK)",
        "  FIN-WAIT-2",
        "  TIME-WAIT",
        "  CLOSED",
        "  the last that was witnessed: CLOSED",
        "      at 6.000 ms; reported; close(); segment 6; seen by kernel",
    ]
