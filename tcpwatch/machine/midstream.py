"""One end of which not everything was seen: met in midstream, or after segments that are missing.

Owns: what its segments show all the same. Its numbers are those seen since, its windows unknown,
and whatever was not seen may have been a FIN, or the acknowledgement of one. In a lab nothing is
missing: this is for captures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from tcpwatch.machine.endpoint import InferredEndpoint, Observed, Step
from tcpwatch.machine.sequences import Sequences
from tcpwatch.machine.stimulus import Stimulus
from tcpwatch.tcp.segment import Segment
from tcpwatch.tcp.state import TcpState

_S = TcpState
_UNOPENED: Final = frozenset({_S.CLOSED, _S.LISTEN})
_SENDERS: Final = frozenset(TcpState) - _UNOPENED - {_S.SYN_SENT}  # of anything but SYN and RST
_ALL_IS_ACKNOWLEDGED: Final = frozenset({_S.FIN_WAIT_2, _S.TIME_WAIT})
_FIN_UNSENT: Final = frozenset({_S.ESTABLISHED, _S.CLOSE_WAIT})
_FIN_WAITING: Final = frozenset({_S.FIN_WAIT_1, _S.CLOSING, _S.LAST_ACK})  # or sent already
_FIN_TAKEN: Final = frozenset({_S.CLOSE_WAIT, _S.CLOSING, _S.LAST_ACK, _S.TIME_WAIT})
_ON_FIN: Final = {
    _S.ESTABLISHED: _S.CLOSE_WAIT,
    _S.FIN_WAIT_1: _S.CLOSING,
    _S.FIN_WAIT_2: _S.TIME_WAIT,
}
_ON_CLOSE: Final = {_S.ESTABLISHED: _S.FIN_WAIT_1, _S.CLOSE_WAIT: _S.LAST_ACK}
_ON_ACK_OF_FIN: Final = {
    _S.FIN_WAIT_1: _S.FIN_WAIT_2,
    _S.CLOSING: _S.TIME_WAIT,
    _S.LAST_ACK: _S.CLOSED,
}


@dataclass(frozen=True, slots=True)
class MidstreamEndpoint(InferredEndpoint):
    """``lost`` until it has sent something. ``at_edge``: what it sends beyond SND.NXT is new.

    Before, the first octets seen may be repeated, with a FIN behind them that was not seen; after
    something new was sent, its FIN is ``unsent`` until it is seen. ``octet_last``: what stands
    before SND.NXT was seen, and is an octet of data.
    """

    at_edge: bool = False
    unsent: bool = False
    octet_last: bool = False

    @classmethod
    def unknown(cls) -> MidstreamEndpoint:
        """One of which nothing was seen: it may be in any state."""
        return cls(frozenset(TcpState), lost=True)

    @property
    def with_unsent_fin(self) -> frozenset[TcpState]:
        """As of any end; and where its peer's window was never seen, that may be used up."""
        if self.lost or self.seq.fin_seq is not None or not self._may_hold_fin:
            return self.states
        return _perhaps(self.states, _ON_CLOSE)

    @property
    def _may_hold_fin(self) -> bool:
        return self.seq.may_hold_fin or (self.seq.snd_edge is None and self._has_sent_octets)

    @property
    def _has_sent_octets(self) -> bool:
        iss, snd_nxt = self.seq.iss, self.seq.snd_nxt
        return iss is not None and snd_nxt is not None and snd_nxt - iss > 1

    # ------------------------------------------------------------------ what it sends

    def sent(self, segment: Segment) -> Observed:
        """It sent ``segment``: what that shows of its state."""
        if segment.syn:
            return self._found_again(segment) if self.lost else InferredEndpoint.sent(self, segment)
        if segment.rst:
            return self._unmoved() if self.lost else self._sent_reset(segment)
        if segment.ack is None:
            return self._unmoved()
        if self.lost:
            return self._met(segment)
        able = self.states & _senders(segment) or self.states
        beyond = self.seq.snd_nxt is not None and segment.seq >= self.seq.snd_nxt
        news = bool(segment.seg_len) and beyond and self.at_edge
        # A FIN behind the octets seen would have moved this ACK on.
        behind = segment.seq == self.seq.snd_nxt and not segment.seg_len and self.octet_last
        news = news or (behind and self.seq.fin_seq is None)
        if news:
            # The FIN that is sent may be one that waited until now.
            waits = segment.fin or self._may_hold_fin
            waiting = _FIN_WAITING if waits else frozenset[TcpState]()
            able = able & (_FIN_UNSENT | waiting) or able
        endpoint = replace(
            self,
            states=able,
            at_edge=self.at_edge or (beyond and not segment.seg_len),
            unsent=self.unsent or news,
            octet_last=self.octet_last or (beyond and segment.payload_len > 0),
        )
        observed = InferredEndpoint.sent(endpoint, segment)
        shown = able & observed.shown or able
        told = replace(observed, shown=shown, steps=_definite(observed.steps))
        return told if self._has_seen_all_before(segment) else _with_unseen(told)

    def _has_seen_all_before(self, segment: Segment) -> bool:
        """Whether all that it acknowledges was seen to come."""
        seq, ack = self.seq, segment.ack
        if ack is None or seq.rcv_nxt is None or ack <= seq.rcv_nxt:
            return True
        return any(ack <= end for _, end in seq.received)

    def _met(self, segment: Segment) -> Observed:
        """The first segment of its own."""
        assert segment.ack is not None
        able = self.states & _senders(segment) or _senders(segment)
        numbers = Sequences(
            iss=segment.seq + -1,
            snd_una=segment.seq,
            snd_nxt=segment.seq,
            irs=segment.ack + -1,
            rcv_nxt=segment.ack,
        )
        endpoint = replace(
            self,
            states=able,
            seq=numbers.sent(segment),
            lost=False,
            at_edge=not segment.seg_len,
            octet_last=segment.payload_len > 0,
        )
        moved = endpoint._show([Stimulus.CLOSE] if segment.fin else [])
        return Observed(moved.endpoint, able, _definite(moved.steps))

    # ------------------------------------------------------------------ what it receives

    def got(self, segment: Segment) -> Observed:
        """``segment`` arrived at it."""
        seq, rcv_nxt, snd_nxt = self.seq, self.seq.rcv_nxt, self.seq.snd_nxt
        if self.lost or snd_nxt is None or rcv_nxt is None or segment.syn:
            return self._unmoved()
        if segment.rst:
            return self._got_loose_reset(segment)
        if segment.ack is None:
            return self._unmoved()
        octet_last = self.octet_last and segment.ack <= snd_nxt
        if segment.ack > snd_nxt:
            seq = replace(seq, snd_nxt=segment.ack)
        shown = self.states
        if segment.seg_len and segment.seq_end > rcv_nxt:
            shown = shown - _FIN_TAKEN or shown  # nobody sends anything behind its FIN
        steps: list[Step] = []
        states, word = shown, list[Stimulus]()
        covers = segment.ack > snd_nxt or (segment.ack == snd_nxt and not octet_last)
        if seq.fin_seq is None and not self.unsent and covers:
            states = _perhaps(shown, _ON_ACK_OF_FIN)
            if states != shown:
                steps.append(Step(shown, states, Stimulus.ACK_OF_FIN))
        elif seq.fin_seq is not None and segment.ack > seq.fin_seq:
            word.append(Stimulus.ACK_OF_FIN)
        taken, fin = seq.was_acknowledged(segment).take(segment)
        endpoint = replace(self, states=states, seq=taken, octet_last=octet_last)
        if fin:
            word.append(Stimulus.FIN)
            closing = endpoint._perhaps_closing()
            steps += closing.steps
            endpoint = replace(endpoint, states=closing.endpoint.states)
        moved = endpoint._apply(word)
        return Observed(moved.endpoint, shown, (*steps, *_definite(moved.steps)))

    def _got_loose_reset(self, segment: Segment) -> Observed:
        """Where RCV.NXT is not sure, a RST elsewhere may be heeded as well (RFC 5961 3.2)."""
        after = replace(self, states=self.with_unsent_fin)._apply([Stimulus.RST]).endpoint.states
        exact = segment.seq == self.seq.rcv_nxt
        after |= self.states & {_S.TIME_WAIT} if exact else self.states
        steps = (Step(self.states, after, Stimulus.RST),) if after != self.states else ()
        return Observed(replace(self, states=after), self.states, steps)


def _senders(segment: Segment) -> frozenset[TcpState]:
    """In which states an end sends such a segment, be it again."""
    if segment.fin or segment.payload_len:
        return _SENDERS - _ALL_IS_ACKNOWLEDGED - {_S.SYN_RECEIVED}
    return _SENDERS


def _definite(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """What a segment that counts surely did, though it be in one of several states."""
    return tuple(replace(step, definite=step.before != step.after) for step in steps)


def _perhaps(states: frozenset[TcpState], moves: dict[TcpState, TcpState]) -> frozenset[TcpState]:
    return states.union(moves[state] for state in states if state in moves)


def after_a_miss(endpoint: InferredEndpoint, segment: Segment) -> Observed | None:
    """What an end shows that sends what it could not, had all been seen that came to it.

    None where it could. An end that answers a SYN by a bare ACK may be an older connection's.
    """
    if segment.rst or segment.ack is None or endpoint.lost:
        return None
    if segment.syn:
        return _after_a_missed_syn(endpoint, segment)
    skipped = _after_a_skip(endpoint, segment)
    if skipped is not None:
        return skipped
    after = _senders(segment) - {_S.SYN_RECEIVED}
    if endpoint.states == {_S.SYN_SENT} and endpoint.seq.irs is None:
        stimulus, iss = Stimulus.SYN_ACK, endpoint.seq.iss
        first = iss is not None and segment.seq == iss + 1 and not segment.seg_len
        after = after & _FIN_UNSENT if first else after
    elif endpoint.seq.iss is None and endpoint.states <= _UNOPENED and segment.seg_len:
        stimulus = Stimulus.ACK_OF_SYN
    else:
        return None
    met = MidstreamEndpoint(after, endpoint.passive, lost=True)._met(segment)
    step = Step(endpoint.states, met.shown, stimulus, gap=True, definite=True)
    return replace(met, shown=endpoint.states, steps=(step, *met.steps))


def _after_a_missed_syn(endpoint: InferredEndpoint, segment: Segment) -> Observed | None:
    """In a simultaneous open the SYN,ACK repeats the number of the SYN that was sent."""
    if endpoint.states != {_S.SYN_SENT} or segment.seq != endpoint.seq.iss:
        return None
    received = frozenset({_S.SYN_RECEIVED})
    step = Step(endpoint.states, received, Stimulus.SYN, gap=True)
    moved = replace(endpoint, states=received, seq=endpoint.seq.sent(segment))
    return Observed(moved, endpoint.states, (step,))


def _after_a_skip(endpoint: InferredEndpoint, segment: Segment) -> Observed | None:
    """It stands further on than was seen: what it sent in between may have ended with a FIN."""
    seq = endpoint.seq
    if seq.iss is None or seq.snd_nxt is None or seq.fin_seq is not None:
        return None
    states = _perhaps(endpoint.states, _ON_CLOSE)
    if segment.seg_len or segment.seq <= seq.snd_nxt or states == endpoint.states:
        return None
    closed = _loosened(endpoint, states, Stimulus.CLOSE, replace(seq, snd_nxt=segment.seq))
    sent = closed.endpoint.sent(segment)
    return replace(sent, shown=endpoint.states, steps=(*closed.steps, *sent.steps))


def may_have_closed(endpoint: InferredEndpoint, upto: Segment) -> Observed | None:
    """What an end may have done whose octets, as ``upto`` acknowledges, were not all seen.

    None where all were.
    """
    seq, ack = endpoint.seq, upto.ack
    if ack is None or seq.snd_nxt is None or seq.iss is None or ack <= seq.snd_nxt or upto.rst:
        return None
    states = _perhaps(endpoint.states, _ON_CLOSE)
    return _loosened(endpoint, states, Stimulus.CLOSE, replace(seq, snd_nxt=ack))


def may_have_got_more(endpoint: InferredEndpoint) -> Observed:
    """What an end may have got with octets that were not all seen: a FIN, or the ACK of its own."""
    states = _perhaps(_perhaps(endpoint.states, _ON_ACK_OF_FIN), _ON_FIN)
    states = _perhaps(states, _ON_ACK_OF_FIN)
    return _loosened(endpoint, states, Stimulus.FIN, endpoint.seq)


def _with_unseen(observed: Observed) -> Observed:
    """The same, and what the end may have got besides."""
    more = may_have_got_more(observed.endpoint)
    return replace(
        more,
        shown=observed.shown,
        steps=(*observed.steps, *more.steps),
        retransmission=observed.retransmission,
    )


def may_have_answered(endpoint: InferredEndpoint, answer: Segment) -> Observed | None:
    """What an end did that was only seen to be called, and whose answer is acknowledged.

    None where it answered, or ``answer`` acknowledges nothing.
    """
    if endpoint.seq.iss is not None or endpoint.lost or not endpoint.states <= _UNOPENED:
        return None
    if answer.syn or answer.rst or answer.ack is None:
        return None
    unknown = MidstreamEndpoint(_SENDERS, lost=True)
    step = Step(endpoint.states, _SENDERS, Stimulus.SYN, gap=True, definite=True)
    return Observed(unknown, endpoint.states, (step,))


def _loosened(
    endpoint: InferredEndpoint, states: frozenset[TcpState], stimulus: Stimulus, seq: Sequences
) -> Observed:
    loose = MidstreamEndpoint(states, endpoint.passive, endpoint.fast_open, seq, endpoint.lost)
    moved = states != endpoint.states
    steps = (Step(endpoint.states, states, stimulus, gap=True),) if moved else ()
    return Observed(loose, endpoint.states, steps)
