"""Rows of captures: several as one, how far one is, what is given up, what stops the reading."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import pytest

from tcpwatch.errors import TcpwatchError
from tcpwatch.machine.rows import Ending, Row
from tcpwatch.sources.capture.gathering import Limits
from tcpwatch.sources.capture.rows import Progress, Rows
from tests.sources.capture.exactly import exact_rows, plain, quick_rows
from tests.sources.capture.talking import Said, talks
from tests.sources.capture.writing import RAW, Frame, pcap

CLIENT, SERVER = "10.0.0.1", "2001:db8::2"
SECOND = 1_000_000_000


def packet(said: Said, port: int) -> bytes:
    """In IPv6 from an address that holds an IPv4 one: both forms of an address are one."""
    ends = [(socket.inet_pton(socket.AF_INET6, f"::ffff:{CLIENT}"), port)]
    ends.append((socket.inet_pton(socket.AF_INET6, SERVER), 80))
    (src, src_port), (dst, dst_port) = ends if said.out else ends[::-1]
    option = bytes([3, 3, said.shift, 1]) if said.shift >= 0 else b""
    offset = (20 + len(option)) // 4 << 12
    header = struct.pack("!HHIIHHHH", src_port, dst_port, said.seq, said.ack, offset | said.flags,
                         said.window, 0, 0)  # fmt: skip
    length = len(header) + len(option) + said.payload
    ip = struct.pack("!IHBB", 6 << 28, length, 6, 64) + src + dst
    return ip + header + option + bytes(said.payload)


def frames_of(seed: int, count: int, every_ns: int = 10_000_000) -> list[Frame]:
    """Some connections, one after the other begun; no two frames have one time."""
    frames: list[Frame] = []
    for index, said in enumerate(islice(talks(seed), count)):
        t_ns = SECOND + index * every_ns
        for one in said:
            t_ns += one.pause_ns // 1000 * 1000
            frames.append(Frame(t_ns, packet(one, 2000 + index)))
    frames.sort(key=lambda frame: frame.t_ns)
    return [frame._replace(t_ns=frame.t_ns + 1000 * n) for n, frame in enumerate(frames)]


def written(path: Path, frames: list[Frame]) -> str:
    path.write_bytes(pcap(frames, link=RAW))
    return str(path)


def collect(into: list[Row], rows: Iterable[Row]) -> None:
    for row in rows:
        into.append(row)  # noqa: PERF402 - extend() would lose them where it raises


def by_number(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row.number)


def test_several_files_are_one_capture(tmp_path: Path) -> None:
    frames = frames_of(1, 30)
    whole = tmp_path / "whole.pcap"
    written(whole, frames)
    parts = [written(tmp_path / f"{n}.pcap", frames[n::3]) for n in range(3)]
    one = plain(quick_rows(whole))
    assert one == plain(exact_rows(whole))
    forever = Limits(open_ns=1 << 62, over_ns=1 << 62)
    assert plain(by_number(list(Rows(parts, limits=forever)))) == one


def test_what_is_silent_is_given_up_and_said_to_be(tmp_path: Path) -> None:
    frames = frames_of(2, 40, every_ns=10 * SECOND)
    path = written(tmp_path / "slow.pcap", frames)
    limits = Limits(open_ns=60 * SECOND, over_ns=30 * SECOND)
    rows = Rows([path], at_once=20, limits=limits)
    found = list(rows)
    aged = [row for row in found if row.aged]
    assert aged
    assert rows.aged == len(aged)
    assert all(row.course.ending is not Ending.FIN for row in aged)
    assert sum(sum(row.segments) for row in found) == len(frames)


def test_no_more_are_held_than_the_limit_says(tmp_path: Path) -> None:
    frames = frames_of(3, 40, every_ns=SECOND)
    path = written(tmp_path / "many.pcap", frames)
    rows = Rows([path], at_once=200, limits=Limits(connections=5))
    first = next(rows.batches())
    assert first.last_ns.max() < (frames[-1].t_ns - frames[0].t_ns) // 2


def test_a_stop_gives_what_is_known_so_far(tmp_path: Path) -> None:
    frames = frames_of(4, 30)
    path = written(tmp_path / "some.pcap", frames)
    rows = list(Rows([path], stop=lambda: True))
    assert rows


def test_progress_is_told_in_octets(tmp_path: Path) -> None:
    path = written(tmp_path / "some.pcap", frames_of(5, 10))
    told: list[Progress] = []
    list(Rows([path], progress=told.append))
    assert told
    assert told[-1].octets == told[-1].total == Path(path).stat().st_size
    assert told[-1].segments > 0


def test_what_came_before_a_break_is_given_first(tmp_path: Path) -> None:
    frames = frames_of(6, 10)
    path = tmp_path / "broken.pcap"
    path.write_bytes(pcap(frames, link=RAW)[:-5])
    found: list[Row] = []
    with pytest.raises(TcpwatchError, match="ends within a frame"):
        collect(found, Rows([str(path)]))
    assert sum(sum(row.segments) for row in found) == len(frames) - 1
