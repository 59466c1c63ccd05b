"""Values to JSON and back, by the definitions of their dataclasses.

Owns: how each type that stands in our dataclasses looks in JSON, and that what is read is of the
type that it should be. Must not know which values make up a recording.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache, lru_cache
from math import isfinite
from types import NoneType, UnionType
from typing import (
    Any,
    Final,
    Generic,
    NamedTuple,
    NoReturn,
    TypeAlias,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from tcpwatch.model.identity import SocketAddress
from tcpwatch.tcp.segment import Flags, Segment
from tcpwatch.tcp.seq import SeqNumber

T = TypeVar("T")
JsonObject: TypeAlias = dict[str, Any]

_NUMBERS: Final = 1 << 32  # of a sequence number
_NESTING: Final = 16  # levels of what is JSON's own in a record; our own have two
_QUOTED: Final = 40  # characters of a wrong value in a message


def load(text: str) -> object:
    """A JSON value. Raises ValueError for whatever is not JSON, or would be no JSON again."""
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None


def dump(value: object) -> str:
    """A JSON value as one compact line."""
    return _ENCODER.encode(value)


def quote(value: object) -> str:
    """A wrong JSON value for a message, shortened: it may be a whole packet."""
    match value:
        case list():
            return "a list"
        case dict():
            return "an object"
    text = dump(value)
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED]}..."


class FieldsCodec(Generic[T]):
    """The way of a dataclass's fields, or of some of them, to a JSON object and back.

    An unknown field is a fault: a reader that overlooked it could conclude something else from
    the same recording than the tcpwatch that wrote it. Where all that is asked for is written,
    empty or not (``names``), ``later`` are left out where they are empty: a reader from before
    they were takes what says nothing by them.
    """

    def __init__(
        self, owner: type[T], names: tuple[str, ...] = (), later: tuple[str, ...] = ()
    ) -> None:
        hints = get_type_hints(owner)
        chosen = [f for f in fields(cast("Any", owner)) if not names or f.name in names]
        self.names = tuple(f.name for f in chosen)
        self._owner = owner
        self._codecs = {f.name: _codec(hints[f.name]) for f in chosen}
        self._needed = frozenset(
            f.name for f in chosen if f.default is f.default_factory is MISSING
        )
        # The head and the foot (`names` given) are written whole.
        self._columns = [
            (
                f.name,
                _codec(hints[f.name]).encode,
                MISSING if names and f.name not in later else f.default,
            )
            for f in chosen
        ]

    def encode(self, value: object) -> JsonObject:
        encoded = {}
        for name, encode, default in self._columns:
            part = getattr(value, name)
            # Only an empty default is left out: were another default to change one day, old
            # recordings would change their meaning with it.
            if part or part != default:
                encoded[name] = encode(part)
        return encoded

    def decode(self, line: JsonObject, *, required: bool = True) -> JsonObject:
        """The fields as arguments of the dataclass. Raises ValueError, naming the field."""
        decoded = {}
        for name, part in line.items():
            codec = self._codecs.get(name)
            if codec is None:
                return _raise(f"{self._owner.__name__} has no field {name!r}")
            try:
                decoded[name] = codec.decode(part)
            except ValueError as error:
                return _raise(f"{name}: {error}")
        missing = self._needed - decoded.keys()
        if required and missing:
            return _raise(f"{self._owner.__name__} without {', '.join(sorted(missing))}")
        return decoded

    def build(self, line: JsonObject) -> T:
        """The dataclass's value whose fields these are. Raises ValueError, naming the field."""
        return self._owner(**self.decode(line))


class _Codec(NamedTuple):
    """A type's way to JSON and back. ``decode`` raises ValueError for what is not that type's."""

    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


@cache
def _codec(kind: Any) -> _Codec:
    """The codec of an annotation that stands in one of our dataclasses."""
    arguments = get_args(kind)
    if kind in _LEAVES:
        return _LEAVES[kind]
    if get_origin(kind) in {Union, UnionType}:
        return _union(arguments)
    if get_origin(kind) is tuple:
        return _sequence(_codec(arguments[0]))
    if get_origin(kind) is dict:
        return _mapping(_codec(arguments[1]))
    if issubclass(kind, Enum):
        return _enum(kind)
    if is_dataclass(kind):
        return _dataclass(kind)
    raise AssertionError(f"no codec for {kind}")


def _union(members: tuple[type, ...]) -> _Codec:
    """One of several types, each known by its Python type and by whether its codec takes it."""
    codecs = [(member, _codec(member)) for member in members]

    def encode(value: object) -> object:
        for member, codec in codecs:
            if isinstance(value, member):
                return codec.encode(value)
        raise AssertionError(f"{value!r} is none of {members}")

    def decode(value: object) -> object:
        faults = []
        for _, codec in codecs:
            try:
                return codec.decode(value)
            except ValueError as error:
                faults.append(str(error))
        return _raise(" and ".join(faults))

    return _Codec(encode, decode)


def _sequence(member: _Codec) -> _Codec:
    def encode(values: tuple[object, ...]) -> list[object]:
        return [member.encode(value) for value in values]

    def decode(values: object) -> tuple[object, ...]:
        if not isinstance(values, list):
            return _raise(f"{quote(values)} is not a list")
        return tuple(member.decode(value) for value in values)

    return _Codec(encode, decode)


def _mapping(member: _Codec) -> _Codec:
    def encode(values: JsonObject) -> JsonObject:
        return {name: member.encode(value) for name, value in values.items()}

    def decode(values: object) -> JsonObject:
        if not isinstance(values, dict):
            return _raise(f"{quote(values)} is not an object")
        return {name: member.decode(value) for name, value in values.items()}

    return _Codec(encode, decode)


def _enum(kind: type[Enum]) -> _Codec:
    members = {member.value: member for member in kind}

    def decode(value: object) -> Enum:
        member = members.get(value) if isinstance(value, str) else None
        return member or _raise(f"{quote(value)} is not one of {', '.join(members)}")

    return _Codec(lambda member: member.value, decode)


def _dataclass(kind: Any) -> _Codec:
    way = FieldsCodec(kind)

    def decode(value: object) -> object:
        if not isinstance(value, dict):
            return _raise(f"{quote(value)} is not an object")
        made = way.build(value)
        return _sound(made) if isinstance(made, Segment) else made

    return _Codec(way.encode, decode)


def _sound(segment: Segment) -> Segment:
    """The segment, if it could have been on a wire: the machine builds on that."""
    if (segment.ack is None) == bool(segment.flags & Flags.ACK):
        return _raise("an acknowledgement stands there exactly when the A flag does")
    if not 0 <= segment.window <= 0xFFFF:
        return _raise(f"the window {segment.window} has more than 16 bits")
    if segment.payload_len < 0:
        return _raise(f"the payload_len {segment.payload_len} is negative")
    return segment


def _exactly(kind: type, name: str) -> Callable[[object], Any]:
    """A decoder that takes a JSON value as it is, if it is of that very type."""

    def decode(value: object) -> object:
        # `type() is`: True is an int to Python, not to JSON.
        return value if type(value) is kind else _raise(f"{quote(value)} is not {name}")

    return decode


_INTEGER: Final = _exactly(int, "an integer")
_TEXT: Final = _exactly(str, "text")


def _decode_seq(value: object) -> SeqNumber:
    number = _INTEGER(value)
    return SeqNumber(number) if 0 <= number < _NUMBERS else _raise(f"{number} has not 32 bits")


@lru_cache(maxsize=4096)
def _parse_address(text: str) -> SocketAddress:
    address = SocketAddress.parse(text)
    return address if 0 <= address.port <= 0xFFFF else _raise(f"{address.port} is not a port")


def _decode_bytes(value: object) -> bytes:
    return base64.b64decode(_TEXT(value), validate=True)


def _same(value: object) -> object:
    return value


def _decode_any(value: object, depth: int = _NESTING) -> object:
    if not isinstance(value, list | dict):
        return value
    if not depth:
        # What Python's reader takes, its writer may find too deep.
        return _raise(f"nested more than {_NESTING} levels")
    for part in value.values() if isinstance(value, dict) else value:
        _decode_any(part, depth - 1)
    return value


_LEAVES: Final[dict[Any, _Codec]] = {
    object: _Codec(_same, _decode_any),  # JSON of the lab's and the sources' own
    NoneType: _Codec(_same, _exactly(NoneType, "null")),
    bool: _Codec(bool, _exactly(bool, "true or false")),
    int: _Codec(int, _INTEGER),
    str: _Codec(_same, _TEXT),
    bytes: _Codec(lambda data: base64.b64encode(data).decode("ascii"), _decode_bytes),
    SeqNumber: _Codec(lambda number: number.value, _decode_seq),
    SocketAddress: _Codec(str, lambda value: _parse_address(_TEXT(value))),
    Flags: _Codec(
        lru_cache(maxsize=512)(lambda flags: flags.letters),
        lambda value: Flags.from_letters(_TEXT(value)),
    ),
}


def _finite(text: str) -> float:
    number = float(text)
    return number if isfinite(number) else _raise(f"{text} is not a finite number")


def _raise(what: str) -> NoReturn:
    raise ValueError(what)


# JSON knows no NaN and no Infinity, though Python's reader does.
_DECODER: Final = json.JSONDecoder(parse_float=_finite, parse_constant=_finite)
# In ASCII, because a process may be named by bytes that are no UTF-8.
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True, allow_nan=False)
