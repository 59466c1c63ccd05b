"""The judgement: expectations against the witnessed paths, PASS, FAIL or INCONCLUSIVE.

Owns: that PASS and FAIL need evidence. Wherever a gap, a blind spot or a disagreement could
explain the difference, the answer is INCONCLUSIVE. Must not know how a view shows it.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, zip_longest

from tcpwatch.machine.pattern import PathElement, Pattern
from tcpwatch.machine.table import edges
from tcpwatch.machine.witnessing import unseen_after
from tcpwatch.model.events import KERNEL, Gap
from tcpwatch.model.timeline import (
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


def judge(record: RunRecord, timeline: Timeline) -> Judged:
    """The verdict on a finished run, with its reasons, the weightiest first."""
    cut_short = bool(record.problem or record.failed_checks or record.inconclusive)
    expectations = tuple(
        _expectation(role, text, timeline, cut_short=cut_short, attending=_attending(record))
        for key, text in record.expect.items()
        for role in _ends(key, timeline)
    )
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
    for expectation in expectations:
        if expectation.met is False:
            reason = f"{expectation.endpoint}: {_summary(expectation, timeline)}"
            (doubts if losses else failures).append(reason)
        elif expectation.met is None and not cut_short:
            doubts.append(f"{expectation.endpoint}: {_summary(expectation, timeline)}")
    if doubts:
        doubts += losses
    if failures and not record.inconclusive:
        return Judged(record, timeline, Verdict.FAIL, (*failures, *doubts), expectations)
    if doubts or failures:
        return Judged(record, timeline, Verdict.INCONCLUSIVE, (*doubts, *failures), expectations)
    if not expectations and not timeline.connections:
        nothing = "no path was expected, and no connection was seen"
        return Judged(record, timeline, Verdict.INCONCLUSIVE, (nothing,), ())
    return Judged(record, timeline, Verdict.PASS, (), expectations)


def _ends(key: str, timeline: Timeline) -> list[str]:
    """Whom an expectation is of: ``every client`` is ``client 1``, ``client 2`` and so on."""
    every, _, role = key.partition(" ")
    if every != "every":
        return [key]
    numbers = [c.number for c in timeline.connections if any(e.role == role for e in c.endpoints)]
    return [f"{role} {number}" for number in numbers] or [key]


def _endpoint(role: str, timeline: Timeline) -> Endpoint | None:
    """The first connection's end of that role; ``client 2`` is the second connection's."""
    name, _, number = role.partition(" ")
    wanted = int(number) if number.isdigit() else 1
    connection = next((c for c in timeline.connections if c.number == wanted), None)
    if connection is None:
        return None
    return next((end for end in connection.endpoints if end.role == name), None)


def _attending(record: RunRecord) -> frozenset[str]:
    return frozenset(str(source["name"]) for source in record.sources if source["available"])


def _expectation(
    role: str, text: str, timeline: Timeline, *, cut_short: bool, attending: frozenset[str]
) -> Expectation:
    pattern = Pattern(text)
    endpoint = _endpoint(role, timeline)
    if endpoint is None:
        return Expectation(role, text, None, "no such connection was seen")
    path = path_elements(endpoint, timeline.end_ns)
    met = pattern.match(path)
    if met is False and _outlived(endpoint):
        met = pattern.match(path[:-1]) or met
    if met is False and cut_short and pattern.agrees_up_to(path) == len(path):
        return Expectation(role, text, None, "it was as expected as far as it went")
    if met is False and pattern.match(_with_unseen(path, attending)) is not False:
        alone = " and ".join(f"the {name}" for name in sorted(attending))
        return Expectation(role, text, None, f"{alone} alone cannot see all that would be")
    return Expectation(role, text, met, "" if met else difference(pattern, endpoint, path))


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


def _summary(expectation: Expectation, timeline: Timeline) -> str:
    endpoint = _endpoint(expectation.endpoint, timeline)
    if endpoint is None:
        return "no such connection was seen"
    went = " > ".join(str(belief) for belief in endpoint.path)
    if expectation.met is False:
        return f"the witnessed path {went} is not {expectation.pattern}"
    gaps = [str(step.after) for step in endpoint.transitions if step.gap]
    why = f": more may have happened before {' and '.join(gaps)}" if gaps else ""
    return f"the witnessed path {went} may or may not be {expectation.pattern}{why}"


def difference(pattern: Pattern, endpoint: Endpoint, path: tuple[PathElement, ...]) -> str:
    """Expected (-) against witnessed (+), an element a line.

    The evidence stands at the first that was witnessed and not expected, or at the last of all.
    """
    if pattern.never:
        return f"- {pattern.text}\n" + "\n".join(f"+ {belief}" for belief in endpoint.path)
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
