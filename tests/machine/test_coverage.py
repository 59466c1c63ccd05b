"""Which row of the table a transition was: told by its states and its cause, or not told at all."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest

from tcpwatch.machine.coverage import Arrow, Sighting, arrows, declared, sightings, survey
from tcpwatch.machine.stimulus import Stimulus
from tcpwatch.machine.table import TABLE as ROWS
from tcpwatch.machine.table import Outcome, edges
from tcpwatch.model.events import (
    CALLS,
    KERNEL,
    TABLE,
    WIRE,
    CallPhase,
    Event,
    Payload,
    ProcessChange,
    ProcessChanged,
    SocketSampled,
    StateReported,
    UserCall,
    Vantage,
)
from tcpwatch.model.identity import ConnectionId, FourTuple, SocketAddress
from tcpwatch.model.timeline import (
    Basis,
    Belief,
    Connection,
    Endpoint,
    Judged,
    RunRecord,
    Timeline,
    Transition,
    Verdict,
)
from tcpwatch.tcp.state import TcpState

if TYPE_CHECKING:
    from collections.abc import Sequence

S, T = TcpState, Stimulus
CLIENT, SERVER = SocketAddress("10.77.0.1", 40000), SocketAddress("10.77.0.2", 7000)
NOBODY = SocketAddress("0.0.0.0", 0)  # noqa: S104 - a listener's other end
ALL = (KERNEL, TABLE, WIRE)


def belief(text: str) -> Belief:
    return Belief.of(*(S.parse(name) for name in text.split(" or ")))


def move(
    text: str, cause: str = "", witnesses: tuple[str, ...] = ALL, *, gap: bool = False
) -> Transition:
    """``A > B``, with its cause; a state may be ``A or B``."""
    before, _, after = text.partition(" > ")
    return Transition(
        belief(before), belief(after), 1, cause, Basis.REPORTED, witnesses, (), gap=gap
    )


def judged(
    *connections: Sequence[Transition], events: Sequence[Event] = (), role: str = "client"
) -> Judged:
    """A run whose connections, one after another on the same ports, had these moves at one end."""
    frozen = []
    for number, moves in enumerate(connections, 1):
        ends = {
            name: Endpoint(name, address, Belief.of(S.CLOSED), tuple(moves) if name == role else ())
            for name, address in (("client", CLIENT), ("server", SERVER))
        }
        identity = ConnectionId(FourTuple(CLIENT, SERVER), number - 1)
        frozen.append(Connection(number, identity, (ends["client"], ends["server"]), ()))
    record = RunRecord("play", "", {}, (), {}, {CLIENT.ip: "client", SERVER.ip: "server"})
    return Judged(record, Timeline(tuple(frozen), tuple(events), ()), Verdict.PASS, (), ())


def stimuli(run: Judged) -> list[list[Stimulus]]:
    """What each transition can have been, in the table's words."""
    return [[arrow.stimulus for arrow in sighting.arrows] for sighting in sightings(run)]


def only(run: Judged) -> Sighting:
    (sighting,) = sightings(run)
    return sighting


# ------------------------------------------------------------------ arrows


def test_the_arrows_are_the_rows_that_move() -> None:
    moving = {row for row in ROWS.values() if row.outcome is Outcome.MOVES}

    assert {arrow.row for arrow in arrows()} == moving
    assert {arrow.edge for arrow in arrows() if arrow.row.linux} == set(edges())


def test_a_row_whose_end_depends_on_the_way_of_opening_is_two_arrows() -> None:
    ends = [arrow.after for arrow in arrows() if arrow.row is ROWS[S.SYN_RECEIVED, T.RST]]

    assert ends == [S.LISTEN, S.CLOSED]


def test_a_row_that_stays_where_one_opened_actively_is_one_arrow() -> None:
    ends = [arrow.after for arrow in arrows() if arrow.row is ROWS[S.SYN_RECEIVED, T.SYN]]

    assert ends == [S.LISTEN]


# ------------------------------------------------------------------ which row it was


def id_of(arrow: Arrow) -> str:
    return f"{arrow.before}-{arrow.stimulus.name}-{arrow.after}"


@pytest.mark.parametrize("arrow", [arrow for arrow in arrows() if arrow.row.linux], ids=id_of)
def test_a_cause_in_the_tables_words_tells_the_row(arrow: Arrow) -> None:
    run = judged([move(f"{arrow.before} > {arrow.after}", arrow.stimulus.value)])

    assert only(run).arrows == (arrow,)


@pytest.mark.parametrize(
    "text, cause, stimulus",
    [
        ("CLOSED > SYN-SENT", "connect()", T.ACTIVE_OPEN),
        ("ESTABLISHED > FIN-WAIT-1", "close()", T.CLOSE),
        ("ESTABLISHED > FIN-WAIT-1", "shutdown(SHUT_WR)", T.CLOSE),
        ("ESTABLISHED > FIN-WAIT-1", "SIGKILL", T.CLOSE),
        ("ESTABLISHED > FIN-WAIT-1", "process exit", T.CLOSE),
        ("ESTABLISHED > CLOSED", "close()", T.ABORT),
        ("ESTABLISHED > CLOSED", "SIGKILL", T.ABORT),
        ("ESTABLISHED > CLOSED", "destroy()", T.ABORT),
        ("LAST-ACK > CLOSED", "close()", T.ABORT),
        ("SYN-SENT > CLOSED", "close()", T.CLOSE),
        ("SYN-SENT > CLOSED", "SIGTERM", T.CLOSE),
        ("SYN-SENT > CLOSED", "shutdown(SHUT_RDWR)", T.ABORT),
        ("TIME-WAIT > CLOSED", "destroy()", T.ABORT),
    ],
)
def test_a_call_tells_the_row(text: str, cause: str, stimulus: Stimulus) -> None:
    assert stimuli(judged([move(text, cause)])) == [[stimulus]]


def test_without_a_cause_every_row_of_the_edge_is_possible() -> None:
    assert stimuli(judged([move("ESTABLISHED > CLOSED")])) == [[T.ABORT, T.RST, T.USER_TIMEOUT]]


def test_without_a_cause_the_only_row_of_the_edge_is_told() -> None:
    assert stimuli(judged([move("CLOSE-WAIT > LAST-ACK")])) == [[T.CLOSE]]


def test_whether_close_with_so_linger_aborted_a_syn_is_not_told() -> None:
    lingers = UserCall(1, CallPhase.CALLED, 7, "client", "setsockopt", "SO_LINGER, b'...'")
    event = Event(1, 0, Vantage(CALLS, "client"), lingers)
    run = judged([move("SYN-SENT > CLOSED", "close()")], events=[event])

    assert stimuli(run) == [[T.CLOSE, T.ABORT]]


def test_a_syn_that_ends_time_wait_is_a_row_of_time_wait() -> None:
    """The tracker begins another connection with it, in LISTEN."""
    ended = [move("FIN-WAIT-2 > TIME-WAIT", "FIN received")]
    reopened = [move("LISTEN > SYN-RECEIVED", "SYN received")]
    run = judged(ended, reopened, role="server")

    assert [str(sighting.before) for sighting in sightings(run)] == ["FIN-WAIT-2", "TIME-WAIT"]
    assert stimuli(run) == [[T.FIN], [T.SYN]]


# ------------------------------------------------------------------ what counts


def counted(*moves: Transition) -> tuple[int, int]:
    """How many of these moves exercised an arrow, and how many perhaps did."""
    covered = survey(sightings(judged(moves))).covered
    return sum(len(one.seen) for one in covered), sum(len(one.perhaps) for one in covered)


def test_what_is_certain_and_was_seen_counts() -> None:
    assert counted(move("ESTABLISHED > CLOSE-WAIT", "FIN received")) == (1, 0)


@pytest.mark.parametrize(
    "doubtful",
    [
        move("ESTABLISHED > CLOSE-WAIT", "FIN received", witnesses=()),
        move("ESTABLISHED > CLOSE-WAIT", "FIN received", gap=True),
        move("TIME-WAIT > TIME-WAIT or CLOSED", "RST received"),
        move("FIN-WAIT-1 or FIN-WAIT-2 > CLOSING", "FIN received"),
    ],
    ids=["assumed", "gap", "uncertain after", "uncertain before"],
)
def test_what_is_doubtful_counts_only_perhaps(doubtful: Transition) -> None:
    assert counted(doubtful) == (0, 1)


def test_what_can_have_been_several_rows_is_perhaps_each_and_is_told() -> None:
    coverage = survey(sightings(judged([move("ESTABLISHED > CLOSED")])))

    assert sum(len(one.perhaps) for one in coverage.covered) == 3
    assert [str(sighting.after) for sighting in coverage.untold] == ["CLOSED"]
    assert all(not one.seen for one in coverage.covered)


def test_what_no_row_makes_is_told() -> None:
    """Linux: where tcp_max_tw_buckets is reached, a FIN takes FIN-WAIT-2 to CLOSED."""
    coverage = survey(sightings(judged([move("FIN-WAIT-2 > CLOSED", "FIN received")])))

    assert [sighting.arrows for sighting in coverage.untold] == [()]


def test_scenarios_and_witnesses_are_told_of_an_arrow() -> None:
    moves = [
        move("FIN-WAIT-2 > TIME-WAIT", "FIN received", (TABLE,)),
        move("FIN-WAIT-2 > TIME-WAIT", "FIN received", (TABLE, WIRE)),
    ]
    coverage = survey(sightings(judged(moves)))
    (covered,) = (one for one in coverage.covered if one.seen)

    assert (len(covered.seen), covered.scenarios, covered.witnesses) == (2, ("play",), 2)
    assert covered not in coverage.missing


def test_what_linux_cannot_do_is_not_missing() -> None:
    coverage = survey([])

    assert {one.arrow.edge for one in coverage.unreachable} == {
        (S.LISTEN, S.SYN_SENT),
        (S.SYN_RECEIVED, S.CLOSE_WAIT),
    }
    assert len(coverage.missing) + len(coverage.unreachable) == len(arrows())


# ------------------------------------------------------------------ listeners


def told(*payloads: tuple[int, str, Payload]) -> list[Event]:
    """Events at those milliseconds, by those witnesses, of the server."""
    numbers = count(1)
    return [
        Event(
            next(numbers),
            t_ms * 1_000_000,
            Vantage(source, None if source == KERNEL else "server"),
            said,
        )
        for t_ms, source, said in payloads
    ]


def reported(before: TcpState, after: TcpState) -> StateReported:
    return StateReported(0xBEEF, SERVER, NOBODY, before, after, 1)


def sampled(state: TcpState | None, since_ms: int, queue: int = 0) -> SocketSampled:
    return SocketSampled(SERVER, NOBODY, state, since_ms * 1_000_000, receive_queue=queue)


def called(name: str, phase: CallPhase = CallPhase.CALLED, arguments: str = "") -> UserCall:
    return UserCall(1, phase, 7, "server", name, arguments, SERVER)


def seen_of(
    *payloads: tuple[int, str, Payload],
) -> list[tuple[str, list[Stimulus], tuple[str, ...]]]:
    """The edges, the possible rows and the witnesses of what befell the listener."""
    return [
        (
            f"{sighting.before} > {sighting.after}",
            [arrow.stimulus for arrow in sighting.arrows],
            sighting.witnesses,
        )
        for sighting in sightings(judged(events=told(*payloads)))
    ]


def test_a_listener_is_seen_by_kernel_and_table_once() -> None:
    assert seen_of(
        (1, KERNEL, reported(S.CLOSED, S.LISTEN)),
        (2, TABLE, sampled(S.LISTEN, 0)),
        (9, TABLE, sampled(S.LISTEN, 8, queue=1)),
    ) == [("CLOSED > LISTEN", [T.PASSIVE_OPEN], (KERNEL, TABLE))]


@pytest.mark.parametrize(
    "call, arguments, stimulus", [("close", "", T.CLOSE), ("shutdown", "SHUT_RD", T.ABORT)]
)
def test_the_call_that_ended_a_listener_tells_the_row(
    call: str, arguments: str, stimulus: Stimulus
) -> None:
    found = seen_of(
        (1, KERNEL, reported(S.CLOSED, S.LISTEN)),
        (5, CALLS, called(call, arguments=arguments)),
        (6, KERNEL, reported(S.LISTEN, S.CLOSED)),
        (7, CALLS, called(call, CallPhase.RETURNED, arguments)),
    )

    assert found[1] == ("LISTEN > CLOSED", [stimulus], (KERNEL,))


def test_a_listener_ends_with_its_process() -> None:
    killed = ProcessChanged(7, "server", ProcessChange.SIGNALLED, signal="SIGKILL")
    found = seen_of(
        (2, TABLE, sampled(S.LISTEN, 1)), (5, CALLS, killed), (7, TABLE, sampled(None, 6))
    )

    assert found[1] == ("LISTEN > CLOSED", [T.CLOSE], (TABLE,))


def test_a_listener_that_ends_without_a_call_may_have_ended_in_either_way() -> None:
    found = seen_of(
        (2, TABLE, sampled(S.LISTEN, 1)),
        (3, CALLS, called("close")),
        (4, CALLS, called("close", CallPhase.RETURNED)),
        (9, TABLE, sampled(None, 8)),
    )

    assert found[1] == ("LISTEN > CLOSED", [T.CLOSE, T.ABORT], (TABLE,))


def test_a_listener_that_listens_again_is_seen_twice() -> None:
    found = seen_of(
        (1, KERNEL, reported(S.CLOSED, S.LISTEN)),
        (2, KERNEL, reported(S.LISTEN, S.CLOSED)),
        (3, KERNEL, reported(S.CLOSED, S.LISTEN)),
    )

    assert [edge for edge, _, _ in found] == [
        "CLOSED > LISTEN",
        "LISTEN > CLOSED",
        "CLOSED > LISTEN",
    ]


# ------------------------------------------------------------------ what patterns declare


@pytest.mark.parametrize(
    "pattern, named",
    [
        ("CLOSED > SYN-SENT[>=1s] > CLOSED", {"CLOSED > SYN-SENT", "SYN-SENT > CLOSED"}),
        ("... > CLOSE-WAIT > LAST-ACK", {"CLOSE-WAIT > LAST-ACK"}),
        ("ESTABLISHED > ... > TIME-WAIT", set()),
        ("never ESTABLISHED > CLOSE-WAIT", set()),
        (
            "FIN-WAIT-1 > (CLOSING | FIN-WAIT-2) > TIME-WAIT",
            {
                "FIN-WAIT-1 > CLOSING",
                "FIN-WAIT-1 > FIN-WAIT-2",
                "CLOSING > TIME-WAIT",
                "FIN-WAIT-2 > TIME-WAIT",
            },
        ),
        ("LISTEN > SYN-RECEIVED", {"CLOSED > LISTEN", "LISTEN > SYN-RECEIVED"}),
    ],
)
def test_a_pattern_declares_the_edges_that_it_names(pattern: str, named: set[str]) -> None:
    assert {f"{before} > {after}" for before, after in declared({"client": pattern})} == named
