"""A replay concluded: what happened, which connections are selected, the verdict on them.

Owns: how the machine is fed with a recording, and that a selection keeps the numbers that its
connections have in the whole. Must not know where events come from, nor how anything is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tcpwatch.machine.pattern import Pattern
from tcpwatch.machine.row_fields import RowSubject
from tcpwatch.machine.rows import Row, row_of
from tcpwatch.machine.tracker import Tracker
from tcpwatch.machine.verdict import Court, judge
from tcpwatch.model.events import Event
from tcpwatch.model.identity import ConnectionId
from tcpwatch.model.recording import Recording
from tcpwatch.model.timeline import (
    CAPTURE,
    Answer,
    Connection,
    Happening,
    Judged,
    RunRecord,
    Timeline,
    Verdict,
)
from tcpwatch.replaying.sifting import Case, Sifted, Wish, sift
from tcpwatch.views.sifted import selection


@dataclass(frozen=True, slots=True)
class Replayed:
    """A run as it is shown. Where it is only counted it has no ``happenings``.

    ``sifted`` is None where nothing was asked, so that nothing was to be counted.
    """

    judged: Judged
    sifted: Sifted | None
    happenings: tuple[Happening, ...] = ()


def tracker_of(recording: Recording) -> tuple[RunRecord, Tracker]:
    """What a recording's events are to be fed to, and its record: one that is cut off says so."""
    record = recording.record
    if not recording.complete:
        # A check that failed, a problem, what was lost: all that stood in the foot.
        cut_off = "the recording is cut off before its end"
        record = replace(record, inconclusive=(*record.inconclusive, cut_off))
    loopback = bool(record.lab.get("loopback"))
    attending = [str(one["name"]) for one in record.sources if one.get("available")]
    of_host = record.lab.get("kind") == "host"
    return record, Tracker(
        roles=record.roles,
        attending=attending,
        newborn_only=not of_host,
        loopback=loopback,
        of_host=of_host,
    )


def concluded(recording: Recording) -> Judged:
    """All of a recording, as `conclude` has it where nothing more is asked."""
    record, tracker = tracker_of(recording)
    for event in recording.events:
        tracker.feed(event)
    return judge(record, _timeline(record, tracker))


def _timeline(record: RunRecord, tracker: Tracker) -> Timeline:
    """What the events told, once all are fed, and what the record has beside them."""
    timeline = tracker.timeline(record.end_ns)
    return replace(timeline, findings=(*timeline.findings, *record.findings))


def conclude(
    record: RunRecord,
    tracker: Tracker,
    events: Iterable[Event],
    wish: Wish,
    *,
    sifted: Sifted | None = None,
    count: bool = False,
    write: Callable[[Row], object] | None = None,
) -> Replayed:
    """Feeds all events to the machine. ``sifted``: what is known already of which to show.

    ``count``: the connections are to be counted, even if nothing is asked.
    """
    happenings = tuple(tracker.feed(event) for event in events)
    timeline = _timeline(record, tracker)
    if sifted is None and wish.is_plain and write is None and not count:
        return Replayed(judge(record, timeline), None, happenings)
    if sifted is None:
        rows = [row_of(one, timeline.findings) for one in timeline.connections]
        sifted = sift(rows, wish, record, keep=len(rows), write=write)
    numbers = _numbers(sifted.picked, timeline)
    chosen = timeline
    if any(numbers.get(one.id) != one.number for one in timeline.connections):
        whole = record.lab.get("kind") != CAPTURE  # then calls and processes are of all
        happenings, chosen = _chosen(happenings, timeline, numbers, whole=whole)
    record = told_selection(record, sifted)
    # What was expected of a run is of all its connections, whichever are looked at.
    everything = timeline if record.expect or record.answers else chosen
    answers = list(_answers(sifted, chosen, record))
    for tally in sifted.tallies:
        tally.explain(answers)
    judged = judge(record, everything, answers)
    return Replayed(_unselected(replace(judged, timeline=chosen), sifted), sifted, happenings)


def counted(record: RunRecord, sifted: Sifted) -> Replayed:
    """A capture whose connections are counted, and not followed one by one."""
    record = told_selection(record, sifted)
    timeline = Timeline((), (), tuple(sifted.census.findings), sifted.end_ns)
    count = sifted.census.connections
    judged = judge(record, timeline, sifted.answers, connections=count)
    return Replayed(_unselected(judged, sifted), sifted)


def _unselected(judged: Judged, sifted: Sifted) -> Judged:
    """Where the filter left nothing, that is why nothing can be said."""
    if sifted.census.connections or not sifted.seen or sifted.tallies:
        return judged
    reasons = ("the filter selects no connection",)
    return replace(judged, verdict=Verdict.INCONCLUSIVE, reasons=reasons)


def told_selection(record: RunRecord, sifted: Sifted) -> RunRecord:
    """The record, which says what was selected of the whole."""
    selects, chosen = str(sifted.wish.selects), sifted.census.connections
    told = selection(selects, sifted.seen, chosen)
    if not told:
        return record
    lab = {**record.lab, "filter": selects, "seen": sifted.seen, "selected": chosen}
    return replace(record, claim=f"{record.claim.rstrip('.')}; {told}", lab=lab)


def add_evidence(
    cases: Iterable[Case], record: RunRecord, tracker: Tracker, events: Iterable[Event]
) -> None:
    """Explains the failures that are shown anew, with all their evidence: from their events."""
    happenings = [tracker.feed(event) for event in events]
    whole = tracker.timeline(record.end_ns)
    numbers = _numbers([case.row for case in cases], whole)
    _, timeline = _chosen(happenings, whole, numbers, whole=False)
    court = Court(record, timeline.end_ns)
    ends = {f"{e.role} {c.number}": e for c in timeline.connections for e in c.endpoints}
    for case in cases:
        told = case.answer.expectation
        if told.endpoint in ends:
            again = court.answer(told.endpoint, Pattern(told.pattern), ends[told.endpoint])
            case.explain(_asked(again, told.asked))


def _answers(sifted: Sifted, timeline: Timeline, record: RunRecord) -> Iterator[Answer]:
    """To every demand, of every connection that it is about."""
    court = Court(record, timeline.end_ns)
    rows = {row.number: row for row in sifted.picked}
    for tally in sifted.tallies:
        demand, asked = tally.demand, False
        for connection in timeline.connections:
            subject = RowSubject(rows[connection.number], sifted.end_ns)
            if not demand.selects.matches(subject):
                continue
            for end in connection.endpoints:
                if demand.is_about(end.role):
                    key = f"{end.role} {connection.number}"
                    yield _asked(court.answer(key, demand.pattern, end), demand.text)
                    asked = True
        if not asked:
            yield from tally.answers


def _numbers(picked: Iterable[Row], timeline: Timeline) -> dict[ConnectionId, int]:
    """By which number each connection goes that is one of those.

    What was given up after a long silence, and then went on, is two rows and one connection.
    """
    known = {one.id for one in timeline.connections}
    numbers: dict[ConnectionId, int] = {}
    for row in picked:
        found = row.id
        while found not in known and found.generation:
            found = replace(found, generation=found.generation - 1)
        numbers.setdefault(found, row.number)
    return numbers


def _asked(answer: Answer, text: str) -> Answer:
    return replace(answer, expectation=replace(answer.expectation, asked=text))


def _chosen(
    happenings: Sequence[Happening],
    timeline: Timeline,
    numbers: Mapping[ConnectionId, int],
    *,
    whole: bool,
) -> tuple[tuple[Happening, ...], Timeline]:
    """Only those connections, by those numbers, and what happened to them."""
    known = {one.number: numbers[one.id] for one in timeline.connections if one.id in numbers}

    def renumbered(one: Happening) -> Happening:
        moves = (
            replace(m, connection=known[m.connection]) for m in one.moves if m.connection in known
        )
        number = None if one.connection is None else known[one.connection]
        return replace(one, connection=number, moves=tuple(moves))

    kept = tuple(
        renumbered(one)
        for one in happenings
        if one.connection in known or (whole and one.connection is None)
    )
    connections = (
        replace(one, number=known[one.number])
        for one in timeline.connections
        if one.number in known
    )
    findings = (
        replace(one, connection=None if one.connection is None else known[one.connection])
        for one in timeline.findings
        if one.connection in known or (whole and one.connection is None)
    )
    return kept, Timeline(
        tuple(sorted(connections, key=_number)),
        tuple(one.event for one in kept),
        tuple(findings),
        timeline.end_ns,
    )


def _number(connection: Connection) -> int:
    return connection.number
