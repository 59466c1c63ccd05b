"""Which segments: predicates that a scenario's author composes, and which matches count.

Owns: the words (`FIN`, `DATA`, `PURE_ACK`), their grammar (``&``, ``|``, ``~``, `Filter.sent_by`)
and how each is written in a message. Must not know what the wire then does with a segment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from tcpwatch.model.events import SegmentSeen
from tcpwatch.tcp.segment import Flags, Segment


class _Binding(IntEnum):
    """How tightly a filter's text holds together, so that a repr has the brackets it needs."""

    OR = 0
    AND = 1
    NOT = 2
    WORD = 3


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Filter:
    """A predicate over a segment and the host that sent it. Immutable; compose, do not subclass.

    ``text`` is how it is written in Python, for messages; ``test`` takes the segment as it was
    seen and the name of its sender.
    """

    text: str
    test: Callable[[SegmentSeen, str], bool]
    binding: _Binding = _Binding.WORD

    def __call__(self, seen: SegmentSeen, by: str) -> bool:
        return self.test(seen, by)

    def __and__(self, other: Filter) -> Filter:
        text = f"{self._at_least(_Binding.AND)} & {other._at_least(_Binding.AND)}"
        return Filter(text, lambda seen, by: self(seen, by) and other(seen, by), _Binding.AND)

    def __or__(self, other: Filter) -> Filter:
        text = f"{self.text} | {other.text}"
        return Filter(text, lambda seen, by: self(seen, by) or other(seen, by), _Binding.OR)

    def __invert__(self) -> Filter:
        text = f"~{self._at_least(_Binding.NOT)}"
        return Filter(text, lambda seen, by: not self(seen, by), _Binding.NOT)

    def sent_by(self, host: str) -> Filter:
        """The same, only where ``host`` is the sender."""
        text = f"{self._at_least(_Binding.WORD)}.sent_by({host!r})"
        return Filter(text, lambda seen, by: by == host and self(seen, by))

    def from_port(self, port: int) -> Filter:
        """The same, only from that source port."""
        text = f"{self._at_least(_Binding.WORD)}.from_port({port})"
        return Filter(text, lambda seen, by: seen.src.port == port and self(seen, by))

    def to_port(self, port: int) -> Filter:
        """The same, only to that destination port."""
        text = f"{self._at_least(_Binding.WORD)}.to_port({port})"
        return Filter(text, lambda seen, by: seen.dst.port == port and self(seen, by))

    def __repr__(self) -> str:
        return self.text

    def _at_least(self, binding: _Binding) -> str:
        return self.text if self.binding >= binding else f"({self.text})"


def _flag(flag: Flags) -> Filter:
    return Filter(flag.name or "", lambda seen, _by: bool(seen.segment.flags & flag))


ANY = Filter("ANY", lambda _seen, _by: True)
FIN, SYN, RST, PSH, ACK = map(_flag, (Flags.FIN, Flags.SYN, Flags.RST, Flags.PSH, Flags.ACK))
DATA = Filter("DATA", lambda seen, _by: seen.segment.payload_len > 0)
SYN_ACK = Filter("SYN_ACK", (SYN & ACK).test)

# The ECN bits may stand on any segment (RFC 3168, RFC 9768) and do not make an ACK less bare.
_ECN = Flags.ECE | Flags.CWR | Flags.AE
PURE_ACK = Filter(
    "PURE_ACK",
    lambda seen, _by: seen.segment.flags & ~_ECN == Flags.ACK and seen.segment.payload_len == 0,
)


def where(predicate: Callable[[Segment], bool]) -> Filter:
    """The segments for which ``predicate`` is true. It runs in the wire's thread: keep it small."""
    name = getattr(predicate, "__name__", type(predicate).__name__)
    code = getattr(predicate, "__code__", None)
    if name == "<lambda>" and code is not None:
        name = f"lambda, line {code.co_firstlineno}"
    return Filter(f"where({name})", lambda seen, _by: predicate(seen.segment))


class Pick:
    """Counts the segments that match, in order of sending, and says which of them are meant.

    ``by`` names the sender (None: either); ``nth`` the first that is meant, from 1; ``count`` how
    many from there (None: one where ``nth`` is given, else all). Raises ValueError below 1.
    """

    def __init__(self, match: Filter, by: str | None, nth: int | None, count: int | None) -> None:
        if min(nth or 1, count or 1) < 1 or 0 in (nth, count):
            raise ValueError(f"nth={nth} and count={count} must count from 1")
        self._match = match
        self._by = by
        self._first = nth or 1
        self._count = count or (None if nth is None else 1)
        self._matched = 0

    def takes(self, seen: SegmentSeen, by: str) -> bool:
        """Whether this segment is meant. Counts it: ask once a segment."""
        if (self._by is not None and by != self._by) or not self._match(seen, by):
            return False
        self._matched += 1
        after_first = self._matched - self._first
        return after_first >= 0 and (self._count is None or after_first < self._count)

    def __repr__(self) -> str:
        return repr(self._match if self._by is None else self._match.sent_by(self._by))
