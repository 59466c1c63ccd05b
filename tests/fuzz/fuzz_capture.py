"""Fuzzes the way from a capture's octets to the report, by coverage (atheris, from PyPI).

    pip install atheris
    python tests/fuzz/fuzz_capture.py file|columns|frames|segments FOLDER [-max_total_time=600 ...]

FOLDER is the corpus: seeded from the captures of the tests, then grown. `file` has whole files, and
`columns` too, for rows; `frames` link layers, tunnels, fragments; `segments` is for the machine.
What breaks is written as crash-*, timeout-* or oom-*: put it into the tests.
"""

from __future__ import annotations

import io
import os
import struct
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, Final

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # by path it is run beside the checkout's tcpwatch, with its tests

ADDRESSES: Final = ("10.0.0.1", "10.0.0.2")
_OPTIONS: Final = (0, 1 << 2)  # window scale: not offered, or by 4


def loaded() -> dict[str, Callable[[bytes], None]]:
    """The targets. They import what they need here, so that atheris can watch it."""
    from tcpwatch.errors import TcpwatchError
    from tcpwatch.machine.verdict import judge
    from tcpwatch.model.events import WIRE, Event, Point, SegmentSeen, Vantage
    from tcpwatch.model.identity import SocketAddress
    from tcpwatch.model.recording import Recording
    from tcpwatch.model.timeline import RunRecord
    from tcpwatch.replaying.files import read_file
    from tcpwatch.replaying.replayed import tracker_of
    from tcpwatch.sources import capture
    from tcpwatch.sources.capture.rows import Rows
    from tcpwatch.tcp.segment import WINDOW_SCALE, Flags, Option, Segment
    from tcpwatch.tcp.seq import SeqNumber
    from tcpwatch.views.json import dump, run_document
    from tcpwatch.views.ladder import Ladder
    from tests.sources.capture.writing import Frame, pcap

    for module in iter_modules(capture.__path__, f"{capture.__name__}."):
        import_module(module.name)  # which others import only once they need it

    def report(recording: Recording) -> None:
        """All that is told of it, and that it holds together."""
        record, tracker = tracker_of(recording)
        ladder = Ladder(io.StringIO().write, width=80)  # type: ignore[arg-type]
        ladder.begin(record)
        for event in recording.events:
            ladder.feed(tracker.feed(event))
        judged = judge(record, tracker.timeline(record.end_ns))
        ladder.finish(judged)
        dump(run_document(judged))
        for connection in judged.timeline.connections:
            for end in connection.endpoints:
                assert all(belief.states for belief in end.path)
                times = [transition.t_ns for transition in end.transitions]
                assert times == sorted(times)

    def file(octets: bytes) -> None:
        descriptor = os.memfd_create("capture")
        try:
            os.write(descriptor, octets)
            for recording in read_file(f"/proc/self/fd/{descriptor}"):
                report(recording)
        except TcpwatchError as error:
            assert "\n" not in error.message  # noqa: PT017 - one line, whatever the octets
        finally:
            os.close(descriptor)

    def columns(octets: bytes) -> None:
        """The quick way, in small batches, so that connections lie across them."""
        descriptor = os.memfd_create("capture")
        try:
            os.write(descriptor, octets)
            for row in Rows([f"/proc/self/fd/{descriptor}"], at_once=5):
                assert len(row.endpoints) == len(row.durations_ns(row.last_ns))
        except TcpwatchError as error:
            assert "\n" not in error.message  # noqa: PT017 - one line, whatever the octets
        finally:
            os.close(descriptor)

    def frames(octets: bytes) -> None:
        """A link type, then frames, each behind its length and how much of it was cut off."""
        if len(octets) < 2:
            return
        (link,) = struct.unpack_from(">H", octets)
        cut = list[Frame]()
        at = 2
        while at + 3 <= len(octets):
            length, missing = struct.unpack_from(">HB", octets, at)
            frame = octets[at + 3 : at + 3 + length]
            cut.append(Frame(len(cut) * 1_000_000, frame, len(frame) + missing))
            at += 3 + length
        file(pcap(cut, link=link))

    def segments(octets: bytes) -> None:
        """Eight octets a segment, small numbers, so that few mutations make a conversation."""
        ends = [SocketAddress(ip, 1 + n) for n, ip in enumerate(ADDRESSES)]
        events = list[Event]()
        t_ns = 0
        for n, (who, bits, later, seq, ack, length, window) in enumerate(
            struct.iter_unpack(">BBBbbBH", octets[: len(octets) // 8 * 8]), 1
        ):
            t_ns += later**4
            scale = (Option(WINDOW_SCALE, bytes([who >> 5 & 3])),) if who & 16 else ()
            segment = Segment(
                SeqNumber(seq % (1 << 32)),
                SeqNumber(ack % (1 << 32)) if bits & Flags.ACK else None,
                Flags(bits),
                window,
                scale,
                length,
            )
            src, dst = ends if who & 1 else reversed(ends)
            points = [Point.SENT, Point.DELIVERED] if who & 2 else [Point.MIDWAY]
            points = points[:1] if who & 4 else points  # it never arrives
            for point in points:
                seen = SegmentSeen(n, point, src, dst, segment)
                events.append(Event(len(events) + 1, t_ns, Vantage(WIRE), seen))
        wire: dict[str, object] = {"name": WIRE, "available": True, "detail": "", "lost": 0}
        lab: dict[str, object] = {"kind": "capture"}
        record = RunRecord("fuzz", "", lab, (wire,), expect={}, roles={}, end_ns=t_ns)
        report(Recording(record, tuple(events), complete=True))

    return {"file": file, "columns": columns, "frames": frames, "segments": segments}


TARGETS: Final = {"file": 1 << 13, "columns": 1 << 13, "frames": 1 << 12, "segments": 8 * 40}
"""And how many octets each is given at most: short ones say as much in less time."""


# ---------------------------------------------------------------------- seeds


def seeds(target: str) -> Iterator[bytes]:
    """What the fuzzer begins with: the captures that the tests have, in the target's form."""
    captures = [
        path.read_bytes()
        for folder in (ROOT / "tests" / "data" / "captures", ROOT.parent / "shared" / "captures")
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix in {".pcap", ".pcapng", ".gz"}
    ]
    small = [octets for octets in captures if len(octets) <= TARGETS["file"]]
    if target in {"file", "columns"}:
        yield from small
        return
    for octets in small:
        yield from _as_frames(octets) if target == "frames" else _as_segments(octets)


def _read(octets: bytes) -> Any:
    from tcpwatch.errors import TcpwatchError
    from tests.sources.capture.reading import frames_of

    try:
        return frames_of(octets)
    except TcpwatchError:
        return None


def _as_frames(octets: bytes) -> Iterator[bytes]:
    read = _read(octets)
    if read is None or not read.frames:
        return
    told = struct.pack(">H", read.links[0])
    for frame in read.frames[:20]:
        missing = min(frame.wire_len - len(frame.octets), 255)
        told += struct.pack(">HB", len(frame.octets), missing) + frame.octets
    yield told


def _as_segments(octets: bytes) -> Iterator[bytes]:
    """The longest connection's, with its numbers counted from the first that each end had."""
    from tcpwatch.sources.capture.decoder import Decoder, Read

    read = _read(octets)
    if read is None:
        return
    decoder, told = Decoder(), b""
    begun: dict[tuple[str, int], int] = {}
    for frame, link in zip(read.frames, read.links, strict=True):
        found = decoder.read(link, frame.octets, frame.wire_len, frame.t_ns)
        if not isinstance(found, Read):
            continue
        packet, segment = found.packet, found.packet.segment
        src, dst = (packet.src_ip, packet.src_port), (packet.dst_ip, packet.dst_port)
        seq = segment.seq.value - begun.setdefault(src, segment.seq.value)
        ack = 0
        if segment.ack is not None:
            ack = segment.ack.value - begun.setdefault(dst, segment.ack.value - 1)
        told += struct.pack(
            ">BBBbbBH",
            list(begun).index(src) & 1 ^ 1,
            segment.flags & 0xFF,
            30,
            max(-128, min(seq, 127)),
            max(-128, min(ack, 127)),
            min(segment.payload_len, 255),
            segment.window,
        )
    yield told[: TARGETS["segments"]]


def _seed(target: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.iterdir()):
        for number, octets in enumerate(seeds(target)):
            (folder / f"seed-{number:03}").write_bytes(octets)


def main(arguments: list[str]) -> None:
    """Runs until it finds something, or as long as libFuzzer's options say."""
    if len(arguments) < 2 or arguments[0] not in TARGETS:
        sys.exit(__doc__)
    target, folder, *options = arguments
    _seed(target, Path(folder))
    atheris = import_module("atheris")
    with atheris.instrument_imports(include=["tcpwatch"]):
        run = loaded()[target]
    limits = ["-timeout=20", "-rss_limit_mb=1024", f"-max_len={TARGETS[target]}"]
    atheris.Setup([sys.argv[0], *limits, *options, folder], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
