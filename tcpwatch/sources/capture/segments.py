"""A capture as a witness: its segments as observations, and what it could not make segments of.

Owns: the count of what a capture holds, by what became of it. Must not know connections.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import assert_never

from tcpwatch.model.events import WIRE, MalformedSeen, Point, SegmentSeen, Vantage
from tcpwatch.model.identity import SocketAddress
from tcpwatch.model.witness import Observation
from tcpwatch.sources.capture.container import open_container
from tcpwatch.sources.capture.decoder import Decoder, Held, Read, Reading
from tcpwatch.sources.capture.frames import Frames
from tcpwatch.sources.capture.link import Unread, arrives_here, link_header
from tcpwatch.sources.capture.linknames import link_name
from tcpwatch.sources.capture.octets import Octets
from tcpwatch.sources.capture.sightings import Place, Sightings
from tcpwatch.tcp.header import Malformed, NotTcp

_VANTAGE = Vantage(WIRE)


@dataclass(slots=True)
class Tally:
    """How many frames there were, and what became of them, by reason.

    ``unread`` may have held segments; ``other`` did not. ``fragments`` were put together to
    segments, or are of an ``incomplete`` datagram. ``cut`` segments lack octets in the capture.
    ``backwards`` counts the frames that are dated before the one in front of them.
    """

    frames: int = 0
    segments: int = 0
    cut: int = 0
    fragments: int = 0
    incomplete: int = 0
    dropped: int = 0
    backwards: int = 0
    first_ns: int | None = None
    last_ns: int = 0
    links: Counter[int] = field(default_factory=Counter)
    other: Counter[str] = field(default_factory=Counter)
    unread: Counter[str] = field(default_factory=Counter)
    malformed: Counter[str] = field(default_factory=Counter)


class Capture:
    """The segments in a capture, each seen midway between its ends, or where it arrives.

    One that arrives has been sent too: it is both at once.
    ``keep_octets``: each segment's packet stays with it, for outputs that write packets. ``wanted``
    says of a frame's octets whether it may be of use: others are passed over, unread. ``tell`` is
    called now and then while `observations` are read.
    """

    def __init__(
        self,
        octets: Octets,
        *,
        keep_octets: bool = False,
        wanted: Callable[[bytes], bool] | None = None,
        tell: Callable[[], None] | None = None,
    ) -> None:
        """Raises TcpwatchError where it is no capture."""
        self._container = open_container(octets)
        self._keep_octets = keep_octets
        self._wanted = wanted
        self._tell = tell
        self.kind = self._container.kind
        self.name = octets.name
        self.packed = octets.packed
        self.tally = Tally()
        self._sightings = Sightings()

    @property
    def links(self) -> list[str]:
        """The link layers met so far, by name, the most frequent first."""
        return [link_name(link) for link, _ in self.tally.links.most_common()]

    def frames(self) -> Iterator[Frames]:
        """The frames, for a reader that counts them itself. Raises as `observations`."""
        try:
            yield from self._container.blocks()
        finally:
            self.tally.dropped = self._container.dropped

    def observations(self) -> Iterator[Observation]:
        """Each segment seen, in the capture's order, at its time since 1970, which never goes back.

        Raises TcpwatchError where the capture breaks off, after all that came before.
        """
        decoder, tally = Decoder(), self.tally
        try:
            for frames in self._container.blocks():
                if self._tell is not None:
                    self._tell()
                tally.links.update(frames.link.tolist())
                rows = (frames.at, frames.captured, frames.wire_len, frames.t_ns, frames.link)
                where = (frames.interface, frames.inbound)
                for at, captured, wire_len, t_ns, link, interface, inbound in zip(
                    *(one.tolist() for one in (*rows, *where)), strict=True
                ):
                    frame = frames.octets[at : at + captured]
                    now_ns = self._clock(t_ns)
                    if self._wanted is not None and not self._wanted(frame):
                        continue
                    here = inbound or arrives_here(link, frame)
                    place = Place(interface, link_header(link, frame), here)
                    reading = decoder.read(link, frame, wire_len, now_ns)
                    observed = self._observed(reading, frame, now_ns, place)
                    if observed is not None:
                        yield Observation(now_ns, _VANTAGE, observed)
                    if isinstance(observed, SegmentSeen) and observed.point is Point.SENT:
                        arrived = replace(observed, point=Point.DELIVERED, raw=b"")
                        yield Observation(now_ns, _VANTAGE, arrived)
        finally:
            tally.incomplete = decoder.incomplete
            tally.dropped = self._container.dropped

    def _clock(self, t_ns: int) -> int:
        tally = self.tally
        tally.frames += 1
        if tally.first_ns is None:
            tally.first_ns = tally.last_ns = t_ns
        if t_ns < tally.last_ns:
            tally.backwards += 1
        tally.last_ns = max(tally.last_ns, t_ns)
        return tally.last_ns

    def _observed(
        self, reading: Reading, frame: bytes, t_ns: int, place: Place
    ) -> SegmentSeen | MalformedSeen | None:
        tally = self.tally
        match reading:
            case Read(packet, octets):
                tally.segments += 1
                tally.cut += packet.truncated
                first = self._sightings.first(tally.segments, t_ns, packet, octets, place)
                arrives = place.here and first is None and not self._sightings.passes_on(packet)
                return SegmentSeen(
                    tally.segments,
                    Point.SENT if arrives else Point.MIDWAY,
                    SocketAddress(packet.src_ip, packet.src_port),
                    SocketAddress(packet.dst_ip, packet.dst_port),
                    packet.segment,
                    raw=octets if self._keep_octets else b"",
                    cut=packet.truncated,
                    copy_of=first,
                )
            case Held():
                tally.fragments += 1
            case NotTcp(reason):
                tally.other[reason] += 1
            case Unread(reason):
                tally.unread[reason] += 1
            case Malformed(reason):
                tally.malformed[reason] += 1
                return MalformedSeen(reason, frame if self._keep_octets else b"")
            case _ as never:
                assert_never(never)
        return None
