"""One endpoint's history out of the claims of several witnesses.

Owns: the alignment. Each witness keeps its own place (cursor) in the common path; a claim either
confirms a step that another has made, or makes the next one, or contradicts. Claims come in order
of time, but a witness may come late: its claim is looked for from its own place on.
Immutable. Must not know where a claim comes from beyond the witness's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tcpwatch.machine.table import edges, paths_between, reachable
from tcpwatch.model.timeline import Basis
from tcpwatch.tcp.state import TcpState


@dataclass(frozen=True, slots=True)
class Claim:
    """A witness says: the endpoint is in one of ``states`` by ``t_ns``.

    More than one state makes it a bound, not a sighting: it never counts as having seen a step.
    ``before`` narrows the state that was left. ``since_ns`` is when the witness looked before
    (None: it misses nothing).
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


@dataclass(frozen=True, slots=True)
class Bound:
    """A witness's last word, leaving several states open: another has to settle it."""

    states: frozenset[TcpState]
    t_ns: int
    evidence: int
    cause: str = ""
    segment: int | None = None


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A claim that fits neither the path nor the table."""

    claim: Claim
    path: tuple[frozenset[TcpState], ...]


@dataclass(frozen=True, slots=True)
class History:
    """The path so far, each witness's place in it, and what could not be fitted."""

    steps: tuple[PathStep, ...]
    cursors: Mapping[str, int] = field(default_factory=dict)
    bounds: Mapping[str, Bound] = field(default_factory=dict)
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

    def admit(self, claim: Claim, *, alone: bool = False) -> History:
        """This history with one more claim. ``alone``: no other witness could have filled a gap."""
        if len(claim.states) > 1:
            return self._bound(claim)
        if claim.witness in self.bounds:
            return self._unbound(claim.witness).admit(claim, alone=alone)
        place = self.cursor(claim.witness)
        for index in range(max(place, 0), len(self.steps)):
            step = self.steps[index]
            if index == 0 and claim.before is not None and not claim.before & step.states:
                continue  # it came from elsewhere: the end, not the beginning, is CLOSED
            if claim.states <= step.states and (index > place or step.states == claim.states):
                return self._confirm(index, claim)
        return self._extend(claim, alone=alone)

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

    def settled(self, witness: str, states: frozenset[TcpState]) -> History:
        """The same, where the witness has no doubt any more that the last step is where it is."""
        if witness not in self.bounds or states != self.last.states:
            return self
        return self._unbound(witness)

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
            confirmed = replace(
                step,
                states=claim.states,
                t_ns=min(step.t_ns, claim.t_ns) if step.witnesses else claim.t_ns,
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
        )

    def _extend(self, claim: Claim, *, alone: bool) -> History:
        """The next step; with the steps in between that must have been, where some are missing."""
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
            gap=alone
            and (len(ways) > 1 or (after is TcpState.CLOSED and not before <= _PLAIN_ENDS)),
        )
        steps = (*self.steps[:-1], replace(self.last, states=before), *between, new)
        index = len(steps) - 1
        return replace(
            self._passing(claim, index, steps), cursors={**self.cursors, claim.witness: index}
        )

    def _settled_by(self, claim: Claim) -> Bound | None:
        """The segment that may have done what the claim sees, and came since that one had looked.

        Something else, such as a timer, did what is seen to have happened later.
        """
        if claim.since_ns is None:
            return None
        for bound in self.bounds.values():
            in_time = claim.since_ns - _LATE_NS <= bound.t_ns <= claim.t_ns
            if bound.segment is not None and claim.states <= bound.states and in_time:
                return bound
        return None

    def _bound(self, claim: Claim) -> History:
        """An ambiguous last word: it moves the path only where the path contradicts it."""
        bounds = {
            **self.bounds,
            claim.witness: Bound(
                claim.states, claim.t_ns, claim.evidence, claim.cause, claim.segment
            ),
        }
        bounded = replace(self, bounds=bounds)
        if self.last.states & claim.states:
            return bounded
        new = PathStep(
            claim.states, claim.t_ns, claim.cause, claim.basis, evidence=(claim.evidence,)
        )
        return replace(bounded, steps=(*self.steps, new))

    def _passing(self, claim: Claim, index: int, steps: tuple[PathStep, ...]) -> History:
        """Notes on each step that the witness skipped when it had last looked."""
        if claim.since_ns is None:
            return replace(self, steps=steps)
        place = max(self.cursor(claim.witness), 0)
        marked = tuple(
            replace(step, missed_since=(*step.missed_since, (claim.witness, claim.since_ns)))
            if place < position < index
            else step
            for position, step in enumerate(steps)
        )
        return replace(self, steps=marked)


_LATE_NS = 10_000_000
"""How long after a segment's arrival the table may still show what was before it."""

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


def _stronger(one: Basis, other: Basis) -> Basis:
    order = (Basis.REPORTED, Basis.INFERRED, Basis.ASSUMED)
    return min(one, other, key=order.index)
