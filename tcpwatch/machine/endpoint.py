"""One endpoint of a connection, inferred from the segments it sends and receives.

Owns: the sequence arithmetic that turns a segment into a word of stimuli, and the belief that
follows. Immutable: each observation gives a new endpoint. Must not know where a segment was seen,
only that this endpoint sent it or got it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tcpwatch.machine.stimulus import Stimulus
from tcpwatch.machine.table import TABLE, Outcome, reachable
from tcpwatch.tcp.segment import Segment
from tcpwatch.tcp.seq import SeqNumber
from tcpwatch.tcp.state import TcpState

_S = TcpState
_LOWER_EDGE_RESETS = frozenset({_S.CLOSE_WAIT, _S.LAST_ACK, _S.CLOSING})
_PERHAPS_RESET = ({_S.TIME_WAIT, _S.CLOSED}, {_S.FIN_WAIT_2, _S.CLOSED})
_SHOWN_BY = {
    Stimulus.ACTIVE_OPEN: "SYN",
    Stimulus.SYN: "SYN,ACK",
    Stimulus.CLOSE: "FIN",
    Stimulus.ABORT: "RST",
}


@dataclass(frozen=True, slots=True)
class Step:
    """A belief moved: by which stimulus, from which states to which."""

    before: frozenset[TcpState]
    after: frozenset[TcpState]
    stimulus: Stimulus


@dataclass(frozen=True, slots=True)
class Observed:
    """The endpoint after a segment, the steps it made, and whether the segment was seen before."""

    endpoint: InferredEndpoint
    steps: tuple[Step, ...] = ()
    retransmission: bool = False


@dataclass(frozen=True, slots=True)
class InferredEndpoint:
    """What is known of one end. ``states`` is the belief; the rest is its sequence bookkeeping.

    ``passive`` is None until it is known which way it opened. ``received`` are the octets beyond
    ``rcv_nxt`` that came early, as (start, end). Once ``lost``, the bookkeeping is worth nothing:
    only a SYN of its own shows where it is.
    """

    states: frozenset[TcpState] = frozenset({_S.CLOSED, _S.LISTEN})
    passive: bool | None = None
    iss: SeqNumber | None = None
    snd_nxt: SeqNumber | None = None
    fin_seq: SeqNumber | None = None
    irs: SeqNumber | None = None
    rcv_nxt: SeqNumber | None = None
    rcv_edge: SeqNumber | None = None
    rcv_shift: int | None = None
    last_ack_sent: SeqNumber | None = None
    received: tuple[tuple[SeqNumber, SeqNumber], ...] = ()
    rcv_fin: SeqNumber | None = None
    fin_received: bool = False
    lost: bool = False

    @classmethod
    def midway(cls) -> InferredEndpoint:
        """One whose beginning was not seen: it may be in any state."""
        return cls(frozenset(TcpState), lost=True)

    def widened(self) -> InferredEndpoint:
        """After lost evidence: in any state that is reachable from here."""
        return replace(self, states=reachable(self.states), lost=True)

    def gone(self) -> InferredEndpoint:
        """Once another witness saw it end with no segment to show it."""
        return replace(self, states=frozenset({_S.CLOSED}))

    # ------------------------------------------------------------------ what it sends

    def sent(self, segment: Segment) -> Observed:
        """It sent ``segment``: what that shows of its state."""
        if self.lost:
            if segment.rst or not segment.syn:
                return Observed(self)
            return self._found_again(segment)
        if segment.rst:
            return self._sent_reset(segment)
        endpoint, word, repeated = self, [], False
        if segment.syn:
            if self.iss == segment.seq:
                # Not a repetition: in a simultaneous open the SYN,ACK repeats the SYN's number.
                repeated = segment.ack is None or self.last_ack_sent is not None
            else:
                endpoint = replace(
                    endpoint, iss=segment.seq, snd_nxt=segment.seq, rcv_shift=segment.window_shift
                )
                # A SYN,ACK is the proof that a SYN was taken; a full queue drops it silently.
                word.append(Stimulus.SYN if segment.ack is not None else Stimulus.ACTIVE_OPEN)
        elif self.snd_nxt is not None and segment.seg_len and segment.seq_end <= self.snd_nxt:
            repeated = True
        if segment.fin and (endpoint.fin_seq is None):
            endpoint = replace(endpoint, fin_seq=segment.fin_seq)
            word.append(Stimulus.CLOSE)
        if self.states in _PERHAPS_RESET and not segment.syn:
            # One that is gone would have answered by a RST.
            endpoint = replace(endpoint, states=endpoint.states - {_S.CLOSED})
        observed = endpoint._advance_sent(segment)._acknowledging(segment)
        shown = observed.endpoint._show(word, repeated=repeated)
        return replace(shown, steps=(*observed.steps, *shown.steps))

    def _found_again(self, segment: Segment) -> Observed:
        """Its SYN tells where it is after lost evidence; it may be one that was sent before."""
        observed = InferredEndpoint(self.states).sent(segment)
        steps = tuple(
            replace(step, before=step.before | step.after & self.states) for step in observed.steps
        )
        return replace(observed, steps=steps)

    def _sent_reset(self, segment: Segment) -> Observed:
        """A RST of its own aborts; one that merely answers a stray segment changes nothing."""
        if self.snd_nxt is not None and segment.seq == self.snd_nxt:
            return self._show([Stimulus.ABORT], repeated=False)
        if self.iss is None and _S.CLOSED in self.states:
            # No listener: nothing but a closed port answers a SYN by a RST.
            return Observed(replace(self, states=frozenset({_S.CLOSED})))
        return Observed(self)

    def _advance_sent(self, segment: Segment) -> InferredEndpoint:
        snd_nxt = self.snd_nxt
        if snd_nxt is None or segment.seq_end > snd_nxt:
            snd_nxt = segment.seq_end
        if segment.ack is None:
            return replace(self, snd_nxt=snd_nxt)
        rcv_nxt, irs = self.rcv_nxt, self.irs
        if rcv_nxt is None:  # the peer's SYN was not seen, but here it is acknowledged
            rcv_nxt, irs = segment.ack, segment.ack + -1 if segment.syn else None
        shift = 0 if segment.syn else self.rcv_shift or 0
        edge = segment.ack + (segment.window << shift)
        if self.rcv_edge is not None and self.rcv_edge > edge:
            edge = self.rcv_edge
        return replace(
            self,
            snd_nxt=snd_nxt,
            irs=irs,
            rcv_nxt=rcv_nxt,
            rcv_edge=edge,
            last_ack_sent=segment.ack,
        )

    def _acknowledging(self, segment: Segment) -> Observed:
        """What it acknowledges it has, be it data in a SYN (RFC 7413) or what nobody saw arrive."""
        if self.rcv_nxt is None or segment.ack is None or segment.ack <= self.rcv_nxt:
            return Observed(self)
        endpoint = replace(self, rcv_nxt=segment.ack)
        if self.fin_received or self.rcv_fin is None or segment.ack <= self.rcv_fin:
            return Observed(endpoint)
        return replace(endpoint, fin_received=True)._apply([Stimulus.FIN])

    def _show(self, word: list[Stimulus], *, repeated: bool) -> Observed:
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
            steps.append(Step(frozenset(moved), after, stimulus))
            endpoint = replace(endpoint, states=after, passive=passive)
        return Observed(endpoint, tuple(steps), repeated)

    # ------------------------------------------------------------------ what it receives

    def got(self, segment: Segment) -> Observed:
        """``segment`` arrived at it: RFC 9293 3.10.7, with RFC 5961's rules for RST and SYN."""
        if self.lost:
            return Observed(self)
        if self.iss is None:
            # Nothing of ours is out: LISTEN or CLOSED. What a SYN does shows in the answer.
            if segment.syn and not segment.rst and segment.ack is None:
                return Observed(replace(self, irs=segment.seq, rcv_nxt=segment.seq + 1))
            return Observed(self)
        if self.states <= {_S.CLOSED, _S.LISTEN}:
            return Observed(self)
        if _S.SYN_SENT in self.states and self.irs is None:
            return self._got_in_syn_sent(segment)
        return self._got_synchronised(segment)

    def _got_in_syn_sent(self, segment: Segment) -> Observed:
        """RFC 9293 3.10.7.3."""
        assert self.iss is not None
        assert self.snd_nxt is not None
        if segment.ack is not None and not self.iss < segment.ack <= self.snd_nxt:
            return Observed(self)
        if segment.rst:
            word = [Stimulus.RST] if segment.ack is not None else []
            return self._apply(word)
        if not segment.syn:
            return Observed(self)
        # RFC 9293 would go on with the data and the FIN of such a segment; Linux drops both
        # (tcp_rcv_synsent_state_process() in tcp_input.c), and gets them again.
        # With Fast Open, where our SYN had data, it keeps them, as its acknowledgement then shows.
        fast_open = segment.ack is not None and self.snd_nxt - self.iss > 1
        endpoint = replace(
            self,
            irs=segment.seq,
            rcv_nxt=segment.seq + 1,
            rcv_fin=segment.fin_seq if segment.fin and fast_open else None,
        )
        return endpoint._apply([Stimulus.SYN_ACK if segment.ack is not None else Stimulus.SYN])

    def _got_synchronised(self, segment: Segment) -> Observed:
        """RFC 9293 3.10.7.4, in its order."""
        assert self.rcv_nxt is not None
        assert self.snd_nxt is not None
        assert self.iss is not None
        edge = self.rcv_edge if self.rcv_edge is not None else self.rcv_nxt + 65535
        floor = self.last_ack_sent if self.last_ack_sent is not None else self.rcv_nxt
        # Linux: tcp_sequence() in tcp_input.c accepts what overlaps the window, floor included.
        in_window = segment.seq <= edge and segment.seq_end >= floor
        if segment.rst:
            return self._got_reset(segment, self.rcv_nxt, edge)
        if not in_window:
            return Observed(self)
        if segment.syn and segment.seq != self.irs:
            # In TIME-WAIT only the SYN,ACK shows that it was taken for a new connection (RFC 6191).
            return self._apply([] if _S.TIME_WAIT in self.states else [Stimulus.SYN])
        if segment.syn and _S.SYN_RECEIVED not in self.states:
            # RFC 5961 4.2; Linux: tcp_validate_incoming() in tcp_input.c. Nothing of it counts.
            return Observed(self)
        if segment.ack is None:
            return Observed(self)
        word: list[Stimulus] = []
        if segment.ack > self.snd_nxt:
            return Observed(self)
        if _S.SYN_RECEIVED in self.states:
            if segment.ack <= self.iss:
                return Observed(self)
            word.append(Stimulus.ACK_OF_SYN)
        if self.fin_seq is not None and segment.ack > self.fin_seq:
            word.append(Stimulus.ACK_OF_FIN)
        endpoint, fin = self._take(segment)
        return endpoint._apply([*word, *fin])

    def _got_reset(self, segment: Segment, floor: SeqNumber, edge: SeqNumber) -> Observed:
        """What a RST does; and where the wire cannot know whether Linux heeds it, both."""
        if self._accepts_reset(segment, edge):
            observed = self._apply([Stimulus.RST])
            if _S.TIME_WAIT not in self.states or not observed.steps:
                return observed
            # Linux: tcp_rfc1337 decides, in tcp_timewait_state_process() in tcp_minisocks.c.
            (step,) = observed.steps
            step = replace(step, after=step.after | {_S.TIME_WAIT})
        elif _S.FIN_WAIT_2 in self.states and floor <= segment.seq <= edge:
            # That function also heeds any RST in the window, once close() has made an orphan.
            step = Step(frozenset({_S.FIN_WAIT_2}), self.states | {_S.CLOSED}, Stimulus.RST)
        else:
            return Observed(self)
        steps = (step,) if step.after != self.states else ()
        return Observed(replace(self, states=step.after), steps)

    def _accepts_reset(self, segment: Segment, edge: SeqNumber) -> bool:
        """RFC 5961 3.2, with Linux's departures from it."""
        assert self.rcv_nxt is not None
        if segment.seq == self.rcv_nxt:
            return True
        if self.passive and self.states == {_S.SYN_RECEIVED}:
            # Linux: tcp_check_req() in tcp_minisocks.c heeds any RST in the window.
            return self.rcv_nxt <= segment.seq <= edge
        # Linux: tcp_reset_check() in tcp_input.c also takes RCV.NXT - 1, after the peer's FIN.
        return segment.seq + 1 == self.rcv_nxt and self.states <= _LOWER_EDGE_RESETS

    def _take(self, segment: Segment) -> tuple[InferredEndpoint, list[Stimulus]]:
        """Reassembles: the FIN counts only when all before it is there."""
        if self.fin_received or self.rcv_nxt is None or not segment.seg_len:
            return self, []
        start, end = segment.seq + segment.syn, segment.fin_seq
        rcv_fin = end if segment.fin else self.rcv_fin
        rcv_nxt: SeqNumber = self.rcv_nxt
        early = sorted([*self.received, (start, end)], key=lambda piece: piece[0] - start)
        kept = []
        for piece in early:
            if piece[0] > rcv_nxt:
                kept.append(piece)
            elif piece[1] > rcv_nxt:
                rcv_nxt = piece[1]
        endpoint = replace(self, rcv_nxt=rcv_nxt, received=tuple(kept), rcv_fin=rcv_fin)
        if rcv_fin is None or rcv_nxt != rcv_fin:
            return endpoint, []
        return replace(endpoint, rcv_nxt=rcv_fin + 1, fin_received=True), [Stimulus.FIN]

    def _apply(self, word: list[Stimulus]) -> Observed:
        """Applies received stimuli one by one; states in which one is impossible drop out."""
        endpoint, steps = self, []
        openings = (True, False) if self.passive is None else (self.passive,)
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
        return Observed(endpoint, tuple(steps))
