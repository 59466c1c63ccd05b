"""Writes captures, octet by octet, in every shape that the containers allow.

Owns: nothing of the reader: what it writes follows the specifications alone.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

ETHERNET, RAW = 1, 101
PCAP = {"microseconds": 0xA1B2C3D4, "nanoseconds": 0xA1B23C4D, "kuznetzov": 0xA1B2CD34}
SHARE = {"microseconds": 1000, "nanoseconds": 1, "kuznetzov": 1000}  # nanoseconds in a unit


class Frame(NamedTuple):
    """A frame as it is written, and as it must be read."""

    t_ns: int
    octets: bytes
    wire_len: int = -1

    @property
    def length(self) -> int:
        return max(self.wire_len, len(self.octets))


def pcap(
    frames: Iterable[Frame],
    *,
    order: str = "<",
    unit: str = "microseconds",
    link: int = ETHERNET,
    version: tuple[int, int] = (2, 4),
) -> bytes:
    written = struct.pack(f"{order}IHHiIII", PCAP[unit], *version, 0, 0, 262_144, link)
    for frame in frames:
        seconds, part = divmod(frame.t_ns, 1_000_000_000)
        lengths = [len(frame.octets), frame.length]
        if version[1] < 3:
            lengths.reverse()
        written += struct.pack(f"{order}IIII", seconds, part // SHARE[unit], *lengths)
        written += bytes(8) if unit == "kuznetzov" else b""
        written += frame.octets
    return written


def padded(octets: bytes) -> bytes:
    return octets + bytes(-len(octets) % 4)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}HH", code, len(value)) + padded(value)


def block(kind: int, body: bytes, order: str = "<", options: Sequence[bytes] = ()) -> bytes:
    end = struct.pack(f"{order}HH", 0, 0) if options else b""
    inside = body + b"".join(options) + end
    length = struct.pack(f"{order}I", len(inside) + 12)
    return struct.pack(f"{order}I", kind) + length + inside + length


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(
    order: str = "<",
    *,
    link: int = ETHERNET,
    snaplen: int = 0,
    resolution: int | None = None,
    offset_s: int | None = None,
) -> bytes:
    options = [option(2, b"eth0", order)]
    if resolution is not None:
        options.append(option(9, bytes([resolution]), order))
    if offset_s is not None:
        options.append(option(14, struct.pack(f"{order}q", offset_s), order))
    return block(1, struct.pack(f"{order}HHI", link, 0, snaplen), order, options)


def enhanced(
    octets: bytes, ticks: int, *, order: str = "<", of: int = 0, wire_len: int = -1
) -> bytes:
    lengths = (len(octets), max(wire_len, len(octets)))
    head = struct.pack(f"{order}IIIII", of, ticks >> 32, ticks & 0xFFFFFFFF, *lengths)
    return block(6, head + padded(octets), order, [option(1, b"a comment", order)])


def simple(octets: bytes, *, order: str = "<", wire_len: int = -1) -> bytes:
    head = struct.pack(f"{order}I", max(wire_len, len(octets)))
    return block(3, head + padded(octets), order)


def obsolete(octets: bytes, ticks: int, *, order: str = "<", of: int = 0) -> bytes:
    lengths = (len(octets), len(octets))
    head = struct.pack(f"{order}HHIIII", of, 7, ticks >> 32, ticks & 0xFFFFFFFF, *lengths)
    return block(2, head + padded(octets), order)


def statistics(order: str = "<", *, of: int = 0, dropped: int = 0) -> bytes:
    options = [option(5, struct.pack(f"{order}Q", dropped), order)]
    return block(5, struct.pack(f"{order}III", of, 0, 0), order, options)
