"""One endpoint of a connection, inferred from the segments it sends and receives.

Owns: what turns a segment into a word of stimuli, and the belief that follows. Immutable: each
observation gives a new endpoint. Must not know where a segment was seen, only that this endpoint
sent it or got it. That one may be gone unseen, by a timer or a call, is for who asks to remember
(`table.silent_moves`), and an answering RST tells it afterwards (`was_gone`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tcpwatch.machine.sequences import Sequences
from tcpwatch.machine.stimulus import Stimulus
from tcpwatch.machine.table import TABLE, Outcome, reachable
from tcpwatch.tcp.segment import Segment
from tcpwatch.tcp.state import TcpState

_S = TcpState
_LOWER_EDGE_RESETS = frozenset({_S.CLOSE_WAIT, _S.LAST_ACK, _S.CLOSING})
_CANNOT_SEND = frozenset({_S.CLOSED, _S.LISTEN, _S.SYN_SENT})  # anything without SYN or RST
_SYNCHRONISED = frozenset(TcpState) - _CANNOT_SEND - {_S.SYN_RECEIVED, _S.TIME_WAIT}
_BEFORE_THE_FIN = frozenset({_S.SYN_RECEIVED, _S.ESTABLISHED, _S.FIN_WAIT_1, _S.FIN_WAIT_2})
_FIN_WAITS = frozenset({_S.FIN_WAIT_1, _S.CLOSING, _S.LAST_ACK})  # where a FIN is still to be sent
_OPENERS = {  # by whether it has no ACK: who sends a SYN, and where it is then
    True: (frozenset({_S.CLOSED}), _S.SYN_SENT),
    False: (frozenset({_S.LISTEN, _S.SYN_SENT}), _S.SYN_RECEIVED),
}
_SHOWN_BY = {
    Stimulus.ACTIVE_OPEN: "SYN",
    Stimulus.SYN: "SYN,ACK",
    Stimulus.CLOSE: "FIN",
    Stimulus.ABORT: "RST",
}


@dataclass(frozen=True, slots=True)
class Step:
    """A belief moved: by which stimulus, from which states to which.

    Where ``after`` has what was before too, the segment may have been ignored; not so where it is
    ``definite``. ``gap``: more than this may have happened, unseen.
    """

    before: frozenset[TcpState]
    after: frozenset[TcpState]
    stimulus: Stimulus
    gap: bool = False
    definite: bool = False


@dataclass(frozen=True, slots=True)
class Observed:
    """The endpoint after a segment, the steps it made, and whether the segment was seen before.

    ``shown`` is where the segment shows it to have been before those steps.
    """

    endpoint: InferredEndpoint
    shown: frozenset[TcpState]
    steps: tuple[Step, ...] = ()
    retransmission: bool = False


@dataclass(frozen=True, slots=True)
class InferredEndpoint:
    """What is known of one end. ``states`` is the belief, ``seq`` its sequence bookkeeping.

    ``passive`` is None until it is known which way it opened; ``fast_open``: it took data with the
    SYN (RFC 7413). Once ``lost``, the bookkeeping is worth nothing: only a SYN of its own shows
    where it is.
    """

    states: frozenset[TcpState] = frozenset({_S.CLOSED, _S.LISTEN})
    passive: bool | None = None
    fast_open: bool = False
    seq: Sequences = field(default_factory=Sequences)
    lost: bool = False

    def widened(self) -> InferredEndpoint:
        """After lost evidence: in any state that is reachable from here."""
        return replace(self, states=reachable(self.states), lost=True)

    def gone(self) -> InferredEndpoint:
        """Once another witness saw it end with no segment to show it."""
        return replace(self, states=frozenset({_S.CLOSED}))

    @property
    def _may_ignore_ack(self) -> bool:
        """Whether the ACK of its SYN need not open it.

        Linux: tcp_check_req() in tcp_minisocks.c ignores it while the accept queue is full, and
        without data under TCP_DEFER_ACCEPT. That is a request socket; who called, or took data
        with the SYN, has a full one.
        """
        return self.passive is not False and not self.fast_open and _S.SYN_RECEIVED in self.states

    @property
    def with_unsent_fin(self) -> frozenset[TcpState]:
        """Where it may be, should it have called close() unseen.

        RFC 9293 3.10.4 has the FIN wait behind the data.
        """
        if self.lost or self.seq.fin_seq is not None or not self.seq.may_hold_fin:
            return self.states
        return self.states.union(
            TABLE[state, Stimulus.CLOSE].next_state(passive=True)
            for state in self.states & {_S.ESTABLISHED, _S.CLOSE_WAIT}
        )

    def accepted(self) -> Observed:
        """accept() gave it to a process: it is open, but for a child that took data with its SYN.

        Linux: inet_csk_accept() in inet_connection_sock.c.
        """
        opened = self.states - {_S.SYN_RECEIVED}
        if self.lost or not opened or not self._may_ignore_ack:
            return self._unmoved()
        return Observed(replace(self, states=opened), opened)

    def _unmoved(self) -> Observed:
        return Observed(self, self.states)

    # ------------------------------------------------------------------ what it sends

    def sent(self, segment: Segment) -> Observed:
        """It sent ``segment``: what that shows of its state."""
        if self.lost:
            return self._unmoved() if segment.rst or not segment.syn else self._found_again(segment)
        if segment.rst:
            return self._sent_reset(segment)
        if segment.syn and segment.ack is None and self._is_anothers(segment):
            after = self.states | {_S.CLOSED}
            step = Step(self.states, after, Stimulus.ABORT)
            gone = replace(self, states=after)
            return Observed(gone, self.states, (step,) if after != self.states else ())
        able = self._able_to_send(segment)
        endpoint, word = able.endpoint, list[Stimulus]()
        if segment.syn and self.seq.iss != segment.seq:
            # A SYN,ACK is the proof that a SYN was taken; a full queue drops it silently.
            word.append(Stimulus.SYN if segment.ack is not None else Stimulus.ACTIVE_OPEN)
        if segment.fin and self.seq.fin_seq is None:
            word.append(Stimulus.CLOSE)
        endpoint = replace(endpoint, seq=endpoint.seq.sent(segment))
        acknowledging = endpoint._acknowledging(segment)
        moved = acknowledging.endpoint._show(word)
        steps = (*able.steps, *acknowledging.steps, *moved.steps)
        return Observed(moved.endpoint, able.shown, steps, self.seq.is_repeated(segment))

    def _is_anothers(self, syn: Segment) -> bool:
        """Whether no socket in its state sends this: it is gone, and another has its tuple.

        Or the SYN is forged.
        """
        alive = self.states - {_S.CLOSED}
        return bool(alive) and alive <= _SYNCHRONISED and self.seq.iss not in (None, syn.seq)

    def _able_to_send(self, segment: Segment) -> Observed:
        """The same, without the states in which nobody sends such a segment."""
        if segment.syn:
            if segment.seq != self.seq.iss:
                return self._unmoved()  # an opening
            wanted = _S.SYN_SENT if segment.ack is None else _S.SYN_RECEIVED
            if wanted not in self.states:
                return self._unmoved()
            ignored = self._may_ignore_ack and wanted is _S.SYN_RECEIVED
            seq = self.seq.taken_back() if ignored else self.seq
            only = replace(self, states=frozenset({wanted}), seq=seq)
            return Observed(only, only.states)
        states = self.states - _CANNOT_SEND or self.states
        if self.seq.has_acknowledged_fin(segment):
            states = states - _BEFORE_THE_FIN or states
        endpoint = replace(self, states=states)
        if endpoint._may_ignore_ack and self._needs_a_full_socket(segment):
            opened = states - {_S.SYN_RECEIVED}
            if opened:
                return Observed(replace(self, states=opened), opened)
            return replace(endpoint._apply([Stimulus.ACK_OF_SYN]), shown=states)
        return Observed(endpoint, states)

    def _needs_a_full_socket(self, segment: Segment) -> bool:
        """A request socket sends nothing but SYN,ACK, RST and the bare ACK of the peer's SYN.

        Nor does the socket of a simultaneous open send data before it is open, but it may a FIN.
        """
        irs = self.seq.irs
        beyond = segment.ack is not None and irs is not None and segment.ack > irs + 1
        probes = segment.seq == self.seq.iss  # keepalive's, of what was acknowledged
        fin = segment.fin and self.passive is True
        return beyond or probes or fin or segment.payload_len > 0

    def _found_again(self, segment: Segment) -> Observed:
        """Its SYN tells where it is after lost evidence; it may be one that was sent before."""
        openers, opened = _OPENERS[segment.ack is None]
        able = self.states & openers
        observed = InferredEndpoint(able or openers).sent(segment)
        if not able and opened in self.states:
            return Observed(observed.endpoint, frozenset({opened}))
        before = self.states & (openers | {opened}) or self.states  # else it began anew, unseen
        steps = tuple(replace(step, before=before, gap=not able) for step in observed.steps)
        return replace(observed, shown=self.states, steps=steps)

    def _sent_reset(self, segment: Segment) -> Observed:
        """A RST of its own aborts; one that merely answers a stray segment changes nothing."""
        seq = self.seq
        if seq.iss is None or seq.snd_nxt is None:
            if _S.CLOSED in self.states:
                # No listener: nothing but a closed port answers a SYN by a RST.
                closed = frozenset({_S.CLOSED})
                return Observed(replace(self, states=closed), closed)
            return self._unmoved()
        # Linux: tcp_send_active_reset() has an ACK and, where the window is used up, stands at its
        # edge (tcp_acceptable_seq() in tcp_output.c); a RST without ACK repeats what it answers.
        active = segment.ack is not None and segment.ack == seq.last_ack_sent
        if segment.seq == seq.snd_nxt or (active and seq.iss < segment.seq <= seq.snd_nxt):
            closing = self._perhaps_closing()
            moved = closing.endpoint._show([Stimulus.ABORT])
            return replace(moved, shown=self.states, steps=(*closing.steps, *moved.steps))
        return self._unmoved()

    def _perhaps_closing(self) -> Observed:
        """The same, where its FIN may be waiting."""
        states = self.with_unsent_fin
        steps = (Step(self.states, states, Stimulus.CLOSE),) if states != self.states else ()
        return Observed(replace(self, states=states), self.states, steps)

    def was_gone(self, reset: Segment) -> Observed:
        """``reset`` answers what it seemed to take, before which it was as here.

        It was gone by then; or in SYN-SENT alive, and refused it, for its timestamp say; or in
        FIN-WAIT-1 it took the ACK of its FIN and not the data that came along.
        """
        before, steps = self.states, []
        acknowledged = self.seq.fin_seq is not None and reset.seq > self.seq.fin_seq
        if acknowledged and before == {_S.FIN_WAIT_1}:
            before |= {_S.FIN_WAIT_2}
            steps.append(Step(self.states, before, Stimulus.ACK_OF_FIN))
        refused = before & {_S.SYN_SENT}
        after = refused | {_S.CLOSED}
        steps.append(Step(before, after, Stimulus.ABORT))
        return Observed(replace(self, states=after), self.states, tuple(steps))

    def _acknowledging(self, segment: Segment) -> Observed:
        if segment.ack is None:
            return self._unmoved()
        seq = self.seq.acknowledged(segment.ack)
        endpoint = replace(self, seq=seq)
        if segment.syn and segment.ack > (seq.irs or segment.ack) + 1:
            endpoint = replace(endpoint, fast_open=True)
        if seq.fin_received == self.seq.fin_received:
            return endpoint._unmoved()
        return endpoint._apply([Stimulus.FIN])

    def _show(self, word: list[Stimulus]) -> Observed:
        """Applies calls that a sent segment gives away: only states that send such a one remain."""
        endpoint, steps = self, []
        for stimulus in word:
            moved = {
                state: TABLE[state, stimulus]
                for state in endpoint.states
                if TABLE[state, stimulus].outcome is Outcome.MOVES
                and TABLE[state, stimulus].sends == _SHOWN_BY[stimulus]
                and TABLE[state, stimulus].linux
            }
            if not moved:
                continue
            passive = endpoint.passive
            if stimulus is Stimulus.ACTIVE_OPEN:
                passive = False
            elif stimulus is Stimulus.SYN and passive is None and _S.SYN_SENT not in moved:
                passive = True
            after = frozenset(row.next_state(passive=bool(passive)) for row in moved.values())
            before = frozenset(moved)
            if stimulus is Stimulus.CLOSE:  # close() was called before; its FIN had to wait
                waited = endpoint.states & _FIN_WAITS
                before, after = before | waited, after | waited
            steps.append(Step(before, after, stimulus))
            endpoint = replace(endpoint, states=after, passive=passive)
        return Observed(endpoint, self.states, tuple(steps))

    # ------------------------------------------------------------------ what it receives

    def got(self, segment: Segment) -> Observed:
        """``segment`` arrived at it: RFC 9293 3.10.7, with RFC 5961's rules for RST and SYN."""
        if self.lost:
            return self._unmoved()
        if self.seq.iss is None or self.states <= {_S.CLOSED, _S.LISTEN}:
            # Nothing of ours is out: LISTEN or CLOSED. What a SYN does shows in the answer.
            if segment.syn and not segment.rst and segment.ack is None:
                return replace(self, seq=self.seq.met(segment))._unmoved()
            return self._unmoved()
        if _S.SYN_SENT in self.states and self.seq.irs is None:
            return self._got_in_syn_sent(segment)
        return self._got_synchronised(segment)

    def _got_in_syn_sent(self, segment: Segment) -> Observed:
        """RFC 9293 3.10.7.3."""
        seq = self.seq
        assert seq.iss is not None
        assert seq.snd_nxt is not None
        if segment.ack is not None and not seq.iss < segment.ack <= seq.snd_nxt:
            return self._unmoved()
        if segment.rst:
            word = [Stimulus.RST] if segment.ack is not None else []
            return self._apply(word)
        if not segment.syn:
            return self._unmoved()
        # RFC 9293 would go on with the data and the FIN of such a segment; Linux drops both
        # (tcp_rcv_synsent_state_process() in tcp_input.c), and gets them again.
        # With Fast Open, where our SYN had data, it keeps them, as its acknowledgement then shows.
        fast_open = segment.ack is not None and seq.snd_nxt - seq.iss > 1
        seq = seq.met(segment)
        if segment.fin and fast_open:
            seq = replace(seq, rcv_fin=segment.fin_seq)
        if segment.ack is None:
            return replace(self, seq=seq)._apply([Stimulus.SYN])
        return replace(self, seq=seq.was_acknowledged(segment))._apply([Stimulus.SYN_ACK])

    def _got_synchronised(self, segment: Segment) -> Observed:
        """RFC 9293 3.10.7.4, in its order."""
        seq = self.seq
        assert seq.rcv_nxt is not None
        assert seq.snd_nxt is not None
        assert seq.iss is not None
        floor, edge = seq.window
        if segment.rst:
            return self._got_reset(segment)
        if not (segment.seq <= edge and segment.seq_end >= floor):
            return self._unmoved()
        if segment.syn and segment.seq != seq.irs:
            # In TIME-WAIT only the SYN,ACK shows that it was taken for a new connection (RFC 6191).
            return self._apply([] if _S.TIME_WAIT in self.states else [Stimulus.SYN])
        if segment.syn and _S.SYN_RECEIVED not in self.states:
            # RFC 5961 4.2; Linux: tcp_validate_incoming() in tcp_input.c. Nothing of it counts.
            return self._unmoved()
        if segment.ack is None or segment.ack > seq.snd_nxt:
            return self._unmoved()
        word: list[Stimulus] = []
        if _S.SYN_RECEIVED in self.states:
            if segment.ack <= seq.iss:
                return self._unmoved()
            word.append(Stimulus.ACK_OF_SYN)
        if seq.fin_seq is not None and segment.ack > seq.fin_seq:
            word.append(Stimulus.ACK_OF_FIN)
        taken, fin = seq.was_acknowledged(segment).take(segment)
        if fin or (segment.fin and self._may_ignore_ack and taken.fin_received):
            word.append(Stimulus.FIN)  # the first time, or where the first time was ignored
        return self._accept(word, taken)

    def _accept(self, word: list[Stimulus], taken: Sequences) -> Observed:
        """Applies what an acceptable segment says, with what else may come of it."""
        endpoint = replace(self, seq=taken)
        if self._may_ignore_ack:
            return endpoint._accept_or_ignore(word)
        if Stimulus.FIN not in word:
            return endpoint._apply(word)
        closing = self._perhaps_closing()
        moved = replace(endpoint, states=closing.endpoint.states)._apply(word)
        return replace(moved, shown=self.states, steps=(*closing.steps, *moved.steps))

    def _accept_or_ignore(self, word: list[Stimulus]) -> Observed:
        """Applies what opens it or else is ignored. Once more is a step: it may be this one."""
        endpoint, steps = self, []
        for stimulus in word:
            states = endpoint._apply([stimulus]).endpoint.states | {_S.SYN_RECEIVED}
            steps.append(Step(endpoint.states, states, stimulus))
            endpoint = replace(endpoint, states=states)
        if endpoint.states == self.states:
            steps = [Step(self.states, self.states, word[-1])]
        return Observed(endpoint, self.states, tuple(steps))

    def _got_reset(self, segment: Segment) -> Observed:
        """What a RST does; and where the wire cannot know whether Linux heeds it, both."""
        rcv_nxt, (_, edge) = self.seq.rcv_nxt, self.seq.window
        assert rcv_nxt is not None
        if self._accepts_reset(segment):
            closing = self._perhaps_closing()
            observed = closing.endpoint._apply([Stimulus.RST])
            if _S.TIME_WAIT not in self.states or not observed.steps:
                return replace(observed, shown=self.states, steps=(*closing.steps, *observed.steps))
            # Linux: tcp_rfc1337 decides, in tcp_timewait_state_process() in tcp_minisocks.c.
            (step,) = observed.steps
            after = step.after | {_S.TIME_WAIT}
        elif _S.FIN_WAIT_2 in self.states and rcv_nxt <= segment.seq <= edge:
            # That function also heeds any RST in the window, once close() has made an orphan.
            after = self.states | {_S.CLOSED}
        elif any(segment.seq == end for _, end in self.seq.received):
            # Linux: tcp_validate_incoming() in tcp_input.c, where a SACK told of what came early.
            after = self.states | {_S.CLOSED}
        elif self._may_ignore_ack and rcv_nxt <= segment.seq <= edge:
            after = self.states | {_S.LISTEN}
        else:
            return self._unmoved()
        steps = (Step(self.states, after, Stimulus.RST),) if after != self.states else ()
        return Observed(replace(self, states=after), self.states, steps)

    def _accepts_reset(self, segment: Segment) -> bool:
        """RFC 5961 3.2, with Linux's departures from it."""
        rcv_nxt, (_, edge) = self.seq.rcv_nxt, self.seq.window
        assert rcv_nxt is not None
        if segment.seq == rcv_nxt:
            return True
        if self._may_ignore_ack and self.states == {_S.SYN_RECEIVED}:
            # Linux: tcp_check_req() in tcp_minisocks.c heeds any RST in the window.
            return rcv_nxt <= segment.seq <= edge
        # Linux: tcp_reset_check() in tcp_input.c also takes RCV.NXT - 1, after the peer's FIN.
        return segment.seq + 1 == rcv_nxt and self.states <= _LOWER_EDGE_RESETS

    def _apply(self, word: list[Stimulus]) -> Observed:
        """Applies received stimuli one by one; states in which one is impossible drop out."""
        endpoint, steps = self, []
        openings = (True, False) if self.passive is None else (self.passive,)
        if self.fast_open:  # Linux: tcp_check_req() resets the child; no request socket goes back
            openings = (False,)
        for stimulus in word:
            rows = [TABLE[state, stimulus] for state in endpoint.states]
            possible = [row for row in rows if row.outcome is not Outcome.ILLEGAL]
            before = frozenset(row.state for row in possible)
            after = frozenset(
                row.next_state(passive=passive) for row in possible for passive in openings
            )
            if after and after != before:
                steps.append(Step(before, after, stimulus))
            if after:
                endpoint = replace(endpoint, states=after)
        return Observed(endpoint, self.states, tuple(steps))
