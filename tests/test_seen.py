"""What a block did, asked of recordings: nothing holds where evidence was lost or contradicts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import tcpwatch
from tcpwatch.model.events import KERNEL, Event, Gap, Vantage
from tcpwatch.model.identity import SocketAddress
from tcpwatch.model.recording import Recording
from tcpwatch.model.timeline import Finding, Severity, Timeline
from tcpwatch.observing.observer import Held, Holder, Observed
from tcpwatch.tcp.state import TcpState

RECORDED = Path(__file__).parent / "data" / "recordings" / "simultaneous-close.jsonl"
HERE, THERE = SocketAddress("127.0.0.1", 80), SocketAddress("127.0.0.1", 40000)


def seen(timeline: Timeline | None = None, *held: Held) -> tcpwatch.Seen:
    (run,) = tcpwatch.replay(RECORDED)
    timeline = timeline or run.timeline
    found = tcpwatch.Seen()
    recording = Recording(run.judged.record, timeline.events, complete=True)
    found.fill(Observed(recording, timeline, held), timeline, held)
    return found


def recorded() -> Timeline:
    (run,) = tcpwatch.replay(RECORDED)
    return run.timeline


def test_what_is_so_holds_and_what_is_not_fails_with_the_diff_and_the_ladder() -> None:
    found = seen()
    found.server.follows("... > CLOSING > TIME-WAIT")
    found.client[0].never("CLOSE-WAIT")
    with pytest.raises(tcpwatch.NotAsExpected) as failed:
        found.client.follows("... > FIN-WAIT-2 > TIME-WAIT")
    assert not isinstance(failed.value, tcpwatch.Inconclusive)
    told = str(failed.value)
    assert told.startswith("the client did not go as expected: ... > FIN-WAIT-2 > TIME-WAIT\n")
    assert "\n    CLOSING\n" in told
    assert "\n  - FIN-WAIT-2\n" in told
    assert "FIN-WAIT-1 > CLOSING         ◀─╯" in told


def test_a_failure_where_evidence_was_lost_is_inconclusive() -> None:
    timeline = recorded()
    gap = Event(9999, timeline.end_ns, Vantage(KERNEL), Gap("overrun", None, 0))
    lossy = seen(replace(timeline, events=(*timeline.events, gap)))
    with pytest.raises(tcpwatch.Inconclusive, match="kernel lost evidence: overrun"):
        lossy.client.follows("... > FIN-WAIT-2 > TIME-WAIT")


def test_nothing_holds_where_witnesses_disagree() -> None:
    finding = Finding("witnesses-disagree", Severity.ERROR, "they disagree", connection=1)
    doubtful = seen(replace(recorded(), findings=(finding,)))
    with pytest.raises(tcpwatch.Inconclusive, match="they disagree"):
        doubtful.server.follows("... > CLOSING > TIME-WAIT")


def test_nothing_holds_of_nobody() -> None:
    nobody = seen(replace(recorded(), connections=()))
    with pytest.raises(tcpwatch.Inconclusive, match="no connection with a server was seen"):
        nobody.server.never("CLOSE-WAIT")


def held(local: SocketAddress, remote: SocketAddress, state: TcpState) -> Held:
    """By a process."""
    return Held(local, remote, state, inode=7, holders=(Holder(1, "server\x1b"),))


@pytest.mark.parametrize(
    "one, why",
    [
        (held(HERE, THERE, TcpState.CLOSE_WAIT), "this end has not"),
        (Held(HERE, THERE, TcpState.CLOSE_WAIT), "nobody ever accepted it"),
        (held(HERE, THERE, TcpState.ESTABLISHED), "never closed"),
        (Held(HERE, THERE, TcpState.ESTABLISHED), "nobody ever accepted it"),
        (held(THERE, HERE, TcpState.FIN_WAIT_2), "never closed"),
        (held(HERE, SocketAddress("::", 0), TcpState.LISTEN), "still listens"),
    ],
)
def test_what_is_left_open_is_a_leak(one: Held, why: str) -> None:
    with pytest.raises(tcpwatch.NotAsExpected) as failed:
        seen(None, one).no_leaks()
    assert f"leaked {one.state} {one.local}" in str(failed.value)
    assert why in str(failed.value)
    assert "\x1b" not in str(failed.value)


@pytest.mark.parametrize(
    "one",
    [
        Held(THERE, HERE, TcpState.TIME_WAIT),
        Held(THERE, HERE, TcpState.FIN_WAIT_2),  # its process has closed it: the kernel ends it
        Held(HERE, THERE, TcpState.LAST_ACK),
    ],
)
def test_what_the_kernel_ends_is_no_leak(one: Held) -> None:
    seen(None, one).no_leaks()
