"""A saved result (`--json`) as the baseline for others: what is the same on every kernel, or not.

Owns: which facts of a run are compared, and that a difference which missing evidence could explain
is none. Several saved runs of a scenario are all the ways it can go. Must not know how it is shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Any, Self

from tcpwatch.model.timeline import Verdict
from tcpwatch.tcp.state import TcpState

_SCHEMA = "tcpwatch/1"
_INCONCLUSIVE = "inconclusive"
_ERRNO, _MEASURED = "errno", "measured "
_TABLE_ALONE = frozenset({"table", "calls"})
_LAB = (re.compile(r"\b10\.77\.\d+\."), re.compile(r"\bfd77:0:0:[0-9a-f]+::"))
_OF_LAB = ("kind", "ip", "latency_ms")  # what decides how a scenario is played


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that a run showed. ``lines`` tell it; of a path, each is the states possible.

    ``doubtful``: the evidence is too thin to say that it was not otherwise. ``unknown``: nobody who
    could have seen it was there.
    """

    lines: tuple[str, ...]
    doubtful: bool = False
    unknown: bool = False

    def agrees(self, other: Fact) -> bool:
        """Whether both can be the same, all the states that either may have had considered."""
        if self.unknown or other.unknown:
            return True
        return len(self.lines) == len(other.lines) and all(
            {*one.split(" or ")} & {*two.split(" or ")}
            for one, two in zip(self.lines, other.lines, strict=True)
        )


_NOTHING = Fact(())


@dataclass(frozen=True, slots=True)
class Change:
    """A fact that is otherwise now. ``certain``: no missing evidence could explain it."""

    what: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    certain: bool

    def diff(self) -> Iterator[tuple[str, str]]:
        """Before (-) against after (+): the sign and the line, both in order."""
        matcher = SequenceMatcher(a=self.before, b=self.after, autojunk=False)
        for tag, i1, i2, j1, j2 in matcher.get_opcodes():
            if tag == "equal":
                yield from ((" ", line) for line in self.before[i1:i2])
            else:
                yield from (("-", line) for line in self.before[i1:i2])
                yield from (("+", line) for line in self.after[j1:j2])


@dataclass(frozen=True, slots=True)
class Compared:
    """One scenario. ``incomparable`` says why it could not be compared at all."""

    scenario: str
    changes: tuple[Change, ...] = ()
    incomparable: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """All scenarios, with the kernels of both sides; ``notes``: what else was not the same."""

    before: str
    after: str
    scenarios: tuple[Compared, ...]
    notes: tuple[str, ...] = ()

    @property
    def changed(self) -> int:
        """How many scenarios go otherwise now, for certain."""
        return sum(any(change.certain for change in one.changes) for one in self.scenarios)

    @property
    def undecided(self) -> int:
        """How many could not be compared, or only in part."""
        return sum(
            bool(one.incomparable or one.changes) and not any(c.certain for c in one.changes)
            for one in self.scenarios
        )

    @property
    def verdict(self) -> Verdict:
        """PASS: all could be compared, and nothing has changed."""
        if self.changed:
            return Verdict.FAIL
        return Verdict.INCONCLUSIVE if self.undecided else Verdict.PASS


@dataclass(frozen=True, slots=True)
class _Run:
    """A run's document, as far as it is compared."""

    scenario: str
    verdict: str
    reason: str
    lab: tuple[tuple[str, str], ...]
    kernel: str
    thin: bool  # the table alone was there to see
    facts: Mapping[str, Fact]

    def without(self, chance: Collection[str]) -> _Run:
        """The same but for what chance decides: measured values, calls that failed."""

        def by_chance(told: str) -> bool:
            return any(f": {told}".endswith(f": {name}") for name in chance)

        facts = {
            name: fact
            for name, fact in self.facts.items()
            if not (name.startswith(_MEASURED) and by_chance(name.removeprefix(_MEASURED)))
        }
        failed = facts.get(_ERRNO, _NOTHING).lines
        facts[_ERRNO] = Fact(tuple(line for line in failed if not by_chance(line)))
        return replace(self, facts=facts)


class Baseline:
    """The runs of a saved result, by scenario."""

    def __init__(self, runs: Iterable[_Run]) -> None:
        self._runs: dict[str, list[_Run]] = {}
        for run in runs:
            self._runs.setdefault(run.scenario, []).append(run)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The result that the text is. Raises ValueError where it is none."""
        try:
            return cls([_run(one) for one in _documents(json.loads(text))])
        except RecursionError as error:
            raise ValueError("it is nested too deeply") from error
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("it is no whole result of tcpwatch's") from error

    def compare(
        self,
        documents: Iterable[Mapping[str, Any]],
        *,
        every: bool = False,
        chance: Mapping[str, Collection[str]] | None = None,
    ) -> Comparison:
        """The documents of runs against it. ``every``: all that it has were to be played.

        ``chance``: what a scenario of that name declares to be decided by it, as its CHANCE.
        """
        left_out = chance or {}
        played: dict[str, list[_Run]] = {}
        for run in map(_run, documents):
            played.setdefault(run.scenario, []).append(run)
        compared = [
            _compared(
                [one.without(left_out.get(name, ())) for one in self._runs.get(name, [])],
                [one.without(left_out.get(name, ())) for one in runs],
            )
            for name, runs in played.items()
        ]
        if every:
            compared += [
                Compared(name, incomparable="it was not played now")
                for name in self._runs
                if name not in played
            ]
        before = [run for runs in self._runs.values() for run in runs]
        after = [run for runs in played.values() for run in runs]
        notes = _notes(before, after)
        return Comparison(_kernels(before), _kernels(after), tuple(compared), tuple(notes))


def _compared(before: Sequence[_Run], after: Sequence[_Run]) -> Compared:
    name = after[0].scenario
    if not before:
        return Compared(name, incomparable="it is not in the baseline")
    told = [run for run in before if run.verdict != _INCONCLUSIVE]
    if not told:
        why = f"the baseline's is INCONCLUSIVE: {before[0].reason}"
        return Compared(name, incomparable=why)
    changes: dict[str, Change] = {}
    doubts = [run for run in after if run.verdict == _INCONCLUSIVE]
    for run in after:
        if run not in doubts:
            for change in _changes(told, run):
                changes.setdefault(change.what, change)
    why = f"it is INCONCLUSIVE now: {doubts[0].reason}" if doubts else ""
    return Compared(name, tuple(changes.values()), why)


def _changes(before: Sequence[_Run], run: _Run) -> Iterator[Change]:
    """What none of the baseline's runs of that scenario had so."""
    names = dict.fromkeys(name for one in (*before, run) for name in one.facts)
    thin = run.thin or any(one.thin for one in before)
    for name in names:
        after = run.facts.get(name, _NOTHING)
        known = [one.facts.get(name, _NOTHING) for one in before]
        if any(fact.agrees(after) for fact in known):
            continue
        nearest = max(known, key=lambda fact: _likeness(fact, after))
        certain = not (thin or nearest.doubtful or after.doubtful)
        yield Change(name, nearest.lines, after.lines, certain)


def _likeness(one: Fact, other: Fact) -> float:
    return SequenceMatcher(a=one.lines, b=other.lines, autojunk=False).ratio()


def _kernels(runs: Iterable[_Run]) -> str:
    return " and ".join(dict.fromkeys(run.kernel for run in runs)) or "no kernel"


def _notes(before: Sequence[_Run], after: Sequence[_Run]) -> Iterator[str]:
    """How the lab was otherwise, where it was: that may be why."""
    if not before or not after:
        return
    for (key, was), (_, now) in zip(before[0].lab, after[0].lab, strict=True):
        if was != now:
            yield f"{key.removesuffix('_ms')} was {was} in the baseline, and is {now} now"


# ---------------------------------------------------------------------- documents


def _documents(document: Any) -> list[Any]:
    if document["schema"] != _SCHEMA:
        raise ValueError("it has another schema")
    return list(document.get("runs", [document]))


def _run(document: Mapping[str, Any]) -> _Run:
    """Raises KeyError, TypeError, AttributeError or ValueError where it is not a run's document."""
    lab = document["lab"]
    seen = {str(one["name"]) for one in document["sources"] if one["available"]}
    reasons = document["reasons"]
    return _Run(
        str(document["scenario"]),
        str(document["verdict"]),
        str(reasons[0]) if reasons else "",
        tuple((key, str(lab.get(key, ""))) for key in _OF_LAB),
        str(lab.get("kernel", "an unknown kernel")),
        seen <= _TABLE_ALONE,
        dict(_facts(document)),
    )


def _facts(document: Mapping[str, Any]) -> Iterator[tuple[str, Fact]]:
    """What of a run should be the same whenever the same kernel plays it.

    Not its times, nor how many segments it took: chance decides on those.
    """
    yield "verdict", Fact((str(document["verdict"]).upper(),))
    connections = document["connections"]
    yield "connections", Fact((str(len(connections)),))
    for connection in connections:
        number = f" {connection['id']}" if len(connections) > 1 else ""
        for end in connection["endpoints"]:
            yield f"{end['role']}{number}", _path(end)
        closed = f"{connection['closed_by']}, {connection['close_reason']}"
        yield f"closed by{number}", Fact((closed,), unknown=not connection["segments"])
    failed = {
        f"{call['process']}: {call['call']}() {call['errno']}"
        for call in document["calls"]
        if call["errno"] is not None
    }
    yield _ERRNO, Fact(tuple(sorted(failed)))
    measured: dict[str, list[str]] = {}
    for one in document["measurements"]:
        what = f"{one['case']}: {one['what']}" if one["case"] else str(one["what"])
        measured.setdefault(what, []).append(_in_any_lab(str(one["value"])))
    for what, values in measured.items():
        yield f"{_MEASURED}{what}", Fact(tuple(values))


def _path(end: Mapping[str, Any]) -> Fact:
    states = [[one] if isinstance(one, str) else [str(s) for s in one] for one in end["path"]]
    moves = end["transitions"]
    if [*map(_certain, states[-2:])] == [TcpState.TIME_WAIT.value, TcpState.CLOSED.value]:
        # Its timer ends TIME-WAIT sooner or later; whether that was still watched is chance.
        outlived = moves[-1]["segment"] is None
        states = states[:-1] if outlived else states
    doubtful = any(move["gap"] for move in moves) or any(len(one) != 1 for one in states)
    return Fact(tuple(" or ".join(one) for one in states), doubtful)


def _certain(states: Sequence[str]) -> str:
    return states[0] if len(states) == 1 else ""


def _in_any_lab(text: str) -> str:
    """The same wherever it was played: labs that are open at once have different addresses."""
    ip4, ip6 = _LAB
    return ip6.sub("fd77::", ip4.sub("10.77.0.", text))
