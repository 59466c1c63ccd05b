"""A run told by hand, as a session would hand it to the views: no machine takes part."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tcpwatch.model.events import (
    CALLS,
    KERNEL,
    PLAY,
    TABLE,
    WIRE,
    CallPhase,
    Event,
    Fate,
    Measured,
    Payload,
    Point,
    ProcessChange,
    ProcessChanged,
    SegmentFate,
    SegmentSeen,
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
    Expectation,
    Finding,
    Happening,
    Judged,
    Move,
    RunRecord,
    SegmentTrace,
    Timeline,
    Transition,
    Verdict,
)
from tcpwatch.tcp.segment import Flags, Segment
from tcpwatch.tcp.seq import SeqNumber
from tcpwatch.tcp.state import TcpState

ALL = (KERNEL, TABLE, WIRE)
BLIND = (TABLE, WIRE)  # TIME-WAIT, which the kernel's tracepoint cannot see
_ISN = {"client": 4_294_967_290, "server": 1_000_000}  # the client's numbers wrap
_OTHER = {"client": "server", "server": "client"}
_ORDER = {Point.SENT: 0, Point.DELIVERED: 1}


class Story:
    """One run, told in order of time; times are milliseconds from its start."""

    def __init__(
        self,
        scenario: str,
        claim: str,
        client: str = "10.77.0.1:40000",
        server: str = "10.77.0.2:7000",
    ) -> None:
        self.scenario = scenario
        self.claim = claim
        self.addresses = {
            "client": SocketAddress.parse(client),
            "server": SocketAddress.parse(server),
        }
        self.expectations: list[Expectation] = []
        self.findings: list[Finding] = []
        self.verdict = Verdict.PASS
        self.reasons: tuple[str, ...] = ()
        self.end_ms = 300.0
        self.number = 1
        self._states = {
            "client": Belief.of(TcpState.CLOSED),
            "server": Belief.of(TcpState.LISTEN),
        }
        self._initial = dict(self._states)
        self._transitions: dict[str, list[Transition]] = {"client": [], "server": []}
        self._next = {"client": 0, "server": 0}
        self._heard = {"client": 0, "server": 0}
        self._traces: dict[int, SegmentTrace] = {}
        self._past: list[Connection] = []
        self._told: list[tuple[int, Happening]] = []
        self._calls = 0
        self._pids: dict[tuple[str, str], int] = {}

    def call(
        self,
        t_ms: float,
        role: str,
        name: str,
        arguments: str = "",
        *,
        returns_ms: float | None = None,
        result: int | str | None = None,
        errno: str | None = None,
        process: str | None = None,
        connected: bool = True,
        returns: bool = True,
    ) -> None:
        """A call and its return (by default 50 us later)."""
        self._calls += 1
        called = UserCall(
            self._calls,
            CallPhase.CALLED,
            self.pid(role, process or role),
            process or role,
            name,
            arguments,
            self.addresses[role],
            self.addresses[_OTHER[role]] if connected else None,
        )
        back = replace(called, phase=CallPhase.RETURNED, result=result, errno=errno)
        self._tell(t_ms, called, role, CALLS)
        if returns:
            self._tell(t_ms + 0.05 if returns_ms is None else returns_ms, back, role, CALLS)

    def pid(self, role: str, process: str) -> int:
        """Each process has its own, from 4711 in the order of appearance."""
        return self._pids.setdefault((role, process), 4711 + len(self._pids))

    def process(
        self, t_ms: float, role: str, change: ProcessChange, process: str = "", **more: Any
    ) -> None:
        """A process's change."""
        name = process or role
        changed = replace(ProcessChanged(self.pid(role, name), name, change), **more)
        self._tell(t_ms, changed, role, CALLS)

    def segment(
        self,
        sent_ms: float,
        sender: str,
        letters: str,
        length: int = 0,
        *,
        arrives_ms: float | None = None,
        fates: tuple[tuple[float, Fate], ...] = (),
        again: int | None = None,
        ack: int | None = None,
        injected: bool = False,
    ) -> int:
        """A segment, where and when it was seen; ``again`` is the number of the one it repeats."""
        n = len(self._traces) + 1
        flags = Flags.from_letters(letters)
        seq = self._traces[again].seq if again else self._next[sender]
        other = _OTHER[sender]
        heard = self._heard[sender] if ack is None else ack
        segment = Segment(
            SeqNumber(_ISN[sender] + seq),
            SeqNumber(_ISN[other] + heard) if flags & Flags.ACK else None,
            flags,
            payload_len=length,
        )
        if not again and not injected:
            self._next[sender] = seq + segment.seg_len
        if arrives_ms is not None:
            self._heard[other] = max(self._heard[other], seq + segment.seg_len)
        dropped = any(fate is Fate.DROPPED for _, fate in fates)
        trace = SegmentTrace(
            n,
            sender,
            segment,
            seq,
            heard if flags & Flags.ACK else None,
            _ns(sent_ms),
            None if arrives_ms is None else _ns(arrives_ms),
            "dropped" if dropped else "lost" if arrives_ms is None else "delivered",
            injected=injected,
            retransmission=again is not None,
            marks=tuple((_ns(t_ms), fate) for t_ms, fate in fates),
        )
        self._traces[n] = trace
        seen = SegmentSeen(
            n, Point.SENT, self.addresses[sender], self.addresses[other], segment, injected
        )
        young = replace(trace, delivered_ns=None, fate="lost", marks=())
        self._tell(sent_ms, seen, sender, WIRE, young)
        for t_ms, fate in fates:
            self._tell(t_ms, SegmentFate(n, fate), sender, WIRE, young)
        if arrives_ms is not None:
            self._tell(arrives_ms, replace(seen, point=Point.DELIVERED), other, WIRE, trace)
        return n

    def copy(self, n: int, t_ms: float, arrives_ms: float) -> None:
        """The wire duplicates a segment; the copy has a number of its own."""
        trace, number = self._traces[n], len(self._traces) + 1
        self._traces[number] = replace(trace, n=number, sent_ns=None, delivered_ns=_ns(arrives_ms))
        self._traces[n] = replace(trace, fate="duplicated")
        other = _OTHER[trace.sender]
        duplicated = SegmentFate(n, Fate.DUPLICATED, number)
        self._tell(t_ms, duplicated, trace.sender, WIRE, trace)
        seen = SegmentSeen(
            number,
            Point.DELIVERED,
            self.addresses[trace.sender],
            self.addresses[other],
            trace.segment,
        )
        self._tell(arrives_ms, seen, other, WIRE, self._traces[number])

    def move(
        self,
        t_ms: float,
        role: str,
        after: str,
        cause: str,
        segment: int | None = None,
        witnesses: tuple[str, ...] = ALL,
        basis: Basis = Basis.REPORTED,
    ) -> None:
        """A state change; ``after`` may be ``A or B``."""
        belief = Belief.of(*(TcpState.parse(name) for name in after.split(" or ")))
        before, self._states[role] = self._states[role], belief
        blind = {
            KERNEL: "cannot see TIME-WAIT",
            TABLE: "shorter than its polling interval",
            WIRE: "no segment shows it",
        }
        if after != "TIME-WAIT":
            blind[KERNEL] = "a request socket emits no event"
        hidden = tuple((name, blind[name]) for name in ALL if name not in witnesses)
        transition = Transition(
            before, belief, _ns(t_ms), cause, basis, witnesses, (), segment, hidden
        )
        self._transitions[role].append(transition)
        local, remote = self.addresses[role], self.addresses[_OTHER[role]]
        state, old = next(iter(belief.states)), next(iter(before.states))
        payload: Payload
        if KERNEL in witnesses:
            payload, source = StateReported(0xBEEF, local, remote, old, state, 1), KERNEL
        else:
            payload, source = SocketSampled(local, remote, state, _ns(t_ms) - 1000), TABLE
        self._tell(t_ms, payload, role, source, moves=(Move(self.number, role, transition),))

    def handshake(self, t_ms: float = 0, latency_ms: float = 20) -> None:
        """The server listens, the client connects."""
        there, back = t_ms + latency_ms, t_ms + 2 * latency_ms
        self.call(t_ms, "client", "socket")
        self.call(t_ms + 0.1, "client", "connect", "10.77.0.2:7000", returns_ms=back + 0.3)
        self.move(t_ms + 0.2, "client", "SYN-SENT", "connect()", len(self._traces) + 1)
        syn = self.segment(t_ms + 0.25, "client", "S", arrives_ms=there)
        self.move(there + 0.01, "server", "SYN-RECEIVED", "SYN received", syn, BLIND)
        syn_ack = self.segment(there + 0.1, "server", "SA", arrives_ms=back)
        self.move(back + 0.01, "client", "ESTABLISHED", "SYN,ACK received", syn_ack)
        ack = self.segment(back + 0.1, "client", "A", arrives_ms=back + latency_ms)
        self.move(back + latency_ms + 0.01, "server", "ESTABLISHED", "ACK of SYN received", ack)

    def another_connection(self, client: str) -> None:
        """What follows is of a new connection from that address."""
        self._past.append(self.connection())
        self.number += 1
        self.addresses["client"] = SocketAddress.parse(client)
        self._states = dict(self._initial)
        self._transitions = {"client": [], "server": []}
        self._next = {"client": 0, "server": 0}
        self._heard = {"client": 0, "server": 0}

    def measured(self, t_ms: float, what: str, value: int | str, case: str = "") -> None:
        """What the play has looked at."""
        self._tell(t_ms, Measured(what, value, case), None, PLAY)

    def tell(self, t_ms: float, payload: Payload, source: str = WIRE) -> None:
        """Anything else, of no end."""
        self._tell(t_ms, payload, None, source)

    def happenings(self) -> list[Happening]:
        """All that happened, in order of time, the events numbered."""
        ordered = sorted(self._told, key=lambda told: told[0])
        return [
            replace(happening, event=replace(happening.event, id=index))
            for index, (_, happening) in enumerate(ordered, start=1)
        ]

    def record(self) -> RunRecord:
        """What the run was."""
        return RunRecord(
            self.scenario,
            self.claim,
            {
                "kind": "namespace",
                "privilege": "root",
                "kernel": "6.18.44",
                "ip": 4,
                "latency_ms": 20,
                "started_unix_ns": 1_750_000_000_123_456_789,
            },
            tuple({"name": name, "available": True, "detail": "", "lost": 0} for name in ALL),
            {expectation.endpoint: expectation.pattern for expectation in self.expectations},
            {address.ip: role for role, address in self.addresses.items()},
            end_ns=_ns(self.end_ms),
        )

    def judged(self) -> Judged:
        """The finished run."""
        events = tuple(happening.event for happening in self.happenings())
        timeline = Timeline(
            (*self._past, self.connection()), events, tuple(self.findings), _ns(self.end_ms)
        )
        return Judged(self.record(), timeline, self.verdict, self.reasons, tuple(self.expectations))

    def connection(self) -> Connection:
        client, server = self.addresses["client"], self.addresses["server"]
        known = {trace.n for connection in self._past for trace in connection.segments}
        return Connection(
            self.number,
            ConnectionId(FourTuple(client, server)),
            (self._endpoint("client"), self._endpoint("server")),
            tuple(trace for n, trace in self._traces.items() if n not in known),
        )

    def _endpoint(self, role: str) -> Endpoint:
        return Endpoint(
            role, self.addresses[role], self._initial[role], tuple(self._transitions[role])
        )

    def _tell(
        self,
        t_ms: float,
        payload: Payload,
        role: str | None,
        source: str,
        trace: SegmentTrace | None = None,
        moves: tuple[Move, ...] = (),
    ) -> None:
        event = Event(0, _ns(t_ms), Vantage(source, role), payload)
        number = None if source == CALLS or role is None else self.number
        self._told.append((_ns(t_ms), Happening(event, number, role, trace, moves)))


def _ns(t_ms: float) -> int:
    return round(t_ms * 1_000_000)
