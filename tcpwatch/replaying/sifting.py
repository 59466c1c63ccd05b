"""Which of a replay's connections are shown, what is counted of them, and how they are judged.

Owns: the filter, the demands and the order of oddity, applied to rows. Must not know where rows
come from, nor how anything is shown.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from tcpwatch.errors import ExitCode, PlacedError
from tcpwatch.machine.census import Census
from tcpwatch.machine.expecting import Demand, DemandError, parse_demand
from tcpwatch.machine.filtering import And, FilterError, Node, parse_filter
from tcpwatch.machine.oddity import Oddity, oddities, weight
from tcpwatch.machine.row_fields import A_CAPTURE, CAPTURE_FIELDS, RowSubject
from tcpwatch.machine.rows import Course, Row
from tcpwatch.machine.verdict import Court, path_elements
from tcpwatch.model.timeline import Answer, Belief, Endpoint, Expectation, RunRecord

WAYS_AT_MOST: Final = 50
"""Of each demand: so many ways that were not as demanded are kept apart, and so many doubtful."""

EVERYTHING: Final = And(())


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asks of connections. ``top``: so many of the oddest."""

    selects: Node = EVERYTHING
    demands: tuple[Demand, ...] = ()
    top: int | None = None

    @property
    def is_plain(self) -> bool:
        """Whether nothing is asked."""
        return self == Wish()


def wish_of(selects: str | None, demands: Iterable[str], top: int | None) -> Wish:
    """The wish in the command line's words. Raises PlacedError."""
    try:
        return Wish(
            parse_filter(selects or "", source=A_CAPTURE, has=CAPTURE_FIELDS),
            tuple(parse_demand(one, source=A_CAPTURE, has=CAPTURE_FIELDS) for one in demands),
            top,
        )
    except (FilterError, DemandError) as error:
        raise PlacedError(str(error), error.text, error.column, ExitCode.USAGE) from None


Path = tuple[Belief, ...]


@dataclass(slots=True)
class Case:
    """An end that did not go as demanded, or perhaps not; ``count`` went that way, it was first."""

    row: Row
    answer: Answer
    count: int = 1

    def explain(self, answer: Answer) -> None:
        """The same answer, with the evidence that a row does not have."""
        if answer.expectation.met is self.answer.expectation.met:
            self.answer = answer


@dataclass(slots=True)
class Tally:
    """How the ends that a demand is about went. Those that did not so are told by their way."""

    demand: Demand
    met: int = 0
    unmet: int = 0
    doubtful: int = 0
    wrong: dict[Path, Case] = field(default_factory=dict)
    unsure: dict[Path, Case] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return self.met + self.unmet + self.doubtful

    def explain(self, answers: Iterable[Answer]) -> None:
        """Gives those that are told the evidence that is in ``answers``, to whatever they are."""
        known = {(a.expectation.endpoint, a.expectation.asked): a for a in answers}
        for case in (*self.wrong.values(), *self.unsure.values()):
            told = case.answer.expectation
            case.explain(known.get((told.endpoint, told.asked), case.answer))

    @property
    def answers(self) -> Iterator[Answer]:
        """Enough of them for the verdict."""
        yield from (case.answer for case in (*self.wrong.values(), *self.unsure.values()))
        pattern, text = self.demand.pattern.text, self.demand.text
        if self.met:
            yield Answer(Expectation(self.demand.role, pattern, met=True, asked=text))
        if not self.total:
            selects = str(self.demand.selects)
            whose = f"connection that {selects} selects" if selects else "connection"
            none = f"no {whose} with such an end was seen"
            yield Answer(Expectation(self.demand.role, pattern, None, none, text), none)


@dataclass(slots=True)
class Sifted:
    """What came of it. ``seen`` counts all connections, ``census`` those that are selected.

    ``picked`` are the first of them, at most as many as were to be kept. ``top``: the oddest.
    """

    wish: Wish
    end_ns: int
    seen: int = 0
    census: Census = field(default_factory=Census)
    picked: list[Row] = field(default_factory=list)
    top: list[tuple[Row, tuple[Oddity, ...]]] = field(default_factory=list)
    tallies: list[Tally] = field(default_factory=list)

    @property
    def answers(self) -> list[Answer]:
        return [answer for tally in self.tallies for answer in tally.answers]


def sift(
    rows: Iterable[Row],
    wish: Wish,
    record: RunRecord,
    *,
    keep: int,
    write: Callable[[Row], object] | None = None,
) -> Sifted:
    """Applies a wish to rows. ``keep`` so many of those selected; ``write`` gets each of them."""
    end_ns = record.end_ns
    sifted = Sifted(wish, end_ns, tallies=[Tally(demand) for demand in wish.demands])
    judges = [_Judge(tally, Court(record, end_ns)) for tally in sifted.tallies]
    odd = _Oddest(wish.top or 0, end_ns)
    for row in rows:
        sifted.seen += 1
        subject = RowSubject(row, end_ns)
        if not wish.selects.matches(subject):
            continue
        sifted.census.add(row)
        if len(sifted.picked) < keep:
            sifted.picked.append(row)
        for judge in judges:
            judge.hear(row, subject)
        if wish.top:
            odd.add(row)
        if write is not None:
            write(row)
    sifted.top = odd.found
    return sifted


class _Judge:
    """One demand, heard for one connection after another."""

    def __init__(self, tally: Tally, court: Court) -> None:
        self._tally = tally
        self._court = court
        # Without a bound on time connections of one course go one way; with one, some still do.
        self._timeless = "[" not in tally.demand.pattern.text
        self._known: dict[tuple[Course, int], bool | None] = {}
        self._open: set[tuple[Course, int]] = set()

    def hear(self, row: Row, subject: RowSubject) -> None:
        demand = self._tally.demand
        if demand.selects.matches(subject):
            for place, end in enumerate(row.course.ends):
                if demand.is_about(end.role):
                    self._hear_end(row, place)

    def _met(self, row: Row, place: int) -> bool | None:
        key = row.course, place
        if key in self._known:
            return self._known[key]
        endpoint = row.endpoints[place]
        if not self._timeless and key not in self._open:
            self._open.add(key)
            times_unknown = (
                replace(one, dwell_ns=0, ended=False) for one in path_elements(endpoint, 0)
            )
            if self._tally.demand.pattern.match(tuple(times_unknown)):
                self._known[key] = True
        met = self._answer(row, endpoint, explained=False).expectation.met
        if self._timeless:
            self._known[key] = met
        return met

    def _hear_end(self, row: Row, place: int) -> None:
        tally, path = self._tally, row.course.ends[place].path
        met = self._met(row, place)
        if met:
            tally.met += 1
            return
        tally.unmet += met is False
        tally.doubtful += met is None
        cases = tally.unsure if met is None else tally.wrong
        if path in cases:
            cases[path].count += 1
        elif len(cases) < WAYS_AT_MOST:
            cases[path] = Case(row, self._answer(row, row.endpoints[place], explained=True))

    def _answer(self, row: Row, endpoint: Endpoint, *, explained: bool) -> Answer:
        demand = self._tally.demand
        key = f"{endpoint.role} {row.number}"
        answer = self._court.answer(key, demand.pattern, endpoint, explained=explained)
        return replace(answer, expectation=replace(answer.expectation, asked=demand.text))


class _Oddest:
    """The oddest so far, in a heap of fixed size."""

    def __init__(self, count: int, end_ns: int) -> None:
        self._count = count
        self._end_ns = end_ns
        self._heap: list[tuple[float, int, int, Row, tuple[Oddity, ...]]] = []
        self._met = 0

    def add(self, row: Row) -> None:
        odd = oddities(row, self._end_ns)
        if not odd:
            return
        self._met += 1
        entry = (weight(odd), -row.number, self._met, row, odd)
        if len(self._heap) < self._count:
            heapq.heappush(self._heap, entry)
        elif entry > self._heap[0]:
            heapq.heapreplace(self._heap, entry)

    @property
    def found(self) -> list[tuple[Row, tuple[Oddity, ...]]]:
        return [(row, odd) for *_, row, odd in sorted(self._heap, reverse=True)]
