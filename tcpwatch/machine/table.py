"""RFC 9293's transitions as data: every pair of state and stimulus, exactly once.

Owns: the diagram. `explain`, the drawn figure, the coverage report and every inference read it
here. A row cites its section; where Linux departs from the RFC, the row names both.
Must not know how a stimulus was recognised.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from tcpwatch.machine.stimulus import Kind, Stimulus
from tcpwatch.tcp.state import TcpState


class Outcome(Enum):
    """What a stimulus does to an endpoint in a given state."""

    MOVES = "moves"
    IGNORED = "ignored"  # it can happen, and changes no state
    ILLEGAL = "illegal"  # it cannot happen in this state: evidence of it excludes the state


@dataclass(frozen=True, slots=True)
class Row:
    """What a stimulus does in a state. ``sends`` is what the endpoint sends as it moves."""

    state: TcpState
    stimulus: Stimulus
    outcome: Outcome
    section: str
    after: TcpState | None = None
    after_if_active: TcpState | None = None  # where it differs for one that opened actively
    sends: str = ""
    note: str = ""
    in_figure: bool = False  # an arrow of RFC 9293's Figure 5
    linux: bool = True  # whether socket calls on Linux can produce it

    def next_state(self, *, passive: bool) -> TcpState:
        """Where an endpoint that opened passively (or actively) is afterwards."""
        if self.outcome is not Outcome.MOVES or self.after is None:
            return self.state
        if passive or self.after_if_active is None:
            return self.after
        return self.after_if_active


class IllegalStimulusError(Exception):
    """The stimulus cannot occur in that state."""

    def __init__(self, row: Row) -> None:
        super().__init__(f"{row.stimulus.value} cannot happen in {row.state}: {row.note}")
        self.row = row


_S = TcpState
_T = Stimulus


def _moves() -> Iterator[Row]:
    """The rows that change the state."""

    def row(
        state: TcpState,
        stimulus: Stimulus,
        after: TcpState,
        section: str,
        sends: str = "",
        note: str = "",
        *,
        figure: bool = False,
        active: TcpState | None = None,
        linux: bool = True,
    ) -> Row:
        return Row(
            state, stimulus, Outcome.MOVES, section, after, active, sends, note, figure, linux
        )

    yield row(_S.CLOSED, _T.PASSIVE_OPEN, _S.LISTEN, "3.10.1", note="listen()", figure=True)
    yield row(_S.CLOSED, _T.ACTIVE_OPEN, _S.SYN_SENT, "3.10.1", "SYN", "connect()", figure=True)

    yield row(
        _S.LISTEN,
        _T.ACTIVE_OPEN,
        _S.SYN_SENT,
        "3.10.1",
        "SYN",
        "OPEN or SEND on a listener; Linux's connect() on a listening socket fails with EISCONN",
        figure=True,
        linux=False,
    )
    yield row(_S.LISTEN, _T.CLOSE, _S.CLOSED, "3.10.4", note="close() of the listener", figure=True)
    yield row(_S.LISTEN, _T.ABORT, _S.CLOSED, "3.10.5")
    yield row(
        _S.LISTEN,
        _T.SYN,
        _S.SYN_RECEIVED,
        "3.10.7.2",
        "SYN,ACK",
        "Linux keeps a request socket for it, while the listener itself stays in LISTEN",
        figure=True,
    )

    yield row(_S.SYN_SENT, _T.CLOSE, _S.CLOSED, "3.10.4", note="nothing is sent", figure=True)
    yield row(_S.SYN_SENT, _T.ABORT, _S.CLOSED, "3.10.5", note="nothing is sent")
    yield row(
        _S.SYN_SENT,
        _T.SYN,
        _S.SYN_RECEIVED,
        "3.10.7.3",
        "SYN,ACK",
        "simultaneous open: both SYNs crossed",
        figure=True,
    )
    yield row(_S.SYN_SENT, _T.SYN_ACK, _S.ESTABLISHED, "3.10.7.3", "ACK", figure=True)
    yield row(
        _S.SYN_SENT, _T.RST, _S.CLOSED, "3.10.7.3", note="ECONNREFUSED; its ACK must cover our SYN"
    )
    yield row(
        _S.SYN_SENT, _T.USER_TIMEOUT, _S.CLOSED, "3.10.8", note="ETIMEDOUT after tcp_syn_retries"
    )

    yield row(_S.SYN_RECEIVED, _T.ACK_OF_SYN, _S.ESTABLISHED, "3.10.7.4", figure=True)
    yield row(_S.SYN_RECEIVED, _T.CLOSE, _S.FIN_WAIT_1, "3.10.4", "FIN", figure=True)
    yield row(_S.SYN_RECEIVED, _T.ABORT, _S.CLOSED, "3.10.5", "RST")
    yield row(
        _S.SYN_RECEIVED,
        _T.RST,
        _S.LISTEN,
        "3.10.7.4",
        note="one that opened passively goes back to LISTEN, an active one to CLOSED",
        figure=True,
        active=_S.CLOSED,
    )
    yield row(
        _S.SYN_RECEIVED,
        _T.SYN,
        _S.LISTEN,
        "3.10.7.4",
        "RST",
        "a different SYN in the window; an active opener answers with a challenge ACK and stays",
        active=_S.SYN_RECEIVED,
    )
    yield row(
        _S.SYN_RECEIVED,
        _T.FIN,
        _S.CLOSE_WAIT,
        "3.10.7.4",
        "ACK",
        "every FIN carries an ACK, which completes the handshake first: Linux passes ESTABLISHED",
        linux=False,
    )
    yield row(
        _S.SYN_RECEIVED,
        _T.USER_TIMEOUT,
        _S.CLOSED,
        "3.10.8",
        note="after tcp_synack_retries (tcp_syn_retries for an active opener)",
    )

    yield row(_S.ESTABLISHED, _T.CLOSE, _S.FIN_WAIT_1, "3.10.4", "FIN", figure=True)
    yield row(_S.ESTABLISHED, _T.FIN, _S.CLOSE_WAIT, "3.10.7.4", "ACK", figure=True)

    yield row(_S.FIN_WAIT_1, _T.ACK_OF_FIN, _S.FIN_WAIT_2, "3.10.7.4", figure=True)
    yield row(_S.FIN_WAIT_1, _T.FIN, _S.CLOSING, "3.10.7.4", "ACK", figure=True)

    yield row(_S.FIN_WAIT_2, _T.FIN, _S.TIME_WAIT, "3.10.7.4", "ACK", figure=True)

    yield row(_S.CLOSE_WAIT, _T.CLOSE, _S.LAST_ACK, "3.10.4", "FIN", figure=True)

    yield row(_S.CLOSING, _T.ACK_OF_FIN, _S.TIME_WAIT, "3.10.7.4", figure=True)

    yield row(_S.LAST_ACK, _T.ACK_OF_FIN, _S.CLOSED, "3.10.7.4", figure=True)

    yield row(
        _S.TIME_WAIT,
        _T.TIME_WAIT_TIMEOUT,
        _S.CLOSED,
        "3.10.8",
        note="Linux: a fixed 60 s (TCP_TIMEWAIT_LEN), whatever tcp_fin_timeout says",
        figure=True,
    )
    yield row(
        _S.TIME_WAIT,
        _T.SYN,
        _S.SYN_RECEIVED,
        "3.10.7.4",
        "SYN,ACK",
        "a newer SYN on the same tuple reopens it as a new connection (RFC 6191)",
    )
    yield row(
        _S.TIME_WAIT,
        _T.RST,
        _S.CLOSED,
        "3.10.7.4",
        note="TIME-WAIT assassination (RFC 1337): Linux heeds the RST while tcp_rfc1337 is 0",
    )
    yield row(_S.TIME_WAIT, _T.ABORT, _S.CLOSED, "3.10.5", note="nothing is sent")

    reset_notes = {_S.CLOSE_WAIT: "Linux gives EPIPE here, ECONNRESET elsewhere"}
    timeout_notes = {
        _S.FIN_WAIT_2: "not in the RFC: Linux ends an orphaned FIN-WAIT-2 after tcp_fin_timeout",
        _S.ESTABLISHED: "tcp_retries2, TCP_USER_TIMEOUT or keepalive gave up: ETIMEDOUT",
    }
    for state in (
        _S.ESTABLISHED,
        _S.FIN_WAIT_1,
        _S.FIN_WAIT_2,
        _S.CLOSE_WAIT,
        _S.CLOSING,
        _S.LAST_ACK,
    ):
        # In CLOSING and LAST-ACK the RFC sends nothing; Linux's keepalive, for one, does.
        yield row(state, _T.ABORT, _S.CLOSED, "3.10.5", "RST")
        accepted = reset_notes.get(state, "RFC 5961 must accept it")
        yield row(state, _T.RST, _S.CLOSED, "3.10.7.4", note=accepted)
        gave_up = timeout_notes.get(state, "retransmissions were given up")
        yield row(state, _T.USER_TIMEOUT, _S.CLOSED, "3.10.8", note=gave_up)


def _rest() -> Iterator[tuple[TcpState, Stimulus, Outcome, str, str]]:
    """The pairs that change nothing (with the reason), and those that cannot occur."""
    ignored, illegal = Outcome.IGNORED, Outcome.ILLEGAL
    received = (_T.RST, _T.SYN, _T.SYN_ACK, _T.ACK_OF_SYN, _T.ACK_OF_FIN, _T.FIN)
    for stimulus in received:
        yield (
            _S.CLOSED,
            stimulus,
            ignored,
            "3.10.7.1",
            "there is no connection: a RST answers all but a RST",
        )
    for stimulus in (_T.RST, _T.SYN_ACK, _T.ACK_OF_SYN, _T.ACK_OF_FIN, _T.FIN):
        yield (
            _S.LISTEN,
            stimulus,
            ignored,
            "3.10.7.2",
            "a RST is dropped, an ACK is answered by a RST",
        )
    for stimulus in (_T.CLOSE, _T.ABORT):
        yield _S.CLOSED, stimulus, illegal, "3.10.4", "the connection does not exist"

    yield _S.SYN_SENT, _T.ACK_OF_SYN, ignored, "3.10.7.3", "an ACK alone does not open"
    yield (
        _S.SYN_SENT,
        _T.FIN,
        ignored,
        "3.10.7.4",
        "a FIN is not processed here: its place is unknown",
    )

    sync = (
        _S.SYN_RECEIVED,
        _S.ESTABLISHED,
        _S.FIN_WAIT_1,
        _S.FIN_WAIT_2,
        _S.CLOSE_WAIT,
        _S.CLOSING,
        _S.LAST_ACK,
        _S.TIME_WAIT,
    )
    for state in sync:
        yield (
            state,
            _T.SYN_ACK,
            ignored,
            "3.10.7.4",
            "a retransmission, or a challenge ACK answers (RFC 5961 4)",
        )
        if state not in (_S.SYN_RECEIVED, _S.TIME_WAIT):
            yield state, _T.SYN, ignored, "3.10.7.4", "a challenge ACK answers (RFC 5961 4)"
        if state is not _S.SYN_RECEIVED:
            yield state, _T.ACK_OF_SYN, ignored, "3.10.7.4", "a duplicate acknowledgement"
    for state in (_S.CLOSE_WAIT, _S.CLOSING, _S.LAST_ACK, _S.TIME_WAIT):
        yield state, _T.FIN, ignored, "3.10.7.4", "a retransmitted FIN: it is acknowledged again"
    for state in (_S.FIN_WAIT_2, _S.TIME_WAIT):
        yield state, _T.ACK_OF_FIN, ignored, "3.10.7.4", "a duplicate acknowledgement"
    for state in (_S.FIN_WAIT_1, _S.FIN_WAIT_2, _S.CLOSING, _S.LAST_ACK, _S.TIME_WAIT):
        yield (
            state,
            _T.CLOSE,
            ignored,
            "3.10.4",
            "sending is already closed: close() after shutdown()",
        )
    yield _S.TIME_WAIT, _T.USER_TIMEOUT, ignored, "3.10.8", "nothing is outstanding"
    for state in (_S.SYN_SENT, _S.SYN_RECEIVED, _S.ESTABLISHED, _S.CLOSE_WAIT):
        yield state, _T.ACK_OF_FIN, illegal, "3.10.4", "no FIN of ours is out in this state"
    for state in (_S.CLOSED, _S.LISTEN):
        yield state, _T.USER_TIMEOUT, illegal, "3.10.8", "no timer runs"
    for state in _S:
        if state is not _S.TIME_WAIT:
            yield state, _T.TIME_WAIT_TIMEOUT, illegal, "3.10.8", "the timer runs only in TIME-WAIT"
        if state is not _S.CLOSED:
            yield state, _T.PASSIVE_OPEN, illegal, "3.10.1", "the connection already exists"
        if state not in (_S.CLOSED, _S.LISTEN):
            yield state, _T.ACTIVE_OPEN, illegal, "3.10.1", "the connection already exists"


def _build() -> dict[tuple[TcpState, Stimulus], Row]:
    table: dict[tuple[TcpState, Stimulus], Row] = {}
    rows = [*_moves(), *(Row(*pair[:4], note=pair[4]) for pair in _rest())]
    for row in rows:
        assert (row.state, row.stimulus) not in table, row
        table[row.state, row.stimulus] = row
    return table


TABLE: dict[tuple[TcpState, Stimulus], Row] = _build()
"""One row for each of the 11 x 12 pairs."""


def step(state: TcpState, stimulus: Stimulus, *, passive: bool) -> TcpState:
    """The state after the stimulus. Raises `IllegalStimulusError` where it cannot occur."""
    row = TABLE[state, stimulus]
    if row.outcome is Outcome.ILLEGAL:
        raise IllegalStimulusError(row)
    return row.next_state(passive=passive)


@lru_cache(maxsize=1)
def edges() -> dict[tuple[TcpState, TcpState], tuple[Row, ...]]:
    """Every edge (before, after) that can happen on Linux, with the rows that make it."""
    found: dict[tuple[TcpState, TcpState], list[Row]] = {}
    for row in TABLE.values():
        if row.outcome is not Outcome.MOVES or not row.linux:
            continue
        for after in {row.next_state(passive=True), row.next_state(passive=False)}:
            if after is not row.state:
                found.setdefault((row.state, after), []).append(row)
    return {edge: tuple(rows) for edge, rows in found.items()}


@lru_cache(maxsize=256)
def paths_between(before: TcpState, after: TcpState) -> tuple[tuple[TcpState, ...], ...]:
    """The shortest ways from ``before`` to ``after``, as the states in between.

    () where there is none.
    TIME-WAIT is never in between: it lasts too long to be overlooked, and what follows it is
    another connection. Nor are CLOSED and LISTEN, which end or begin one.
    """
    if (before, after) in edges():
        return ((),)
    ends = (TcpState.CLOSED, TcpState.LISTEN, TcpState.TIME_WAIT)
    frontier: list[tuple[TcpState, ...]] = [()]
    for _ in range(len(TcpState)):
        longer: list[tuple[TcpState, ...]] = []
        for way in frontier:
            last = way[-1] if way else before
            longer += [
                (*way, there)
                for (here, there) in edges()
                if here is last and there not in way and there not in ends and there is not before
            ]
        complete = tuple(way for way in longer if (way[-1], after) in edges())
        if complete:
            return complete
        frontier = longer
    return ()


@lru_cache(maxsize=256)
def silent_moves(states: frozenset[TcpState]) -> frozenset[TcpState]:
    """Where a timer or a call can take an end while no segment shows it.

    A call that sends nothing; and CLOSE, whose FIN waits until all data before it are sent
    (RFC 9293 3.10.4): behind a closed window, for ever.
    """
    return frozenset(
        after
        for (before, after), rows in edges().items()
        for row in rows
        if before in states and _is_silent(row)
    )


def _is_silent(row: Row) -> bool:
    if row.stimulus.kind is Kind.CALL:
        return not row.sends or row.stimulus is Stimulus.CLOSE
    return row.stimulus.kind is Kind.TIMER


@lru_cache(maxsize=256)
def reachable(states: frozenset[TcpState]) -> frozenset[TcpState]:
    """All states that a connection in one of ``states`` can be in later, these included."""
    found = set(states)
    while True:
        more = {after for before, after in edges() if before in found} - found
        if not more:
            return frozenset(found)
        found |= more
