"""A run as a CI system shows it: a case of a suite, its outcome, and all there is to say of it.

Owns: what counts as failed, and the text that stands with it: what was expected as a diff, and the
ladder. Must not know in which format it is written.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from tcpwatch.model.events import (
    Payload,
    SegmentFate,
    SegmentSeen,
    SocketSampled,
    StateReported,
    UserCall,
)
from tcpwatch.model.identity import FourTuple
from tcpwatch.model.timeline import Connection, Expectation, Judged, Verdict
from tcpwatch.views.canvas import visible
from tcpwatch.views.runs import Run, Unplayed

_WIDTH = 100  # cells: no terminal is asked, a log is wide
_LONGEST = 60_000  # characters of one ladder: a page of CI shows no more


class Outcome(Enum):
    """PASSED needs evidence: what is INCONCLUSIVE is an error, since CI shows a skip as green."""

    PASSED = "passed"
    FAILED = "failure"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Case:
    """One run. What was expected of it stands in ``file``, at ``line``, where that is known."""

    suite: str
    name: str
    run: Run
    file: Path | None = None
    line: int = 1

    @property
    def outcome(self) -> Outcome:
        if isinstance(self.run, Unplayed) or self.run.verdict is Verdict.INCONCLUSIVE:
            return Outcome.ERROR
        return Outcome.PASSED if self.run.verdict is Verdict.PASS else Outcome.FAILED

    @property
    def kind(self) -> str:
        """PASS, FAIL, INCONCLUSIVE, or ERROR where there was no run at all."""
        return "ERROR" if isinstance(self.run, Unplayed) else self.run.verdict.value.upper()

    @property
    def message(self) -> str:
        """Why it did not pass, in a line; empty where it did."""
        if isinstance(self.run, Unplayed):
            return visible(self.run.reason)
        return visible(self.run.reasons[0]) if self.run.reasons else ""

    @property
    def details(self) -> str:
        """The reasons, what was expected as a diff, and the ladder. Its text is safe to print."""
        if isinstance(self.run, Unplayed):
            return f"{visible(self.run.reason)}\n"
        reasons = [f"{visible(reason)}\n" for reason in self.run.reasons]
        return "\n".join([*reasons, *self.diffs, ladder_text(self.run)])

    @property
    def diffs(self) -> list[str]:
        """Of each expectation that was not met: expected (-) against witnessed (+), as lines."""
        return [] if isinstance(self.run, Unplayed) else diffs(self.run.expectations)

    @property
    def duration_s(self) -> float:
        return self.run.record.end_ns / 1e9 if isinstance(self.run, Judged) else 0.0


def numbered(cases: Iterable[Case]) -> list[Case]:
    """The same, each with a name of its own: what was played again is ``normal-close #2``."""
    met: dict[tuple[str, str], int] = {}
    named: list[Case] = []
    for case in cases:
        count = met[case.suite, case.name] = met.get((case.suite, case.name), 0) + 1
        name = case.name if count == 1 else f"{case.name} #{count}"
        named.append(replace(case, name=name))
    return named


def diffs(expectations: Iterable[Expectation]) -> list[str]:
    """Of each expectation that was not met, or perhaps not: expected (-) against witnessed (+)."""
    return [
        f"{visible(one.endpoint)}: {visible(one.pattern)}\n"
        + "".join(f"  {visible(line)}\n" for line in one.explanation.splitlines())
        for one in expectations
        if one.met is not True and one.explanation
    ]


def ladder_of(judged: Judged, connection: Connection, width: int = _WIDTH) -> str:
    """The ladder of one of a run's connections, as if there were no others."""
    mine = {connection.id.four_tuple, connection.id.four_tuple.flipped}
    numbers = {trace.n for trace in connection.segments}
    events = tuple(
        event
        for event in judged.timeline.events
        if _tuple_of(event.payload) in mine
        or (isinstance(event.payload, SegmentFate) and event.payload.n in numbers)
    )
    timeline = replace(judged.timeline, events=events, connections=(connection,), findings=())
    return ladder_text(replace(judged, timeline=timeline, expectations=(), reasons=()), width)


def ladder_text(judged: Judged, width: int = _WIDTH) -> str:
    """The run's ladder from its head to its verdict, without colour.

    Its events go through a tracker once more: the ladder draws what happened as it became known.
    """
    from tcpwatch.machine.tracker import Tracker
    from tcpwatch.views.ladder import Ladder

    record = judged.record
    attending = [str(one["name"]) for one in record.sources if one.get("available")]
    tracker = Tracker(
        roles=record.roles,
        attending=attending,
        newborn_only=True,
        loopback=bool(record.lab.get("loopback")),
    )
    pieces: list[str] = []
    ladder = Ladder(pieces.append, width=width)
    ladder.begin(record)
    for event in judged.timeline.events:
        ladder.feed(tracker.feed(event))
    ladder.finish(judged)
    text = "".join(pieces)
    if len(text) <= _LONGEST:
        return text
    half = _LONGEST // 2
    left_out = len(text) - 2 * half
    return f"{text[:half]}\n[{left_out} characters of the ladder left out]\n{text[-half:]}"


def _tuple_of(payload: Payload) -> FourTuple | None:
    match payload:
        case SegmentSeen():
            return FourTuple(payload.src, payload.dst)
        case StateReported() | SocketSampled():
            return FourTuple(payload.local, payload.remote)
        case UserCall() if payload.local and payload.remote:
            return FourTuple(payload.local, payload.remote)
        case _:
            return None
