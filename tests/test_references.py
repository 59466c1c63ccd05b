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
from typing import Any

import pytest

from tcpwatch.errors import TcpwatchError
from tcpwatch.machine.completeness import completeness
from tcpwatch.machine.verdict import judge
from tcpwatch.machine.zeek import zeek_connections
from tcpwatch.model.identity import canonical_ip
from tcpwatch.model.timeline import Connection, Endpoint, Timeline
from tcpwatch.outputs import tracker_of
from tcpwatch.replaying import read_file
from tcpwatch.tcp.state import TcpState
from tests.agreement import agrees
from tests.sources.capture.reading import SHARED

pytestmark = pytest.mark.skipif(
    not SHARED.is_dir(), reason=f"the captures with reference answers are not at {SHARED}"
)

ZEEK_CANNOT_READ = "Zeek does not read this link or what is in it; we do, as Wireshark does"
ZEEK_DIFFERS = {
    "bug-1450-04--tls_DER-incomplete-header.pcap": "Zeek gives up a capture that is broken",
    "bug-4810--pppoe-session-http.pcap": ZEEK_CANNOT_READ,
    "decode-chdlc-01--hdlc-http_1tx.pcap": ZEEK_CANNOT_READ,
    "frag-ppp-ip-tcp-syn.pcap": ZEEK_CANNOT_READ,
    "filter--arcnet-rfc1051-arp-icmp-http.pcap": ZEEK_CANNOT_READ,
    "filter--http_PPI.pcap": ZEEK_CANNOT_READ,
    "detect-ipopts--input.pcap": "Zeek leaves source-routed packets alone",
    "kday7.pcap": "fuzzed: times that go back 66 years, and a packet longer than its frame",
    "smb2_krb.pcap": "Zeek takes the data that the capture cut off for a gap",
}
WIRESHARK_DIFFERS = {
    "gtp-iphone.pcap": "the reference names the tunnel's addresses, not the connection's",
    "kday7.pcap": "fuzzed: a packet longer than its frame, whose data Wireshark does not count",
    "Traces--ftp--ipv6.pcap": "Wireshark's FTP dissector announces the data connection, whose SYN "
    "it then does not count",
}


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


def reason_in(reasons: dict[str, str], name: str) -> str | None:
    return next((reason for end, reason in reasons.items() if name.endswith(end)), None)


def address(ip: str, port: int | str) -> tuple[str, int]:
    return canonical_ip(ip), int(port)


def address_of(endpoint: Endpoint) -> tuple[str, int]:
    return endpoint.address.ip, endpoint.address.port


def name_of(reference: dict[str, Any]) -> str:
    return str(reference["file"])


@pytest.mark.parametrize("reference", PUBLIC, ids=map(name_of, PUBLIC))
def test_zeek_says_the_same(reference: dict[str, Any]) -> None:
    timeline = replayed(SHARED / "public" / name_of(reference))
    ours: Counter[object] = Counter()
    for connection in timeline.connections:
        by_role = {endpoint.role: address_of(endpoint) for endpoint in connection.endpoints}
        for one in zeek_connections(connection):
            other = next(role for role in by_role if role != one.originator)
            ends = (by_role[one.originator], by_role[other])
            ours[*ends, one.conn_state, one.history] += 1
    theirs: Counter[object] = Counter(
        (
            address(one["orig_h"], one["orig_p"]),
            address(one["resp_h"], one["resp_p"]),
            one["conn_state"],
            one["history"],
        )
        for one in reference["zeek"]
    )
    assert (ours == theirs) == (reason_in(ZEEK_DIFFERS, name_of(reference)) is None), (
        ours - theirs,
        theirs - ours,
    )


@pytest.mark.parametrize("reference", PUBLIC, ids=map(name_of, PUBLIC))
def test_wireshark_says_the_same(reference: dict[str, Any]) -> None:
    timeline = replayed(SHARED / "public" / name_of(reference))
    ours: Counter[object] = Counter()
    for connection in timeline.connections:
        ends = frozenset(map(address_of, connection.endpoints))
        ours.update((ends, bits) for bits in completeness(connection))
    theirs: Counter[object] = Counter(
        (frozenset(address(*one[end].rsplit(" ", 1)) for end in "ab"), one["completeness"])
        for one in reference["wireshark"]
    )
    assert (ours == theirs) == (reason_in(WIRESHARK_DIFFERS, name_of(reference)) is None), (
        ours - theirs,
        theirs - ours,
    )


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
    found = next(one for one in connections if {*map(address_of, one.endpoints)} == {local, remote})
    connections.remove(found)
    return next(one for one in found.endpoints if address_of(one) == local)


@pytest.mark.parametrize("reference", KERNEL, ids=map(name_of, KERNEL))
def test_the_kernel_went_the_same_way(reference: dict[str, Any]) -> None:
    connections = list(replayed(SHARED / "kernel" / name_of(reference)).connections)
    agreed = [
        agrees(local_end(connections, one).path, [TcpState.parse(name) for name in one["path"]])
        for one in reference["connections"]
    ]
    assert all(agreed) == (reason_in(KERNEL_DIFFERS, name_of(reference)) is None)
