"""The pcapng container (draft-ietf-opsawg-pcapng): sections, interfaces, packets of three kinds.

Owns: blocks and their options, each interface's clock and link type, each section's byte order.
Blocks that are none of its business are stepped over. Must not know what stands in a frame.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tcpwatch.sources.capture.frames import (
    BLOCK,
    LONGEST_FRAME,
    Frames,
    Int64s,
    broken,
    column,
    numbers,
    unreadable,
)
from tcpwatch.sources.capture.octets import Octets

_SECTION, _INTERFACE, _OLD_PACKET, _SIMPLE, _STATISTICS, _PACKET = 0x0A0D0D0A, 1, 2, 3, 5, 6
MAGIC = struct.pack("<I", _SECTION)  # the same in either byte order
_BYTE_ORDERS = {b"\x1a\x2b\x3c\x4d": ">", b"\x4d\x3c\x2b\x1a": "<"}
_LEAST = {_SECTION: 28, _INTERFACE: 20, _OLD_PACKET: 32, _SIMPLE: 16, _STATISTICS: 24, _PACKET: 32}
_FRAMES = frozenset({_OLD_PACKET, _SIMPLE, _PACKET})
_MOST_INTERFACES = 1 << 16
_LONGEST_BLOCK = 16 << 20  # octets; libpcap's limit
_MOST_OPTIONS = 1 << 20  # octets beside one frame: more are not told of it, however long a comment
_IF_TSRESOL, _IF_TSOFFSET, _ISB_IFDROP, _ISB_OSDROP = 9, 14, 5, 7
_EPB_FLAGS, _INBOUND = 2, 1
_NS = 1_000_000_000
_LATEST_S = (1 << 63) // _NS - 1  # 2262
_QUICK_UNITS = 1 << 33  # what is left of a second, times 10**9, still has room in 63 bits


@dataclass(frozen=True, slots=True)
class _Interface:
    """What its description block says. ``units`` a second is how its clock counts."""

    link: int
    snaplen: int
    units: int = 1_000_000
    offset_s: int = 0


@dataclass(slots=True)
class _Section:
    order: str
    interfaces: list[_Interface] = field(default_factory=list)
    dropped: dict[int, int] = field(default_factory=dict)  # by interface: statistics are totals


@dataclass(slots=True)
class _Walk:
    """How far the blocks in a buffer have been followed, and the frames not given yet."""

    buffer: bytes
    at: int = 0
    kind: int = _PACKET
    places: Int64s = field(default_factory=lambda: np.empty(0, dtype=np.int64))


class _Wrong(Exception):  # noqa: N818 - not our error but the file's
    """What is wrong with the block at ``at``."""

    def __init__(self, at: int, what: str) -> None:
        super().__init__(what)
        self.at = at


class Pcapng:
    """A capture whose frames have not been read yet; ``kind`` describes the container in words."""

    kind = "pcapng"

    def __init__(self, octets: Octets) -> None:
        self._octets = octets
        self._section = _Section("<")
        self._earlier_drops = 0
        self._last_ns = 0

    @property
    def dropped(self) -> int:
        """The frames that the capturing program says it lost, as far as the file was read."""
        return self._earlier_drops + sum(self._section.dropped.values())

    def blocks(self) -> Iterator[Frames]:
        """The frames in their order; raises TcpwatchError after the last that can be read."""
        octets, rest, done = self._octets, b"", False
        while not done:
            start = octets.position - len(rest)
            fresh = octets.read(BLOCK)
            done = len(fresh) < BLOCK
            walk = _Walk(rest + fresh)
            runs: list[Frames] = []
            broken_off = None
            try:
                runs.extend(self._runs(walk))
            except _Wrong as wrong:
                broken_off = wrong
            if runs:
                yield Frames.joined(runs)
            if broken_off is not None:
                tell = broken if start + broken_off.at else unreadable
                raise tell(octets, start + broken_off.at, str(broken_off))
            rest = walk.buffer[walk.at :]
            if done:
                octets.read(1)  # raises where the stream is not at its end, but broken
                if rest:
                    raise broken(octets, start + walk.at, _cut(rest, self._section.order))

    # ------------------------------------------------------------------ blocks

    def _runs(self, walk: _Walk) -> Iterator[Frames]:
        """Runs of frames of one kind. Raises _Wrong at a block that is wrong, after all before."""
        following = True
        while following:
            self._follow(walk)
            if len(walk.places):
                yield from self._frames(walk)
            following = self._step(walk)

    def _follow(self, walk: _Walk) -> None:
        """Past all frames of the kind that is next, which is nearly always all the way.

        The loop checks no more than that it gets on, and numpy the rest.
        """
        order, buffer, at = self._section.order, walk.buffer, walk.at
        walk.places = np.empty(0, dtype=np.int64)
        if len(buffer) - at < 12:
            return
        (kind,) = struct.unpack_from(order + "I", buffer, at)
        if kind not in _FRAMES:
            return
        walk.kind, least = kind, _LEAST[kind]
        places: list[int] = []
        add, length_at = places.append, struct.Struct(order + "I").unpack_from
        at += 4
        try:
            while True:
                (length,) = length_at(buffer, at)
                if length < least:
                    break
                add(at)
                at += length
        except struct.error:  # the end of the buffer
            pass
        begins = np.array(places, dtype=np.int64) - 4
        words = numbers(buffer, f"{order}u4")
        lengths = column(words[begins + 4])
        sound = (
            (words[begins] == kind)
            & (lengths % 4 == 0)
            & (lengths <= _LONGEST_BLOCK)
            & (begins + lengths <= len(buffer))
        )
        kept = len(begins) if sound.all() else int(sound.argmin())
        walk.places = begins[:kept]
        if kept:
            walk.at = int(begins[kept - 1] + lengths[kept - 1])

    def _step(self, walk: _Walk) -> bool:
        """Past one block that holds no frame; whether there is more in the buffer to follow."""
        buffer, at = walk.buffer, walk.at
        if len(buffer) - at < 12:
            return False
        order = self._section.order
        if buffer[at : at + 4] == MAGIC:
            order = _BYTE_ORDERS.get(buffer[at + 8 : at + 12], "")
            if not order:
                raise _Wrong(at, "a section without its byte order")
        kind, length = struct.unpack_from(order + "II", buffer, at)
        if length < _LEAST.get(kind, 12) or length % 4:
            raise _Wrong(at, f"a block of type {kind} that says it has {length} octets")
        if length > _LONGEST_BLOCK:
            raise _Wrong(at, f"a block of {length} octets, more than any has")
        if at + length > len(buffer):
            return False
        if kind in _FRAMES:
            return True  # of another kind than those before it
        (again,) = struct.unpack_from(order + "I", buffer, at + length - 4)
        if again != length:
            raise _Wrong(at, f"a block of {length} octets that says at its end it has {again}")
        self._heed(kind, buffer, at, at + length - 4)
        walk.at = at + length
        return True

    def _heed(self, kind: int, buffer: bytes, at: int, end: int) -> None:
        """A block that tells of frames; names, secrets, journals are none of our business."""
        order = self._section.order
        if kind == _SECTION:
            self._begin_section(buffer, at)
        elif kind == _INTERFACE:
            if len(self._section.interfaces) == _MOST_INTERFACES:
                raise _Wrong(at, f"more than {_MOST_INTERFACES} interfaces")
            link, snaplen = struct.unpack_from(order + "H2xI", buffer, at + 8)
            interface = _interface(link, snaplen, buffer[at + 16 : end], order)
            self._section.interfaces.append(interface)
        elif kind == _STATISTICS:
            (number,) = struct.unpack_from(order + "I", buffer, at + 8)
            if number < len(self._section.interfaces):
                self._section.dropped[number] = sum(
                    int.from_bytes(value, _endian(order))
                    for code, value in _options(buffer[at + 20 : end], order)
                    if code in (_ISB_IFDROP, _ISB_OSDROP) and len(value) == 8
                )

    def _begin_section(self, buffer: bytes, at: int) -> None:
        order = _BYTE_ORDERS[buffer[at + 8 : at + 12]]
        major, minor = struct.unpack_from(order + "HH", buffer, at + 12)
        if major != 1:
            raise _Wrong(at, f"a section of pcapng version {major}.{minor}, which nobody writes")
        self._earlier_drops = self.dropped
        self._section = _Section(order)

    # ------------------------------------------------------------------ frames

    def _frames(self, walk: _Walk) -> Iterator[Frames]:
        """The frames at ``walk.places`` as far as they are sound; raises at the first that is not.

        A simple packet (no interface, no time) is of the first interface, and has the time of the
        frame before it.
        """
        buffer, order, interfaces = walk.buffer, self._section.order, self._section.interfaces
        at = walk.places
        words = numbers(buffer, f"{order}u4")
        length = column(words[at + 4])
        if walk.kind == _SIMPLE:
            begins, wire = at + 12, column(words[at + 8])
            interface = np.zeros(len(at), dtype=np.int64)
            room = length - 16
            snaplen = interfaces[0].snaplen if interfaces else 0
            captured = np.minimum(wire, snaplen) if snaplen else wire
        else:
            begins, room = at + 28, length - 32
            halves = numbers(buffer, f"{order}u2")
            interface = column(words[at + 8] if walk.kind == _PACKET else halves[at + 8])
            captured, wire = column(words[at + 20]), column(words[at + 24])
        sound = (
            (column(words[at + length - 4]) == length)
            & (interface < len(interfaces))
            & (captured <= np.minimum(room, LONGEST_FRAME))
        )
        kept = len(at) if sound.all() else int(sound.argmin())
        if kept:
            t_ns = np.full(kept, self._last_ns, dtype=np.int64)
            if walk.kind != _SIMPLE:
                high, low = (words[at[:kept] + offset].astype(np.uint64) for offset in (12, 16))
                t_ns = self._times(interface[:kept], high << np.uint64(32) | low)
            self._last_ns = int(t_ns[-1])
            links = np.array([one.link for one in interfaces], dtype=np.int64)
            yield Frames(
                buffer,
                begins[:kept],
                captured[:kept],
                np.maximum(captured, wire)[:kept],
                t_ns,
                links[interface[:kept]],
                interface[:kept],
                self._inbound(walk, at[:kept], begins[:kept] + captured[:kept]),
            )
        if kept < len(at):
            number, caught = int(interface[kept]), int(captured[kept])
            what = f"a block of {length[kept]} octets that says otherwise at its end"
            if number >= len(interfaces):
                what = f"a frame of interface {number}, where {len(interfaces)} are described"
            elif caught > min(int(room[kept]), LONGEST_FRAME):
                what = f"a frame of {caught} octets in a block of {length[kept]}"
            raise _Wrong(int(at[kept]), what)

    def _inbound(self, walk: _Walk, at: Int64s, ends: Int64s) -> NDArray[np.bool_]:
        """Which blocks have an option that says so; ``ends`` are those of the frames in them."""
        buffer, order = walk.buffer, self._section.order
        inbound = np.zeros(len(at), dtype=np.bool_)
        if walk.kind != _PACKET:
            return inbound
        words = numbers(buffer, f"{order}u4")
        begins = at + 28 + (ends - at - 28 + 3) // 4 * 4
        ends = at + column(words[at + 4]) - 4
        told = np.flatnonzero(ends - begins >= 8)
        for row, begin, end in zip(
            *(one[told].tolist() for one in (np.arange(len(at)), begins, ends)), strict=True
        ):
            for code, value in _options(buffer[begin:end], order):
                if code == _EPB_FLAGS and len(value) == 4:
                    inbound[row] = int.from_bytes(value, _endian(order)) & 3 == _INBOUND
        return inbound

    def _times(self, interface: Int64s, ticks: NDArray[np.uint64]) -> Int64s:
        t_ns = np.empty(len(ticks), dtype=np.int64)
        for number in np.unique(interface).tolist():
            mine = interface == number
            t_ns[mine] = _nanoseconds(ticks[mine], self._section.interfaces[number])
        return t_ns


def _cut(rest: bytes, order: str) -> str:
    """Why the last block is not whole: the file was cut off there, or its length is none."""
    if len(rest) < 8:
        return f"the file ends within a block, {len(rest)} octets of it are there"
    if rest[:4] == MAGIC:
        order = _BYTE_ORDERS.get(rest[8:12], order)
    kind, length = struct.unpack_from(order + "II", rest)
    if not _LEAST.get(kind, 12) <= length <= _LONGEST_BLOCK or length % 4:
        return f"a block of type {kind} that says it has {length} octets"
    if kind == _PACKET and len(rest) >= 28:
        (captured,) = struct.unpack_from(order + "I", rest, 20)
        if not 0 <= length - 32 - captured <= _MOST_OPTIONS:
            return f"a block of {length} octets around a frame of {captured}"
    return f"the file ends within a block of {length} octets, {len(rest)} of them are there"


def _nanoseconds(ticks: NDArray[np.uint64], interface: _Interface) -> Int64s:
    """Since 1970; what lies beyond the year 2262, or before 1678, is put there."""
    units, offset_s = interface.units, interface.offset_s
    if units > _QUICK_UNITS or abs(offset_s) > _LATEST_S:
        latest = _LATEST_S * _NS
        exact = [tick * _NS // units + offset_s * _NS for tick in ticks.tolist()]
        return np.array([max(-latest, min(t_ns, latest)) for t_ns in exact], dtype=np.int64)
    seconds = column(np.minimum(ticks // np.uint64(units), np.uint64(_LATEST_S)))
    parts = column(ticks % np.uint64(units))
    return np.minimum(seconds + offset_s, _LATEST_S) * _NS + parts * _NS // units


def _interface(link: int, snaplen: int, described: bytes, order: str) -> _Interface:
    units, offset_s = 1_000_000, 0
    for code, value in _options(described, order):
        if code == _IF_TSRESOL and len(value) == 1:
            power = value[0] & 0x7F
            units = 1 << power if value[0] & 0x80 else 10**power
        elif code == _IF_TSOFFSET and len(value) == 8:
            offset_s = int.from_bytes(value, _endian(order), signed=True)
    return _Interface(link, snaplen, units, offset_s)


def _options(octets: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Code and value of each option, as far as they make sense."""
    at = 0
    while at + 4 <= len(octets):
        code, length = struct.unpack_from(order + "HH", octets, at)
        if code == 0 or at + 4 + length > len(octets):  # opt_endofopt
            return
        yield code, octets[at + 4 : at + 4 + length]
        at += 4 + (length + 3) // 4 * 4


def _endian(order: str) -> Literal["big", "little"]:
    return "big" if order == ">" else "little"
