"""A connection of a capture in a few words: who ended it, how, and what is repeated or missing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tcpwatch.machine.tracker import Tracker
from tcpwatch.model.events import WIRE, Event, Point, SegmentSeen, Vantage
from tcpwatch.model.timeline import CAPTURE, Judged, RunRecord, Verdict
from tcpwatch.tcp.notation import parse_segment
from tcpwatch.views.accounts import account_lines
from tcpwatch.views.summary import render
from tcpwatch.views.wording import Wording
from tests.machine.conversation import ACTIVE, PASSIVE

OPEN = ("> S 0:0(0)", "< SA 0:0(0) ack 1", "> A 1:1(0) ack 1", "> PA 1:4(3) ack 1")
ANSWERED = (*OPEN, "< A 1:1(0) ack 4")
CLOSED = ("> FA 4:4(0) ack 1", "< FA 1:1(0) ack 5", "> A 5:5(0) ack 2")


def account(*lines: str, cut: int | None = None) -> str:
    """Of segments that a capture midway shows, 10 ms apart; it ends a second after the last."""
    tracker = Tracker(attending=[WIRE])
    t_ns = 0
    for n, line in enumerate(lines, 1):
        t_ns = n * 10_000_000
        ends = (ACTIVE, PASSIVE) if line[0] == ">" else (PASSIVE, ACTIVE)
        seen = SegmentSeen(n, Point.MIDWAY, *ends, parse_segment(line[2:]), cut=n == cut)
        tracker.feed(Event(n, t_ns, Vantage(WIRE), seen))
    timeline = tracker.timeline(t_ns + 1_000_000_000)
    record = RunRecord("it", "", {"kind": CAPTURE}, (), {}, {}, end_ns=timeline.end_ns)
    judged = Judged(record, timeline, Verdict.PASS, (), ())
    (connection,) = timeline.connections
    told = account_lines(connection, replace(judged), 300, Wording(ascii_only=False))
    return render(told)


@pytest.mark.parametrize(
    "lines, words",
    [
        (ANSWERED, "still open when the capture ended"),
        ((*ANSWERED, *CLOSED), "closed by FIN, first by the active end"),
        ((*ANSWERED, CLOSED[0], "< FA 1:1(0) ack 4"), "closed by FIN, by both ends at once"),
        ((*ANSWERED, "> FA 4:4(0) ack 1"), "a FIN of the active end only"),
        (
            (*ANSWERED, "> FA 4:4(0) ack 1", "< R 1:1(0)"),
            "a FIN of the active end only; then aborted by the passive end's RST",
        ),
        ((*ANSWERED, "< RA 1:1(0) ack 4"), "aborted by the passive end's RST"),
        ((*ANSWERED, "> RA 4:4(0) ack 1"), "aborted by the active end's RST"),
        ((OPEN[0], "< RA 0:0(0) ack 1"), "refused: a RST answered the SYN"),
        ((OPEN[0], OPEN[0]), "no answer to the SYN; retransmissions: 1 of the active end"),
        ((*ANSWERED, "< A 1:1(0) ack 4 win 0"), "ended; windows of 0: 1 of the passive end"),
        (
            (*ANSWERED, "< A 1:1(0) ack 1004"),
            "octets acknowledged that are not in the capture: 1,000 of the active end",
        ),
        (ANSWERED[2:], "it had begun before the capture"),
        (OPEN[:1], "nothing was seen of the passive end"),
    ],
)
def test_it_tells_who_ended_it_and_what_was_odd(lines: tuple[str, ...], words: str) -> None:
    assert words in account(*lines).splitlines()[0]


def test_it_tells_what_the_capture_cut() -> None:
    assert "segments cut by the capture: 1" in account(*ANSWERED, cut=4)


def test_it_tells_how_long_each_end_was_in_each_state_that_is_certain() -> None:
    _, active, passive = account(*ANSWERED, *CLOSED).splitlines()
    assert active.strip() == (
        "active: SYN-SENT 20 ms, ESTABLISHED 30 ms, FIN-WAIT-1 20 ms, FIN-WAIT-2 0 ms, "
        "TIME-WAIT 1 s and more"
    )
    assert passive.strip() == (
        "passive: SYN-RECEIVED 30 ms, ESTABLISHED 20 ms, CLOSE-WAIT 0 ms, LAST-ACK 10 ms"
    )
