"""The columns against the exact way: the same segments, the same rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from pathlib import Path

import pytest

from tcpwatch.errors import TcpwatchError
from tcpwatch.model.events import Point, SegmentSeen
from tcpwatch.sources.capture.columns import ACK, CUT, HERE, SYN, Columns, Ends, Segments
from tcpwatch.sources.capture.container import open_container
from tcpwatch.sources.capture.octets import open_octets
from tcpwatch.sources.capture.segments import Capture, Tally
from tests.sources.capture.exactly import exact_rows, plain, quick_rows
from tests.sources.capture.reading import SHARED

OURS = Path(__file__).parents[2] / "data" / "captures"
CAPTURES = sorted([*OURS.iterdir(), *SHARED.glob("*/*.pcap*")])


def exact_segments(path: Path) -> tuple[list[tuple[object, ...]], Tally]:
    found: list[tuple[object, ...]] = []
    with open_octets(str(path)) as octets:
        capture = Capture(octets)
        try:
            for one in capture.observations():
                seen = one.payload
                if not isinstance(seen, SegmentSeen) or seen.point is Point.DELIVERED:
                    continue
                segment = seen.segment
                ack = None if segment.ack is None else segment.ack.value
                shift = segment.window_shift if segment.syn else None
                numbers = (segment.seq.value, ack, int(segment.flags), segment.window, shift)
                rest = (segment.payload_len, seen.point is Point.SENT, seen.cut)
                found.append((one.t_ns, seen.src, seen.dst, *numbers, *rest))
        except TcpwatchError:
            pass
        return found, capture.tally


def quick_segments(path: Path) -> tuple[list[tuple[object, ...]], Tally]:
    ends, tally = Ends(), Tally()
    columns = Columns(tally, ends)
    found: list[tuple[object, ...]] = []
    with open_octets(str(path)) as octets:
        container = open_container(octets)
        try:
            for frames in container.blocks():
                read = columns.read(frames)
                for row in zip(
                    *(getattr(read, one.name).tolist() for one in fields(Segments)), strict=True
                ):
                    t_ns, source, target, seq, ack, flags, window, shift, payload = row
                    told = (seq, ack if flags & ACK else None, flags & 0x1FF, window)
                    scale = shift if flags & SYN and shift >= 0 else None
                    rest = (payload, bool(flags & HERE), bool(flags & CUT))
                    both = (ends.address(source), ends.address(target))
                    found.append((t_ns, *both, *told, scale, *rest))
        except TcpwatchError:
            pass
        tally.incomplete, tally.dropped = columns.incomplete, container.dropped
    return found, tally


def test_they_read_the_same_segments_and_count_the_same() -> None:
    differing = [path.name for path in CAPTURES if exact_segments(path) != quick_segments(path)]
    assert CAPTURES
    assert not differing


COPIES = {
    "OISF+suricata-verify--tests--bug-5437-02--input.pcap: counts",
    "arkime+arkime--tests--pcap--80211http.pcap: counts",
    "zeek--testing--btest--Traces--http--ctu-62604-80.pcap: counts",
}
"""They show packets twice, which the columns count as retransmissions: `Sightings` looks for it."""


@pytest.mark.parametrize("at_once", [1 << 18, 7])
def test_they_give_the_same_rows(at_once: int) -> None:
    differing: Counter[str] = Counter()
    for path in CAPTURES:
        exact, quick = plain(exact_rows(path)), plain(quick_rows(path, at_once=at_once))
        for one, other in zip(exact, quick, strict=True):
            differing.update(f"{path.name}: {key}" for key in one if one[key] != other[key])
    assert set(differing) == COPIES
