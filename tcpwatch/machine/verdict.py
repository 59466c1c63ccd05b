"""The judgement: expectations against the witnessed paths, PASS, FAIL or INCONCLUSIVE.

Owns: that PASS and FAIL need evidence. Wherever a gap, a blind spot or a disagreement could
explain the difference, the answer is INCONCLUSIVE. Must not know how a view shows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise, zip_longest

from tcpwatch.machine.pattern import PathElement, Pattern
from tcpwatch.machine.table import edges
from tcpwatch.machine.witnessing import unseen_after
from tcpwatch.model.durations import lasting
from tcpwatch.model.events import KERNEL, Gap
from tcpwatch.model.timeline import (
    CAPTURE,
    COMMAND,
    Answer,
    Endpoint,
    Expectation,
    Judged,
    RunRecord,
    Severity,
    Timeline,
    Transition,
    Verdict,
)
from tcpwatch.tcp.state import TcpState

_ANY = "..."
_ITS_END = (TcpState.CLOSED, TcpState.LISTEN)
_LONGEST_UNSEEN = 2  # LISTEN > SYN-RECEIVED > LISTEN, or FIN-WAIT-2 > TIME-WAIT > CLOSED


def path_elements(endpoint: Endpoint, end_ns: int) -> tuple[PathElement, ...]:
    """An endpoint's path as patterns see it. The last state goes on; the first began unseen.

    Where a belief has the state before it too, nothing may have happened there.
    """
    times = [transition.t_ns for transition in endpoint.transitions]
    left = [*times, end_ns]
    entered = [0, *times]
    gaps = [False, *(transition.gap for transition in endpoint.transitions)]
    beliefs = [belief.states for belief in endpoint.path]
    stays = [False, *(before <= after for before, after in pairwise(beliefs)), False]
    return tuple(
        PathElement(
            states - beliefs[i - 1] if stays[i] else states,
            max(left[i] - entered[i], 0),
            i < len(times) and not stays[i + 1],
            gaps[i],
            stays[i],
        )
        for i, states in enumerate(beliefs)
    )


def judge(
    record: RunRecord,
    timeline: Timeline,
    answers: Iterable[Answer] = (),
    *,
    connections: int | None = None,
) -> Judged:
    """The verdict on a finished run, with its reasons, the weightiest first.

    ``answers`` are those to what is expected beside what the record has. ``connections``:
    how many there are, where the timeline does not hold them.
    """
    court, ends = Court(record, timeline.end_ns), _ends(timeline)
    answers = [
        *(
            court.answer(key, _compiled(text), _endpoint(key, ends))
            for name, text in record.expect.items()
            for key in _keys(name, timeline)
        ),
        *record.answers,
        *answers,
    ]
    expectations = tuple(answer.expectation for answer in answers)
    failures = [record.problem] if record.problem else []
    failures += record.failed_checks
    doubts = list(record.inconclusive)
    doubts += [
        finding.message for finding in timeline.findings if finding.severity is Severity.ERROR
    ]
    losses = [
        f"{event.vantage.source} lost evidence: {event.payload.reason}"
        for event in timeline.events
        if isinstance(event.payload, Gap)
    ]
    for answer in answers:
        reason = f"{answer.expectation.endpoint}: {answer.reason}"
        if answer.expectation.met is False:
            (doubts if losses else failures).append(reason)
        elif answer.expectation.met is None and not cut_short(record):
            doubts.append(reason)
    if doubts:
        doubts += losses
    if failures and not record.inconclusive:
        return Judged(record, timeline, Verdict.FAIL, (*failures, *doubts), expectations)
    if doubts or failures:
        return Judged(record, timeline, Verdict.INCONCLUSIVE, (*doubts, *failures), expectations)
    seen = len(timeline.connections) if connections is None else connections
    if not expectations and not seen and COMMAND not in record.lab:
        nothing = "no path was expected, and no connection was seen"
        return Judged(record, timeline, Verdict.INCONCLUSIVE, (nothing,), ())
    return Judged(record, timeline, Verdict.PASS, (), expectations)


def cut_short(record: RunRecord) -> bool:
    """Whether the run ended before its time, so that what is missing may only not have come yet."""
    return bool(record.problem or record.failed_checks or record.inconclusive)


def _keys(name: str, timeline: Timeline) -> list[str]:
    """Whom an expectation is of: ``every client`` is ``client 1``, ``client 2`` and so on."""
    every, _, role = name.partition(" ")
    if every != "every":
        return [name]
    numbers = [c.number for c in timeline.connections if any(e.role == role for e in c.endpoints)]
    return [f"{role} {number}" for number in numbers] or [name]


def _ends(timeline: Timeline) -> dict[tuple[str, int], Endpoint]:
    return {(e.role, c.number): e for c in timeline.connections for e in c.endpoints}


def _endpoint(key: str, ends: dict[tuple[str, int], Endpoint]) -> Endpoint | None:
    """The first connection's end of that role; ``client 2`` is the second connection's."""
    role, _, number = key.partition(" ")
    return ends.get((role, int(number) if number.isdecimal() else 1))


class Court:
    """Judges paths against patterns, knowing what the witnesses of the run could see."""

    def __init__(self, record: RunRecord, end_ns: int) -> None:
        available = (str(source["name"]) for source in record.sources if source["available"])
        self._attending = frozenset(available)
        self._cut_short = cut_short(record)
        self._goes_on = record.lab.get("kind") == CAPTURE
        self._end_ns = end_ns

    def answer(
        self, key: str, pattern: Pattern, endpoint: Endpoint | None, *, explained: bool = True
    ) -> Answer:
        """Whether that end went so; ``key`` is what it is called.

        ``explained``: where it did not, the difference is shown, which takes longer than to find.
        """
        if endpoint is None:
            unseen = "no such connection was seen"
            return Answer(Expectation(key, pattern.text, None, unseen), unseen)
        path = path_elements(endpoint, self._end_ns)
        met, why = self._met(pattern, path, endpoint)
        if met is False and explained:
            why = difference(pattern, endpoint, path)
        expectation = Expectation(key, pattern.text, met, why)
        return Answer(expectation, "" if met else _summary(expectation, endpoint))

    def _met(
        self, pattern: Pattern, path: tuple[PathElement, ...], endpoint: Endpoint
    ) -> tuple[bool | None, str]:
        met = pattern.match(path)
        if met is False and _outlived(endpoint):
            met = pattern.match(path[:-1]) or met
        if met is not False:
            return met, ""
        if self._cut_short and pattern.agrees_up_to(path) == len(path):
            return None, "it was as expected as far as it went"
        if self._goes_on and _may_still(pattern, path):
            return None, "the capture ends before that is settled"
        if pattern.match(_with_unseen(path, self._attending)) is not False:
            alone = " and ".join(f"the {name}" for name in sorted(self._attending))
            return None, f"{alone} alone cannot see all that would be"
        return False, ""


def _summary(expectation: Expectation, endpoint: Endpoint) -> str:
    went = " > ".join(str(belief) for belief in endpoint.path)
    if expectation.met is False:
        never = expectation.pattern.startswith("never ")
        how = "breaks" if never else "is not"
        return f"the witnessed path {went} {how} {expectation.pattern}"
    gaps = [str(step.after) for step in endpoint.transitions if step.gap]
    why = f": more may have happened before {' and '.join(gaps)}" if gaps else ""
    return f"the witnessed path {went} may or may not be {expectation.pattern}{why}"


_compiled = lru_cache(256)(Pattern)


def _may_still(pattern: Pattern, path: tuple[PathElement, ...]) -> bool:
    """Whether the end may have gone on so once nobody was looking."""
    alone = len(path) == 1  # LISTEN and CLOSED are where it has yet to begin
    ways = {way for state in path[-1].states for way in _continuations(state, anew=alone)}
    return any(
        pattern.match((*path, *(PathElement(frozenset({s}), ended=False) for s in way)))
        is not False
        for way in ways
    )


@lru_cache(64)
def _continuations(state: TcpState, *, anew: bool) -> tuple[tuple[TcpState, ...], ...]:
    """Every way on from there, to wherever; but not into another connection."""
    if state in _ITS_END and not anew:
        return ()
    after = {then for before, then in edges() if before is state}
    if state is TcpState.TIME_WAIT:
        after.discard(TcpState.SYN_RECEIVED)  # reopened: another connection
    return tuple(
        (then, *way)
        for then in sorted(after, key=str)
        for way in ((), *_continuations(then, anew=False))
    )


def _with_unseen(
    path: tuple[PathElement, ...], attending: frozenset[str]
) -> tuple[PathElement, ...]:
    """The path with what may have been at any time, and that those witnesses cannot see."""
    longer: list[PathElement] = []
    for element, following in zip_longest(path, path[1:]):
        unseen = unseen_after(element.states, attending)
        if following is not None and not _leads_to(unseen, following.states):
            unseen = frozenset()
        hidden = attending <= {KERNEL} and TcpState.SYN_RECEIVED in element.states
        longer.append(replace(element, ended=element.ended and not (unseen or hidden)))
        for _ in range(_LONGEST_UNSEEN):
            if unseen:
                longer.append(PathElement(unseen, ended=False, perhaps=True))
                unseen = unseen_after(unseen, attending)
    return tuple(longer)


def _leads_to(states: frozenset[TcpState], following: frozenset[TcpState]) -> bool:
    return any(one is other or (one, other) in edges() for one in states for other in following)


def _outlived(endpoint: Endpoint) -> bool:
    """TIME-WAIT ends by its timer sooner or later: who expects TIME-WAIT expects no less."""
    if not endpoint.transitions:
        return False
    last = endpoint.transitions[-1]
    return (
        last.before.certain is TcpState.TIME_WAIT
        and last.after.certain is TcpState.CLOSED
        and last.segment is None
    )


def difference(pattern: Pattern, endpoint: Endpoint, path: tuple[PathElement, ...]) -> str:
    """Expected (-) against witnessed (+), an element a line.

    The evidence stands at the first that was witnessed and not expected, or at the last of all.
    """
    if pattern.never:
        return "\n".join([f"- {pattern.text}", *_where_it_was(pattern, endpoint, path)])
    lines: list[str] = []
    told = False
    for element, index in _aligned(pattern.elements, path):
        if index is None:
            lines += [f"- {element}"] if element != _ANY else []
            continue
        lines.append(f"{'+' if element is None else ' '} {endpoint.path[index]}")
        if element is None and not told:
            lines += _evidence(endpoint, index)
            told = True
    if not told and endpoint.transitions:
        last = len(endpoint.path) - 1
        lines += [
            f"  the last that was witnessed: {endpoint.path[last]}",
            *_evidence(endpoint, last),
        ]
    return "\n".join(lines)


def _where_it_was(
    pattern: Pattern, endpoint: Endpoint, path: tuple[PathElement, ...]
) -> Iterator[str]:
    """The path, with those states marked that make up the first of what should never have been."""
    count = range(1, len(path) + 1)
    end = next((end for end in count if pattern.match(path[:end]) is False), len(path))
    found = [begin for begin in range(end) if pattern.match(path[begin:end]) is False]
    begin = max(found, default=0)
    for index, belief in enumerate(endpoint.path):
        yield f"{'+' if begin <= index < end else ' '} {belief}"
        if index == end - 1:
            stayed = f"      for {lasting(path[index].dwell_ns)}"
            yield "; ".join([stayed, *(line.strip() for line in _evidence(endpoint, index))])


def _aligned(
    elements: tuple[str, ...], path: tuple[PathElement, ...]
) -> list[tuple[str | None, int | None]]:
    """Pairs each element of a pattern with the places of the path it fits, as many as can be.

    None stands for what has no partner; ``...`` takes what is left where it stands.
    """
    patterns = [Pattern(text) for text in elements]
    rows, columns = len(elements), len(path)
    best = [[0] * (columns + 1) for _ in range(rows + 1)]

    def fits(row: int, column: int) -> bool:
        return elements[row] != _ANY and patterns[row].match([path[column]]) is not False

    for row in reversed(range(rows)):
        for column in reversed(range(columns)):
            both = best[row + 1][column + 1] + 1 if fits(row, column) else 0
            best[row][column] = max(both, best[row + 1][column], best[row][column + 1])
    pairs: list[tuple[str | None, int | None]] = []
    row = column = 0
    while row < rows or column < columns:
        at_any = row < rows and elements[row] == _ANY
        ends = row == rows or column == columns
        if not ends and fits(row, column) and best[row][column] == best[row + 1][column + 1] + 1:
            pairs.append((elements[row], column))
            row, column = row + 1, column + 1
        elif row == rows or (
            at_any and column < columns and best[row][column] == best[row][column + 1]
        ):
            pairs.append((_ANY if at_any else None, column))
            column += 1
        elif column == columns or at_any or best[row][column] == best[row + 1][column]:
            pairs.append((elements[row], None))
            row += 1
        else:
            pairs.append((None, column))
            column += 1
    return pairs


def _evidence(endpoint: Endpoint, index: int) -> list[str]:
    if index == 0:
        return []
    transition = endpoint.transitions[index - 1]
    return [f"      {describe(transition)}"]


def describe(transition: Transition) -> str:
    """One transition's evidence in a line."""
    parts = [f"at {transition.t_ns / 1e6:.3f} ms", transition.basis.value]
    if transition.cause:
        parts.append(transition.cause)
    if transition.segment is not None:
        parts.append(f"segment {transition.segment}")
    if transition.witnesses:
        parts.append(f"seen by {', '.join(transition.witnesses)}")
    if transition.gap:
        parts.append("more may have happened before it")
    return "; ".join(parts)
