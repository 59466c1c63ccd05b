"""Many connections at a glance."""

from __future__ import annotations

import pytest

from tcpwatch.machine.census import Census
from tcpwatch.machine.rows import Ending, ending, row_of
from tcpwatch.machine.tracker import Tracker
from tcpwatch.machine.verdict import judge
from tcpwatch.model.events import WIRE, Event, Point, SegmentSeen, Vantage
from tcpwatch.model.identity import SocketAddress
from tcpwatch.model.timeline import Judged, RunRecord
from tcpwatch.views.paths import summary_lines
from tcpwatch.views.summary import render
from tcpwatch.views.wording import Wording
from tests.machine.conversation import conversation

OPENED = (
    *("> S 0:0(0)", "< SA 0:0(0) ack 1", "> A 1:1(0) ack 1"),
    *("> PA 1:4(3) ack 1", "< A 1:1(0) ack 4"),
)
CLOSED = ("> FA 4:4(0) ack 1", "< FA 1:1(0) ack 5", "> A 5:5(0) ack 2")
ABORTED = ("< RA 1:1(0) ack 4",)
REPEATED = ("> PA 1:4(3) ack 1",)


def run_of(*connections: tuple[str, ...]) -> Judged:
    """Each with a port of its own, one after another."""
    tracker = Tracker(attending=[WIRE])
    count, start_ns = 0, 0
    for index, lines in enumerate(connections):
        active, passive = SocketAddress("10.0.0.1", 40_000 + index), SocketAddress("10.0.0.2", 80)
        ends = {"active": (active, passive), "passive": (passive, active)}
        for trace in conversation(*lines).segments:
            count += 1
            seen = SegmentSeen(count, Point.MIDWAY, *ends[trace.sender], trace.segment)
            t_ns = start_ns + (trace.sent_ns or 0)
            tracker.feed(Event(count, t_ns, Vantage(WIRE), seen))
        start_ns += 20_000_000
    wire = {"name": WIRE, "available": True}
    record = RunRecord("it.pcap", "a capture", {"kind": "capture"}, (wire,), {}, {})
    return judge(record, tracker.timeline(start_ns))


def shown(run: Judged, width: int = 80) -> str:
    census = Census()
    for connection in run.timeline.connections:
        census.add(row_of(connection, run.timeline.findings))
    return render(summary_lines(census, width, Wording()))


def test_the_most_frequent_way_comes_first() -> None:
    runs = [(*OPENED, *CLOSED)] * 3 + [(*OPENED, *ABORTED)] + [("> S 0:0(0)", "> S 0:0(0)")]
    runs += [(*OPENED, *REPEATED), ("> PA 1:4(3) ack 1", "< A 1:1(0) ack 4")]
    assert (
        shown(run_of(*runs))
        == """\
7 connections
3  42.9 % closed by FIN (3 first by the active end)
1  14.3 % aborted by RST (1 first by the passive end)
1  14.3 % no answer to the SYN
2  28.6 % still open
2 retransmissions in 2 connections
1 connection had begun before the capture

3  42.9 % active  CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2
            > TIME-WAIT
          passive  LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK
            > LAST-ACK or CLOSED
          7 ms each; e.g. #1 10.0.0.1:40000 > 10.0.0.2:80
1  14.3 % active  CLOSED > SYN-SENT > ESTABLISHED > ESTABLISHED or CLOSED
          passive  LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSED
          5 ms; e.g. #4 10.0.0.1:40003 > 10.0.0.2:80
1  14.3 % active  CLOSED > SYN-SENT
          passive  LISTEN or CLOSED
          1 ms; e.g. #5 10.0.0.1:40004 > 10.0.0.2:80
1  14.3 % active  CLOSED > SYN-SENT > ESTABLISHED
          passive  LISTEN > SYN-RECEIVED > ESTABLISHED
          5 ms; e.g. #6 10.0.0.1:40005 > 10.0.0.2:80
1  14.3 % active  ESTABLISHED or FIN-WAIT-1 or CLOSE-WAIT or CLOSING or LAST-ACK
          passive  unknown
          1 ms; e.g. #7 10.0.0.1:40006 > 10.0.0.2:80
"""
    )


@pytest.mark.parametrize(
    "lines, how",
    [
        (("> S 0:0(0)",), Ending.UNANSWERED),
        (("> S 0:0(0)", "> S 0:0(0)"), Ending.UNANSWERED),
        (("> S 0:0(0)", "< RA 0:0(0) ack 1"), Ending.REFUSED),
        (OPENED, Ending.OPEN),
        ((*OPENED, *CLOSED[:1]), Ending.HALF_CLOSED),
        ((*OPENED, *CLOSED), Ending.FIN),
        ((*OPENED, *ABORTED), Ending.RST),
        (("> S 0:0(0)", "< SA 0:0(0) ack 1", "> R 1:1(0)"), Ending.RST),
    ],
)
def test_an_ending_is_told_by_its_segments(lines: tuple[str, ...], how: Ending) -> None:
    assert ending(run_of(lines).timeline.connections[0]) is how


def test_no_line_is_longer_than_the_terminal_is_wide() -> None:
    run = run_of((*OPENED, *CLOSED), (*OPENED, *ABORTED))
    for width in (40, 60, 80, 120):
        assert max(map(len, shown(run, width).splitlines())) <= width


def test_a_capture_without_connections_says_so() -> None:
    assert shown(run_of()).splitlines()[0] == "0 connections"
