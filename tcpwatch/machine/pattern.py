"""Patterns over state paths: parsed to a small automaton, matched in three values.

Owns: the notation of the interface: ``A > ... > B``, ``(A | B)``, ``A?``, ``A[<1s]`` and
``never A[>5s]``.
A path may hold uncertain elements and gaps: the answer is True or False only where every reading
of the path agrees, else None. Must not know where a path comes from.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tcpwatch.tcp.state import TcpState

_UNITS_NS = {"us": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000}
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_TOKEN = re.compile(
    r"\s*(?:(?P<any>\.\.\.|…)|(?P<dwell>\[[^\]]*\]?)|(?P<mark>[>()|?])|(?P<word>[^\s>()|?\[\].…]+))"
)
_DWELL = re.compile(r"\[\s*(<=|>=|<|>)\s*(\d+(?:\.\d+)?)\s*(us|ms|s|m)\s*\]")


class PatternError(ValueError):
    """A pattern that cannot be read; the message shows the place."""

    def __init__(self, text: str, column: int, problem: str) -> None:
        super().__init__(f"bad pattern {text!r} at column {column + 1}: {problem}")
        self.text, self.column, self.problem = text, column, problem


@dataclass(frozen=True, slots=True)
class Dwell:
    """A bound on the time spent in a state."""

    comparison: str
    limit_ns: float

    def holds(self, dwell_ns: int, *, ended: bool) -> bool | None:
        """Whether it holds for a state that lasted that long, or so far (None: not yet decided)."""
        now = _COMPARE[self.comparison](dwell_ns, self.limit_ns)
        if ended:
            return now
        growing = self.comparison in (">", ">=")
        return now if now is growing else None


@dataclass(frozen=True, slots=True)
class PathElement:
    """One element of a path: the possible states, for how long, and whether it ended.

    ``gap_before``: elements may be missing before it. ``perhaps``: it may be missing itself.
    """

    states: frozenset[TcpState]
    dwell_ns: int = 0
    ended: bool = True
    gap_before: bool = False
    perhaps: bool = False


@dataclass(frozen=True, slots=True)
class _Atom:
    state: TcpState | None  # None: any state
    dwell: Dwell | None
    text: str


@dataclass(slots=True)
class _Automaton:
    """Thompson's construction: nodes joined by empty arcs and by arcs that consume one element."""

    empty: list[list[int]] = field(default_factory=list)
    consume: list[list[tuple[_Atom, int]]] = field(default_factory=list)

    def node(self) -> int:
        self.empty.append([])
        self.consume.append([])
        return len(self.empty) - 1

    def closure(self, nodes: Iterable[int]) -> frozenset[int]:
        found, stack = set(nodes), list(nodes)
        while stack:
            for node in self.empty[stack.pop()]:
                if node not in found:
                    found.add(node)
                    stack.append(node)
        return frozenset(found)


class Pattern:
    """A compiled pattern. Raises `PatternError` with the place where it cannot be read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.never = bool(re.match(r"\s*never\b", text, re.IGNORECASE))
        self._automaton = _Automaton()
        self.elements: tuple[str, ...] = ()
        parser = _Parser(
            text, 5 + text.lower().index("never") if self.never else 0, self._automaton
        )
        start, end = parser.parse()
        self.elements = tuple(parser.elements)
        if self.never:
            start, end = self._anywhere(start, end)
        self._start, self._end = self._automaton.closure([start]), end

    def __str__(self) -> str:
        return self.text

    def match(self, path: Sequence[PathElement]) -> bool | None:
        """Whether the path fits: True or False where that is certain, else None."""
        configurations = {self._start}
        for element in path:
            if element.gap_before:
                configurations = self._across_gap(configurations)
            without = configurations if element.perhaps else set()
            configurations = without | {
                after for before in configurations for after in self._after(before, element)
            }
        answers = {
            (self._end in configuration) is not self.never for configuration in configurations
        }
        return answers.pop() if len(answers) == 1 else None

    def agrees_up_to(self, path: Sequence[PathElement]) -> int:
        """How many elements of the path fit before the first that cannot."""
        configurations = {self._start}
        for index, element in enumerate(path):
            if element.gap_before:
                configurations = self._across_gap(configurations)
            without = configurations if element.perhaps else set()
            configurations = without | {
                after
                for before in configurations
                for after in self._after(before, element)
                if after
            }
            if not configurations:
                return index
        return len(path)

    @property
    def beginnings(self) -> frozenset[TcpState]:
        """The states that a path which fits can begin with, as far as the pattern names them."""
        return frozenset() if self.never else self._named_after(self._start)

    @property
    def edges(self) -> frozenset[tuple[TcpState, TcpState]]:
        """The pairs of states that it names one right after the other; ``...`` names none."""
        if self.never:
            return frozenset()
        arcs = [arc for arcs in self._automaton.consume for arc in arcs]
        return frozenset(
            (atom.state, following)
            for atom, target in arcs
            if atom.state is not None
            for following in self._named_after(frozenset({target}))
        )

    # ------------------------------------------------------------------ readings

    def _named_after(self, nodes: frozenset[int]) -> frozenset[TcpState]:
        """The states that may be consumed next, but for those behind a ``...``."""
        automaton, found = self._automaton, set[TcpState]()
        seen, stack = set(nodes), list(nodes)
        while stack:
            node = stack.pop()
            atoms = [atom for atom, _ in automaton.consume[node]]
            found |= {atom.state for atom in atoms if atom.state is not None}
            if all(atom.state is not None for atom in atoms):
                stack += [following for following in automaton.empty[node] if following not in seen]
                seen |= set(automaton.empty[node])
        return frozenset(found)

    def _after(
        self, configuration: frozenset[int], element: PathElement
    ) -> Iterator[frozenset[int]]:
        """Where each reading of an uncertain element leads."""
        for state in element.states:
            sure: set[int] = set()
            perhaps: set[int] = set()
            for node in configuration:
                for atom, target in self._automaton.consume[node]:
                    if atom.state not in (None, state):
                        continue
                    holds = (
                        True
                        if atom.dwell is None
                        else atom.dwell.holds(element.dwell_ns, ended=element.ended)
                    )
                    if holds:
                        sure.add(target)
                    elif holds is None:
                        perhaps.add(target)
            yield self._automaton.closure(sure)
            if perhaps:
                yield self._automaton.closure(sure | perhaps)

    def _across_gap(self, configurations: set[frozenset[int]]) -> set[frozenset[int]]:
        """All that any run of unseen states could lead to."""
        found, stack = set(configurations), list(configurations)
        unseen = PathElement(frozenset(TcpState), ended=False)
        while stack:
            for after in self._after(stack.pop(), unseen):
                if after not in found:
                    found.add(after)
                    stack.append(after)
        return found

    def _anywhere(self, start: int, end: int) -> tuple[int, int]:
        """The same pattern, with anything before and after it."""
        anything = _Atom(None, None, "...")
        for node in (start, end):
            self._automaton.consume[node].append((anything, node))
        return start, end


class _Parser:
    """Recursive descent: alternatives of sequences of atoms."""

    def __init__(self, text: str, begin: int, automaton: _Automaton) -> None:
        self._text = text
        self._automaton = automaton
        self.elements: list[str] = []
        self._tokens = list(self._scan(begin))
        self._at = 0

    def _scan(self, begin: int) -> Iterator[tuple[str, str, int]]:
        at = begin
        while at < len(self._text.rstrip()):
            found = _TOKEN.match(self._text, at)
            if found is None or found.lastgroup is None:
                column = at + len(self._text[at:]) - len(self._text[at:].lstrip())
                raise PatternError(self._text, column, f"unexpected {self._text[column]!r}")
            yield found.lastgroup, found[found.lastgroup], found.start(found.lastgroup)
            at = found.end()

    def parse(self) -> tuple[int, int]:
        start, end = self._sequence(top=True)
        if self._at < len(self._tokens):
            _, token, column = self._tokens[self._at]
            raise PatternError(self._text, column, f"unexpected {token!r}")
        return start, end

    def _peek(self) -> tuple[str, str, int]:
        if self._at < len(self._tokens):
            return self._tokens[self._at]
        return "end", "", len(self._text)

    def _take(self, token: str) -> bool:
        if self._peek()[1] == token:
            self._at += 1
            return True
        return False

    def _sequence(self, *, top: bool = False) -> tuple[int, int]:
        start, end = self._element(top=top)
        while self._take(">"):
            following, last = self._element(top=top)
            self._automaton.empty[end].append(following)
            end = last
        return start, end

    def _element(self, *, top: bool) -> tuple[int, int]:
        automaton, begun = self._automaton, self._at
        kind, token, column = self._peek()
        start, end = automaton.node(), automaton.node()
        if kind == "any":
            self._at += 1
            automaton.consume[start].append((_Atom(None, None, "..."), start))
            automaton.empty[start].append(end)
        elif self._take("("):
            self._alternatives(start, end, column)
        elif kind == "word":
            self._at += 1
            try:
                state = TcpState.parse(token)
            except ValueError as error:
                raise PatternError(self._text, column, str(error)) from None
            optional = self._take("?")
            dwell = self._dwell()
            optional = self._take("?") or optional
            automaton.consume[start].append((_Atom(state, dwell, state.value), end))
            if optional:
                automaton.empty[start].append(end)
        else:
            what = f"{token!r}" if token else "the end"
            raise PatternError(
                self._text, column, f"a state, '(' or '...' is needed here, not {what}"
            )
        if top:
            last = self._tokens[self._at - 1]
            first = self._tokens[begun]
            self.elements.append(self._text[first[2] : last[2] + len(last[1])])
        return start, end

    def _alternatives(self, start: int, end: int, column: int) -> None:
        automaton = self._automaton
        while True:
            first, last = self._sequence()
            automaton.empty[start].append(first)
            automaton.empty[last].append(end)
            if self._take(")"):
                break
            if not self._take("|"):
                raise PatternError(self._text, column, "this '(' is never closed")
        if self._take("?"):
            automaton.empty[start].append(end)

    def _dwell(self) -> Dwell | None:
        kind, token, column = self._peek()
        if kind != "dwell":
            return None
        found = _DWELL.fullmatch(token)
        if found is None:
            raise PatternError(
                self._text, column, f"{token!r} is no time; write [<1s], [>=59s] or [<200ms]"
            )
        self._at += 1
        return Dwell(found[1], float(found[2]) * _UNITS_NS[found[3]])
