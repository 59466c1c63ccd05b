"""The recording: every event of a run as JSON lines, and back to the same values.

Owns: the format `tcpwatch-recording/1`. A head line, one line an event, a foot line; the head and
the foot are the run's record. The fields are those of the dataclasses, in their order. Must not
know where lines come from or go to (they are without a line end), nor what an event means.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final, get_args

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.model.codec import FieldsCodec, JsonObject, dump, load, quote
from tcpwatch.model.events import Event, Payload, Vantage
from tcpwatch.model.timeline import RunRecord

SCHEMA: Final = "tcpwatch-recording/1"

_EVENT: Final = FieldsCodec(Event, ("id", "t_ns"))
_VANTAGE: Final = FieldsCodec(Vantage)
_PAYLOADS: Final = {payload.__name__: FieldsCodec(payload) for payload in get_args(Payload)}
_RECORD: Final = FieldsCodec(RunRecord)
# What is known only at the end stands in the foot alone. `sources` and `roles` stand in the head
# too, for a recording that is cut off; but what a witness lost, and who met whom, the end settles.
_LATER: Final = ("findings", "answers")
_END: Final = ("problem", "failed_checks", "inconclusive", "end_ns", *_LATER)
_HEAD: Final = FieldsCodec(RunRecord, tuple(n for n in _RECORD.names if n not in _END))
_FOOT: Final = FieldsCodec(RunRecord, ("sources", "roles", *_END), later=_LATER)

_HEAD_BEGINS: Final = dump({"schema": SCHEMA})[:-1]


@dataclass(frozen=True, slots=True)
class Recording:
    """A run read back. ``complete`` is False where the recording was cut off before its foot.

    Then ``record`` is what its head says, with the last event's time as its end.
    """

    record: RunRecord
    events: tuple[Event, ...]
    complete: bool


def encode_event(event: Event) -> str:
    """One line, without its end. The same event always gives the same text.

    A field that is empty (None, 0, false, "", []) by default and in fact is left out.
    """
    name = type(event.payload).__name__
    line = _EVENT.encode(event) | _VANTAGE.encode(event.vantage) | {"event": name}
    return dump(line | _PAYLOADS[name].encode(event.payload))


def decode_event(line: str, number: int) -> Event:
    """The inverse of `encode_event`.

    ``number`` is the line's, from 1. Raises TcpwatchError, naming the line and what is wrong.
    """
    return _event(_object(line, number), number)


def encode_head(record: RunRecord) -> str:
    """The first line of a recording: what is known of the run before it begins."""
    return dump({"schema": SCHEMA} | _HEAD.encode(record))


def encode_foot(record: RunRecord) -> str:
    """The last line of a recording: how the run ended. Overrides what the head said."""
    return dump(_FOOT.encode(record))


def read_recordings(lines: Iterable[str]) -> Iterator[Recording]:
    """Recordings one after another, as several runs into one file leave them; at least one.

    Raises as `read_recording`; the number is the line's in its own recording.
    """
    collected: list[str] = []
    for line in lines:
        if collected and line.startswith(_HEAD_BEGINS):
            yield read_recording(collected)
            collected = []
        collected.append(line)
    yield read_recording(collected)


def read_recording(lines: Iterable[str]) -> Recording:
    """Read a recording back, as far as it goes where it is cut off. Blank lines mean nothing.

    Raises TcpwatchError, naming the line and what is wrong, for anything else that is not as
    `encode_head`, `encode_event` and `encode_foot` write it.
    """
    objects = _objects(lines)
    number, head = next(objects, (1, None))
    if head is None:
        raise _wrong(1, "there is no head; this is not a tcpwatch recording")
    record = _head(head, number)
    events: list[Event] = []
    complete = False
    for number, line in objects:
        if complete:
            raise _wrong(number, "something follows the foot")
        if "event" not in line and "end_ns" in line:
            record = _foot(record, line, number)
            complete = True
            continue
        event = _event(line, number)
        if events and event.id <= events[-1].id:
            raise _wrong(number, f"event {event.id} follows event {events[-1].id}")
        events.append(event)
    if not complete and events:
        record = replace(record, end_ns=max(event.t_ns for event in events))
    return Recording(record, tuple(events), complete)


def _head(line: JsonObject, number: int) -> RunRecord:
    schema = line.pop("schema", None)
    if schema != SCHEMA:
        said = f"its schema is {quote(schema)}" if schema is not None else "it has no schema"
        raise _wrong(number, f"{said}, and this reads {quote(SCHEMA)}")
    try:
        return _RECORD.build(line)
    except ValueError as error:
        raise _wrong(number, f"in the head, {error}") from None


def _foot(record: RunRecord, line: JsonObject, number: int) -> RunRecord:
    try:
        return replace(record, **_FOOT.decode(line, required=False))
    except ValueError as error:
        raise _wrong(number, f"in the foot, {error}") from None


def _event(line: JsonObject, number: int) -> Event:
    """An event from its line's object, which it uses up."""
    try:
        name = line.pop("event", None)
        if not isinstance(name, str) or name not in _PAYLOADS:
            raise _wrong(number, f"{quote(name)} is not a kind of event")
        placed = _EVENT.decode(_split(line, _EVENT.names))
        vantage = _VANTAGE.build(_split(line, _VANTAGE.names))
        return Event(vantage=vantage, payload=_PAYLOADS[name].build(line), **placed)
    except ValueError as error:
        raise _wrong(number, str(error)) from None


def _split(line: JsonObject, names: tuple[str, ...]) -> JsonObject:
    """Takes one dataclass's fields out of a line that holds those of several."""
    return {name: line.pop(name) for name in names if name in line}


def _objects(lines: Iterable[str]) -> Iterator[tuple[int, JsonObject]]:
    """Each line's object with the line's number. A last line that is cut off ends them silently.

    Half of a JSON object is never JSON, so a last line that is JSON was not cut off.
    """
    broken: TcpwatchError | None = None
    for number, line in _numbered(lines):
        if not line.strip():
            continue
        if broken is not None:
            raise broken
        try:
            value = load(line)
        except ValueError as error:
            broken = _wrong(number, str(error))
            continue
        yield number, _as_object(value, number)


def _numbered(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    number = 0
    try:
        for number, line in enumerate(lines, 1):
            yield number, line
    except UnicodeDecodeError:
        raise _wrong(number + 1, "not text in UTF-8") from None


def _object(line: str, number: int) -> JsonObject:
    try:
        return _as_object(load(line), number)
    except ValueError as error:
        raise _wrong(number, str(error)) from None


def _as_object(value: object, number: int) -> JsonObject:
    if not isinstance(value, dict):
        raise _wrong(number, "not a JSON object")
    return value


def _wrong(number: int, what: str) -> TcpwatchError:
    return TcpwatchError(
        f"line {number} of the recording: {what}",
        "replay a file that this version of tcpwatch wrote with --jsonl",
        ExitCode.USAGE,
    )
