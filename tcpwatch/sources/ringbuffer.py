"""The kernel's trace ring buffer in binary: `format` files and the pages of trace_pipe_raw.

Owns: the layouts of kernel/trace/ring_buffer.c and of include/trace/events/{sock,tcp}.h, and
nothing that does I/O. Must not know where pages come from or which sockets matter.
"""

from __future__ import annotations

import re
import socket
import struct
import sys
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any

from tcpwatch.model.events import KernelNote, KernelNoted, StateReported
from tcpwatch.model.identity import SocketAddress
from tcpwatch.tcp.state import TcpState

_FIELD = re.compile(
    r"field:(?P<declaration>[^;]+);\s*offset:(?P<offset>\d+);\s*size:(?P<size>\d+);"
    r"(?:\s*signed:(?P<signed>[01]);)?"
)
_LITTLE = sys.byteorder == "little"
_PADDING, _TIME_EXTEND, _TIME_STAMP = 29, 30, 31
_DELTA_BITS = 27
_TIME_STAMP_HIGH = 0xF8 << 56  # ring_buffer.c: TS_MSB, which an absolute stamp cannot hold
_COMMIT_MASK = (1 << 27) - 1  # as libtraceevent has it
_MISSED_EVENTS, _MISSED_STORED = 1 << 31, 1 << 30  # ring_buffer.c: RB_MISSED_*
_WORD = struct.Struct("=I")
_STAMP = struct.Struct("=Q")
_TYPE = struct.Struct("=H")
_INTEGERS = {1: "B", 2: "H", 4: "I", 8: "Q"}


@dataclass(frozen=True, slots=True)
class Field:
    """Where a field of an event stands, in octets."""

    offset: int
    size: int
    signed: bool = False
    array: bool = False


@dataclass(frozen=True, slots=True)
class EventFormat:
    """An event's `format` file."""

    id: int
    fields: dict[str, Field]

    @classmethod
    def parse(cls, text: str) -> EventFormat:
        """Raises ValueError where the text has no ID."""
        found = re.search(r"^ID:\s*(\d+)", text, re.MULTILINE)
        if found is None:
            raise ValueError("the event's format file has no ID")
        return cls(int(found[1]), _fields(text))


def _fields(text: str) -> dict[str, Field]:
    fields = {}
    for match in _FIELD.finditer(text):
        declared, bracket, _ = match["declaration"].strip().partition("[")
        name = declared.split()[-1].lstrip("*")
        signed = match["signed"] == "1"
        fields[name] = Field(int(match["offset"]), int(match["size"]), signed, bool(bracket))
    return fields


@dataclass(frozen=True, slots=True)
class PageLayout:
    """`events/header_page`: where a page keeps its commit count and its data, in octets."""

    commit: Field
    data: Field

    @property
    def page_octets(self) -> int:
        return self.data.offset + self.data.size

    @classmethod
    def parse(cls, text: str) -> PageLayout:
        """Raises ValueError where a field is missing."""
        fields = _fields(text)
        try:
            return cls(fields["commit"], fields["data"])
        except KeyError as error:
            raise ValueError(f"header_page has no field {error}") from None


@dataclass(frozen=True, slots=True)
class Page:
    """What one page held: records as (CLOCK_MONOTONIC nanoseconds, octets), oldest first.

    ``lost`` counts the events lost before it (None: some, the kernel does not say how many);
    ``problem`` says where the page contradicts itself: what came before that is in ``records``.
    """

    records: list[tuple[int, memoryview]]
    lost: int | None = 0
    problem: str = ""


def parse_page(page: bytes, layout: PageLayout) -> Page:
    """Takes a page of trace_pipe_raw apart; any octets give a `Page`."""
    if len(page) < layout.data.offset or len(page) < _STAMP.size:
        return Page([], problem="a page of the ring buffer is shorter than its header")
    commit_octets = page[layout.commit.offset : layout.commit.offset + layout.commit.size]
    commit = int.from_bytes(commit_octets, sys.byteorder)
    start, end = layout.data.offset, layout.data.offset + (commit & _COMMIT_MASK)
    if end > len(page):
        return Page([], problem="a page of the ring buffer claims more octets than it has")
    lost: int | None = 0
    if commit & _MISSED_EVENTS:
        stored = bool(commit & _MISSED_STORED) and end + 8 <= len(page)
        lost = _STAMP.unpack_from(page, end)[0] if stored else None
    records: list[tuple[int, memoryview]] = []
    problem = _walk(memoryview(page)[:end], start, _STAMP.unpack_from(page)[0], records)
    return Page(records, lost, problem)


def _walk(page: memoryview, offset: int, t_ns: int, records: list[tuple[int, memoryview]]) -> str:
    """Appends the records from ``offset`` on; returns what is wrong, or nothing."""
    end = len(page)
    while offset + 4 <= end:
        (word,) = _WORD.unpack_from(page, offset)
        kind, delta = (word & 31, word >> 5) if _LITTLE else (word >> 27, word & 0x7FFFFFF)
        if 1 <= kind < _PADDING:
            head, octets = 4, 4 + kind * 4
        elif kind == _PADDING and not delta:
            return ""  # nothing follows on this page
        elif offset + 8 > end:
            return "a record of the ring buffer is cut off"
        else:
            (more,) = _WORD.unpack_from(page, offset + 4)
            head, octets = 8, 8 if kind >= _TIME_EXTEND else 4 + more
            if kind == _TIME_EXTEND:
                delta += more << _DELTA_BITS
            elif kind == _TIME_STAMP:
                stamp = (more << _DELTA_BITS) + delta
                t_ns, delta = stamp | (t_ns & _TIME_STAMP_HIGH), 0
        if octets < head or offset + octets > end:
            return "a record of the ring buffer has a wrong length"
        t_ns += delta
        if kind < _PADDING:
            records.append((t_ns, page[offset + head : offset + octets]))
        offset += octets
    return ""


def event_id(record: memoryview) -> int:
    """Which event's format a record follows (common_type); 0, which none has, for a stump."""
    return int(_TYPE.unpack_from(record)[0]) if len(record) >= _TYPE.size else 0


class Decoder:
    """Turns the records of one event into payloads.

    ``note`` is None for inet_sock_set_state. Raises ValueError where the format lacks the fields
    that the payload cannot do without.
    """

    def __init__(self, layout: EventFormat, note: KernelNote | None) -> None:
        self._note = note
        fields = layout.fields
        needed = ["saddr", "daddr"] + (["oldstate", "newstate"] if note is None else [])
        missing = [name for name in needed if name not in fields]
        if missing:
            raise ValueError(f"the event has no field {' or '.join(missing)}")
        present = [name for name in _WANTED if name in fields]
        present.sort(key=lambda name: fields[name].offset)
        self._struct = _layout([fields[name] for name in present])
        self._sockaddr = fields["saddr"].size >= 28
        # What the format lacks stands behind what the record has, and all in the order wanted.
        lacking = [name for name in _WANTED if name not in fields]
        self._lacking = tuple(_WANTED[name] for name in lacking)
        places = {name: place for place, name in enumerate([*present, *lacking])}
        self._in_order = itemgetter(*(places[name] for name in _WANTED))

    def decode(self, record: memoryview) -> StateReported | KernelNoted | None:
        """The payload; None where the record is too short, no TCP, or names no known state."""
        if len(record) < self._struct.size:
            return None
        values = self._in_order(self._struct.unpack_from(record) + self._lacking)
        pid, skaddr, old, new, state, reason, protocol, *addresses = values
        if protocol != socket.IPPROTO_TCP:
            return None
        ends = self._addresses(*addresses)
        if ends is None:
            return None
        try:
            if self._note is not None:
                known = TcpState.from_linux(state) if state else None
                return KernelNoted(self._note, skaddr, *ends, state=known, reason=reason)
            before, after = TcpState.from_linux(old), TcpState.from_linux(new)
        except ValueError:
            return None
        return StateReported(skaddr, *ends, before, after, pid)

    def _addresses(
        self,
        family: int,
        source_port: int,
        destination_port: int,
        source: bytes,
        destination: bytes,
        source_v6: bytes,
        destination_v6: bytes,
    ) -> tuple[SocketAddress, SocketAddress] | None:
        if self._sockaddr:
            local, remote = _from_sockaddr(source), _from_sockaddr(destination)
            return (local, remote) if local and remote else None
        if family == socket.AF_INET6 and source_v6:
            source, destination = source_v6, destination_v6
        return _address(source, source_port), _address(destination, destination_port)


_WANTED: dict[str, Any] = {
    "common_pid": 0,
    "skaddr": 0,
    "oldstate": None,
    "newstate": None,
    "state": None,
    "reason": None,
    "protocol": socket.IPPROTO_TCP,
    "family": socket.AF_INET6,
    "sport": 0,
    "dport": 0,
    "saddr": b"",
    "daddr": b"",
    "saddr_v6": b"",
    "daddr_v6": b"",
}
"""The fields that are read, and what stands for one that the format lacks."""


def _layout(fields: list[Field]) -> struct.Struct:
    """One struct for fields sorted by their offset."""
    parts, at = ["="], 0
    for field in fields:
        if field.offset < at:
            raise ValueError("the fields of the event overlap")
        parts.append(f"{field.offset - at}x")
        code = None if field.array else _INTEGERS.get(field.size)
        if code is None:
            parts.append(f"{field.size}s")
        else:
            parts.append(code.lower() if field.signed else code)
        at = field.offset + field.size
    return struct.Struct("".join(parts))


@lru_cache(maxsize=8192)
def _address(packed: bytes, port: int) -> SocketAddress:
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    return SocketAddress(socket.inet_ntop(family, packed), port)


def _from_sockaddr(packed: bytes) -> SocketAddress | None:
    (family,) = _TYPE.unpack_from(packed)
    port = int.from_bytes(packed[2:4], "big")
    if family == socket.AF_INET:
        return _address(packed[4:8], port)
    return _address(packed[8:24], port) if family == socket.AF_INET6 else None
