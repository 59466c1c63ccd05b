"""Connections of one shape go the same way: the columns against the machine, on made-up ones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcpwatch.machine.rows import Row, row_of
from tcpwatch.machine.tracker import Tracker
from tcpwatch.model.events import WIRE, Event, Point, SegmentSeen, Vantage
from tcpwatch.model.identity import SocketAddress
from tcpwatch.sources.capture import stretches, thinning
from tcpwatch.sources.capture.columns import CUT, LOCAL, Ends, Segments
from tcpwatch.sources.capture.gathering import Gatherer
from tcpwatch.sources.capture.shaping import Tuples
from tcpwatch.sources.capture.stretches import Brief
from tcpwatch.sources.capture.thinning import thinned
from tcpwatch.tcp.segment import WINDOW_SCALE, Flags, Option, Segment
from tcpwatch.tcp.seq import SeqNumber
from tests.sources.capture.exactly import FOR_EVER, plain
from tests.sources.capture.talking import ACK, FIN, RST, SYN, Said, talks, transfer

Timed = tuple[int, int, Said]
"""When, which tuple's, and the segment."""


def in_order(all_said: Sequence[list[Said]], stagger_ns: int) -> list[Timed]:
    found: list[Timed] = []
    for which, said in enumerate(all_said):
        t_ns = which * stagger_ns
        for one in said:
            t_ns += one.pause_ns
            found.append((t_ns, which, one))
    return sorted(found, key=lambda timed: timed[0])


def ends_of(which: int, one: Said) -> tuple[SocketAddress, SocketAddress]:
    client = SocketAddress("10.0.0.1", 1000 + which)
    server = SocketAddress("10.0.0.1" if which % 7 == 6 else "10.0.0.2", 80)
    return (client, server) if one.out else (server, client)


def exactly(timed: list[Timed]) -> list[Row]:
    tracker = Tracker(attending=[WIRE])
    for n, (t_ns, which, one) in enumerate(timed, 1):
        segment = Segment(
            SeqNumber(one.seq),
            SeqNumber(one.ack) if one.flags & ACK else None,
            Flags(one.flags),
            one.window,
            (Option(WINDOW_SCALE, bytes([one.shift])),) if one.shift >= 0 else (),
            one.payload,
        )
        seen = SegmentSeen(n, Point.MIDWAY, *ends_of(which, one), segment, cut=one.cut)
        tracker.feed(Event(n, t_ns, Vantage(WIRE), seen))
    timeline = tracker.timeline(timed[-1][0])
    return [row_of(connection, timeline.findings) for connection in timeline.connections]


def columns_of(timed: list[Timed], ends: Ends) -> Segments:
    rows = []
    for t_ns, which, one in timed:
        source, target = (ends.of(end.ip, end.port) for end in ends_of(which, one))
        local = ends_of(which, one)[0].ip == ends_of(which, one)[1].ip
        flags = one.flags | local * LOCAL | one.cut * CUT
        numbers = (one.seq, one.ack, flags, one.window, one.shift, one.payload)
        rows.append((t_ns, source, target, *numbers))
    kinds = (np.int64, np.uint64, np.uint64, np.uint32, np.uint32, np.uint16, np.uint16, np.int8)
    columns = zip(zip(*rows, strict=True), (*kinds, np.uint32), strict=True)
    return Segments(*(np.array(column, kind) for column, kind in columns))


def by_columns(timed: list[Timed], at_once: int) -> list[Row]:
    ends = Ends()
    segments = columns_of(timed, ends)
    gatherer = Gatherer(ends, FOR_EVER, 0)
    found: list[Row] = []
    for begin in range(0, len(segments), at_once):
        for batch in gatherer.add(segments.at(slice(begin, begin + at_once))):
            found += batch
    for batch in gatherer.finish(timed[-1][0]):
        found += batch
    return sorted(found, key=lambda row: row.number)


def differences(timed: list[Timed], at_once: int) -> list[str]:
    exact, quick = plain(exactly(timed)), plain(by_columns(timed, at_once))
    found = [] if len(exact) == len(quick) else [f"{len(exact)} rows, and {len(quick)}"]
    for one, other in zip(exact, quick, strict=False):
        found += [
            f"{one['id']}: {key} {one[key]} and {other[key]}"
            for key in one
            if one[key] != other[key]
        ]
    return found


@settings(max_examples=5, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1 << 32), at_once=st.sampled_from((50, 10_000)))
def test_long_ones_go_so_too_though_their_middle_is_not_kept(seed: int, at_once: int) -> None:
    (said,) = islice(talks(seed, most=80, mutate=False), 1)
    timed = in_order([said], 0)
    assert not timed or not differences(timed, at_once)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 1 << 32),
    at_once=st.sampled_from((7, 100, 10_000)),
    stagger_ns=st.sampled_from((0, 100_000)),
)
def test_they_go_as_the_machine_says(seed: int, at_once: int, stagger_ns: int) -> None:
    timed = in_order(list(islice(talks(seed), 8)), stagger_ns)
    assert not timed or not differences(timed, at_once)


@pytest.mark.parametrize("seed", range(4))
def test_a_transfer_goes_so_too_though_its_stretches_are_told_briefly(seed: int) -> None:
    assert not differences(in_order([transfer(seed, mar=False)], 0), (150, 400, 10_000)[seed % 3])


@pytest.mark.parametrize("seed", [10, 19, 31, 40, 41, 44])
def test_so_does_one_with_losses_and_pauses(seed: int) -> None:
    said = [one._replace(cut=False) for one in transfer(seed, mar=True)]
    assert not differences(in_order([said], 0), (200, 700, 10_000)[seed % 3])


@pytest.mark.parametrize("seed", range(6))
def test_to_tell_stretches_briefly_changes_no_row(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = in_order([transfer(seed + 100 * nth, mar=True) for nth in range(2)], 100_000)
    told = []

    def brief(tuples: Tuples) -> Brief | None:
        told.append(stretches.brief(tuples))
        return told[-1]

    monkeypatch.setattr(thinning, "brief", brief)
    at_once = (200, 700, 10_000)[seed % 3]
    briefly = plain(by_columns(timed, at_once))
    assert any(told)
    monkeypatch.setattr(thinning, "brief", lambda _: None)
    assert briefly == plain(by_columns(timed, at_once))


def download(segments: int, payload: int) -> list[Said]:
    """The server sends, and each second segment is acknowledged; nobody closes."""
    said = [
        Said(0, True, SYN, 100, 0, 65_535, 14, 0),
        Said(1000, False, SYN | ACK, 500, 101, 65_535, 14, 0),
        Said(1000, True, ACK, 101, 501, 65_535, -1, 0),
    ]
    for count in range(1, segments + 1):
        begin = (501 + (count - 1) * payload) % (1 << 32)
        said.append(Said(1000, False, ACK, begin, 101, 65_535, -1, payload))
        if count % 2 == 0:
            acked = (501 + count * payload) % (1 << 32)
            said.append(Said(1000, True, ACK, 101, acked, 65_535, -1, 0))
    return said


def test_of_a_download_of_gigabytes_no_more_is_kept_than_of_a_small_one() -> None:
    small, large = (in_order([download(2000, payload)], 0) for payload in (1000, 2_500_000))
    kept = []
    for timed in (small, large):
        segments = columns_of(timed, Ends())
        less = thinned(Tuples(segments, np.array([0])))
        assert less is not None
        kept.append(len(less.tuples.segments))
    # One more each 2**28 octets, so that no numbers lie too far apart: 5 GB are 19 of these.
    assert kept[1] - kept[0] <= 20
    assert not differences(large, 700)


HALF_OPEN = [
    Said(1000, True, SYN, 100, 0, 65_535, 7, 0),
    Said(1000, False, SYN | ACK, 500, 101, 65_535, 7, 0),
    Said(1000, True, ACK, 101, 501, 502, -1, 10),
    Said(1000, False, ACK, 501, 111, 502, -1, 0),
    Said(1000, True, SYN, 9000, 0, 65_535, 7, 0),  # it has crashed, and calls again
    Said(1000, False, ACK, 501, 111, 502, -1, 0),
    Said(1000, True, RST, 111, 0, 0, -1, 0),
    Said(10**9, True, SYN, 9000, 0, 65_535, 7, 0),
    Said(1000, False, SYN | ACK, 70_000, 9001, 65_535, 7, 0),
    Said(1000, True, ACK, 9001, 70_001, 502, -1, 5),
    Said(1000, False, ACK, 70_001, 9006, 502, -1, 0),
    Said(1000, True, FIN | ACK, 9006, 70_001, 502, -1, 0),
    Said(1000, False, FIN | ACK, 70_001, 9007, 502, -1, 0),
    Said(1000, True, ACK, 9007, 70_002, 502, -1, 0),
]
"""RFC 9293 3.5.1, figure 9; Wireshark's own completeness of its two streams is 15 and 63."""


@pytest.mark.parametrize("at_once", [3, 1000])
def test_a_half_open_connection_and_the_one_that_replaces_it_are_two(at_once: int) -> None:
    timed = in_order([HALF_OPEN], 0)
    assert not differences(timed, at_once)
    first, second = by_columns(timed, at_once)
    told = [[" > ".join(map(str, path)) for path in row.paths] for row in (first, second)]
    assert told == [
        [
            "CLOSED > SYN-SENT > ESTABLISHED > CLOSED",
            "LISTEN > SYN-RECEIVED > ESTABLISHED > ESTABLISHED or CLOSED",
        ],
        [
            "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
            "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK > LAST-ACK or CLOSED",
        ],
    ]
    assert (first.course.closed_by, first.course.close_reason) == ("active", "rst")
    zeek = [(one.conn_state, one.history) for row in (first, second) for one in row.course.zeek]
    assert zeek == [("S1", "ShDa"), ("RSTO", "SaRhDFfA")]
    assert [row.course.completeness for row in (first, second)] == [(15,), (63,)]


def test_what_is_sent_again_where_data_are_left_out_hides_none_of_them() -> None:
    said = download(120, 2)
    for at in (40, 60, 80):  # such a one stands behind data that are not kept
        one = next(each for each in reversed(said[:at]) if not each.out)
        said.insert(at, one._replace(pause_ns=70_000_000_000))
    timed = in_order([said], 0)
    assert not differences(timed, 10_000)
