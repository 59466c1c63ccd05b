"""The judgement: expectations against the witnessed paths, PASS, FAIL or INCONCLUSIVE.

Owns: that PASS and FAIL need evidence. Wherever a gap, a blind spot or a disagreement could
explain the difference, the answer is INCONCLUSIVE. Must not know how a view shows it.
"""

from __future__ import annotations

from difflib import SequenceMatcher

from tcpwatch.machine.pattern import PathElement, Pattern
from tcpwatch.model.events import Gap
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


def path_elements(endpoint: Endpoint, end_ns: int) -> tuple[PathElement, ...]:
    """An endpoint's path as patterns see it. The last state goes on; the first began unseen."""
    times = [transition.t_ns for transition in endpoint.transitions]
    left = [*times, end_ns]
    entered = [0, *times]
    gaps = [False, *(transition.gap for transition in endpoint.transitions)]
    last = len(times)
    return tuple(
        PathElement(belief.states, max(left[i] - entered[i], 0), i < last, gaps[i])
        for i, belief in enumerate(endpoint.path)
    )


def judge(record: RunRecord, timeline: Timeline) -> Judged:
    """The verdict on a finished run, with its reasons, the weightiest first."""
    expectations = tuple(_expectation(role, text, timeline) for role, text in record.expect.items())
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
        elif expectation.met is None:
            doubts.append(f"{expectation.endpoint}: {_summary(expectation, timeline)}")
    if doubts:
        doubts += losses
    if failures and not record.inconclusive:
        return Judged(record, timeline, Verdict.FAIL, (*failures, *doubts), expectations)
    if doubts or failures:
        return Judged(record, timeline, Verdict.INCONCLUSIVE, (*doubts, *failures), expectations)
    return Judged(record, timeline, Verdict.PASS, (), expectations)


def _endpoint(role: str, timeline: Timeline) -> Endpoint | None:
    """The first connection's end of that role; ``client 2`` is the second connection's."""
    name, _, number = role.partition(" ")
    wanted = int(number) if number.isdigit() else 1
    connection = next((c for c in timeline.connections if c.number == wanted), None)
    if connection is None:
        return None
    return next((end for end in connection.endpoints if end.role == name), None)


def _expectation(role: str, text: str, timeline: Timeline) -> Expectation:
    pattern = Pattern(text)
    endpoint = _endpoint(role, timeline)
    if endpoint is None:
        return Expectation(role, text, None, "no such connection was seen")
    path = path_elements(endpoint, timeline.end_ns)
    met = pattern.match(path)
    return Expectation(role, text, met, "" if met else difference(pattern, endpoint, path))


def _summary(expectation: Expectation, timeline: Timeline) -> str:
    endpoint = _endpoint(expectation.endpoint, timeline)
    if endpoint is None:
        return "no such connection was seen"
    went = " > ".join(str(belief) for belief in endpoint.path)
    told = "is not" if expectation.met is False else "may not be"
    return f"the witnessed path {went} {told} {expectation.pattern}"


def difference(pattern: Pattern, endpoint: Endpoint, path: tuple[PathElement, ...]) -> str:
    """Expected (-) against witnessed (+), an element a line.

    The evidence stands at the first difference.
    """
    if pattern.never:
        return f"- {pattern.text}\n" + "\n".join(f"+ {belief}" for belief in endpoint.path)
    witnessed = [str(belief) for belief in endpoint.path]
    expected = list(pattern.elements)
    place = pattern.agrees_up_to(path)
    lines: list[str] = []
    told = False
    for tag, e1, e2, w1, w2 in SequenceMatcher(
        a=expected, b=witnessed, autojunk=False
    ).get_opcodes():
        if tag == "equal":
            lines += [f"  {text}" for text in expected[e1:e2]]
            continue
        lines += [f"- {text}" for text in expected[e1:e2]]
        for index in range(w1, w2):
            lines.append(f"+ {witnessed[index]}")
            if not told and index >= min(place, len(witnessed) - 1):
                lines += _evidence(endpoint, index)
                told = True
    if not told and endpoint.transitions:
        lines += [
            f"  the last that was witnessed: {witnessed[-1]}",
            *_evidence(endpoint, len(witnessed) - 1),
        ]
    return "\n".join(lines)


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
