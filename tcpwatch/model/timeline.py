"""The timeline: what a run concluded, frozen. Every view draws from this and from nothing else.

Owns: facts (calls, segments), inferences (transitions with their evidence) and judgements
(findings, verdict) as three different types. Must not know how any of them was reached.
Times are integer nanoseconds from the start of the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tcpwatch.model.events import Event, Fate
from tcpwatch.model.identity import ConnectionId, FourTuple, SocketAddress
from tcpwatch.tcp.segment import Segment
from tcpwatch.tcp.state import TcpState

CAPTURE = "capture"
"""The kind of a lab that nobody made: what was seen of other people's connections."""

COMMAND = "command"
"""Where the lab is a command's, what that was: it need not make any connection."""


@dataclass(frozen=True, slots=True)
class Belief:
    """Every state that is consistent with the evidence: one is certain, none is a contradiction."""

    states: frozenset[TcpState]

    @property
    def certain(self) -> TcpState | None:
        """The state, where there is only one."""
        return next(iter(self.states)) if len(self.states) == 1 else None

    def __str__(self) -> str:
        if not self.states:
            return "contradiction"
        return " or ".join(state.value for state in TcpState if state in self.states)

    @classmethod
    def of(cls, *states: TcpState) -> Belief:
        return cls(frozenset(states))


class Basis(Enum):
    """How a transition is known."""

    REPORTED = "reported"  # a witness saw the socket's state
    INFERRED = "inferred"  # it follows from segments or calls
    ASSUMED = "assumed"  # a silent move that must have happened in between


@dataclass(frozen=True, slots=True)
class Transition:
    """One endpoint left ``before`` for ``after``.

    ``cause`` is a call (``close()``), a segment (``FIN received``) or a timer; ``segment`` is the
    number of the segment that did it or showed it; ``witnesses`` are those that saw it, in the
    order kernel, table, wire; ``evidence`` the ids of their events. ``hidden_from`` maps each
    witness that was there and could not see it to the blind spot that explains it.
    """

    before: Belief
    after: Belief
    t_ns: int
    cause: str
    basis: Basis
    witnesses: tuple[str, ...]
    evidence: tuple[int, ...]
    segment: int | None = None
    hidden_from: tuple[tuple[str, str], ...] = ()
    gap: bool = False  # more may have happened in between than is shown


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One side of a connection.

    ``role`` is client or server in the lab, active or passive elsewhere.
    """

    role: str
    address: SocketAddress
    initial: Belief
    transitions: tuple[Transition, ...]

    @property
    def path(self) -> tuple[Belief, ...]:
        """The states it went through, from the first to the last."""
        return (self.initial, *(transition.after for transition in self.transitions))

    @property
    def state(self) -> Belief:
        """The state it is in at the end of the timeline."""
        return self.path[-1]


@dataclass(frozen=True, slots=True)
class SegmentTrace:
    """One segment's way. ``seq`` and ``ack`` are relative to the first SYN of either end."""

    n: int
    sender: str  # the role it came from; for an injected one, the role it claims to come from
    segment: Segment
    seq: int
    ack: int | None
    sent_ns: int | None
    delivered_ns: int | None
    fate: str  # delivered, dropped, duplicated, lost; unknown of one that a capture saw midway
    injected: bool = False
    retransmission: bool = False
    marks: tuple[tuple[int, Fate], ...] = ()  # what the wire did to it, and when
    raw: bytes = b""
    cut: bool = False  # a capture has not all of its octets
    copy_of: int | None = None  # the wire's copy, or seen once more at another place


@dataclass(frozen=True, slots=True)
class Connection:
    """Both ends and what went between them.

    ``endpoints`` are client then server (active, passive); one alone, where a socket called itself.

    ``by_syn`` are the segments of it for whoever takes each new SYN for another connection's, where
    these are others: a SYN may end an earlier one first, which its peer still has.
    """

    number: int  # from 1, in order of appearance
    id: ConnectionId
    endpoints: tuple[Endpoint, ...]
    segments: tuple[SegmentTrace, ...]
    by_syn: tuple[SegmentTrace, ...] | None = None

    def endpoint(self, four_tuple: FourTuple) -> Endpoint | None:
        """The endpoint whose local address the tuple names."""
        return next((e for e in self.endpoints if e.address == four_tuple.local), None)

    @property
    def complete(self) -> bool:
        """Seen from its first SYN to the end at both sides."""
        first = {TcpState.CLOSED, TcpState.LISTEN}
        last = {TcpState.CLOSED, TcpState.TIME_WAIT, TcpState.LISTEN}
        return all(
            endpoint.initial.states <= first
            and len(endpoint.transitions) > 0
            and endpoint.state.states <= last
            for endpoint in self.endpoints
        )

    @property
    def closed_by(self) -> str | None:
        """The role whose FIN or RST came first, ``both`` when the FINs crossed, None while open."""
        return _closed_by(self)

    @property
    def reset_by(self) -> tuple[str, ...]:
        """The roles that sent a RST, in that order; a FIN may have come first."""
        resets = [t.sender for t in self.segments if t.segment.rst and not t.injected]
        return tuple(dict.fromkeys(resets))

    @property
    def close_reason(self) -> str | None:
        """``fin``, ``rst`` or ``timeout``; None while open."""
        return _close_reason(self)


class Severity(Enum):
    """How much a finding weighs; an ERROR casts doubt on the timeline itself."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """A named oddity.

    Witnesses that disagree beyond their blind spots, a breach of the RFC, a leak.
    """

    code: str  # for example witnesses-disagree
    severity: Severity
    message: str
    connection: int | None = None
    role: str | None = None
    section: str = ""
    evidence: tuple[int, ...] = ()


class Verdict(Enum):
    """PASS and FAIL need evidence.

    INCONCLUSIVE wherever a gap or a blind spot could explain the difference.
    """

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Expectation:
    """What is expected of one end, and whether it was met (None: cannot be told).

    ``asked`` is the demand that it came of, as the user wrote it; empty: a scenario's own.
    """

    endpoint: str
    pattern: str
    met: bool | None
    explanation: str = ""  # where not met: the difference as lines of a diff, the evidence under it
    asked: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """An expectation as it was met, and, where it was not or may not have been, why in a line."""

    expectation: Expectation
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Timeline:
    """All that was concluded from the events so far."""

    connections: tuple[Connection, ...]
    events: tuple[Event, ...]
    findings: tuple[Finding, ...]
    end_ns: int = 0


def _closing_segments(connection: Connection) -> list[SegmentTrace]:
    return [
        trace
        for trace in connection.segments
        if (trace.segment.fin or trace.segment.rst) and not trace.retransmission
    ]


_CLOSED_FIRST = frozenset(
    {TcpState.FIN_WAIT_1, TcpState.FIN_WAIT_2, TcpState.CLOSING, TcpState.TIME_WAIT}
)
_CLOSED_SECOND = frozenset({TcpState.CLOSE_WAIT, TcpState.LAST_ACK})


def _went_through(connection: Connection, states: frozenset[TcpState]) -> list[str]:
    """The roles whose ends were certainly in one of these states."""
    return [
        endpoint.role
        for endpoint in connection.endpoints
        if any(belief.states <= states for belief in endpoint.path)
    ]


def _closed_by_states(connection: Connection) -> str | None:
    """Where no segment was seen: who closes second is in states of its own."""
    first = _went_through(connection, _CLOSED_FIRST)
    second = _went_through(connection, _CLOSED_SECOND)
    first = first or [end.role for end in connection.endpoints if second and end.role not in second]
    return "both" if len(first) > 1 else next(iter(first), None)


def _closed_by(connection: Connection) -> str | None:
    if not connection.segments:
        return _closed_by_states(connection)
    closing = _closing_segments(connection)
    if not closing:
        return None
    first = closing[0]
    answer = next((trace for trace in closing[1:] if trace.sender != first.sender), None)
    crossed = (
        answer is not None
        and first.segment.fin
        and answer.segment.fin
        and answer.sent_ns is not None
        and (first.delivered_ns is None or answer.sent_ns < first.delivered_ns)
    )
    return "both" if crossed else first.sender


def _close_reason(connection: Connection) -> str | None:
    closing = _closing_segments(connection)
    if any(trace.segment.rst for trace in closing):
        return "rst"
    if closing:
        return "fin"
    if not connection.segments:
        causes = {each.cause for end in connection.endpoints for each in end.transitions}
        if any(cause.startswith("RST") for cause in causes):
            return "rst"
        if _went_through(connection, _CLOSED_FIRST | _CLOSED_SECOND):
            return "fin"
    ended = any(
        endpoint.transitions and endpoint.state.certain is TcpState.CLOSED
        for endpoint in connection.endpoints
    )
    return "timeout" if ended else None


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What a run is, beside its events: stands in the head and the foot of a recording.

    ``lab`` and ``sources`` are as in the JSON of the interface; ``expect`` maps a role to its
    pattern; ``problem`` is what stopped the play (None: it ended by itself), ``failed_checks``
    what the play itself found wrong, ``inconclusive`` why the evidence is not enough. What the
    events do not tell and was known when the run ended: ``findings`` (leaks: who held a socket),
    and ``answers`` to what was demanded beside ``expect``.
    """

    scenario: str
    claim: str
    lab: dict[str, object]
    sources: tuple[dict[str, object], ...]
    expect: dict[str, str]
    roles: dict[str, str]  # IP address (or IP:port) -> role
    problem: str | None = None
    failed_checks: tuple[str, ...] = ()
    inconclusive: tuple[str, ...] = ()
    end_ns: int = 0
    findings: tuple[Finding, ...] = ()
    answers: tuple[Answer, ...] = ()


@dataclass(frozen=True, slots=True)
class Move:
    """A transition as it became known, with the endpoint that made it."""

    connection: int
    role: str
    transition: Transition


@dataclass(frozen=True, slots=True)
class Happening:
    """What one event brought: the live views' unit. Happenings come in order of time.

    ``role`` is the end that acted: the sender where a segment was sent, the receiver where it was
    delivered, the host of a call or process. ``segment`` is the trace as known so far.
    """

    event: Event
    connection: int | None = None
    role: str | None = None
    segment: SegmentTrace | None = None
    moves: tuple[Move, ...] = ()


@dataclass(frozen=True, slots=True)
class Judged:
    """A finished run: what it was, what was concluded, and the judgement on it."""

    record: RunRecord
    timeline: Timeline
    verdict: Verdict
    reasons: tuple[str, ...]
    expectations: tuple[Expectation, ...]
