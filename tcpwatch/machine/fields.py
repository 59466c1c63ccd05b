"""What a filter can ask of a connection: the fields, and how a value of each is compared.

Owns: the names, their units and what a wanted value means (`close-wait`, `5s`, `10.0.0.0/8`).
Must not know the language around a term (`filtering`), nor where a row comes from: it is asked by
a field's name for the values that are known, one a holder or an end, none where nothing is known.
"""

from __future__ import annotations

import ipaddress
import operator
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from fnmatch import translate
from functools import lru_cache
from typing import Protocol, TypeAlias, assert_never

from tcpwatch.machine.pattern import PathElement, Pattern, PatternError
from tcpwatch.model.identity import SocketAddress, canonical_ip
from tcpwatch.tcp.state import TcpState

Value: TypeAlias = (
    "str | int | float | SocketAddress | frozenset[TcpState] | tuple[PathElement, ...]"
)
"""By kind: text, a number (a time in ns), an address, the states of a belief, a path."""

Test: TypeAlias = Callable[[Value], bool]


class Row(Protocol):
    """One connection, or one socket of a host, as a filter sees it."""

    def values(self, field: str, /) -> Sequence[Value]:
        """What is known of that field: one value an end or a holder, none where nothing is."""


class Kind(Enum):
    """How a field's values are written and compared."""

    STATE = "a state"
    PATH = "a path pattern in quotes"
    TEXT = "text; * and ? stand for any"
    ADDRESS = "an address, a prefix or ADDRESS:PORT"
    NUMBER = "a number"
    OCTETS = "octets, also as 10k, 2M"
    TIME = "a time as 200ms, 5s, 10m, 2h"
    TRUTH = "yes or no"


@dataclass(frozen=True, slots=True)
class Field:
    """One thing that can be asked for.

    ``aliases`` are other names for it, ``choices`` all that it can be. ``searched``: bare words are
    searched for in it. ``exact``: upper and lower case differ.
    """

    name: str
    kind: Kind
    meaning: str
    aliases: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    searched: bool = False
    exact: bool = False


_ROLES = ("active", "passive", "client", "server")
_ZEEK = ("S0", "S1", "SF", "REJ", "S2", "S3", "RSTO", "RSTR", "RSTOS0", "RSTRH", "SH", "SHR", "OTH")

FIELDS = {
    field.name: field
    for field in (
        Field("state", Kind.STATE, "the present state of an end", searched=True),
        Field("was", Kind.STATE, "a state that an end is or was in"),
        Field("path", Kind.PATH, "the way an end went, as the patterns of --expect"),
        Field("age", Kind.TIME, "how long an end has been in its present state"),
        Field("duration", Kind.TIME, "from the first segment to the last", ("lasted",)),
        Field("role", Kind.TEXT, "the part that an end plays", choices=_ROLES),
        Field("ip", Kind.ADDRESS, "the address of either end", ("host", "addr"), searched=True),
        Field("src", Kind.ADDRESS, "the address of the active, or the local, end", ("local",)),
        Field("dst", Kind.ADDRESS, "the address of the other end", ("remote",)),
        Field("port", Kind.NUMBER, "the port of either end", searched=True),
        Field("sport", Kind.NUMBER, "the port of the active, or the local, end", ("lport",)),
        Field("dport", Kind.NUMBER, "the port of the other end", ("rport",)),
        Field("id", Kind.NUMBER, "the number of the connection, as in #12", ("number",)),
        Field("process", Kind.TEXT, "a process that holds it", ("proc", "comm"), searched=True),
        Field("command", Kind.TEXT, "its command line", ("cmd", "cmdline"), searched=True),
        Field("pid", Kind.NUMBER, "the process id of a holder", searched=True),
        Field("user", Kind.TEXT, "the user whose socket it is", searched=True),
        Field(
            "closed_by",
            Kind.TEXT,
            "whose FIN or RST came first",
            ("closedby",),
            (*_ROLES, "both", "nobody"),
        ),
        Field(
            "reason",
            Kind.TEXT,
            "how it ended",
            ("close_reason", "ending"),
            ("fin", "rst", "timeout", "refused", "unanswered", "half-closed", "open"),
            searched=True,
        ),
        Field("complete", Kind.TRUTH, "seen from its first SYN to its end"),
        Field("segments", Kind.NUMBER, "its segments", ("packets",)),
        Field("octets", Kind.OCTETS, "of data, both ways, repetitions left out", ("bytes",)),
        Field("retransmissions", Kind.NUMBER, "segments sent again", ("retrans", "rtx")),
        Field("missing", Kind.OCTETS, "data that was acknowledged and not captured"),
        Field("findings", Kind.TEXT, "the code of a finding", ("finding",), searched=True),
        Field("zeek", Kind.TEXT, "Zeek's conn_state", ("conn_state",), _ZEEK),
        Field("history", Kind.TEXT, "Zeek's history; upper case: the originator", exact=True),
        Field("completeness", Kind.NUMBER, "Wireshark's tcp.completeness"),
        Field("recvq", Kind.OCTETS, "received and not yet read", ("receive_queue", "rx")),
        Field("sendq", Kind.OCTETS, "sent and not yet acknowledged", ("send_queue", "tx")),
        Field("rtt", Kind.TIME, "the smoothed round-trip time"),
    )
}
_NAMED = {name: field for field in FIELDS.values() for name in (field.name, *field.aliases)}

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_QUANTITY = re.compile(r"(\d{1,18}(?:\.\d{1,9})?)\s*([a-zµ]*)", re.IGNORECASE)
_UNITS: dict[Kind, dict[str, float]] = {
    Kind.NUMBER: {"": 1, "k": 1e3, "m": 1e6},
    Kind.OCTETS: {"": 1, "b": 1, "k": 1e3, "kb": 1e3, "m": 1e6, "mb": 1e6, "g": 1e9, "gb": 1e9}
    | {"ki": 1 << 10, "kib": 1 << 10, "mi": 1 << 20, "mib": 1 << 20, "gi": 1 << 30, "gib": 1 << 30},
    Kind.TIME: {"": 1e9, "ns": 1, "us": 1e3, "µs": 1e3, "ms": 1e6, "s": 1e9}
    | {"m": 60e9, "min": 60e9, "h": 3600e9, "d": 86400e9},
}
_TRUTHS = {"yes": 1, "true": 1, "1": 1, "no": 0, "false": 0, "0": 0}
_ANYTHING = "*"


class WantedError(ValueError):
    """What is wrong with a wanted value, and ``offset`` characters into it, where.

    ``index``: with which of several.
    """

    def __init__(self, problem: str, offset: int = 0, index: int = 0) -> None:
        super().__init__(problem)
        self.offset, self.index = offset, index


def find_field(name: str, source: str, has: Collection[str]) -> Field:
    """The field of that name or alias, of those that a source has. Raises ValueError."""
    key = name.lower().replace("-", "_")
    field = _NAMED.get(key)
    listed = f"{source} has {', '.join(one for one in FIELDS if one in has)}"
    if field is None:
        near = get_close_matches(key, [n for n, one in _NAMED.items() if one.name in has])
        hint = (
            f"did you mean {' or '.join(near)}?" if near else f"{listed}; quote what is only text"
        )
        raise ValueError(f"there is no field {name!r}; {hint}")
    if field.name not in has:
        raise ValueError(f"{source} has no {field.name}; {listed}")
    return field


def test_of(field: Field, comparison: str, wanted: Sequence[str]) -> Test:
    """Whether a value of that field is one of those wanted. Raises WantedError.

    ``:`` holds where a belief allows it, ``=`` only where it is certain; else they are the same.
    """
    tests: list[Test] = []
    states: frozenset[TcpState] = frozenset()
    for index, text in enumerate(wanted):
        try:
            if field.kind is Kind.STATE and comparison in (":", "=") and text != _ANYTHING:
                states |= _states(text)  # A or B is certainly one of A,B
            else:
                tests.append(_test_of(field, comparison, text))
        except WantedError as problem:
            raise WantedError(str(problem), problem.offset, index) from None
    if states:
        tests.append(_in_state(states, sure=comparison == "="))
    if len(tests) == 1:
        return tests[0]
    return lambda value: any(test(value) for test in tests)


def _test_of(field: Field, comparison: str, wanted: str) -> Test:
    if wanted == _ANYTHING:
        return lambda _value: True
    if comparison in _COMPARE:
        if field.kind not in _UNITS:
            raise WantedError(f"{field.name} is {field.kind.value}: neither less nor more")
        return _compared(_COMPARE[comparison], quantity(field, wanted))
    match field.kind:
        case Kind.STATE:
            return _in_state(_states(wanted), sure=comparison == "=")
        case Kind.PATH:
            return _went(wanted, sure=comparison == "=")
        case Kind.TEXT:
            return _spelled(field, wanted)
        case Kind.ADDRESS:
            return _at(wanted)
        case Kind.NUMBER | Kind.OCTETS | Kind.TIME:
            return _within(field, wanted)
        case Kind.TRUTH:
            truth = _TRUTHS.get(wanted.lower())
            if truth is None:
                raise WantedError(f"{field.name} is yes or no, not {wanted!r}")
            return lambda value: value == truth
        case _ as never:
            assert_never(never)


def search_of(word: str) -> Test:
    """Whether a value of any searched field holds that word, in any case."""
    low = word.lower()
    try:
        state = TcpState.parse(word)
    except ValueError:
        state = None

    def test(value: Value) -> bool:
        match value:
            case frozenset():
                return state in value or any(low in one.value.lower() for one in value)
            case str() | SocketAddress():
                return low in str(value).lower()
            case tuple():
                return False
            case _:
                return str(value) == low

    return test


def quantity(field: Field, text: str) -> float:
    """A number in the field's unit (ns for a time). Raises WantedError."""
    found = _QUANTITY.fullmatch(text)
    factor = _UNITS[field.kind].get(found[2].lower()) if found else None
    if found is None or factor is None:
        raise WantedError(f"{field.name} is {field.kind.value}, not {text!r}")
    return float(found[1]) * factor


def _compared(compare: Callable[[float, float], bool], limit: float) -> Test:
    return lambda value: isinstance(value, int | float) and compare(value, limit)


def _within(field: Field, wanted: str) -> Test:
    """One number, or all from one to another: ``8000-8999``."""
    low, dash, high = wanted.partition("-")
    first = quantity(field, low)
    last = quantity(field, high) if dash else first
    if last < first:
        raise WantedError(f"{wanted!r} goes from the larger to the smaller")
    return lambda value: isinstance(value, int | float) and first <= value <= last


def _in_state(states: frozenset[TcpState], *, sure: bool) -> Test:
    if sure:
        return lambda value: isinstance(value, frozenset) and bool(value) and value <= states
    return lambda value: isinstance(value, frozenset) and not states.isdisjoint(value)


def _states(wanted: str) -> frozenset[TcpState]:
    if _has_wildcard(wanted):
        spelled = _wildcards(wanted.replace("_", "-"))
        states = frozenset(state for state in TcpState if spelled(state.value))
        if not states:
            raise WantedError(f"no TCP state is {wanted!r}")
        return states
    try:
        return frozenset({TcpState.parse(wanted)})
    except ValueError as error:
        raise WantedError(str(error)) from None


def _went(wanted: str, *, sure: bool) -> Test:
    try:
        pattern = Pattern(wanted)
    except PatternError as error:
        raise WantedError(error.problem, error.column) from None
    worst = True if sure else None
    return lambda value: isinstance(value, tuple) and pattern.match(value) in (True, worst)


def _spelled(field: Field, wanted: str) -> Test:
    if field.choices:
        key = wanted.lower().replace("_", "-")
        spelled = _wildcards(key)
        if not any(spelled(choice) for choice in field.choices):
            listed = ", ".join(field.choices)
            raise WantedError(f"{field.name} is never {wanted!r}, but one of {listed}")
    else:
        spelled = _wildcards(wanted, exact=field.exact)
    return lambda value: isinstance(value, str) and spelled(value)


def _has_wildcard(text: str) -> bool:
    return "*" in text or "?" in text


def _wildcards(text: str, *, exact: bool = False) -> Callable[[str], bool]:
    """Whole texts alone, ``*`` for any characters and ``?`` for one; brackets mean themselves."""
    if not _has_wildcard(text):
        if exact:
            return lambda value: value == text
        low = text.lower()
        return lambda value: value.lower() == low
    matches = re.compile(translate(text.replace("[", "[[]")), 0 if exact else re.IGNORECASE).match
    return lambda value: matches(value) is not None


def _at(wanted: str) -> Test:
    """An address, a prefix, either with a port, or an address with wildcards."""
    if _has_wildcard(wanted):
        spelled = _wildcards(wanted.strip("[]"))
        return lambda value: (
            isinstance(value, SocketAddress) and (spelled(value.ip) or spelled(str(value)))
        )
    if "/" in wanted:
        try:
            network = ipaddress.ip_network(wanted, strict=False)
        except ValueError:
            raise WantedError(f"{wanted!r} is no prefix as 10.0.0.0/8 or fe80::/10") from None
        within = lru_cache(4096)(lambda ip: ipaddress.ip_address(ip) in network)
        return lambda value: isinstance(value, SocketAddress) and within(value.ip)
    try:
        ip = canonical_ip(wanted.removeprefix("[").removesuffix("]"))
    except ValueError:
        pass
    else:
        return lambda value: isinstance(value, SocketAddress) and value.ip == ip
    try:
        address = SocketAddress.parse(wanted)
    except ValueError:
        raise WantedError(f"{wanted!r} is no address, prefix or ADDRESS:PORT") from None
    return lambda value: value == address
