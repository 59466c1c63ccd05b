"""IP fragments, until their datagram is whole (RFC 791 3.2, RFC 8200 4.5).

Owns: what is held, and that it stays bounded. Where fragments overlap, the one that came first
counts. Must not know what a datagram holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tcpwatch.tcp.header import Malformed, Upper

_MOST: Final = 1024  # datagrams held
_MOST_OCTETS: Final = 16 << 20
_PIECE_COSTS: Final = 200  # octets of memory beside its own
_PATIENCE_NS: Final = 60_000_000_000  # RFC 8200 4.5; Linux waits half as long in IPv4
_LONGEST: Final = 65_535

_Key = tuple[bytes, bytes, int, int]


@dataclass(slots=True)
class _Datagram:
    begun_ns: int
    pieces: dict[int, tuple[int, bytes]] = field(default_factory=dict)  # where: length, octets
    length: int | None = None
    first: Upper | None = None
    held: int = 0


class Fragments:
    """The datagrams of which some fragments are missing. ``abandoned`` counts those given up."""

    def __init__(self) -> None:
        self._datagrams: dict[_Key, _Datagram] = {}
        self._held = 0
        self._abandoned = 0

    @property
    def incomplete(self) -> int:
        """How many datagrams never became whole, as far as is known."""
        return self._abandoned + len(self._datagrams)

    def add(self, upper: Upper, data: bytes, t_ns: int) -> tuple[bytes, Upper] | Malformed | None:
        """Takes a fragment: None until it makes its datagram whole, then that.

        A capture may have cut fragments: the octets given then end where the first is missing,
        which lies before the `Upper.end`.
        """
        length = upper.end - upper.offset
        if upper.fragment_at + length > _LONGEST:
            return Malformed("a fragment that ends beyond the longest datagram")
        if upper.more_fragments and length % 8:
            return Malformed(f"a fragment of {length} octets, which is no multiple of 8")
        # In IPv6 only the first fragment says what the datagram holds.
        key = (upper.src, upper.dst, upper.datagram, upper.protocol if len(upper.src) == 4 else -1)
        datagram = self._datagrams.get(key)
        if datagram is not None and t_ns - datagram.begun_ns > _PATIENCE_NS:
            self._give_up(key)
            datagram = None
        if datagram is None:
            datagram = self._datagrams[key] = _Datagram(t_ns)
        self._keep(datagram, upper, data[upper.offset : min(upper.end, len(data))], length)
        whole = _whole(datagram)
        if whole is not None:
            self._held -= datagram.held
            del self._datagrams[key]
            return whole
        while len(self._datagrams) > _MOST or self._held > _MOST_OCTETS:
            self._give_up(next(iter(self._datagrams)))
        return None

    def _keep(self, datagram: _Datagram, upper: Upper, octets: bytes, length: int) -> None:
        if upper.fragment_at == 0 and datagram.first is None:
            datagram.first = upper
        if not upper.more_fragments and datagram.length is None:
            datagram.length = upper.fragment_at + length
        if length and upper.fragment_at not in datagram.pieces:
            datagram.pieces[upper.fragment_at] = (length, octets)
            datagram.held += len(octets) + _PIECE_COSTS
            self._held += len(octets) + _PIECE_COSTS

    def _give_up(self, key: _Key) -> None:
        self._held -= self._datagrams.pop(key).held
        self._abandoned += 1


def _whole(datagram: _Datagram) -> tuple[bytes, Upper] | None:
    """The datagram from its first octet on, if none of its fragments is missing."""
    total, first = datagram.length, datagram.first
    if total is None or first is None:
        return None
    octets, cut, end = bytearray(), False, 0
    for at, (length, piece) in sorted(datagram.pieces.items()):
        if at > end:
            return None
        if at + length <= end:
            continue
        if not cut:
            octets += piece[end - at :]
            cut = len(piece) < length
        end = at + length
    if end < total:
        return None
    whole = first._replace(offset=0, end=total, more_fragments=False, fragment_at=0)
    return bytes(octets[:total]), whole
