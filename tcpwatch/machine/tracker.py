"""From events to connections: which one an event belongs to, what it claims, what came of it.

Owns: the demultiplexing (tuples, generations, sockets), the translation of each witness's events
into claims, and the causes. One tracker serves live runs, replays and hosts alike.
No clock and no I/O: the same events in the same order give the same timeline, to the byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import assert_never

from tcpwatch.machine.causes import Causes
from tcpwatch.machine.endpoint import InferredEndpoint, Observed
from tcpwatch.machine.kernel_report import KernelReports, Report
from tcpwatch.machine.midstream import (
    MidstreamEndpoint,
    may_have_answered,
    may_have_closed,
    may_have_got_more,
)
from tcpwatch.machine.reconcile import Claim, History
from tcpwatch.machine.sides import SideTrack
from tcpwatch.machine.stimulus import Stimulus
from tcpwatch.machine.tracks import ConnectionTrack, SegmentTrack
from tcpwatch.machine.witnessing import is_settled
from tcpwatch.model.events import (
    KERNEL,
    TABLE,
    WIRE,
    CallPhase,
    Event,
    Gap,
    KernelNoted,
    MalformedSeen,
    Measured,
    Point,
    ProcessChanged,
    SegmentFate,
    SegmentSeen,
    SocketSampled,
    StateReported,
    UserCall,
)
from tcpwatch.model.identity import FourTuple, SocketAddress
from tcpwatch.model.timeline import Basis, Belief, Happening, Move, Timeline
from tcpwatch.tcp.segment import Segment
from tcpwatch.tcp.state import TcpState

_OPENING = frozenset({TcpState.SYN_SENT, TcpState.SYN_RECEIVED})
_UNBORN = frozenset({TcpState.CLOSED, TcpState.LISTEN})


class Tracker:
    """Takes events in order of time; gives what each brought, and the timeline at any moment.

    ``roles`` maps an IP address, or ADDRESS:PORT, to the role of the end there; without it the
    roles are active and passive. ``attending`` are the witnesses that are there to see.
    ``loopback``: the wire sees also what stays within its host. ``of_host``: connections may have
    been there before anybody looked, as a ``since_ns`` below 0 says.
    """

    def __init__(
        self,
        *,
        roles: Mapping[str, str] | None = None,
        attending: Iterable[str],
        newborn_only: bool = False,
        loopback: bool = False,
        of_host: bool = False,
    ) -> None:
        self._loopback = loopback
        self._roles = dict(roles or {})
        self._attending = frozenset(attending)
        self._of_host = of_host
        self._events: list[Event] = []
        self._connections: list[ConnectionTrack] = []
        self._by_tuple: dict[FourTuple, ConnectionTrack] = {}
        self._by_segment: dict[int, tuple[ConnectionTrack, SegmentTrack]] = {}
        self._listening: set[int] = set()
        self._kernel = KernelReports(newborn_only)
        self._causes = Causes()

    # ------------------------------------------------------------------ in

    def feed(self, event: Event) -> Happening:
        """Takes one event. It must not be earlier than those before it, but for latecomers."""
        self._events.append(event)
        match event.payload:
            case SegmentSeen():
                return self._segment(event, event.payload)
            case SegmentFate():
                return self._fate(event, event.payload)
            case StateReported():
                return self._reported(event, event.payload)
            case SocketSampled():
                return self._sampled(event, event.payload)
            case UserCall() | ProcessChanged():
                self._causes.note(event)
                return self._call(event)
            case Gap():
                return self._gap(event)
            case KernelNoted() | MalformedSeen() | Measured():
                return Happening(event)
            case _ as never:
                assert_never(never)

    def _segment(self, event: Event, seen: SegmentSeen) -> Happening:
        original = None if seen.copy_of is None else self._by_segment.get(seen.copy_of)
        if original is not None:
            return self._seen_again(event, seen, *original)
        sender = FourTuple(seen.src, seen.dst)
        known = self._by_segment.get(seen.n)
        connection = known[0] if known else self._connection_of_segment(sender, seen, event.t_ns)
        if connection is None:
            return Happening(event)
        trace = known[1] if known else connection.trace(sender, seen)
        self._by_segment[seen.n] = (connection, trace)
        moves: list[Move] = []
        source, target = connection.side(seen.src), connection.side(seen.dst)
        role = source.role
        target.at_home |= seen.point is not Point.MIDWAY
        if seen.point is not Point.DELIVERED:
            trace.sent_ns, trace.raw = event.t_ns, seen.raw
            if not seen.injected:
                for arrived in source.arrived_before(seen.segment):
                    moves += self._arrive(event, connection, source, arrived.n, arrived.segment)
                source.spoke_ns = event.t_ns
                told = len(source.history.steps)
                observed = source.sent(seen.segment, seen.n)
                withdrawn = len(source.history.steps) < told
                trace.retransmission = observed.retransmission
                moves += self._inferred(event, connection, source, observed, seen.n)
                if withdrawn and not moves:  # what was told is not so
                    open_end = source.open_end(self._attending)
                    moves += [Move(connection.number, source.role, open_end)] if open_end else []
                moves += self._missed(event, connection, source, target, seen)
        if seen.point is Point.MIDWAY:
            trace.midway = True
            target.sees_coming(seen.n, seen.segment, event)
        elif seen.point is Point.DELIVERED:
            role = target.role
            moves += self._arrive(event, connection, target, seen.n, seen.segment)
        return Happening(event, connection.number, role, connection.frozen(trace), tuple(moves))

    def _seen_again(
        self, event: Event, seen: SegmentSeen, connection: ConnectionTrack, trace: SegmentTrack
    ) -> Happening:
        """A capture shows a segment at a second place on its way, which is no second segment."""
        again = connection.copy(trace, seen.n)
        again.sent_ns, again.midway, again.raw, again.cut = event.t_ns, True, seen.raw, seen.cut
        self._by_segment[seen.n] = (connection, again)
        frozen = connection.frozen(again)
        return Happening(event, connection.number, frozen.sender, frozen)

    def _missed(
        self,
        event: Event,
        connection: ConnectionTrack,
        source: SideTrack,
        target: SideTrack,
        seen: SegmentSeen,
    ) -> list[Move]:
        """``source`` may acknowledge what ``target`` was not seen to send.

        Where all that it sent was seen, and it is known, the acknowledgement is false.
        """
        if target.at_home or source is target:
            return []
        answered = may_have_answered(target.inferred, seen.segment)
        if answered is not None and source.inferred.seq.iss is not None:
            return self._inferred(event, connection, target, answered, seen.n)
        closed = may_have_closed(target.inferred, seen.segment)
        if closed is None:
            return []
        moves = self._inferred(event, connection, target, closed, seen.n)
        if isinstance(source.inferred, MidstreamEndpoint):
            return moves  # that knows already
        got = may_have_got_more(source.inferred)
        return moves + self._inferred(event, connection, source, got, seen.n)

    def _arrive(
        self, event: Event, connection: ConnectionTrack, target: SideTrack, n: int, segment: Segment
    ) -> list[Move]:
        """Segment ``n`` has arrived, as ``event`` tells."""
        self._by_segment[n][1].delivered_ns = event.t_ns
        observed = target.got(segment, n)
        if segment.syn:
            target.peer_syn = n
        return self._inferred(event, connection, target, observed, n)

    def _fate(self, event: Event, fate: SegmentFate) -> Happening:
        known = self._by_segment.get(fate.n)
        if known is None:
            return Happening(event)
        connection, trace = known
        trace.marks.append((event.t_ns, fate.fate))
        if fate.copy is not None:
            self._by_segment[fate.copy] = (connection, connection.copy(trace, fate.copy))
        frozen = connection.frozen(trace)
        return Happening(event, connection.number, frozen.sender, frozen)

    def _reported(self, event: Event, reported: StateReported) -> Happening:
        moves: list[Move] = []
        number = role = None
        for report in self._kernel.read(event, reported):
            connection = self._connection_of_report(report)
            side = connection.side(report.four_tuple.local)
            number, role = connection.number, side.role
            if report.opens and report.before not in _UNBORN:
                self._find(side, report.before, report.t_ns)
            claim = Claim(
                KERNEL,
                report.after,
                report.t_ns,
                report.event,
                Basis.REPORTED,
                before=frozenset({report.before}) if report.opens else None,
            )
            moves += self._admit(connection, side, claim)
        return Happening(event, number, role, moves=tuple(moves))

    def _sampled(self, event: Event, sample: SocketSampled) -> Happening:
        if sample.remote.port == 0:  # a listener is no connection, but tells whom one calls
            self._listening.add(sample.local.port)
            return Happening(event)
        four_tuple = FourTuple(sample.local, sample.remote)
        connection = self._connection_of_sample(four_tuple, sample, event.t_ns)
        if connection is None:
            return Happening(event)
        side = connection.side(sample.local)
        state = sample.state
        if side.history.cursor(TABLE) < 0:
            for before in connection.earlier_lives(sample.local, sample.since_ns):
                before.history = before.history.passed_over(TABLE, sample.since_ns)
        if state is not None and sample.since_ns < 0:
            self._find(side, state, event.t_ns)
        states = self._gone(side) if state is None else frozenset({state})
        claim = Claim(
            TABLE,
            states,
            event.t_ns,
            event.id,
            Basis.REPORTED,
            since_ns=sample.since_ns,
        )
        moves = self._admit(connection, side, claim)
        return Happening(event, connection.number, side.role, moves=tuple(moves))

    def _find(self, side: SideTrack, state: TcpState, t_ns: int) -> None:
        """An end of a host was in that state before anybody looked: there its path begins."""
        if self._of_host and not side.history.cursors and len(side.history.steps) == 1:
            side.history = History.begin(frozenset({state}), t_ns)

    def _gone(self, side: SideTrack) -> frozenset[TcpState]:
        """What it means that the table has it no more. A RST to a listener tells, on the wire."""
        left = side.history.left_by(TABLE)
        told = len(left) > 1 and WIRE in side.able(self._attending)
        return frozenset({TcpState.CLOSED}) if told else left

    def _call(self, event: Event) -> Happening:
        call = event.payload
        if not (isinstance(call, UserCall) and call.local and call.remote):
            return Happening(event, None, event.vantage.side)
        connection = self._by_tuple.get(FourTuple(call.local, call.remote))
        if connection is None:
            return Happening(event, None, event.vantage.side)
        moves: list[Move] = []
        if call.call == "accept" and call.phase is CallPhase.RETURNED and call.errno is None:
            side = connection.side(call.local)
            moves = self._inferred(event, connection, side, side.inferred.accepted(), 0)
        return Happening(event, connection.number, event.vantage.side, moves=tuple(moves))

    def _gap(self, event: Event) -> Happening:
        """A witness that lost evidence no longer counts; where it was the last, belief widens."""
        source = event.vantage.source
        self._attending -= {source}
        moves: list[Move] = []
        for connection in self._connections:
            for side in connection.sides:
                if source == WIRE:
                    side.lose()
                if not self._attending:
                    before = side.history
                    side.history = before.widened(event.t_ns, event.id)
                    moves += self._moves(connection, side, before, event.t_ns)
        return Happening(event, moves=tuple(moves))

    # ------------------------------------------------------------------ whose is it?

    def _connection_of_segment(
        self, sender: FourTuple, seen: SegmentSeen, t_ns: int
    ) -> ConnectionTrack | None:
        connection = self._by_tuple.get(sender)
        if connection is None:
            return None if seen.injected else self._open_by_segment(sender, seen, t_ns)
        beside = self._by_tuple[sender.flipped]
        if beside is not connection:
            return self._of_both(sender, seen.segment, connection, beside)
        if seen.segment.syn and seen.segment.ack is None and not seen.injected:
            called = connection.side(seen.dst)
            another = connection.side(seen.src).inferred.seq.iss not in (None, seen.segment.seq)
            # While the other end still holds the old connection, a SYN only draws a challenge.
            # Its own end shows by it that it has none, or the SYN is forged.
            underway = connection.is_reset_underway(seen.src)
            if another and (called.may_rest or underway):
                anew = self._open_by_segment(sender, seen, t_ns)
                anew.called = connection.cede(seen.src, seen.segment)
                if underway and not called.may_rest:
                    self._by_tuple[sender.flipped] = connection
                return anew
        return connection

    def _of_both(
        self, sender: FourTuple, segment: Segment, own: ConnectionTrack, other: ConnectionTrack
    ) -> ConnectionTrack:
        """One end has a newer connection than the other, which still holds the earlier one."""
        if own.id.generation > other.id.generation:
            return other if segment.rst else own  # what the other end asks about is none of its own
        caller, held = other.side(sender.remote).inferred.seq, own.side(sender.local)
        answers = segment.ack is not None and segment.ack == caller.snd_nxt
        if segment.syn or answers or held.may_rest:
            self._by_tuple[sender] = other
            return other
        return own

    def _connection_of_report(self, report: Report) -> ConnectionTrack:
        connection = self._by_tuple.get(report.four_tuple)
        if connection is None:
            return self._open_by_state(report.four_tuple, report.after, report.t_ns)
        spoken = connection.side(report.four_tuple.local).history.cursor(KERNEL) >= 0
        if report.opens and spoken and report.after <= _OPENING:
            return self._next_by_state(report.four_tuple, report.after, report.t_ns)
        return connection

    def _connection_of_sample(
        self, four_tuple: FourTuple, sample: SocketSampled, t_ns: int
    ) -> ConnectionTrack | None:
        connection = self._by_tuple.get(four_tuple)
        if sample.state is None:
            return None if connection is None else _gone_of(connection, sample.local)
        states = frozenset({sample.state})
        if connection is None:
            return self._open_by_state(four_tuple, states, t_ns)
        history = connection.side(four_tuple.local).history
        cursor = history.cursor(TABLE)
        if states <= _OPENING and cursor > 0 and not history.steps[cursor].states <= _OPENING:
            return self._next_by_state(four_tuple, states, t_ns)
        return connection

    def _open_by_segment(self, sender: FourTuple, seen: SegmentSeen, t_ns: int) -> ConnectionTrack:
        """A connection first heard of by a segment: from its beginning only where that is a SYN."""
        midway = MidstreamEndpoint.unknown()
        if not seen.segment.syn or seen.segment.ack is not None:
            opener = sender.flipped if seen.segment.syn else sender
            return self._open(opener, t_ns, (midway, midway))
        # What arrives and was not seen to leave may have left long ago.
        caller = midway if seen.point is Point.DELIVERED else InferredEndpoint()
        peer = InferredEndpoint()
        if WIRE not in self._attending:  # a SYN of the peer's may be among what was lost
            peer = InferredEndpoint(peer.states | {TcpState.SYN_SENT})
        return self._open(sender, t_ns, (caller, peer))

    def _next_by_state(
        self, four_tuple: FourTuple, states: frozenset[TcpState], t_ns: int
    ) -> ConnectionTrack:
        """The tuple's next connection at one end; the other may have it, or hold the earlier."""
        earlier, beside = self._by_tuple[four_tuple], self._by_tuple[four_tuple.flipped]
        if beside.id.generation > earlier.id.generation:
            self._by_tuple[four_tuple] = beside
            return beside
        connection = self._open_by_state(four_tuple, states, t_ns)
        other = earlier.side(four_tuple.remote)
        if other.four_tuple != four_tuple and not other.rests:
            self._by_tuple[four_tuple.flipped] = earlier
        return connection

    def _open_by_state(
        self, four_tuple: FourTuple, states: frozenset[TcpState], t_ns: int
    ) -> ConnectionTrack:
        """A connection first heard of by one end's state; SYN-RECEIVED was called, not calling.

        So was, in any other, who has the port of a listener: only one of the ends.
        """
        local, remote = four_tuple.local.port, four_tuple.remote.port
        listens = local in self._listening and remote not in self._listening
        passive = states == {TcpState.SYN_RECEIVED} or (listens and states != {TcpState.SYN_SENT})
        return self._open(four_tuple.flipped if passive else four_tuple, t_ns)

    def _open(
        self,
        opener: FourTuple,
        t_ns: int,
        beginnings: tuple[InferredEndpoint, InferredEndpoint] | None = None,
    ) -> ConnectionTrack:
        connection = ConnectionTrack.begin(
            len(self._connections) + 1,
            opener,
            self._roles,
            t_ns,
            beginnings or (InferredEndpoint(), InferredEndpoint()),
            earlier=self._by_tuple.get(opener),
            loopback=self._loopback,
        )
        self._connections.append(connection)
        self._by_tuple[opener] = self._by_tuple[opener.flipped] = connection
        return connection

    # ------------------------------------------------------------------ claims

    def _inferred(
        self, event: Event, connection: ConnectionTrack, side: SideTrack, observed: Observed, n: int
    ) -> list[Move]:
        since = side.history
        side.inferred = observed.endpoint
        side.history = since.settle(WIRE, observed.shown)
        moves = self._moves(connection, side, since, event.t_ns)
        for step in observed.steps:
            answer_to = side.peer_syn if step.stimulus is Stimulus.SYN else None
            claim = Claim(
                WIRE,
                step.after,
                event.t_ns,
                event.id,
                Basis.INFERRED,
                cause=self._causes.of_stimulus(step.stimulus, side, event.t_ns),
                segment=answer_to or n,
                before=step.before,
                gap=step.gap,
                definite=step.definite,
            )
            if side.history.outlived_by(claim):
                # It arrived where nobody was any more: a timer, or a call that sends nothing.
                side.inferred = side.inferred.gone()
                break
            moves += self._admit(connection, side, claim)
        if not observed.steps:
            side.history = side.history.settle(WIRE, observed.endpoint.states)
        return moves

    def _admit(self, connection: ConnectionTrack, side: SideTrack, claim: Claim) -> list[Move]:
        before = side.history
        alone = side.able(self._attending) <= {TABLE}
        side.history = before.admit(claim, alone=alone, fast=side.is_local)
        since_ns = claim.t_ns if claim.since_ns is None else claim.since_ns
        return self._moves(connection, side, before, since_ns)

    def _moves(
        self, connection: ConnectionTrack, side: SideTrack, before: History, since_ns: int
    ) -> list[Move]:
        """The transitions that ``side`` has now and had not before.

        Made at ``since_ns`` or later.
        """
        moves = []
        for index in range(1, len(side.history.steps)):
            step = side.history.steps[index]
            if index < len(before.steps) and before.steps[index].states == step.states:
                continue
            if not step.cause:
                side.history = side.history.with_cause(
                    index,
                    self._causes.of_edge(side, index, side.able(self._attending), since_ns),
                )
            moves.append(
                Move(connection.number, side.role, side.transition(index, self._attending, None))
            )
        return moves

    # ------------------------------------------------------------------ out

    @property
    def attending(self) -> frozenset[str]:
        """The witnesses that are there and have lost nothing."""
        return self._attending

    def state(self, role: str, number: int | None = None) -> Belief | None:
        """The present belief of that role's end in connection ``number`` (None: the latest)."""
        side = self._side(role, number)
        if side is None:
            return None
        open_end = side.open_end(self._attending)
        return open_end.after if open_end else Belief(side.history.last.states)

    def doubt(self, role: str, number: int | None = None) -> str | None:
        """Why that end's state is unknown, or may be; None where it is not."""
        if not self._attending:
            return "no witness is there to see"
        side = self._side(role, number)
        if side is None and self._attending == {WIRE}:
            return "the wire alone sees nothing that stays within its host"
        if side is not None and side.open_end(self._attending) is not None:
            return f"{' and '.join(sorted(self._attending))} alone cannot tell"
        return None

    def is_hopeless(self, role: str, number: int | None = None) -> bool:
        """Whether it stays unknown however long one waits: a segment may yet tell the wire."""
        return WIRE not in self._attending and self.doubt(role, number) is not None

    def _side(self, role: str, number: int | None) -> SideTrack | None:
        for connection in reversed(self._connections):
            if number in (None, connection.number):
                for side in connection.sides:
                    if side.role == role:
                        return side
        return None

    def settled(self) -> bool:
        """Whether every witness has seen all that is known and that it can see."""
        return all(
            is_settled(side.history, witness)
            for connection in self._connections
            for side in connection.sides
            for witness in self._attending
        )

    def timeline(self, end_ns: int) -> Timeline:
        """What is concluded from the events so far, as of ``end_ns``."""
        for connection in self._connections:
            for side in connection.sides:
                side.calls_told = self._causes.knows(side.role)
        connections = tuple(
            connection.freeze(self._attending, end_ns) for connection in self._connections
        )
        findings = tuple(
            finding
            for connection in self._connections
            for finding in connection.findings(self._attending, end_ns)
        )
        return Timeline(connections, tuple(self._events), findings, end_ns)


def _gone_of(latest: ConnectionTrack, local: SocketAddress) -> ConnectionTrack | None:
    """Which of a tuple's lives it was that the table shows no more: the latest that it showed.

    An earlier one may have made way in TIME-WAIT (RFC 6191), which is no step of its own.
    """
    connection = latest
    while connection.earlier and connection.side(local).history.cursor(TABLE) < 0:
        connection = connection.earlier
    closed = connection.side(local).history.last.states == {TcpState.CLOSED}
    return connection if connection is latest or closed else None
