"""No stamp is undercut: while an actor is telling, the time that has passed stays before it."""

from __future__ import annotations

import os
import time

from tcpwatch.lab.calls import Switchboard
from tcpwatch.lab.lines import Line
from tcpwatch.lab.loopback import Loopback
from tcpwatch.lab.protocol import Channel, channel_pair, new_line, open_line
from tcpwatch.model.witness import Observation


def test_a_cell_tells_another_process_since_when() -> None:
    fds, mine = new_line()
    theirs = open_line(fds)
    assert mine.cell is not None
    assert theirs.cell is not None
    assert theirs.cell.since_ns == 0
    before_ns = time.monotonic_ns()
    with mine.telling():
        since_ns = theirs.cell.since_ns
        with mine.telling():  # as a signal's handler does
            assert theirs.cell.since_ns == since_ns
        assert theirs.cell.since_ns == since_ns
    assert before_ns <= since_ns <= time.monotonic_ns()
    assert theirs.cell.since_ns == 0
    mine.close()
    theirs.close()
    assert theirs.cell.since_ns == 0


def test_the_descriptor_of_the_cell_is_closed_once_it_is_open() -> None:
    before = os.listdir("/proc/self/fd")  # noqa: PTH208 - the names are compared, no paths
    fds, mine = new_line()
    theirs = open_line(fds)
    mine.close()
    theirs.close()
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208


def test_what_an_actor_may_be_telling_holds_the_time_back() -> None:
    ours, supervisors = channel_pair()
    fds, actors = new_line()
    switchboard = Switchboard(Channel(ours), lambda _seen: None, patience_s=5)
    line = Line("client", "actor", open_line(fds), os.getpid())
    switchboard._add(line)  # noqa: SLF001 - as spawn() does once the supervisor has answered
    with actors.telling():
        told_ns = time.monotonic_ns()
        assert switchboard.watermark() <= told_ns
        assert switchboard.watermark() <= told_ns
    after_ns = time.monotonic_ns()
    while switchboard.watermark() <= after_ns:  # pytest's timeout ends this
        pass
    switchboard.close()
    actors.close()
    supervisors.close()


def test_calls_are_told_in_the_order_of_their_stamps_at_whatever_load() -> None:
    seen: list[Observation] = []
    with Loopback.open(emit=seen.append) as lab:
        process = lab.client.process("client")
        for _ in range(200):
            sock = process.socket()
            passed_ns = lab.calls_watermark()
            told = len(seen)
            sock.close()
            assert all(one.t_ns >= passed_ns for one in seen[told:])
