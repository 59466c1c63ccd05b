"""What a wire is told to do to segments: hold, drop, delay, duplicate, reorder."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tcpwatch.errors import TcpwatchError
from tcpwatch.lab.filters import ANY, DATA, FIN, PURE_ACK, SYN, where
from tcpwatch.lab.wire import WireTimeout
from tcpwatch.model.events import (
    Fate,
    Point,
    SegmentFate,
    SegmentSeen,
)
from tcpwatch.model.witness import Observation
from tcpwatch.tcp.seq import SeqNumber
from tests.lab.bench import (
    ADDRESSES,
    MANY,
    PATIENCE_S,
    Bench,
    ReflexPort,
    T,
    benched,
)

# ---- holds


def test_a_held_segment_waits_while_others_go_on(bench: Bench) -> None:
    with bench.wire.hold(FIN) as hold:
        bench.client.send("FA", 1, 1)
        bench.client.send("A", 2, 1)
        assert bench.server.receive_seq() == 2
        hold.wait()
        assert [seen.n for seen in hold.segments] == [1]
        assert bench.server.has_nothing()
    assert bench.server.receive_seq() == 1
    bench.wire.wait_idle()
    assert bench.fates() == [(1, Fate.HELD), (1, Fate.RELEASED)]
    assert hold.segments == []


@pytest.mark.parametrize("latency_ms", [0, 2])
def test_what_a_release_provokes_comes_after_all_that_was_held(latency_ms: float) -> None:
    with benched(latency_ms, port=ReflexPort) as bench:
        for n in range(1, 21):
            with bench.wire.hold(FIN):
                bench.client.send("FA", n, 1)
                bench.server.send("FA", n, 1)
            bench.wire.wait_for(PURE_ACK, point=Point.DELIVERED, count=2 * n)
            for host in (bench.client, bench.server):
                assert [host.receive().segment.flags.letters for _ in range(2)] == ["FA", "A"]
    order = [seen.segment.fin for _, seen in bench.passed(Point.DELIVERED)]
    assert order == [True, True, False, False] * 20


def test_all_held_ones_are_delivered_in_order_of_sending() -> None:
    with benched(latency_ms=5) as bench:
        with bench.wire.hold(DATA):
            for seq in range(20):
                bench.client.send("A", seq, 1, b"x")
                bench.server.send("A", seq, 1, b"x")
        assert bench.server.seqs(20) == list(range(20))
        bench.wire.wait_idle()
    delivered = [seen.n for _, seen in bench.passed(Point.DELIVERED)]
    assert delivered == sorted(delivered)
    released = [(n, fate) for n, fate in bench.fates() if fate is Fate.RELEASED]
    assert len(released) == 40


def test_a_hold_takes_only_the_direction_it_names(bench: Bench) -> None:
    with bench.wire.hold(FIN, by="server") as hold:
        bench.server.send("FA", 1, 1)
        bench.client.send("FA", 2, 1)
        assert bench.server.receive_seq() == 2
        hold.wait()
        assert [seen.src for seen in hold.segments] == [ADDRESSES[4]["server"]]
    assert bench.client.receive_seq() == 1


class Busy:
    """A sink that keeps the wire's thread in its first observation until it is let go."""

    def __init__(self) -> None:
        self.emitting, self.go_on = threading.Event(), threading.Event()

    def __call__(self, _one: Observation) -> None:
        self.emitting.set()
        self.go_on.wait(PATIENCE_S)

    def queue(self, bench: Bench, pool: ThreadPoolExecutor, verb: Callable[[], T]) -> Future[T]:
        """Send more than the wire reads in one go, call the verb behind it, let the wire go on."""
        bench.client.send("A", 0, 1)
        assert self.emitting.wait(PATIENCE_S)
        packet = bench.client.packet("FA", 1, 1)
        for _ in range(MANY):  # a socket with a timeout would want three quarters of its buffer
            os.write(bench.client.end.fileno(), packet)
        answer = pool.submit(verb)
        while not bench.wire.relay._commands:  # noqa: SLF001 - queued before the wire goes on
            os.sched_yield()
        self.go_on.set()
        return answer


def test_what_was_sent_before_a_hold_is_not_held() -> None:
    busy = Busy()
    with benched(emit=busy) as bench, ThreadPoolExecutor() as pool:
        hold = busy.queue(bench, pool, lambda: bench.wire.hold(FIN)).result()
        assert bench.server.seqs(MANY + 1) == [0] + [1] * MANY
        bench.wire.wait_idle()
        assert hold.acted == []


def test_what_was_sent_before_a_rule_ended_is_subject_to_it() -> None:
    busy = Busy()
    with benched(emit=busy) as bench, ThreadPoolExecutor() as pool:
        rule = bench.wire.drop(FIN)
        busy.queue(bench, pool, rule.end).result()
        bench.client.send("FA", 2, 1)
        assert bench.server.seqs(2) == [0, 2]
        assert len(rule.dropped) == MANY


def test_a_hold_without_a_with_is_released_one_by_one(bench: Bench) -> None:
    hold = bench.wire.hold(DATA)
    for seq in range(4):
        bench.client.send("A", seq, 1, b"x")
    hold.wait(count=4)
    assert hold.release_one() == 1
    assert hold.release_one(3) == 3
    assert bench.server.seqs(2) == [0, 2]
    assert hold.drop() == [2, 4]
    bench.client.send("A", 9, 1, b"x")
    hold.release()
    assert bench.server.receive_seq() == 9
    assert bench.server.has_nothing()
    assert bench.wire.idle
    assert [n for n, fate in bench.fates() if fate is Fate.DROPPED] == [2, 4]


def test_release_one_waits_for_a_segment_to_release(bench: Bench) -> None:
    hold = bench.wire.hold(DATA)
    with ThreadPoolExecutor() as pool:
        released = pool.submit(hold.release_one)
        bench.client.send("A", 5, 1, b"x")
        assert released.result() == 1
    assert bench.server.receive_seq() == 5


def test_a_hold_that_travels_can_be_dropped() -> None:
    with benched(latency_ms=60_000) as bench:
        hold = bench.wire.hold(FIN)
        bench.client.send("FA", 1, 1)
        assert hold.drop() == [1]
        hold.release()
        assert bench.wire.idle
    assert bench.fates() == [(1, Fate.DROPPED)]


def test_a_hold_left_by_an_exception_is_released(bench: Bench) -> None:
    def play() -> None:
        with bench.wire.hold(FIN):
            bench.client.send("FA", 1, 1)
            raise KeyError

    with pytest.raises(KeyError):
        play()
    assert bench.server.receive_seq() == 1


def test_waiting_for_a_hold_in_vain_says_what_there_was(bench: Bench) -> None:
    bench.client.send("S", 1)
    bench.server.receive()
    with (
        bench.wire.hold(FIN, by="client") as hold,
        pytest.raises(WireTimeout, match=r"0 of 2 .* held by FIN\.sent_by\('client'\).*#1 S from"),
    ):
        hold.wait(count=2, timeout_s=0)


# ---- the other rules


def test_drop_takes_the_nth_match_only(bench: Bench) -> None:
    with bench.wire.drop(DATA, nth=2) as rule:
        bench.client.send("A", 0, 1)
        for seq in range(1, 5):
            bench.client.send("A", seq, 1, b"x")
        assert bench.server.seqs(4) == [0, 1, 3, 4]
    assert rule.dropped == [3]
    assert bench.fates() == [(3, Fate.DROPPED)]
    assert bench.wire.idle


def test_drop_takes_the_first_ones_by_count_then_no_more(bench: Bench) -> None:
    rule = bench.wire.drop(SYN, by="client", count=2)
    bench.server.send("S", 7)
    for seq in range(4):
        bench.client.send("S", seq)
    assert bench.server.seqs(2) == [2, 3]
    assert bench.client.receive_seq() == 7
    rule.wait(count=2)
    assert len(rule.dropped) == 2


def test_drop_takes_all_until_its_end(bench: Bench) -> None:
    with bench.wire.drop(ANY) as rule:
        bench.client.send("S", 1)
        bench.client.send("S", 2)
        rule.wait(2)
    bench.client.send("S", 3)
    assert bench.server.receive_seq() == 3
    assert rule.dropped == [1, 2]


def test_a_predicate_decides_by_the_segment(bench: Bench) -> None:
    with bench.wire.drop(where(lambda segment: segment.seq == SeqNumber(2))):
        for seq in range(4):
            bench.client.send("A", seq, 1)
        assert bench.server.seqs(3) == [0, 1, 3]


def test_a_copy_follows_its_segment_under_a_number_of_its_own(bench: Bench) -> None:
    with bench.wire.duplicate(FIN, copies=2):
        bench.client.send("FA", 5, 1)
        bench.client.send("A", 6, 1)
        assert bench.server.seqs(4) == [5, 5, 5, 6]
        bench.wire.wait_idle()
    copies = [
        (one.payload.n, one.payload.copy)
        for one in bench.emitted
        if isinstance(one.payload, SegmentFate) and one.payload.fate is Fate.DUPLICATED
    ]
    assert copies == [(1, 2), (1, 3)]
    assert [seen.n for _, seen in bench.passed(Point.SENT)] == [1, 4]
    assert [seen.n for _, seen in bench.passed(Point.DELIVERED)] == [1, 2, 3, 4]


def test_a_delayed_segment_is_overtaken() -> None:
    with benched(latency_ms=1) as bench, bench.wire.delay(FIN, 60_000):
        bench.client.send("FA", 1, 1)
        bench.client.send("A", 2, 1)
        assert bench.server.receive_seq() == 2


def test_a_delay_is_added_to_the_latency() -> None:
    with benched(latency_ms=1) as bench, bench.wire.delay(FIN, 30):
        bench.client.send("FA", 1, 1)
        assert bench.server.receive_seq() == 1
        bench.wire.wait_idle()
    (fin,) = [one for one in bench.emitted if _is(one, 1, Point.SENT)]
    (arrived,) = [one for one in bench.emitted if _is(one, 1, Point.DELIVERED)]
    assert arrived.t_ns - fin.t_ns >= 31_000_000
    assert bench.fates() == [(1, Fate.DELAYED)]


def _is(one: Observation, n: int, point: Point) -> bool:
    seen = one.payload
    return isinstance(seen, SegmentSeen) and (seen.n, seen.point) == (n, point)


@pytest.mark.parametrize(
    "behind, order",
    [(1, [1, 0, 2, 3]), (2, [1, 2, 0, 3]), (3, [1, 2, 3, 0])],
)
def test_reorder_lets_later_segments_pass(bench: Bench, behind: int, order: list[int]) -> None:
    with bench.wire.reorder(DATA, behind=behind, nth=1):
        bench.server.send("A", 9, 1)  # the other direction overtakes nothing
        for seq in range(4):
            bench.client.send("A", seq, 1, b"x")
        assert bench.server.seqs(4) == order
    assert [fate for _, fate in bench.fates()] == [Fate.REORDERED]


def test_reorder_with_nothing_behind_ends_with_its_rule(bench: Bench) -> None:
    with bench.wire.reorder(FIN) as rule:
        bench.client.send("FA", 1, 1)
        rule.wait()
        assert not bench.wire.idle
    assert bench.server.receive_seq() == 1
    assert bench.fates() == [(1, Fate.RELEASED)]


def test_rules_combine_and_a_drop_forestalls_the_others(bench: Bench) -> None:
    with bench.wire.hold(FIN) as hold, bench.wire.duplicate(FIN), bench.wire.drop(FIN, nth=1):
        bench.client.send("FA", 1, 1)
        bench.client.send("FA", 2, 1)
        hold.wait(2)
        assert [int(seen.segment.seq) for seen in hold.segments] == [2, 2]
    assert bench.server.seqs(2) == [2, 2]


def test_a_host_that_is_not_there_is_a_wrong_request(bench: Bench) -> None:
    with pytest.raises(TcpwatchError, match=r"'sever' is not on this wire.*client and server"):
        bench.wire.drop(FIN, by="sever")
