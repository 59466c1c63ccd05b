"""Which frames show one packet: seen at two interfaces, with a VLAN tag and without, on a mirror.

Owns: telling a packet that is seen again from one that is sent again, and what that says of where
the capture was made. Memory is bounded. Must not know what the machine makes of it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final, NamedTuple

from tcpwatch.tcp.header import TcpPacket
from tcpwatch.tcp.segment import Segment

_PATIENCE_NS: Final = 1_000_000_000  # a capture at each end, merged: the way between may be long
_MOST: Final = 4096


class _What(NamedTuple):
    """All of a packet that its sender alone decides."""

    src: tuple[str, int]
    dst: tuple[str, int]
    segment: Segment
    identification: int


class Place(NamedTuple):
    """Where a frame was captured, as far as it tells. ``here``: its receiver captured it."""

    interface: int
    link_header: bytes
    here: bool


@dataclass(frozen=True, slots=True)
class _Sighting:
    n: int
    t_ns: int
    hops_left: int
    place: Place


class Sightings:
    """The packets of the last second, at most `_MOST`."""

    def __init__(self) -> None:
        self._seen: dict[_What, _Sighting] = {}
        self._order: deque[tuple[int, _What]] = deque()
        self._passing: set[frozenset[tuple[str, int]]] = set()
        self._counting: dict[str, tuple[int, bool]] = {}

    def first(
        self, n: int, t_ns: int, packet: TcpPacket, octets: bytes, place: Place
    ) -> int | None:
        """The number of the segment that this frame shows once more; None where it is a new one.

        ``octets`` are its IP packet.
        """
        if not octets:
            return None  # it came in fragments
        self._forget(t_ns)
        hops_left, identification = _ip_fields(octets)
        ends = (packet.src_ip, packet.src_port), (packet.dst_ip, packet.dst_port)
        what = _What(*ends, packet.segment, identification)
        numbered = self._is_numbered(packet.src_ip, identification)
        known = self._seen.get(what)
        elsewhere = known is not None and (known.hops_left, known.place) != (hops_left, place)
        if known is None or not (elsewhere or numbered):
            self._seen[what] = _Sighting(n, t_ns, hops_left, place)
            self._order.append((t_ns, what))
            return None
        if known.place.here and not place.here and len(self._passing) < _MOST:
            self._passing.add(frozenset(ends))
        return known.n

    def passes_on(self, packet: TcpPacket) -> bool:
        """Whether the capturing host only passes on what goes between those ends."""
        if not self._passing:
            return False
        ends = (packet.src_ip, packet.src_port), (packet.dst_ip, packet.dst_port)
        return frozenset(ends) in self._passing

    def _is_numbered(self, sender: str, identification: int) -> bool:
        """Whether the sender gives each packet another number, so that no two have this one.

        Linux does, but for what it sends without a full socket; some stacks and IPv6 never do.
        """
        latest, counts = self._counting.get(sender, (identification, False))
        if len(self._counting) > _MOST:
            self._counting.clear()
        counts = counts or identification != latest
        self._counting[sender] = identification, counts
        return counts and identification != 0

    def _forget(self, t_ns: int) -> None:
        order = self._order
        while order and (len(order) > _MOST or t_ns - order[0][0] > _PATIENCE_NS):
            then_ns, what = order.popleft()
            known = self._seen.get(what)
            if known is not None and known.t_ns == then_ns:
                del self._seen[what]


def _ip_fields(octets: bytes) -> tuple[int, int]:
    """TTL or Hop Limit, and the identification."""
    if octets[0] >> 4 == 4:
        return octets[8], int.from_bytes(octets[4:6])
    return octets[7], 0
