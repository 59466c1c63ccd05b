"""Captures of others, with what Zeek, Wireshark and the kernel itself said of each connection.

They stand beside the checkout (`../shared/captures`). Where we differ, a reason stands here, and a
reason that explains nothing fails too.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tcpwatch.errors import TcpwatchError
from tcpwatch.machine.completeness import completeness
from tcpwatch.machine.verdict import judge
from tcpwatch.machine.zeek import zeek_connections
from tcpwatch.model.identity import SocketAddress, canonical_ip
from tcpwatch.model.timeline import Connection, Endpoint, Timeline
from tcpwatch.replaying.files import read_file
from tcpwatch.replaying.replayed import tracker_of
from tcpwatch.tcp.state import TcpState
from tests.agreement import agrees
from tests.sources.capture.reading import SHARED

pytestmark = pytest.mark.skipif(
    not SHARED.is_dir(), reason=f"the captures with reference answers are not at {SHARED}"
)


class Differs(NamedTuple):
    """Why the reference is less right, and all that it and we say differently of that file."""

    reason: str
    ours: str
    theirs: str = ""


ZEEK_CANNOT_READ = "Zeek does not read this link or what is in it; we do, as Wireshark does"
TOO_LONG = (
    "fuzzed: one packet is longer than its frame. Mirrors that cut packets (in VXLAN, ERSPAN) make "
    "such ones, so we take the IP header's word"
)
ZEEK_DIFFERS = {
    "bug-1450-04--tls_DER-incomplete-header.pcap": Differs(
        "Zeek gives up a capture that is broken", "127.0.0.1:50802 127.0.0.1:10443 S1 ShADad"
    ),
    "bug-4810--pppoe-session-http.pcap": Differs(
        ZEEK_CANNOT_READ, "10.100.0.0:57013 142.250.179.131:80 SF ShADadFf"
    ),
    "decode-chdlc-01--hdlc-http_1tx.pcap": Differs(
        ZEEK_CANNOT_READ, "192.168.2.7:4938 65.55.116.183:80 SF ShADdfFa"
    ),
    "frag-ppp-ip-tcp-syn.pcap": Differs(ZEEK_CANNOT_READ, "1.1.1.1:12345 2.2.2.2:8080 S0 S"),
    "filter--arcnet-rfc1051-arp-icmp-http.pcap": Differs(
        ZEEK_CANNOT_READ, "10.80.131.1:1026 146.190.240.163:80 S1 ShADa"
    ),
    "filter--http_PPI.pcap": Differs(ZEEK_CANNOT_READ, "192.168.1.132:3827 130.192.73.1:80 S0 S"),
    "detect-ipopts--input.pcap": Differs(
        "Zeek leaves source-routed packets alone",
        "9.10.11.12:20 5.6.7.8:80 S0 S, 9.10.11.12:20 8.8.8.8:80 S0 S",
    ),
    "kday7.pcap": Differs(
        f"{TOO_LONG}. And times go back 66 years, so Zeek forgets what it has just seen",
        "204.0.55.10:323 204.9.54.80:55936 OTH DT, 204.9.51.132:50079 204.9.54.80:22 OTH AD",
        "204.0.55.10:323 204.9.54.80:55936 OTH D, 204.0.55.10:323 204.9.54.80:55936 OTH D, "
        "204.9.51.132:50079 204.243.53.80:22 OTH A, 204.9.51.132:50079 204.9.54.80:22 OTH A, "
        "204.9.64.80:55936 204.9.40.10:443 OTH A",
    ),
}
INNER = "[fd00:183:1:1:1886:9040:8605:32b8]:5060 [fd01::183]:5060 31"
FTP, FTP_SERVER = "[2001:470:1f11:81f:c999:d94:aa7c:2e3e]", "[2001:470:4867:99::21]"
WIRESHARK_DIFFERS = {
    "gtp-iphone.pcap": Differs(
        "the reference names the tunnel's addresses, not the connection's",
        ", ".join([INNER] * 4),
        ", ".join(["127.0.1.100:5060 127.0.1.1:5060 31"] * 4),
    ),
    "kday7.pcap": Differs(
        TOO_LONG, "204.9.51.132:50079 204.9.54.80:22 12", "204.9.51.132:50079 204.9.54.80:22 4"
    ),
    "Traces--ftp--ipv6.pcap": Differs(
        "Wireshark's FTP dissector announces the data connection, whose SYN it then does not count",
        *(
            ", ".join(f"{FTP}:{49186 + n} {FTP_SERVER}:{57086 + n} {bits}" for n in range(3))
            for bits in (31, 30)
        ),
    ),
}


def compare(ours: Counter[str], theirs: Counter[str], known: dict[str, Differs], name: str) -> None:
    """They say the same, or differ as the table says: no less, and no more."""
    differs = next((one for end, one in known.items() if name.endswith(end)), Differs("", ""))
    found = [", ".join(sorted(some.elements())) for some in (ours - theirs, theirs - ours)]
    assert found == [differs.ours, differs.theirs], differs.reason


def lines(name: str) -> Iterator[dict[str, Any]]:
    if SHARED.is_dir():
        with (SHARED / name).open(encoding="utf-8") as text:
            yield from map(json.loads, text)


PUBLIC, KERNEL = list(lines("public.jsonl")), list(lines("kernel.jsonl"))


@cache
def replayed(path: Path) -> Timeline:
    """As far as it can be read."""
    timelines = []
    try:
        for recording in read_file(str(path)):
            record, tracker = tracker_of(recording)
            for event in recording.events:
                tracker.feed(event)
            timelines.append(judge(record, tracker.timeline(record.end_ns)).timeline)
    except TcpwatchError:
        pass
    (timeline,) = timelines
    return timeline


def address(ip: str, port: int | str) -> SocketAddress:
    return SocketAddress(canonical_ip(ip), int(port))


def name_of(reference: dict[str, Any]) -> str:
    return str(reference["file"])


@pytest.mark.parametrize("reference", PUBLIC, ids=map(name_of, PUBLIC))
def test_zeek_says_the_same(reference: dict[str, Any]) -> None:
    timeline = replayed(SHARED / "public" / name_of(reference))
    ours: Counter[str] = Counter()
    for connection in timeline.connections:
        by_role = {endpoint.role: endpoint.address for endpoint in connection.endpoints}
        for one in zeek_connections(connection):
            other = next(role for role in by_role if role != one.originator)
            ends = f"{by_role[one.originator]} {by_role[other]}"
            ours[f"{ends} {one.conn_state} {one.history}"] += 1
    theirs = Counter(
        f"{address(one['orig_h'], one['orig_p'])} {address(one['resp_h'], one['resp_p'])} "
        f"{one['conn_state']} {one['history']}"
        for one in reference["zeek"]
    )
    compare(ours, theirs, ZEEK_DIFFERS, name_of(reference))


@pytest.mark.parametrize("reference", PUBLIC, ids=map(name_of, PUBLIC))
def test_wireshark_says_the_same(reference: dict[str, Any]) -> None:
    timeline = replayed(SHARED / "public" / name_of(reference))
    ours: Counter[str] = Counter()
    for connection in timeline.connections:
        ends = sorted(str(endpoint.address) for endpoint in connection.endpoints)
        ours.update(f"{' '.join(ends)} {bits}" for bits in completeness(connection))
    theirs: Counter[str] = Counter()
    for one in reference["wireshark"]:
        ends = sorted(str(address(*one[end].rsplit(" ", 1))) for end in "ab")
        theirs[f"{' '.join(ends)} {one['completeness']}"] += 1
    compare(ours, theirs, WIRESHARK_DIFFERS, name_of(reference))


# ---------------------------------------------------------------------- the kernel's own path

OUT_OF_WINDOW = (
    "the last RST is not at RCV.NXT, and in TIME-WAIT Linux heeds no other "
    "(tcp_timewait_state_process() in tcp_minisocks.c): no segment shows the end"
)
PROCESS_ENDED = (
    "the RST lies beyond the window, so Linux does not heed it: the state ended with the process, "
    "and no segment shows that"
)
KERNEL_DIFFERS = {
    "rcv-ack-time-wait-using-shutdown-middle-ipv4.ipv4.pcap": OUT_OF_WINDOW,
    "rcv-ack-time-wait-using-shutdown-outside-left-ipv4.ipv4.pcap": OUT_OF_WINDOW,
    "rcv-fin-time-wait-using-shutdown-right-edge-ipv4.ipv4.pcap": OUT_OF_WINDOW,
    "rcv-rst-ack-time-wait-using-shutdown-outside-right-insecure-ipv4.ipv4.pcap": OUT_OF_WINDOW,
    "rcv-rst-fin-wait-2-right-edge-insecure-ipv4.ipv4.pcap": PROCESS_ENDED,
    "rcv-rst-fin-wait-2-right-edge-insecure-ipv6.ipv6.pcap": PROCESS_ENDED,
}


def local_end(connections: list[Connection], reference: dict[str, Any]) -> Endpoint:
    """The end that was the kernel's, in the first of these connections that has it; used up."""
    local = address(*reference["local"].rsplit(" ", 1))
    remote = address(*reference["remote"].rsplit(" ", 1))
    found = next(
        one for one in connections if {end.address for end in one.endpoints} == {local, remote}
    )
    connections.remove(found)
    return next(one for one in found.endpoints if one.address == local)


@pytest.mark.parametrize("reference", KERNEL, ids=map(name_of, KERNEL))
def test_the_kernel_went_the_same_way(reference: dict[str, Any]) -> None:
    connections = list(replayed(SHARED / "kernel" / name_of(reference)).connections)
    differs = any(name_of(reference).endswith(name) for name in KERNEL_DIFFERS)
    agreed = [
        agrees(local_end(connections, one).path, [TcpState.parse(name) for name in one["path"]])
        for one in reference["connections"]
    ]
    assert agreed == [not differs] * len(agreed)


def test_every_case_in_the_tables_is_there() -> None:
    public, kernel = [*map(name_of, PUBLIC)], [*map(name_of, KERNEL)]
    for table, names in ((ZEEK_DIFFERS, public), (WIRESHARK_DIFFERS, public)):
        assert [sum(name.endswith(end) for name in names) for end in table] == [1] * len(table)
    for end in KERNEL_DIFFERS:
        assert sum(name.endswith(end) for name in kernel) == 1
