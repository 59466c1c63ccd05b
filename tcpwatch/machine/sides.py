"""One end of a connection while it is being tracked: what is inferred of it, and its history.

Owns: what belief and history make of each other, and the step from a history to the timeline's
transitions and findings. Must not know how an event reached it, nor the other end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from tcpwatch.machine.arrivals import Underway, is_news, proven_by
from tcpwatch.machine.endpoint import InferredEndpoint, Observed, Step
from tcpwatch.machine.midstream import after_a_miss
from tcpwatch.machine.reconcile import History, PathStep
from tcpwatch.machine.stimulus import Kind, Stimulus
from tcpwatch.machine.table import edges
from tcpwatch.machine.witnessing import LOCAL, blind_spot
from tcpwatch.model.events import KERNEL, TABLE, WIRE, Event
from tcpwatch.model.identity import FourTuple
from tcpwatch.model.timeline import Basis, Belief, Endpoint, Finding, Severity, Transition
from tcpwatch.tcp.segment import Segment
from tcpwatch.tcp.seq import SeqNumber
from tcpwatch.tcp.state import TcpState

_ORDER = (KERNEL, TABLE, WIRE)

_RESTING = frozenset({TcpState.CLOSED, TcpState.LISTEN, TcpState.TIME_WAIT, TcpState.SYN_SENT})
"""Where a SYN may begin a connection, or the end is beginning one itself."""


_FIN_AGAIN_NS = 10_000_000_000
"""By when a FIN that was not acknowledged is sent again: RFC 6298 2.1 begins with a second."""

_ANSWERABLE = 256
"""How many segments back a RST may answer; more are under way only where somebody is hostile."""

_TIME_WAIT_NS = 59_000_000_000  # Linux: TCP_TIMEWAIT_LEN is 60 s, on a timer wheel (tcp.h)


@dataclass(frozen=True, slots=True)
class Received:
    """A segment that arrived, where nothing shows yet that anybody was there to take it."""

    n: int
    ack: SeqNumber | None
    before: InferredEndpoint
    moved: bool


@dataclass(frozen=True, slots=True)
class _Perhaps:
    """What a segment under way would do, had it arrived."""

    underway: Underway
    stimulus: Stimulus

    def transition(self, last: PathStep, states: frozenset[TcpState], silent_ns: int) -> Transition:
        """The doubt of it; or, had it not arrived, its receiver would have spoken since."""
        before, after, basis, cause = last.states, states, Basis.INFERRED, ""
        silent = silent_ns >= _FIN_AGAIN_NS
        if silent and self.stimulus is Stimulus.ACK_OF_FIN and len(states - before) == 1:
            after, basis, cause = states - before, Basis.ASSUMED, "its FIN was not sent again"
        return Transition(
            Belief(before),
            Belief(after),
            max(self.underway.t_ns, last.t_ns),  # what came before it may have been proven later
            cause,
            basis,
            (),
            (self.underway.event,),
            self.underway.n,
        )


@dataclass(slots=True)
class SideTrack:
    """One end: its tuple, what the segments show of it, and the history of all witnesses."""

    role: str
    four_tuple: FourTuple
    inferred: InferredEndpoint
    history: History
    first_seq: SeqNumber | None = None
    first_syn: SeqNumber | None = None
    peer_syn: int | None = None
    calls_told: bool = False
    received: list[Received] = field(default_factory=list)
    resets: list[int] = field(default_factory=list)  # what it answered to those
    underway: list[Underway] = field(default_factory=list)  # to it, in the order they were seen
    spoke_ns: int = 0  # when it last sent anything
    on_wire: bool = True  # what stays within its host passes no wire, but for a loopback's capture
    at_home: bool = False  # it is known what arrives there, so all that it sends is seen as well

    @property
    def isn(self) -> SeqNumber | None:
        """What its sequence numbers are shown relative to."""
        return self.first_syn or self.first_seq

    def sent(self, segment: Segment, n: int) -> Observed:
        """It sent segment ``n``. A RST without ACK may show that it was gone before it got another.

        Then what it seemed to do with that one is withdrawn.
        """
        if not segment.rst:
            self.received, self.resets = [], []
        elif segment.ack is None:
            self.resets.append(n)
            del self.resets[:-_ANSWERABLE]
            answered = self._answered(segment)
            if answered and answered[0].moved:
                told = {*(each.n for each in answered), *self.resets}
                left = self.history.withdraw(WIRE, told, answered[0].before.states)
                if left is not None:
                    self.history = left
                    return answered[0].before.was_gone(segment)
        if segment.rst:
            return self._sent_reset(segment)
        missed = None if self.at_home else after_a_miss(self.inferred, segment)
        return missed or self.inferred.sent(segment)

    def _sent_reset(self, reset: Segment) -> Observed:
        """Its own RST may have come before what is under way arrived, or after."""
        possible, moved = self._perhaps_arrived()
        if moved is None:
            return self.inferred.sent(reset)
        observed = replace(self.inferred, states=possible).sent(reset)
        if not observed.steps:
            return self.inferred.sent(reset)
        perhaps = Step(self.inferred.states, possible, moved.stimulus)
        return replace(observed, shown=self.inferred.states, steps=(perhaps, *observed.steps))

    def _answered(self, reset: Segment) -> list[Received]:
        """What came since that which the first of its RSTs answered, itself included.

        Each answers one segment and repeats its acknowledgement, so they answer the last of those.
        """
        fits = [i for i, each in enumerate(self.received) if each.ack == reset.seq]
        return self.received[fits[-len(self.resets) :][0] :] if fits else []

    def got(self, segment: Segment, n: int) -> Observed:
        """Segment ``n`` arrived at it."""
        observed = self.inferred.got(segment)
        if not segment.rst:
            moved = bool(observed.steps)
            self.received.append(Received(n, segment.ack, self.inferred, moved))
            del self.received[:-_ANSWERABLE]
        return observed

    def sees_coming(self, n: int, segment: Segment, event: Event) -> None:
        """Segment ``n`` is on its way to it."""
        news = is_news(segment, self.underway, self.inferred.seq)
        self.underway.append(Underway(n, event.id, event.t_ns, segment, news))

    def arrived_before(self, answer: Segment) -> list[Underway]:
        """What had arrived when it sent ``answer``; that is under way no more.

        A RST among them had no effect, if it still sends anything but a RST.
        """
        if not self.underway:
            return []
        inferred = self.inferred
        opening = inferred.passive is True and not inferred.fast_open
        opening = opening and TcpState.SYN_RECEIVED in inferred.states
        count = proven_by(answer, self.underway, inferred.seq, opening=opening)
        arrived, self.underway = self.underway[:count], self.underway[count:]
        return [each for each in arrived if answer.rst or not each.segment.rst]

    def _perhaps_arrived(self) -> tuple[frozenset[TcpState], _Perhaps | None]:
        """Where it may be, should what is under way have arrived, and what would take it there."""
        endpoint, states, moved = self.inferred, self.inferred.states, None
        for each in self.underway:
            observed = endpoint.got(each.segment)
            endpoint = observed.endpoint
            if moved is None and observed.steps and not endpoint.states <= states:
                moved = _Perhaps(each, observed.steps[0].stimulus)
            states |= endpoint.states
        return states, moved

    @property
    def may_rest(self) -> bool:
        """Whether a SYN with another number may begin another connection at this end."""
        states, _ = self._perhaps_arrived()
        return self.inferred.states <= _RESTING or (bool(self.underway) and bool(states & _RESTING))

    @property
    def rests(self) -> bool:
        """Whether no witness shows it to hold the connection still."""
        return self.history.last.states <= _RESTING

    def able(self, attending: frozenset[str]) -> frozenset[str]:
        """Which of the witnesses can see it at all: what stays within a host passes no wire."""
        return attending if self.on_wire else attending - {WIRE}

    @property
    def is_local(self) -> bool:
        """Whether both ends have one address."""
        return self.four_tuple.local.ip == self.four_tuple.remote.ip

    def _blind_spot(self, index: int, witness: str, end_ns: int) -> str | None:
        if witness == WIRE and not self.on_wire:
            return LOCAL
        return blind_spot(self.history, index, witness, end_ns)

    def lose(self) -> None:
        """The wire has lost evidence: of where it is, and that it took what came last."""
        self.inferred = self.inferred.widened()
        self.history = self.history.unproven(WIRE, {each.n for each in self.received})

    def transition(self, index: int, attending: frozenset[str], end_ns: int | None) -> Transition:
        """Step ``index`` as a transition; ``end_ns`` None: unfinished, so blind spots are open."""
        before, step = self.history.steps[index - 1], self.history.steps[index]
        hidden: list[tuple[str, str]] = []
        if end_ns is not None:
            for witness in _ORDER:
                if witness in attending and witness not in step.witnesses:
                    reason = self._blind_spot(index, witness, end_ns)
                    if reason is not None:
                        hidden.append((witness, reason))
        return Transition(
            Belief(before.states),
            Belief(step.states),
            step.t_ns,
            step.cause or ("" if end_ns is None else self._silent_cause(index, attending)),
            step.basis,
            tuple(witness for witness in _ORDER if witness in step.witnesses),
            step.evidence,
            step.segment,
            tuple(hidden),
            step.gap,
        )

    def _silent_cause(self, index: int, attending: frozenset[str]) -> str:
        """With the wire there and no segment to explain it, a timer is what is left.

        Or a call that sends nothing, where nobody tells of the calls.
        """
        before, step = self.history.steps[index - 1], self.history.steps[index]
        silent = {
            row.stimulus
            for one in before.states
            for other in step.states
            for row in edges().get((one, other), ())
            if row.stimulus.kind is Kind.TIMER or (row.stimulus.kind is Kind.CALL and not row.sends)
        }
        timers = {stimulus for stimulus in silent if stimulus.kind is Kind.TIMER}
        if WIRE not in self.able(attending) or len(timers) != 1:
            return ""
        (timer,) = timers
        if timer is Stimulus.TIME_WAIT_TIMEOUT:  # what ends sooner was destroyed, or made way
            return timer.value if step.t_ns - before.t_ns >= _TIME_WAIT_NS else ""
        return timer.value if silent == timers or self.calls_told else ""

    def freeze(self, attending: frozenset[str], end_ns: int) -> Endpoint:
        history = self.history
        transitions = [
            self.transition(index, attending, end_ns) for index in range(1, len(history.steps))
        ]
        open_end = self.open_end(attending, end_ns)
        if open_end is not None:
            transitions.append(open_end)
        return Endpoint(
            self.role, self.four_tuple.local, Belief(history.steps[0].states), tuple(transitions)
        )

    def open_end(self, attending: frozenset[str], end_ns: int | None = None) -> Transition | None:
        """The ambiguity that last words leave when no other witness can settle it.

        ``end_ns``: when observation ended, so that silence until then tells something too.
        """
        last = self.history.last
        possible, moved = self._perhaps_arrived()
        if moved is not None and self.able(attending) == {WIRE} and last.states < possible:
            states = possible | self.inferred.with_unsent_fin
            silent_ns = 0 if end_ns is None else end_ns - max(moved.underway.t_ns, self.spoke_ns)
            return moved.transition(last, states, silent_ns)
        unsent = self.inferred.with_unsent_fin
        if self.able(attending) == {WIRE} and last.states == self.inferred.states < unsent:
            # Nothing has come of it yet.
            return Transition(
                Belief(last.states), Belief(unsent), last.t_ns, "", last.basis, (), ()
            )
        doubts = [doubt for doubt in self.history.bounds.values() if self.history.is_open(doubt)]
        if not doubts or self.able(attending) - {doubt.witness for doubt in doubts}:
            return None
        states = frozenset(TcpState).intersection(*(doubt.states for doubt in doubts))
        if not states or states == last.states:
            return None
        return Transition(
            Belief(last.states),
            Belief(states),
            max(doubts[0].t_ns, last.t_ns),
            doubts[0].cause,
            last.basis,
            tuple(doubt.witness for doubt in doubts),
            tuple(doubt.evidence for doubt in doubts),
            doubts[0].segment,
            gap=doubts[0].gap,
        )

    def findings(self, number: int, attending: frozenset[str], end_ns: int) -> Iterator[Finding]:
        """Where witnesses disagree beyond their blind spots."""
        for odd in self.history.contradictions:
            path = " > ".join(str(Belief(states)) for states in odd.path)
            yield Finding(
                "witnesses-disagree",
                Severity.ERROR,
                f"{odd.claim.witness} reports {Belief(odd.claim.states)}, "
                f"which cannot follow {path}",
                number,
                self.role,
                evidence=(odd.claim.evidence,),
            )
        for index in range(1, len(self.history.steps)):
            step = self.history.steps[index]
            for witness in _ORDER:
                if witness not in attending or witness in step.witnesses or not step.witnesses:
                    continue
                if self._blind_spot(index, witness, end_ns) is None:
                    yield Finding(
                        "witness-missed",
                        Severity.WARNING,
                        f"{witness} did not see {Belief(step.states)}, which "
                        f"{' and '.join(sorted(step.witnesses))} saw, "
                        "and no blind spot explains it",
                        number,
                        self.role,
                        evidence=step.evidence,
                    )
