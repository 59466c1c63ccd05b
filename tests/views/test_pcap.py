"""The pcapng: read back by scapy and by tshark."""

from __future__ import annotations

import io
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tcpwatch.views.pcap import write_pcapng

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.views.telling import Story

    Stories = dict[str, Callable[[], Story]]


def written(story: Story) -> bytes:
    file = io.BytesIO()
    write_pcapng(story.judged(), file)
    return file.getvalue()


def read(story: Story) -> list[Any]:
    from scapy.utils import PcapNgReader

    file: Any = io.BytesIO(written(story))  # scapy reads files too, its types know names only
    with PcapNgReader(file) as reader:
        return list(reader)


def tshark(path: Path, *fields: str) -> list[list[str]]:
    asked = [argument for field in fields for argument in ("-e", field)]
    # Two passes, as Wireshark itself reads: the first segment's row knows of the last.
    command = ["tshark", "-n", "-2", "-r", str(path), "-T", "fields", "-E", "separator=|", *asked]
    run = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return [line.split("|") for line in run.stdout.splitlines()]


def test_scapy_reads_every_segment_back_once(story: Story) -> None:
    from scapy.layers.inet import TCP

    packets = read(story)
    traces = [t for c in story.judged().timeline.connections for t in c.segments]
    first_seen = sorted(
        traces, key=lambda t: (t.delivered_ns or 0) if t.sent_ns is None else t.sent_ns
    )
    assert [p[TCP].seq for p in packets] == [t.segment.seq.value for t in first_seen]
    assert [int(p[TCP].flags) for p in packets] == [int(t.segment.flags) for t in first_seen]
    assert {p.sniffed_on for p in packets} <= {"client", "server"}


def test_times_are_absolute_to_the_nanosecond(stories: Stories) -> None:
    first = read(stories["simultaneous-close"]())[0]
    assert int(first.time * 10**9) == 1_750_000_000_123_456_789 + 250_000


def test_a_comment_tells_both_ends_states(stories: Stories) -> None:
    comments = [p.comments[0].decode() for p in read(stories["simultaneous-close"]())]
    assert comments[3] == (
        "sent at 62.200 ms, delivered at 82.200 ms; "
        "client ESTABLISHED > FIN-WAIT-1 (close()); "
        "server FIN-WAIT-1 > CLOSING (FIN received)"
    )
    assert "client CLOSED > SYN-SENT (connect())" in comments[0]


def test_a_segment_that_moved_nobody_tells_the_states_it_met(stories: Stories) -> None:
    comments = [p.comments[0].decode() for p in read(stories["normal-close"]())]
    assert comments[3].endswith("; client ESTABLISHED; server ESTABLISHED")


def test_dropped_segments_are_there_and_say_so(stories: Stories) -> None:
    comments = [p.comments[0].decode() for p in read(stories["fin-lost"]())]
    assert "dropped by the wire; dropped at 62.250 ms" in comments[3]
    assert "retransmission" in comments[4]


def test_the_section_is_named_for_the_scenario_without_control_characters(
    stories: Stories,
) -> None:
    octets = written(stories["two-connections"]())
    assert rb"two-connections\x1b[2J: PASS" in octets
    assert b"\x1b" not in octets.split(b"tcpwatch", 1)[0]


def test_what_was_recorded_is_written_as_it_was(stories: Stories) -> None:
    from dataclasses import replace

    from scapy.layers.inet import IP, TCP

    judged = stories["simultaneous-close"]().judged()
    connection = judged.timeline.connections[0]
    raw = bytes(IP(src="10.77.0.1", dst="10.77.0.2") / TCP(sport=40000, dport=7000, seq=77))
    first = replace(connection.segments[0], raw=raw)
    connection = replace(connection, segments=(first, *connection.segments[1:]))
    file = io.BytesIO()
    write_pcapng(
        replace(judged, timeline=replace(judged.timeline, connections=(connection,))), file
    )
    assert raw in file.getvalue()


@pytest.mark.needs("tshark")
def test_tshark_finds_nothing_malformed(story: Story, tmp_path: Path) -> None:
    path = tmp_path / "run.pcapng"
    path.write_bytes(written(story))
    rows = tshark(path, "frame.interface_name", "frame.comment", "tcp.flags", "_ws.malformed")
    judged = story.judged()
    traces = [t for c in judged.timeline.connections for t in c.segments]
    assert len(rows) == len(traces)
    assert all(row[0] in ("client", "server") for row in rows)
    assert all("; client " in row[1] and "; server " in row[1] for row in rows)
    assert sorted(int(row[2], 16) for row in rows) == sorted(int(t.segment.flags) for t in traces)
    assert all(row[3] == "" for row in rows)


@pytest.mark.needs("tshark")
def test_wireshark_sees_a_retransmission_only_where_there_was_one(
    stories: Stories, tmp_path: Path
) -> None:
    for name, expected in (("normal-close", 0), ("simultaneous-close", 0), ("fin-lost", 1)):
        path = tmp_path / f"{name}.pcapng"
        path.write_bytes(written(stories[name]()))
        rows = tshark(path, "tcp.analysis.retransmission", "tcp.checksum.status")
        assert sum(row[0] != "" for row in rows) == expected, name


@pytest.mark.needs("tshark")
def test_wireshark_calls_a_whole_connection_complete(stories: Stories, tmp_path: Path) -> None:
    path = tmp_path / "run.pcapng"
    path.write_bytes(written(stories["normal-close"]()))
    assert {row[0] for row in tshark(path, "tcp.completeness")} == {"31"}
