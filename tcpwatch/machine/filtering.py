"""The filter language, one for live hosts and captures: `state:close-wait port:8080 age>5s`.

Owns: its grammar, and what it says of text that it cannot read. Must not know what the fields mean
(`fields`), nor where rows come from.

    state:close-wait port:443        both hold; so does `and` between them
    port:80,443 or process:nginx*    either; a list; wildcards
    not ip:10.0.0.0/8                also -ip:… and !ip:…; ip!=10.0.0.0/8 is the same
    (rst or timeout) octets>10k      parentheses; a bare word is searched for in all text
    path:'... > CLOSE-WAIT[>5s]'     the way an end went, as the patterns of --expect
    port:8000-8999 pid:*             a range; anything, as long as it is known
    age>=5s  duration<200ms          us, ms, s, m, h, d; without a unit seconds

Of a field with several values (both ends' states, all holders' pids) it is enough that one fits;
`!=` and `not` hold where none does, and where nothing is known. Each term looks by itself: which
end is how long in which state is for `path`. Where a belief is `CLOSING or TIME-WAIT`,
`state:closing` holds, for it may be so, and `state=closing` does not, for it is not certain.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

from tcpwatch.machine.fields import (
    FIELDS,
    Field,
    Row,
    Test,
    WantedError,
    find_field,
    search_of,
    test_of,
)

_BLANK: Final = re.compile(r"\s*")
_TERM: Final = re.compile(r"([^\W\d][\w.-]*)\s*(!=|<=|>=|[:=<>])\s*")
_KEYWORD: Final = re.compile(r"(and|or|not)(?![^\s()|!])", re.IGNORECASE)
_JOINS: Final = re.compile(r"\|\|?|&&?")
_NOT: Final = re.compile(r"!\s*|-(?=\S)")
_BARE: Final = re.compile(r"[^\s()|,]+")
_WORD: Final = re.compile(r"[^\s()|]+")
_ALTERNATIVE: Final = re.compile(rf"\|(?![|\s]|$|(?:{_TERM.pattern}))")
_IPV6: Final = re.compile(
    r"\[?[0-9a-f]{0,4}:[0-9a-f:.]{0,45}:[0-9a-f:.]{0,45}\]?(:\d{1,5})?(?=[\s()|]|$)", re.IGNORECASE
)  # which looks like a term otherwise
_DEEPEST: Final = 50


class FilterError(ValueError):
    """A filter that cannot be read; ``column`` (from 0) shows the place in ``text``."""

    def __init__(self, text: str, column: int, problem: str) -> None:
        super().__init__(f"bad filter at column {column + 1}: {problem}")
        self.text, self.column, self.problem = text, column, problem


@dataclass(frozen=True, slots=True)
class Term:
    """``about operator value,value``."""

    about: Field
    operator: str
    wanted: tuple[str, ...]
    test: Test = field(compare=False, repr=False)

    def matches(self, row: Row) -> bool:
        fits = any(map(self.test, row.values(self.about.name)))
        return fits is not (self.operator == "!=")

    def __str__(self) -> str:
        return f"{self.about.name}{self.operator}{','.join(map(_quoted, self.wanted))}"


@dataclass(frozen=True, slots=True)
class Search:
    """A bare word: in any of the searched ``fields``."""

    word: str
    fields: tuple[str, ...]
    test: Test = field(compare=False, repr=False)

    def matches(self, row: Row) -> bool:
        return any(any(map(self.test, row.values(name))) for name in self.fields)

    def __str__(self) -> str:
        return _quoted(self.word, always=not self.word.isalnum() or bool(_KEYWORD.match(self.word)))


@dataclass(frozen=True, slots=True)
class Not:
    """``not`` what follows."""

    negated: Node

    def matches(self, row: Row) -> bool:
        return not self.negated.matches(row)

    def __str__(self) -> str:
        return f"not {_in_brackets(self.negated, And | Or)}"


@dataclass(frozen=True, slots=True)
class And:
    """All of them; of none, everything."""

    parts: tuple[Node, ...]

    def matches(self, row: Row) -> bool:
        return all(part.matches(row) for part in self.parts)

    def __str__(self) -> str:
        return " ".join(_in_brackets(part, And | Or) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Or:
    """Any of them."""

    parts: tuple[Node, ...]

    def matches(self, row: Row) -> bool:
        return any(part.matches(row) for part in self.parts)

    def __str__(self) -> str:
        return " or ".join(_in_brackets(part, Or) for part in self.parts)


Node: TypeAlias = "Term | Search | Not | And | Or"


def parse_filter(
    text: str, *, source: str = "this source", has: Collection[str] = tuple(FIELDS)
) -> Node:
    """The filter that ``text`` is; an empty one matches every row. Its ``str()`` parses to itself.

    ``has`` are the fields that ``source`` ("a capture") can know of at all: a term on any other is
    an error. Raises FilterError, and nothing else.
    """
    return _Parser(text, source, has).parse()


def _in_brackets(node: Node, kinds: object) -> str:
    return f"({node})" if isinstance(node, kinds) else str(node)  # type: ignore[arg-type]


def _quoted(text: str, *, always: bool = False) -> str:
    """As it must be written to be read as that value."""
    if text and not always and re.fullmatch(r"[\w.:/*?%+-]+", text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


class _Piece(NamedTuple):
    """A value and where it stands."""

    text: str
    column: int


class _Parser:
    """Recursive descent: ``or`` of ``and`` of ``not`` of terms, words and parentheses."""

    def __init__(self, text: str, source: str, has: Collection[str]) -> None:
        self._text = text
        self._source = source
        self._has = has
        self._at = 0
        self._depth = 0

    def parse(self) -> Node:
        self._skip()
        if self._at == len(self._text):
            return And(())
        found = self._or()
        if self._at < len(self._text):
            raise self._wrong(f"unexpected {self._text[self._at]!r}")
        return found

    # ------------------------------------------------------------------ the grammar

    def _or(self) -> Node:
        parts = [self._and()]
        while self._joined("or", "|"):
            parts.append(self._and())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _and(self) -> Node:
        parts = [self._not()]
        while self._joined("and", "&") or self._more():
            parts.append(self._not())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _not(self) -> Node:
        found = _NOT.match(self._text, self._at)
        if found is not None:
            self._at = found.end()
        elif not self._keyword("not"):
            return self._primary()
        self._deeper(1)
        negated = Not(self._not())
        self._deeper(-1)
        return negated

    def _primary(self) -> Node:
        if self._peek() == "(":
            opened = self._at
            self._at += 1
            self._skip()
            self._deeper(1)
            inner = self._or()
            self._deeper(-1)
            if self._peek() != ")":
                raise self._wrong("this '(' is never closed", opened)
            self._at += 1
            self._skip()
            return inner
        keyword = _KEYWORD.match(self._text, self._at)
        if keyword is not None or not self._peek() or self._peek() in ")|&":
            found = keyword[0] if keyword is not None else self._peek()
            what = repr(found) if found else "the end"
            raise self._wrong(f"a term or a word is needed here, not {what}")
        if self._peek() not in "'\"" and not _IPV6.match(self._text, self._at):
            term = _TERM.match(self._text, self._at)
            if term is not None:
                return self._term(term)
        return self._search()

    def _term(self, found: re.Match[str]) -> Node:
        name, comparison = found[1], found[2]
        try:
            about = find_field(name, self._source, self._has)
        except ValueError as error:
            raise self._wrong(str(error)) from None
        at_operator = found.start(2)
        self._at = found.end()
        pieces = list(self._values(about, comparison))
        if len(pieces) > 1 and comparison not in (":", "=", "!="):
            raise self._wrong(f"{comparison} takes one value, not a list", at_operator)
        wanted = tuple(piece.text for piece in pieces)
        asked = "=" if comparison == "!=" else comparison
        try:
            test = test_of(about, asked, wanted)
        except WantedError as problem:
            column = pieces[problem.index].column + problem.offset
            raise self._wrong(str(problem), column) from None
        self._skip()
        return Term(about, comparison, wanted, test)

    def _search(self) -> Node:
        if self._peek() in "'\"":
            word = self._quotation().text
        else:
            found = _WORD.match(self._text, self._at)
            assert found is not None
            word = found[0]
            self._at = found.end()
        self._skip()
        fields = tuple(name for name, one in FIELDS.items() if one.searched and name in self._has)
        return Search(word, fields, search_of(word))

    # ------------------------------------------------------------------ the parts

    def _values(self, about: Field, comparison: str) -> Iterator[_Piece]:
        """Those of a list, which ``,`` or a ``|`` without blanks separates."""
        while True:
            if self._peek() and self._peek() in "'\"":
                yield self._quotation()
            else:
                found = _BARE.match(self._text, self._at)
                if found is None:
                    after = f"{about.name}{comparison}"
                    raise self._wrong(f"{after} needs a value: {about.kind.value}")
                self._at = found.end()
                yield _Piece(found[0], found.start())
            if self._peek() != "," and not _ALTERNATIVE.match(self._text, self._at):
                return
            self._at += 1

    def _quotation(self) -> _Piece:
        """Text in quotes, either kind; a backslash takes the next character as it is."""
        mark, opened = self._peek(), self._at
        found: list[str] = []
        at = opened + 1
        while at < len(self._text) and self._text[at] != mark:
            if self._text[at] == "\\" and at + 1 < len(self._text):
                at += 1
            found.append(self._text[at])
            at += 1
        if at >= len(self._text):
            raise self._wrong(f"this {mark} is never closed", opened)
        self._at = at + 1
        return _Piece("".join(found), opened + 1)

    def _joined(self, keyword: str, sign: str) -> bool:
        found = _JOINS.match(self._text, self._at)
        if found is not None and found[0][0] == sign:
            self._at = found.end()
            self._skip()
            return True
        return self._keyword(keyword)

    def _keyword(self, keyword: str) -> bool:
        found = _KEYWORD.match(self._text, self._at)
        if found is None or found[1].lower() != keyword:
            return False
        self._at = found.end()
        self._skip()
        return True

    def _more(self) -> bool:
        """Whether another term stands beside the last."""
        if self._at == len(self._text) or self._peek() in ")|&":
            return False
        found = _KEYWORD.match(self._text, self._at)
        return found is None or found[1].lower() == "not"

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _skip(self) -> None:
        found = _BLANK.match(self._text, self._at)
        assert found is not None
        self._at = found.end()

    def _deeper(self, by: int) -> None:
        self._depth += by
        if self._depth > _DEEPEST:
            raise self._wrong(f"more than {_DEEPEST} nested in one another")

    def _wrong(self, problem: str, column: int | None = None) -> FilterError:
        return FilterError(self._text, self._at if column is None else column, problem)
