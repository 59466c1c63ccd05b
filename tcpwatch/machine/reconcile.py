"""One endpoint's history out of the claims of several witnesses.

Owns: the alignment. Each witness keeps its own place (cursor) in the common path; a claim either
confirms a step that another has made, or makes the next one, or contradicts. Claims come in order
of time, but a witness may come late: its claim is looked for from its own place on.
Immutable. Must not know where a claim comes from beyond the witness's name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from tcpwatch.machine.table import edges, paths_between, reachable
from tcpwatch.model.timeline import Basis
from tcpwatch.tcp.state import TcpState


@dataclass(frozen=True, slots=True)
class Claim:
    """A witness says: the endpoint is in one of ``states`` by ``t_ns``.

    More than one state makes it a bound, not a sighting: it never counts as having seen a step,
    until the witness itself knows better (`History.settle`); but where it is ``definite``, it is a
    step all the same. ``before`` narrows the state that was left. ``since_ns`` is when the witness
    looked before (None: it misses nothing).
    """

    witness: str
    states: frozenset[TcpState]
    t_ns: int
    evidence: int
    basis: Basis
    cause: str = ""
    segment: int | None = None
    before: frozenset[TcpState] | None = None
    since_ns: int | None = None
    gap: bool = False
    definite: bool = False


@dataclass(frozen=True, slots=True)
class PathStep:
    """One element of the path and how it is known; the first one has no cause."""

    states: frozenset[TcpState]
    t_ns: int = 0
    cause: str = ""
    basis: Basis = Basis.ASSUMED
    witnesses: frozenset[str] = frozenset()
    evidence: tuple[int, ...] = ()
    segment: int | None = None
    gap: bool = False
    missed_since: tuple[
        tuple[str, int], ...
    ] = ()  # witness -> when it had looked before it passed on
    doubted_by: str | None = None  # who left it open, and may know it better later


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A claim that fits neither the path nor the table."""

    claim: Claim
    path: tuple[frozenset[TcpState], ...]


@dataclass(frozen=True, slots=True)
class History:
    """The path so far, each witness's place in it, and what could not be fitted.

    ``bounds`` are each witness's last word where it leaves several states open.
    """

    steps: tuple[PathStep, ...]
    cursors: Mapping[str, int] = field(default_factory=dict)
    bounds: Mapping[str, Claim] = field(default_factory=dict)
    contradictions: tuple[Contradiction, ...] = ()

    @classmethod
    def begin(cls, states: frozenset[TcpState], t_ns: int = 0) -> History:
        return cls((PathStep(states, t_ns),))

    @property
    def last(self) -> PathStep:
        return self.steps[-1]

    def cursor(self, witness: str) -> int:
        """How far along the path a witness has been; -1 where it has not spoken yet."""
        return self.cursors.get(witness, -1)

    def admit(self, claim: Claim, *, alone: bool = False, fast: bool = False) -> History:
        """This history with one more claim. ``alone``: no other witness could have filled a gap.

        ``fast``: no segment takes time, so between two looks there may have been any states.
        """
        if len(claim.states) > 1:
            return self._bound(claim)
        if claim.witness in self.bounds:
            return self._with_doubt(claim)._unbound(claim.witness).admit(claim, alone=alone)
        if self._left_no_time_wait(claim):
            return self._without_time_wait(claim)
        place = self.cursor(claim.witness)
        for index in range(max(place, 0), len(self.steps)):
            step = self.steps[index]
            if index == 0 and claim.before is not None and not claim.before & step.states:
                continue  # it came from elsewhere: the end, not the beginning, is CLOSED
            if claim.states <= step.states and (index > place or step.states == claim.states):
                return self._confirm(index, claim)
        extended = self._extend(claim, alone=alone)
        if not (alone and fast) or extended.last is self.last:
            return extended
        # The shortest way here is no better a guess than any other.
        known = self.steps if len(extended.steps) > len(self.steps) + 1 else extended.steps[:-1]
        steps = (*known, replace(extended.last, gap=True))
        cursors = {**extended.cursors, claim.witness: len(known)}
        return replace(extended, steps=steps, cursors=cursors)

    def _left_no_time_wait(self, claim: Claim) -> bool:
        """Whether the TIME-WAIT that others conclude never was, since it is gone at the next look.

        Linux: tcp_time_wait() in tcp_minisocks.c has no more of them than tcp_max_tw_buckets.
        """
        if claim.states != {TcpState.CLOSED} or claim.since_ns is None or self._settled_by(claim):
            return False
        last = self.last
        seen = claim.witness in last.witnesses or last.basis is Basis.REPORTED
        in_time = claim.since_ns - _LATE_NS <= last.t_ns
        return last.states == {TcpState.TIME_WAIT} and not seen and in_time

    def _without_time_wait(self, claim: Claim) -> History:
        closed = replace(
            self.last,
            states=claim.states,
            basis=claim.basis,
            witnesses=frozenset({claim.witness}),
            evidence=(*self.last.evidence, claim.evidence),
        )
        place = len(self.steps) - 1
        cursors = {w: min(at, place - 1) for w, at in self.cursors.items()}
        return replace(
            self, steps=(*self.steps[:-1], closed), cursors={**cursors, claim.witness: place}
        )

    def left_by(self, witness: str) -> frozenset[TcpState]:
        """What it means that the witness sees no socket any more.

        CLOSED, or that a request socket's listener is all that is left: others may have told.
        """
        place = max(self.cursor(witness), 0)
        for step in self.steps[place + 1 :]:
            if step.states in ({TcpState.LISTEN}, {TcpState.CLOSED}):
                return step.states
        received = place > 0 and self.steps[place].states == {TcpState.SYN_RECEIVED}
        called = place > 0 and TcpState.SYN_SENT in self.steps[place - 1].states
        if received and not called:
            return frozenset({TcpState.LISTEN, TcpState.CLOSED})
        return frozenset({TcpState.CLOSED})

    def outlived_by(self, claim: Claim) -> bool:
        """Whether others saw the end, and the claim is of a state that it did not pass since."""
        if self.last.states != {TcpState.CLOSED} or self.last.basis is not Basis.REPORTED:
            return False
        place = max(self.cursor(claim.witness), 0)
        return not any(claim.states & step.states for step in self.steps[place + 1 :])

    def narrow(self, states: frozenset[TcpState]) -> History:
        """The last step is known better: only those of its states that are in ``states`` remain."""
        narrowed = self.last.states & states
        if not narrowed or narrowed == self.last.states:
            return self
        return replace(self, steps=(*self.steps[:-1], replace(self.last, states=narrowed)))

    def settle(self, witness: str, states: frozenset[TcpState]) -> History:
        """The witness knows better what it left open: only ``states`` are possible there."""
        doubt = self.bounds.get(witness)
        if doubt is None:
            place = len(self.steps) - 1
            if self.cursor(witness) not in (-1, place):
                return self
            narrowed = self.narrow(states)
            if narrowed is self or place == 0:
                return narrowed
            return replace(narrowed, cursors={**self.cursors, witness: place})
        left = doubt.states & states
        if not left or left == doubt.states:
            return self
        if len(left) > 1:
            bounds = {**self.bounds, witness: replace(doubt, states=left)}
            return replace(self.narrow(left), bounds=bounds)
        free = self._unbound(witness)
        place = len(self.steps) - 1
        while self.steps[place].doubted_by == witness and not self.steps[place].witnesses:
            place -= 1
        if self.steps[place].states == left <= (doubt.before or frozenset()):  # nothing has moved
            return replace(free, steps=self.steps[: place + 1])
        return free.admit(replace(doubt, states=left))

    def withdraw(
        self, witness: str, segments: Collection[int], states: frozenset[TcpState]
    ) -> History | None:
        """Without what the witness alone took these segments for; None where others saw it too.

        ``states`` is what it believed before them.
        """
        steps = list(self.steps)
        if any(step.segment in segments and step.witnesses - {witness} for step in steps):
            return None
        while len(steps) > 1 and (
            steps[-1].segment in segments or steps[-1].basis is Basis.ASSUMED
        ):
            steps.pop()
        history = replace(self, steps=tuple(steps))
        doubt = self.bounds.get(witness)
        if doubt is not None and doubt.segment in segments and doubt.states != states:
            history = history._unbound(witness)
        place = min(self.cursor(witness), len(steps) - 1)
        return replace(history, cursors={**self.cursors, witness: place})

    def unproven(self, witness: str, segments: Collection[int]) -> History:
        """After lost evidence: the answer may be lost that would have withdrawn these segments."""
        steps = list(self.steps)
        for index in range(1, len(steps)):
            step = steps[index]
            if step.segment in segments and step.witnesses == {witness}:
                states = step.states | steps[index - 1].states | {TcpState.CLOSED}
                steps[index] = replace(
                    step, states=states, witnesses=frozenset(), doubted_by=witness
                )
        return replace(self, steps=tuple(steps))

    def _unbound(self, witness: str) -> History:
        """The same, without the witness's doubt."""
        return replace(self, bounds={w: b for w, b in self.bounds.items() if w != witness})

    def widened(self, t_ns: int, evidence: int) -> History:
        """After lost evidence: all reachable from here is possible, and the path has a gap."""
        possible = reachable(self.last.states)
        if possible == self.last.states:
            return self
        new = PathStep(possible, t_ns, "evidence lost", evidence=(evidence,), gap=True)
        return replace(self, steps=(*self.steps, new))

    def with_cause(self, index: int, cause: str) -> History:
        """The same, with the cause of one step told."""
        step = replace(self.steps[index], cause=cause)
        return replace(self, steps=(*self.steps[:index], step, *self.steps[index + 1 :]))

    # ------------------------------------------------------------------ the three ways

    def _confirm(self, index: int, claim: Claim) -> History:
        step = self.steps[index]
        if index == 0:
            # Nobody transits into the first state; it is only known better.
            confirmed = replace(step, states=claim.states)
        elif claim.witness in step.witnesses:
            return self
        else:
            dated = step.witnesses or step.doubted_by == claim.witness
            confirmed = replace(
                step,
                states=claim.states,
                t_ns=min(step.t_ns, claim.t_ns) if dated else claim.t_ns,
                cause=step.cause or claim.cause,
                basis=_stronger(step.basis, claim.basis),
                witnesses=step.witnesses | {claim.witness},
                evidence=(*step.evidence, claim.evidence),
                segment=step.segment if step.segment is not None else claim.segment,
                gap=step.gap,
            )
        steps = (*self.steps[:index], confirmed, *self.steps[index + 1 :])
        return replace(
            self._passing(claim, index, steps), cursors={**self.cursors, claim.witness: index}
        )._known_before(index, claim.witness)

    def _known_before(self, index: int, witness: str) -> History:
        """The same, where step ``index`` settles what was in doubt before it.

        That is no step at all where nothing had moved.
        """
        if index < 2 or self.steps[index - 1].doubted_by is None:
            return self
        before, doubt, step = self.steps[index - 2 : index + 1]
        left = frozenset(s for s in doubt.states for t in step.states if (s, t) in edges())
        if doubt.witnesses or len(left) != 1 or len(doubt.states) == 1:
            return self
        if left != before.states:
            seen = frozenset({witness} & {doubt.doubted_by})
            known = replace(doubt, states=left, witnesses=seen)
            return replace(self, steps=(*self.steps[: index - 1], known, *self.steps[index:]))
        cursors = {w: place - (place >= index) for w, place in self.cursors.items()}
        steps = (*self.steps[: index - 1], *self.steps[index:])
        return replace(self, steps=steps, cursors=cursors)

    def _extend(self, claim: Claim, *, alone: bool) -> History:
        """The next step; with the steps in between that must have been, where some are missing.

        Who is ``alone`` may have missed some even where one edge leads here: a server that closes
        what it has just accepted is in ESTABLISHED for no time.
        """
        before = self.last.states if claim.before is None else self.last.states & claim.before
        (after,) = claim.states
        direct = frozenset(state for state in before if (state, after) in edges())
        ways: set[tuple[TcpState, ...]] = set()
        if direct:
            ways.add(())
            before = direct
        else:
            for state in before:
                ways.update(paths_between(state, after))
            shortest = min((len(way) for way in ways), default=0)
            ways = {way for way in ways if len(way) == shortest}
            before = frozenset(state for state in before if ways & set(paths_between(state, after)))
        if not ways or not before:
            return replace(
                self,
                contradictions=(
                    *self.contradictions,
                    Contradiction(claim, tuple(step.states for step in self.steps)),
                ),
            )
        between = [
            PathStep(frozenset(column), claim.t_ns, evidence=(claim.evidence,))
            for column in zip(*ways, strict=True)
        ]
        behind = self._settled_by(claim) if direct else None
        new = PathStep(
            claim.states,
            claim.t_ns if behind is None else behind.t_ns,
            claim.cause if behind is None else behind.cause,
            claim.basis,
            frozenset({claim.witness}),
            (claim.evidence,) if behind is None else (behind.evidence, claim.evidence),
            claim.segment if behind is None else behind.segment,
            gap=claim.gap
            or (
                alone
                and (
                    len(ways) > 1
                    or (after is TcpState.CLOSED and not before <= _PLAIN_ENDS)
                    or (after is TcpState.FIN_WAIT_1 and TcpState.SYN_RECEIVED in before)
                )
            ),
        )
        steps = (*self._narrowed(before, claim.witness), *between, new)
        index = len(steps) - 1
        return replace(
            self._passing(claim, index, steps), cursors={**self.cursors, claim.witness: index}
        )

    def _narrowed(self, states: frozenset[TcpState], witness: str) -> tuple[PathStep, ...]:
        """The steps, the last one known better: as no step at all where nothing had moved."""
        *earlier, last = self.steps
        if last.doubted_by is None or len(states) > 1:
            return (*earlier, replace(last, states=states))
        if states == earlier[-1].states:
            return tuple(earlier)
        seen = last.witnesses | ({witness} & {last.doubted_by})
        return (*earlier, replace(last, states=states, witnesses=seen))

    def _settled_by(self, claim: Claim) -> Claim | None:
        """The segment that may have done what the claim sees, and came since that one had looked.

        Something else, such as a timer, did what is seen to have happened later.
        """
        since_ns = claim.t_ns if claim.since_ns is None else claim.since_ns
        for witness, doubt in self.bounds.items():
            in_time = since_ns - _LATE_NS <= doubt.t_ns <= claim.t_ns
            other = witness != claim.witness and doubt.segment is not None
            if other and claim.states <= doubt.states and in_time:
                return doubt
        return None

    def _bound(self, claim: Claim) -> History:
        """An ambiguous last word: it moves the path only where the path contradicts it."""
        if claim.definite:
            return self._step_in_doubt(claim)
        doubt = self.bounds.get(claim.witness)
        if doubt is not None and doubt.states == claim.states:
            if not self.last.states & claim.states:
                return self  # others have told more since, and this is nothing new
            claim = replace(claim, before=doubt.before)  # another segment, and the same doubt
        doubted = self._with_doubt(claim)
        bounded = replace(doubted, bounds={**self.bounds, claim.witness: claim})
        if bounded.last.states & claim.states:
            return bounded
        return replace(bounded, steps=(*bounded.steps, _unseen(claim, claim.states)))

    def _step_in_doubt(self, claim: Claim) -> History:
        """A step to one of several states."""
        told = self._with_doubt(claim)._unbound(claim.witness)
        told = told if claim.before is None else told.narrow(claim.before)
        steps = (*told.steps, _unseen(claim, claim.states))
        return replace(told, steps=steps, cursors={**told.cursors, claim.witness: len(steps) - 1})

    def _with_doubt(self, claim: Claim) -> History:
        """The same, with what its witness left open as a step, where nobody has settled it.

        The claim is of what came after it.
        """
        doubt = self.bounds.get(claim.witness)
        if doubt is None or claim.before is None or not self.is_open(doubt):
            return self
        states = doubt.states & claim.before
        if states <= self.last.states:
            return self
        return replace(self, steps=(*self.steps, _unseen(doubt, states)))

    def is_open(self, doubt: Claim) -> bool:
        """Whether the path still stands where that last word was of: nobody has told more since."""
        if doubt.states == self.last.states:
            return False
        return self.last.states <= (doubt.states if doubt.before is None else doubt.before)

    def passed_over(self, witness: str, since_ns: int) -> History:
        """The witness looked then, and next when all of this was over."""
        return replace(self, steps=self._skipped(witness, since_ns, len(self.steps), self.steps))

    def _passing(self, claim: Claim, index: int, steps: tuple[PathStep, ...]) -> History:
        if claim.since_ns is None:
            return replace(self, steps=steps)
        return replace(self, steps=self._skipped(claim.witness, claim.since_ns, index, steps))

    def _skipped(
        self, witness: str, since_ns: int, index: int, steps: tuple[PathStep, ...]
    ) -> tuple[PathStep, ...]:
        """The steps; noted on each that the witness skipped is when it had last looked."""
        place = max(self.cursor(witness), 0)
        if index <= place + 1:
            return steps
        return tuple(
            replace(step, missed_since=(*step.missed_since, (witness, since_ns)))
            if place < position < index
            else step
            for position, step in enumerate(steps)
        )


_LATE_NS = 10_000_000
"""How long after a segment's arrival others may still tell of what was before it."""

_PLAIN_ENDS = frozenset(
    {
        TcpState.SYN_SENT,
        TcpState.FIN_WAIT_2,
        TcpState.CLOSING,
        TcpState.LAST_ACK,
        TcpState.TIME_WAIT,
    }
)
"""Where a socket that is gone went straight to CLOSED: any longer way has the long TIME-WAIT."""


def _unseen(claim: Claim, states: frozenset[TcpState]) -> PathStep:
    """A step that a bound makes: no witness has seen it."""
    return PathStep(
        states,
        claim.t_ns,
        claim.cause,
        claim.basis,
        evidence=(claim.evidence,),
        segment=claim.segment,
        gap=claim.gap,
        doubted_by=claim.witness,
    )


def _stronger(one: Basis, other: Basis) -> Basis:
    order = (Basis.REPORTED, Basis.INFERRED, Basis.ASSUMED)
    return min(one, other, key=order.index)
