"""The pcap container (draft-ietf-opsawg-pcap), in all the shapes that are about.

Owns: both byte orders, micro- and nanoseconds, the older versions' swapped lengths, Kuznetzov's
longer record headers. Must not know what stands in a frame.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

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
from tcpwatch.sources.capture.walking import records

_MICRO, _NANO, _KUZNETZOV = 0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34
_KINDS = {
    _MICRO: ("microseconds", 1000, 16),
    _NANO: ("nanoseconds", 1, 16),
    _KUZNETZOV: ("microseconds", 1000, 24),  # of libpcap as patched by Alexey Kuznetzov
}
MAGICS = {
    struct.pack(order + "I", magic): (order, magic) for magic in _KINDS for order in (">", "<")
}
_HEADER_LEN = 24
_SECOND = 1_000_000_000  # a part of a second that is none is taken for the end of that second
_ZEROS = 16
"""So many headers of zeros are none: no writer dates a run of empty frames 1970, and files that
were made longer in advance, or cut by a crash, end so. libpcap and Wireshark take each for a frame.
"""
_LINK_BITS = 0x03FFFFFF  # above them: the length of the frame check sequence


@dataclass(frozen=True, slots=True)
class _Header:
    order: str
    unit: str
    nanoseconds: int
    record_len: int
    swapped: bool
    link: int


class Pcap:
    """A capture whose frames have not been read yet.

    ``kind`` describes the container in words.
    """

    def __init__(self, octets: Octets) -> None:
        """Raises TcpwatchError where the file's header is no header of a capture."""
        self._octets = octets
        self._header = _header(octets)
        order = "big-endian" if self._header.order == ">" else "little-endian"
        self.kind = f"pcap, {self._header.unit}, {order}"
        self.dropped = 0  # the format has no place for it

    def blocks(self) -> Iterator[Frames]:
        """The frames in their order; raises TcpwatchError after the last that can be read."""
        octets, count, done = self._octets, BLOCK, False
        while not done:
            start = octets.position
            buffer = octets.read(count)
            done = len(buffer) < count
            frames, at, wrong = self._frames(buffer, last=done)
            if frames is not None:
                yield frames
            if wrong is not None:
                raise broken(octets, start + at, wrong)
            count = BLOCK if at else count + BLOCK  # else no frame was whole
            rest = buffer[at:]
            if not done:
                octets.give_back(rest)
            else:
                octets.read(1)  # raises where the stream is not at its end, but broken
                if rest:
                    raise broken(octets, start + at, _cut(rest, self._header.record_len))

    def _walk(self, buffer: bytes) -> Int64s:
        """Where each record begins whose header is there, taking its length for true.

        Nothing is checked: a length that lies leads anywhere, but never back.
        """
        header = self._header
        if not header.swapped:
            return records(buffer, header.order, header.record_len)
        lengths = struct.Struct(header.order + "8xII").unpack_from
        places: list[int] = []
        at = 0
        while at <= len(buffer) - header.record_len:
            places.append(at)
            at += header.record_len + min(lengths(buffer, at))
        return np.array(places, dtype=np.int64)

    def _frames(self, buffer: bytes, *, last: bool) -> tuple[Frames | None, int, str | None]:
        """The whole frames, where the next record begins, and what is wrong with that one.

        ``last``: nothing follows the buffer.
        """
        header = self._header
        at = self._walk(buffer)
        heads = numbers(buffer, f"V{header.record_len}")[at].view(f"{header.order}u4")
        seconds, parts, one, other = (
            column(heads[nth :: header.record_len // 4]) for nth in range(4)
        )
        captured = np.minimum(one, other) if header.swapped else one
        whole = (captured <= LONGEST_FRAME) & (at + header.record_len + captured <= len(buffer))
        kept = len(at) if whole.all() else int(whole.argmin())
        following, wrong = 0, None
        blank, many = _blank((seconds | parts | one | other)[:kept], last=last)
        if blank < kept:
            kept, following = blank, int(at[blank])
            wrong = "nothing but zeros where a record would begin" if many else None
        elif kept < len(at):
            following, length = int(at[kept]), int(captured[kept])
            if length > LONGEST_FRAME:
                wrong = f"a frame of {length} octets, more than any has"
        elif kept:
            following = int(at[-1] + captured[-1]) + header.record_len
        if not kept:
            return None, following, wrong
        at, captured = at[:kept], captured[:kept]
        seconds, parts = seconds[:kept], parts[:kept]
        frames = Frames(
            buffer,
            at + header.record_len,
            captured,
            np.maximum(one, other)[:kept],
            seconds * _SECOND + np.minimum(parts * header.nanoseconds, _SECOND - 1),
            np.full(kept, header.link, dtype=np.int64),
            np.zeros(kept, dtype=np.int64),
            np.zeros(kept, dtype=np.bool_),
        )
        return frames, following, wrong


def _blank(headers: Int64s, *, last: bool) -> tuple[int, bool]:
    """The first record from which on there are only zeros, and whether so many that none is one.

    Few at the end of a buffer that is not the ``last`` may become many.
    """
    if headers.all():
        return len(headers), False
    edges = np.flatnonzero(np.diff((headers == 0) * 1, prepend=0, append=0))
    begins, ends = edges[::2], edges[1::2]
    many = np.flatnonzero(ends - begins >= _ZEROS)
    if len(many):
        return int(begins[many[0]]), True
    held = not last and ends[-1] == len(headers)
    return (int(begins[-1]) if held else len(headers)), False


def _header(octets: Octets) -> _Header:
    octets_of = octets.read(_HEADER_LEN)
    order, magic = MAGICS[octets_of[:4]]
    if len(octets_of) < _HEADER_LEN:
        raise unreadable(
            octets, len(octets_of), "the file ends within the header of a pcap capture"
        )
    major, minor, link = struct.unpack_from(f"{order}HH12xI", octets_of, 4)
    if major != 2:
        raise unreadable(
            octets, 4, f"a pcap capture of version {major}.{minor}, which nobody writes"
        )
    unit, nanoseconds, record_len = _KINDS[magic]
    swapped = minor < 4  # some that wrote 2.3 had the two lengths the other way round, some not
    return _Header(order, unit, nanoseconds, record_len, swapped, link & _LINK_BITS)


def _cut(rest: bytes, record_len: int) -> str:
    if len(rest) < record_len:
        return f"the file ends within a record's header, {len(rest)} octets of it are there"
    return f"the file ends within a frame, {len(rest) - record_len} octets of it are there"
