"""Compares ways to read a capture, side by side in one run, in two mixes of connections.

Run it: python tests/benchmarks/bench_capture.py [SEGMENTS]   (2,000,000 by default)
Each way runs in a process of its own, three times in turn with the others, on both captures; what
is slow gets the beginning of them. The median of CPU time counts, start-up included, so that a busy
machine changes little. What is not installed is said. Our memory is also measured on a capture
ten times as long, which is deleted afterwards.
"""

from __future__ import annotations

import resource
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

FIN, SYN, PSH, ACK = 1, 2, 8, 16
CLIENT, SERVER = 0x0A000001, 0x0A800001
ETHERNET = bytes.fromhex("020000000002020000000001") + b"\x08\x00"
_SELF, _CHILDREN = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
_HEADERS = 54  # octets of Ethernet, IPv4 and TCP
_SNAPLEN = 128
_FIELDS = ("ip.src", "tcp.srcport", "ip.dst", "tcp.dstport", "tcp.flags", "tcp.completeness")
Rows = NDArray[np.int64]
OURS, TSHARK = "tcpwatch: rows by columns", "tshark -T fields"
TIMES, TIMES_LONGER = 3, 10


class Segments(NamedTuple):
    """A column each; ``out`` is whether the client sends it, ``of`` its connection's number."""

    t_us: Rows
    of: Rows
    out: NDArray[np.bool_]
    flags: Rows
    seq: Rows
    ack: Rows
    payload: Rows

    def at(self, rows: Rows) -> Segments:
        """Those rows of it."""
        t_us, of, out, flags, seq, ack, payload = self
        numbers = (column[rows] for column in (flags, seq, ack, payload))
        return Segments(t_us[rows], of[rows], out[rows], *numbers)


# A short connection, a segment a row: from the client, flags, seq, ack, payload.
_ASKED, _ANSWERED = 200, 900
SHORT = np.array(
    [
        (1, SYN, 0, 0, 0),
        (0, SYN | ACK, 0, 1, 0),
        (1, ACK, 1, 1, 0),
        (1, ACK | PSH, 1, 1, _ASKED),
        (0, ACK, 1, 1 + _ASKED, 0),
        (0, ACK | PSH, 1, 1 + _ASKED, _ANSWERED),
        (1, ACK, 1 + _ASKED, 1 + _ANSWERED, 0),
        (1, ACK | FIN, 1 + _ASKED, 1 + _ANSWERED, 0),
        (0, ACK | FIN, 1 + _ANSWERED, 2 + _ASKED, 0),
        (1, ACK, 2 + _ASKED, 2 + _ANSWERED, 0),
    ]
)


def short_connections(segments: int) -> Segments:
    """Ten segments each; some fifty of them are open at once."""
    count, each = segments // len(SHORT), len(SHORT)
    of = np.repeat(np.arange(count), each)
    t_us = of * 100 + np.tile(np.arange(each) * 500, count)
    out, flags, seq, ack, payload = (np.tile(column, count) for column in SHORT.T)
    return Segments(t_us, of, out.astype(bool), flags, seq, ack, payload)


def long_connections(segments: int, count: int = 20) -> Segments:
    """Downloads: two segments of data, one acknowledgement."""
    each = segments // count
    place = np.arange(each)
    body = (place >= 3) & (place < each - 3)
    payload = np.where(body & (place % 3 != 2), 1448, 0)
    before = np.cumsum(payload) - payload
    out = body & (place % 3 == 2)
    flags = np.where(payload > 0, ACK | PSH, ACK)
    seq, ack = np.where(out, 1, 1 + before), np.where(out, 1 + before, 1)
    for index, row in (
        (0, (1, SYN, 0, 0)),
        (1, (0, SYN | ACK, 0, 1)),
        (2, (1, ACK, 1, 1)),
        (each - 3, (0, ACK | FIN, 1 + before[-1], 1)),
        (each - 2, (1, ACK | FIN, 1, 2 + before[-1])),
        (each - 1, (0, ACK, 2 + before[-1], 2)),
    ):
        out[index], flags[index], seq[index], ack[index] = row
    of = np.repeat(np.arange(count), each)
    columns = (np.tile(column, count) for column in (out, flags, seq, ack, payload))
    return Segments(np.tile(place * 20, count) + of, of, *columns)


def write(path: Path, made: Segments) -> None:
    """As pcap, in order of time, cut at the snap length."""
    order = np.argsort(made.t_us, kind="stable")
    for begins in range(0, len(order), 200_000):
        some = order[begins : begins + 200_000]
        rows = made.at(some)
        with path.open("ab") as file:
            if not file.tell():
                file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, _SNAPLEN, 1))
            file.write(_records(rows))


def _records(rows: Segments) -> bytes:
    headers = _headers(rows)
    wire = _HEADERS + rows.payload
    captured = np.minimum(wire, _SNAPLEN)
    begins = np.concatenate(([0], np.cumsum(captured + 16)[:-1]))
    octets = np.zeros(int((captured + 16).sum()), np.uint8)
    when = (1_700_000_000 + rows.t_us // 1_000_000, rows.t_us % 1_000_000)
    record = np.stack([*when, captured, wire], axis=1).astype("<u4")
    octets[begins[:, None] + np.arange(16)] = record.view(np.uint8)
    octets[begins[:, None] + 16 + np.arange(_HEADERS)] = headers
    return octets.tobytes()


def _headers(rows: Segments) -> NDArray[np.uint8]:
    client = CLIENT + rows.of // 50_000
    server = np.full_like(client, SERVER)
    port = 10_000 + rows.of % 50_000
    begun = (rows.of * 7919 + 12_345, rows.of * 104_729 + 999)
    there, back = (np.where(rows.out, one, other) for one, other in (begun, begun[::-1]))
    headers = np.zeros((len(rows.of), _HEADERS), np.uint8)
    headers[:, :14] = np.frombuffer(ETHERNET, np.uint8)
    headers[:, 14], headers[:, 22], headers[:, 23] = 0x45, 64, 6
    for at, kind, values in (
        (16, ">u2", 40 + rows.payload),
        (26, ">u4", np.where(rows.out, client, server)),
        (30, ">u4", np.where(rows.out, server, client)),
        (34, ">u2", np.where(rows.out, port, 80)),
        (36, ">u2", np.where(rows.out, 80, port)),
        (38, ">u4", (rows.seq + there) % 2**32),
        (42, ">u4", np.where(rows.flags & ACK, (rows.ack + back) % 2**32, 0)),
        (46, ">u2", 0x5000 | rows.flags),
        (48, ">u2", np.full_like(rows.of, 0xFFFF)),
    ):
        as_octets = values.astype(kind).view(np.uint8).reshape(len(values), -1)
        headers[:, at : at + as_octets.shape[1]] = as_octets
    return headers


# ---------------------------------------------------------------------- ways to read it


def frames_as_columns(path: str, most: int) -> int:
    """Where each frame is, its time and lengths: what everything else here begins with."""
    from tcpwatch.sources.capture.container import open_container
    from tcpwatch.sources.capture.octets import open_octets

    count = 0
    with open_octets(path) as octets:
        for frames in open_container(octets).blocks():
            count += len(frames)
            if count >= most:
                break
    return count


def rows_by_columns(path: str, most: int) -> int:
    """A row each connection, both ends' states included: what --summary counts."""
    from tcpwatch.sources.capture.rows import Rows

    count = 0
    for batch in Rows([path]).batches():
        count += int(batch.segments.sum())
        if count >= most:
            break
    return count


def segments_exactly(path: str, most: int) -> int:
    """Every frame the exact way to its segment."""
    from tcpwatch.sources.capture.octets import open_octets
    from tcpwatch.sources.capture.segments import Capture

    count = 0
    with open_octets(path) as octets:
        for count, _ in enumerate(Capture(octets).observations(), 1):
            if count >= most:
                break
    return count


def states_exactly(path: str, most: int) -> int:
    """And both ends' states."""
    from tcpwatch.machine.tracker import Tracker
    from tcpwatch.model.events import Event
    from tcpwatch.sources.capture.octets import open_octets
    from tcpwatch.sources.capture.segments import Capture

    tracker, count, t_ns = Tracker(attending=["wire"]), 0, 0
    with open_octets(path) as octets:
        for count, seen in enumerate(Capture(octets).observations(), 1):
            t_ns = seen.t_ns
            tracker.feed(Event(count, t_ns, seen.vantage, seen.payload))
            if count >= most:
                break
    tracker.timeline(t_ns)
    return count


def scapy_raw(path: str, most: int) -> int:
    """scapy's RawPcapReader, and struct for the fields."""
    from scapy.utils import RawPcapReader

    fields = struct.Struct("!4s4sHHIIH").unpack_from
    count = 0
    for count, (octets, _) in enumerate(RawPcapReader(path), 1):
        fields(octets, 26)
        if count >= most:
            break
    return count


def dpkt_parsed(path: str, most: int) -> int:
    """dpkt's reader and parser."""
    import dpkt  # type: ignore[import-not-found, import-untyped, unused-ignore]

    count = 0
    with Path(path).open("rb") as file:
        for count, (_, octets) in enumerate(dpkt.pcap.Reader(file), 1):
            segment = dpkt.ethernet.Ethernet(octets).data.data
            _ = (segment.sport, segment.dport, segment.seq, segment.ack, segment.flags)
            if count >= most:
                break
    return count


def tshark_fields(path: str, most: int) -> int:
    """tshark with addresses, ports, flags and completeness."""
    argv = ["tshark", "-r", path, "-c", str(most), "-T", "fields"]
    argv += [word for name in _FIELDS for word in ("-e", name)]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return done.stdout.count(b"\n")


def tcptrace_long(path: str, most: int) -> int:
    """tcptrace, which says little of each connection."""
    del most
    argv = ["tcptrace", path]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return int(done.stdout.partition(b" packets seen")[0].split()[-1])


WAYS: dict[str, tuple[Callable[[str, int], int], int]] = {
    "tcpwatch: frames as columns": (frames_as_columns, 1 << 40),
    OURS: (rows_by_columns, 1 << 40),
    "tcpwatch: segments, exactly": (segments_exactly, 200_000),
    "tcpwatch: states, exactly": (states_exactly, 20_000),
    "scapy RawPcapReader and struct": (scapy_raw, 1_000_000),
    "dpkt reader and parse": (dpkt_parsed, 200_000),
    "tcptrace": (tcptrace_long, 1 << 40),
    TSHARK: (tshark_fields, 300_000),
}


def measured(name: str, path: Path) -> tuple[int, float, float]:
    """Segments read, CPU seconds and peak megabytes, of a process that does nothing else."""
    argv = [sys.executable, __file__, name, str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    count, cpu_s, peak_mb = done.stdout.split() if done.returncode == 0 else ("0", "1", "0")
    return int(count), float(cpu_s), float(peak_mb)


def run_one(name: str, path: str) -> None:
    """What `measured` starts: says the three numbers, of itself or of the program it started."""
    way, most = WAYS[name]
    began_s = cpu_s()
    count = way(path, most)
    peak_kb = max(own_peak_kb(), resource.getrusage(_CHILDREN).ru_maxrss)
    print(count, cpu_s() - began_s, peak_kb / 1024)


def own_peak_kb() -> int:
    """Of this program alone: getrusage(2) counts what the one was that started it, before exec."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0])


def cpu_s() -> float:
    """Of this process and of those it has waited for."""
    used = (resource.getrusage(who) for who in (_SELF, _CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def missing(name: str) -> str | None:
    """The program or package that a way needs and that is not here."""
    program = name.split(maxsplit=1)[0]
    if program in {"tshark", "tcptrace"} and shutil.which(program) is None:
        return program
    return "dpkt" if program == "dpkt" and find_spec("dpkt") is None else None


def compare(path: Path) -> None:
    """All ways on one capture; three rounds, so that what else goes on hits all alike."""
    ways = [name for name in WAYS if missing(name) is None]
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(TIMES):
        for name in ways:
            count, cpu_s, peak_mb = measured(name, path)
            found[name].append((count / cpu_s / 1000, peak_mb))
    rates = {name: median(rate for rate, _ in rounds) for name, rounds in found.items()}
    for name in WAYS:
        if name not in rates:
            print(f"  {name:<32}{'':9} {missing(name)} is not installed")
            continue
        peak_mb = median(peak for _, peak in found[name])
        against = f"{rates[name] / rates[TSHARK]:8.1f} times tshark" if rates.get(TSHARK) else ""
        print(f"  {name:<32}{rates[name]:9,.0f} thousand a second  {peak_mb:6,.0f} MB{against}")


def compare_lengths(path: Path, make: Callable[[int], Segments], segments: int) -> None:
    """Our memory on a capture, and on one ten times as long: more connections, or longer ones."""
    _, _, short_mb = measured(OURS, path)
    path.unlink()
    write(path, make(TIMES_LONGER * segments))
    count, _, long_mb = measured(OURS, path)
    size = path.stat().st_size / 1e6
    print(f"  {OURS}: {short_mb:,.0f} MB; {long_mb:,.0f} MB of {count:,} segments, {size:,.0f} MB")


def main() -> None:
    if len(sys.argv) > 2:
        run_one(*sys.argv[1:])
        return
    segments = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000
    mixes = {"short": short_connections, "long": long_connections}
    for mix, make in mixes.items():
        with tempfile.TemporaryDirectory() as folder:
            path, made = Path(folder) / f"{mix}.pcap", make(segments)
            write(path, made)
            size = path.stat().st_size / 1e6
            print(f"{mix} connections: {len(made.of):,} segments, {size:,.0f} MB", flush=True)
            compare(path)
            compare_lengths(path, make, segments)


if __name__ == "__main__":
    main()
