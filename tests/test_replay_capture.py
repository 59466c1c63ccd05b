"""Captures replayed: told from recordings by content, shown as far as they go, written again."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import zstandard
from scapy.layers.inet import ICMP, IP, TCP
from scapy.packet import Raw

from tcpwatch.replaying.files import Captures, Source
from tcpwatch.sources.capture.rows import Progress
from tests.sources.capture.reading import frames_of
from tests.sources.capture.writing import RAW, Frame, pcap

ROOT = Path(__file__).parents[1]
A, B = IP(src="10.0.0.1", dst="10.0.0.2"), IP(src="10.0.0.2", dst="10.0.0.1")
CLIENT, SERVER = A / TCP(sport=40000, dport=80), B / TCP(sport=80, dport=40000)
MS = 1_000_000


def exchange() -> list[Frame]:
    """A connection of which each end's path is beyond doubt."""

    def frame(ms: int, end: Any, flags: str, seq: int, ack: int, data: bytes = b"") -> Frame:
        packet = end.copy()
        packet[TCP].flags, packet[TCP].seq, packet[TCP].ack = flags, seq, ack
        return Frame(1_700_000_000_000_000_000 + ms * MS, bytes(packet / Raw(data)))

    return [
        frame(0, CLIENT, "S", 100, 0),
        frame(1, SERVER, "SA", 300, 101),
        frame(2, CLIENT, "A", 101, 301),
        frame(3, CLIENT, "PA", 101, 301, b"hello"),
        frame(4, SERVER, "A", 301, 106),
        frame(5, CLIENT, "FA", 106, 301),
        frame(6, SERVER, "A", 301, 107),
        frame(7, SERVER, "FA", 301, 107),
        frame(8, CLIENT, "A", 107, 302),
    ]


ACTIVE = "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT"
CAPTURE = pcap(exchange(), link=RAW, unit="nanoseconds")


def tcpwatch(*arguments: str, cwd: Path, given: bytes | None = None) -> tuple[int, str, str]:
    argv = [sys.executable, "-P", "-m", "tcpwatch", *arguments]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", "COLUMNS": "80"}
    done = subprocess.run(
        argv, cwd=cwd, env=environment, input=given, capture_output=True, timeout=100, check=False
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def document(folder: Path, *arguments: str) -> dict[str, Any]:
    status, out, err = tcpwatch("replay", *arguments, "--json", "-", cwd=folder)
    assert (status, err) == (0, "")
    read: dict[str, Any] = json.loads(out)
    return read


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plain").write_bytes(CAPTURE)
    (tmp_path / "packed").write_bytes(gzip.compress(CAPTURE))
    (tmp_path / "zstd").write_bytes(zstandard.ZstdCompressor().compress(CAPTURE))
    return tmp_path


@pytest.mark.parametrize("name", ["plain", "packed", "zstd"])
def test_a_capture_is_known_by_its_content(name: str, folder: Path) -> None:
    (connection,) = document(folder, name)["connections"]
    active, _ = connection["endpoints"]
    assert " > ".join(active["path"]) == ACTIVE
    assert (active["role"], active["address"], active["port"]) == ("active", "10.0.0.1", 40000)
    assert (connection["closed_by"], connection["close_reason"]) == ("active", "fin")
    assert connection["zeek"] == {
        "conn_state": "SF",
        "history": "ShADaFf",
        "originator": "active",
    }
    assert connection["wireshark"] == {"completeness": 31}
    assert [segment["sent_ns"] for segment in connection["segments"]] == [
        ms * MS for ms in range(9)
    ]


def test_a_capture_is_read_from_standard_input(folder: Path) -> None:
    shown = tcpwatch("replay", "-", cwd=folder, given=gzip.compress(CAPTURE))
    assert f"active  {ACTIVE}\n" in shown[1]
    assert (shown[0], shown[2]) == (0, "")


def test_a_capture_says_what_it_is_and_what_was_not_read(folder: Path) -> None:
    frames = [*exchange(), Frame(1_700_000_001_000_000_000, bytes(A / ICMP()))]
    (folder / "it").write_bytes(pcap(frames, link=RAW, unit="nanoseconds"))
    claim = document(folder, "it")["claim"]
    assert claim == (
        "pcap, nanoseconds, little-endian, raw IP, 10 frames in 1.000 s; 9 segments; "
        "not TCP: 1 IP protocol 1 (ICMP)"
    )


def test_what_was_replayed_is_written_again(folder: Path) -> None:
    outputs = ("--pcap", "again.pcapng", "--jsonl", "again.jsonl")
    assert tcpwatch("replay", "plain", *outputs, "-q", cwd=folder) == (0, "", "")
    assert frames_of((folder / "again.pcapng").read_bytes()).frames == [
        Frame(t_ns, octets, len(octets)) for t_ns, octets, _ in exchange()
    ]
    shown = tcpwatch("replay", "plain", cwd=folder)
    assert tcpwatch("replay", "again.jsonl", cwd=folder) == shown


def test_a_capture_that_is_cut_off_is_shown_as_far_as_it_goes(folder: Path) -> None:
    (folder / "cut").write_bytes(CAPTURE[:-10])
    status, out, err = tcpwatch("replay", "cut", cwd=folder)
    assert status == 1
    assert "FIN-WAIT-2" in out
    assert err.startswith("tcpwatch: cut: the file ends within a frame, ")
    assert err.count("\n") == 1


def test_a_file_that_cannot_be_read_keeps_no_other_from_being_shown(folder: Path) -> None:
    (folder / "nothing").write_bytes(b"")
    status, out, err = tcpwatch("replay", "nothing", "plain", "nowhere", cwd=folder)
    assert status == 2
    assert ACTIVE in out
    told = [line.split(":")[1] for line in err.splitlines()]
    assert told == [" nothing is neither a capture nor a recording", " cannot read nowhere"]


def test_a_file_that_is_named_twice_is_read_once(folder: Path) -> None:
    (folder / "link").symlink_to("plain")
    once = tcpwatch("replay", "plain", cwd=folder)
    status, out, err = tcpwatch("replay", "plain", "./plain", "link", cwd=folder)
    assert (status, out) == (0, once[1])
    assert err == "".join(
        f"tcpwatch: {name}: named more than once, and read once\n" for name in ("./plain", "link")
    )


def test_a_link_type_that_is_not_read_is_named_with_what_is(folder: Path) -> None:
    (folder / "usb").write_bytes(pcap([Frame(0, bytes(40))], link=220))
    status, out, _ = tcpwatch("replay", "usb", cwd=folder)
    told = " ".join(out.split())
    assert status == 3
    assert "NOT READ: 1 link type 220 (USB); what is read: Ethernet, Linux cooked" in told


@pytest.mark.parametrize("content", [b"\x7fELF\x02\x01\x01" + bytes(80), b"\xff\xfe\xfd" * 40])
def test_what_is_neither_capture_nor_recording_is_told(content: bytes, folder: Path) -> None:
    (folder / "it").write_bytes(content)
    status, out, err = tcpwatch("replay", "it", cwd=folder)
    assert (status, out) == (2, "")
    assert err.startswith("tcpwatch: it is neither a capture nor a recording: it begins with ")
    assert err.count("\n") == 1


def many_connections() -> list[Frame]:
    frames = []
    for number in range(20):
        for frame in exchange():
            packet = IP(frame.octets)
            for port in ("sport", "dport"):
                if getattr(packet[TCP], port) == 40000:
                    setattr(packet[TCP], port, 41000 + number)
            del packet[TCP].chksum
            frames.append(Frame(frame.t_ns + number * MS, bytes(packet)))
    return sorted(frames)


def test_many_connections_are_counted_by_the_way_they_went(folder: Path) -> None:
    (folder / "many").write_bytes(pcap(many_connections(), link=RAW, unit="nanoseconds"))
    status, out, err = tcpwatch("replay", "many", cwd=folder)
    assert (status, err) == (0, "")
    assert "20 connections\n20 100.0 % closed by FIN (20 first by the active end)\n" in out
    assert "segments" not in out.split("\n\n")[1]
    status, ladder, err = tcpwatch("replay", "--ladder", "many", cwd=folder)
    assert (status, err) == (0, "")
    assert "#20 active" in ladder


def test_few_connections_are_counted_on_request(folder: Path) -> None:
    status, out, err = tcpwatch("replay", "--summary", "plain", cwd=folder)
    assert (status, err) == (0, "")
    assert "1 connection\n1 100.0 % closed by FIN" in out


def test_a_capture_that_tcpwatch_wrote_shows_both_ends_in_closing() -> None:
    done = document(ROOT / "tests" / "data" / "captures", "simultaneous-close.pcapng")
    (connection,) = done["connections"]
    for endpoint in connection["endpoints"]:
        assert endpoint["path"][-3:] == ["FIN-WAIT-1", "CLOSING", ["CLOSING", "TIME-WAIT"]]
    assert (connection["closed_by"], connection["close_reason"]) == ("both", "fin")
    assert connection["segments"][-1]["fate"] == "unknown"


def test_it_is_told_who_closed_and_how_long_each_state_lasted(folder: Path) -> None:
    (connection,) = document(folder, "plain")["connections"]
    lasted = dict(
        zip(connection["endpoints"][0]["path"], connection["durations_ns"][0], strict=True)
    )
    assert (lasted["SYN-SENT"], lasted["ESTABLISHED"], lasted["TIME-WAIT"]) == (2 * MS, 3 * MS, 0)
    assert connection["reset_by"] == []
    _, out, _ = tcpwatch("replay", "plain", cwd=folder)
    assert "closed by FIN, first by the active end\n        active: SYN-SENT 2 ms, " in out


def test_standard_input_that_is_closed_is_told(folder: Path) -> None:
    argv = ["sh", "-c", 'exec "$0" -P -m tcpwatch replay - <&-', sys.executable]
    done = subprocess.run(argv, cwd=folder, capture_output=True, timeout=100, check=False)
    told = b"tcpwatch: standard input is closed; name a file\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, b"", told)


def test_a_pipe_that_has_a_name_is_read_once_and_as_often_as_needed(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    argv = ["sh", "-c", 'cat packed > pipe & exec "$0" -P -m tcpwatch replay pipe', sys.executable]
    done = subprocess.run(argv, cwd=folder, capture_output=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert f"active  {ACTIVE}\n" in done.stdout.decode()
    assert done.stdout.startswith(b"pipe\n")


def test_a_stream_that_cannot_be_a_capture_is_not_waited_for(folder: Path) -> None:
    """Nor is it kept: it may have no end."""
    status, out, err = tcpwatch("replay", "/dev/zero", cwd=folder)
    assert (status, out) == (2, "")
    assert "/dev/zero is neither a capture nor a recording: it begins with 00 00 00 00" in err


def test_who_stops_reading_hears_no_more_and_no_room_is_told(folder: Path) -> None:
    argv = [sys.executable, "-P", "-m", "tcpwatch", "replay", "plain"]
    with subprocess.Popen(
        argv, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as reading:
        assert reading.stdout is not None
        assert reading.stderr is not None
        reading.stdout.close()  # as head does
        assert (reading.stderr.read(), reading.wait(100)) == (b"", 130)
    status, _, err = tcpwatch("replay", "plain", "--csv", "/dev/full", cwd=folder)
    assert status == 2
    assert err == (
        "tcpwatch: cannot write the output: No space left on device; "
        "make room, or name another file\n"
    )


def test_the_second_reading_tells_how_far_it_is_too(folder: Path) -> None:
    told: list[Progress] = []
    given = [Source(name, str(folder / name)) for name in ("plain", "packed")]
    for source, total in zip(given, (len(CAPTURE), None), strict=True):
        recording = Captures([source]).recording(progress=told.append)
        assert len(recording.events) == 9
        assert (told[-1].octets, told[-1].total) == (len(CAPTURE), total)
