"""The wire over real kernel sockets: its rules, its order, its facts, its end."""

from __future__ import annotations

import errno
import os
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any

import pytest

from tcpwatch.lab.descriptor import Socket
from tcpwatch.lab.failures import LabClosed
from tcpwatch.lab.filters import ANY, DATA, FIN, PURE_ACK, RST, SYN, where
from tcpwatch.lab.inject import craft
from tcpwatch.lab.namespace import Namespaces
from tcpwatch.lab.relay import Relay
from tcpwatch.lab.wire import Wire, WireTimeout
from tcpwatch.model.events import (
    Fate,
    Gap,
    MalformedSeen,
    Point,
    SegmentSeen,
    Vantage,
)
from tcpwatch.model.witness import Observation
from tests.lab.bench import (
    ADDRESSES,
    MALFORMED,
    NOT_TCP,
    PATIENCE_S,
    Bench,
    BrokenPort,
    GonePort,
    benched,
)

TUN = pytest.param(
    "tun",
    marks=pytest.mark.skipif(
        not os.access("/dev/net/tun", os.R_OK | os.W_OK), reason="may not open /dev/net/tun here"
    ),
)


# ---- facts


def test_a_segment_is_seen_at_both_ends_in_its_time() -> None:
    with benched(latency_ms=20) as bench:
        before_ns = time.monotonic_ns()
        bench.client.send("S", 100)
        assert bench.server.receive_seq() == 100
        bench.wire.wait_idle()
        after_ns = time.monotonic_ns()
    sent, delivered = bench.emitted
    assert sent.vantage == Vantage("wire", "client")
    assert delivered.vantage == Vantage("wire", "server")
    assert isinstance(sent.payload, SegmentSeen)
    assert isinstance(delivered.payload, SegmentSeen)
    assert (sent.payload.n, delivered.payload.n) == (1, 1)
    assert (sent.payload.point, delivered.payload.point) == (Point.SENT, Point.DELIVERED)
    assert sent.payload.raw == bench.client.packet("S", 100)
    assert delivered.payload.raw == b""
    assert before_ns <= sent.t_ns <= delivered.t_ns <= after_ns
    assert delivered.t_ns - sent.t_ns >= 20_000_000


def test_numbers_follow_the_order_of_sending(bench: Bench) -> None:
    for seq in range(5):
        bench.client.send("A", seq, ack=0)
    bench.server.seqs(5)
    bench.wire.wait_idle()
    assert [(seen.n, int(seen.segment.seq)) for _, seen in bench.passed(Point.SENT)] == [
        (n + 1, n) for n in range(5)
    ]
    assert [seen.n for seen in bench.wire.segments("client")] == [1, 2, 3, 4, 5]
    assert bench.wire.segments("server") == []


def test_what_is_not_tcp_passes_silently(bench: Bench) -> None:
    bench.client.end.send(NOT_TCP)
    assert bench.server.end.recv(65535) == NOT_TCP
    bench.wire.wait_idle()
    assert bench.emitted == []


def test_malformed_tcp_is_told_and_passes(bench: Bench) -> None:
    bench.client.end.send(MALFORMED)
    assert bench.server.end.recv(65535) == MALFORMED
    bench.wire.wait_idle()
    (told,) = bench.emitted
    assert isinstance(told.payload, MalformedSeen)
    assert told.payload.raw == MALFORMED
    assert told.vantage.side == "client"


def test_ten_thousand_segments_arrive_in_order_without_latency() -> None:
    count = 10_000
    packet = bytearray(craft(ADDRESSES[4]["client"], ADDRESSES[4]["server"], "A", 0, 0))
    with benched() as bench, ThreadPoolExecutor() as pool:
        arrived = pool.submit(bench.server.seqs, count)
        for seq in range(count):
            struct.pack_into("!I", packet, 24, seq)
            bench.client.end.send(packet)
        assert arrived.result() == list(range(count))
        bench.wire.wait_idle()
    assert [seen.n for _, seen in bench.passed(Point.DELIVERED)] == list(range(1, count + 1))
    times = [one.t_ns for one in bench.emitted]
    assert times == sorted(times)


@pytest.fixture
def busy_switching() -> Iterator[None]:
    """Threads take turns as often as they can, so that a race has many chances."""
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval_s)


@pytest.mark.usefixtures("busy_switching")
def test_nothing_is_emitted_from_before_a_watermark() -> None:
    rounds = 1000
    marks: list[int] = []
    late: list[tuple[int, int]] = []
    done = threading.Event()

    def emit(one: Observation) -> None:
        if marks and one.t_ns < marks[-1]:
            late.append((one.t_ns, marks[-1]))

    with benched(emit=emit) as bench, ThreadPoolExecutor() as pool:

        def watch() -> None:
            while not done.is_set():
                marks.append(bench.wire.watermark())

        def echo() -> None:
            for _ in range(rounds):
                bench.server.end.send(bench.server.end.recv(65535))

        watching, echoing = pool.submit(watch), pool.submit(echo)
        try:
            packet = bench.client.packet("A", 1, 1)
            for _ in range(rounds):
                bench.client.end.send(packet)
                bench.client.end.recv(65535)
        finally:
            done.set()
        watching.result()
        echoing.result()
    assert len(marks) > 100
    assert late == []


@pytest.mark.parametrize("after_reading", [False, True])
def test_a_watermark_holds_wherever_its_reader_is_interrupted(
    monkeypatch: pytest.MonkeyPatch, *, after_reading: bool
) -> None:
    clock = time.monotonic_ns
    stamped, go_on = threading.Event(), threading.Event()
    seen: list[Observation] = []

    def emit(one: Observation) -> None:
        seen.append(one)
        stamped.set()
        go_on.wait(PATIENCE_S)

    with benched(emit=emit) as bench:

        def interrupted() -> int:
            if threading.current_thread() is not threading.main_thread() or stamped.is_set():
                return clock()
            now_ns = clock()
            bench.client.end.send(packet)
            assert stamped.wait(PATIENCE_S)  # the wire stamps, and has not emitted yet
            return now_ns if after_reading else clock()

        packet = bench.client.packet("S")
        monkeypatch.setattr(time, "monotonic_ns", interrupted)
        mark_ns = bench.wire.watermark()
        go_on.set()
        bench.wire.wait_idle()
    assert mark_ns <= seen[0].t_ns


def test_a_watermark_holds_wherever_the_wire_is_interrupted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = time.monotonic_ns
    marks: list[int] = []
    late: list[int] = []

    def emit(one: Observation) -> None:
        late.extend(mark_ns for mark_ns in marks if mark_ns > one.t_ns)

    with benched(emit=emit) as bench:

        def interrupted() -> int:
            now_ns = clock()
            if threading.current_thread().name == "wire":
                marks.append(_mark_by_another(bench.wire, clock))
            return now_ns

        monkeypatch.setattr(time, "monotonic_ns", interrupted)
        for seq in range(3):
            bench.client.send("S", seq)
            bench.server.receive()
        bench.wire.wait_idle()
    assert len(marks) >= 6
    assert late == []


def _mark_by_another(wire: Wire, clock: Callable[[], int]) -> int:
    """What a reader that comes in just now gets, with the clock as it is."""
    reader = FunctionType(Relay.watermark.__code__, {"time": SimpleNamespace(monotonic_ns=clock)})
    mark_ns = reader(wire.relay)
    assert isinstance(mark_ns, int)
    return mark_ns


def test_the_watermark_stands_still_while_an_observation_is_on_its_way() -> None:
    emitting, go_on = threading.Event(), threading.Event()
    seen: list[Observation] = []

    def emit(one: Observation) -> None:
        seen.append(one)
        emitting.set()
        go_on.wait(PATIENCE_S)

    with benched(emit=emit) as bench:
        try:
            bench.client.send("S")
            assert emitting.wait(PATIENCE_S)
            assert bench.wire.watermark() <= seen[0].t_ns < time.monotonic_ns()
        finally:
            go_on.set()
        bench.wire.wait_idle()
        assert bench.wire.watermark() > seen[-1].t_ns


# ---- waiting


def test_wait_for_counts_from_the_beginning_or_from_a_mark(bench: Bench) -> None:
    bench.client.send("FA", 1, 1)
    bench.server.receive()
    assert bench.wire.wait_for(FIN, by="client").n == 1
    mark = bench.wire.mark()
    with pytest.raises(WireTimeout, match=r"0 of 1 segments matching FIN were sent within 0 s"):
        bench.wire.wait_for(FIN, since=mark, timeout_s=0)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(bench.wire.wait_for, FIN, since=mark, count=2)
        bench.client.send("FA", 2, 1)
        bench.server.send("FA", 3, 1)
        assert waiting.result().n == 3


def test_delivered_is_later_than_sent() -> None:
    with benched(latency_ms=60_000) as bench:
        bench.client.send("S", 1)
        assert bench.wire.wait_for(SYN).point is Point.SENT
        with pytest.raises(WireTimeout, match="were delivered"):
            bench.wire.wait_for(SYN, point=Point.DELIVERED, timeout_s=0)


def test_idle_waits_for_what_travels_and_what_is_held(bench: Bench) -> None:
    hold = bench.wire.hold(PURE_ACK)
    bench.client.send("A", 1, 1)
    assert not bench.wire.idle
    with pytest.raises(WireTimeout, match="not idle"):
        bench.wire.wait_idle(timeout_s=0)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(bench.wire.wait_idle)
        hold.release()
        waiting.result()
    assert bench.server.receive_seq() == 1


# ---- the end, and failures


def test_what_is_on_the_wire_at_its_close_is_lost() -> None:
    with benched(latency_ms=60_000) as bench:
        bench.client.send("S", 1)
        bench.client.send("A", 2, 1)
        bench.wire.wait_for(ANY, count=2)
    assert bench.fates() == [(1, Fate.LOST), (2, Fate.LOST)]
    assert bench.passed(Point.DELIVERED) == []


def test_what_is_held_at_the_close_is_lost(bench: Bench) -> None:
    hold = bench.wire.hold(FIN)
    bench.client.send("FA", 1, 1)
    hold.wait()
    bench.wire.close()
    bench.wire.close()
    assert bench.fates() == [(1, Fate.HELD), (1, Fate.LOST)]


def test_verbs_after_the_close_raise_lab_closed(bench: Bench) -> None:
    hold = bench.wire.hold(FIN)
    bench.wire.close()
    for verb in (hold.wait, hold.release, bench.wire.wait_idle):
        with pytest.raises(LabClosed):
            verb()
    for matching in (bench.wire.drop, bench.wire.hold, bench.wire.wait_for):
        with pytest.raises(LabClosed):
            matching(RST)
    with pytest.raises(LabClosed):
        bench.wire.inject("client", NOT_TCP)


def test_a_close_ends_the_verbs_in_progress() -> None:
    with benched(latency_ms=60_000) as bench, ThreadPoolExecutor() as pool:
        hold = bench.wire.hold(FIN)
        bench.client.send("FA", 1, 1)
        bench.wire.wait_for(FIN)
        waiting: list[Future[Any]] = [
            pool.submit(hold.wait),
            pool.submit(hold.release),
            pool.submit(bench.wire.wait_idle),
            pool.submit(bench.wire.wait_for, RST),
        ]
        bench.wire.close()
        for verb in waiting:
            assert isinstance(verb.exception(), LabClosed)


def test_a_segment_that_cannot_be_delivered_is_lost_with_a_gap() -> None:
    with benched(port=BrokenPort) as bench:
        bench.client.send("S", 1)
        bench.client.end.send(NOT_TCP)
        bench.wire.wait_idle()
        bench.server.send("S", 2)
        bench.wire.wait_idle()
    gaps = [one.payload for one in bench.emitted if isinstance(one.payload, Gap)]
    assert [(gap.reason, gap.lost) for gap in gaps] == [
        ("delivering to server: Network is down", 1),
        ("delivering to client: Network is down", 1),
    ]
    assert bench.fates() == [(1, Fate.LOST), (2, Fate.LOST)]
    assert bench.passed(Point.DELIVERED) == []


def test_a_port_that_is_gone_is_told_once_and_the_wire_goes_on() -> None:
    with benched(port=GonePort) as bench:
        bench.client.send("S", 1)
        bench.client.send("S", 2)
        assert bench.wire.inject("client", bench.server.packet("S", 5)) == 1
        assert bench.client.receive_seq() == 5
    gaps = [one for one in bench.emitted if isinstance(one.payload, Gap)]
    assert sorted(str(gap.vantage.side) for gap in gaps) == ["client", "server"]


def test_a_failure_of_the_thread_is_raised_in_the_play() -> None:
    def broken(_segment: object) -> bool:
        raise ZeroDivisionError

    bench = Bench(0, None)
    bench.wire.drop(where(broken))
    bench.client.send("S", 1)
    with pytest.raises(ZeroDivisionError):
        bench.wire.wait_for(FIN)
    with pytest.raises(ZeroDivisionError):
        bench.wire.hold(FIN)
    with pytest.raises(ZeroDivisionError):
        bench.close()
    bench.close()


def test_an_idle_wire_sleeps_in_the_kernel(bench: Bench) -> None:
    bench.wire.wait_idle()
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "wire"]

    def times_scheduled() -> int:
        status = Path(f"/proc/self/task/{thread.native_id}/status").read_text(encoding="ascii")
        return sum(int(line.split()[1]) for line in status.splitlines() if "ctxt_switches" in line)

    before = times_scheduled()
    with benched() as busy:
        for _ in range(1000):
            busy.client.end.send(MALFORMED)
            busy.server.end.recv(65535)
    assert times_scheduled() - before <= 5  # it may still have been on its way to sleep


# ---- two real kernel stacks


@pytest.fixture(params=[TUN, "veth"])
def stacks(request: pytest.FixtureRequest) -> Iterator[tuple[Namespaces, list[Observation]]]:
    """Two hosts with a stack each, and the list that takes what their wire emits."""
    with Namespaces.open(index=211, emit=lambda _: None, wire=request.param) as lab:
        yield lab, []


@contextmanager
def wired(
    stacks: tuple[Namespaces, list[Observation]], latency_ms: float
) -> Iterator[tuple[Wire, Socket, Socket]]:
    lab, emitted = stacks
    ports = {"client": lab.client.port, "server": lab.server.port}
    wire = Wire(ports, emitted.append, latency_ms=latency_ms, patience_s=PATIENCE_S)
    try:
        listener = lab.server.process("server").socket()
        listener.bind(lab.server.address(7000))
        listener.listen()
        client = lab.client.process("client").socket()
        client.connect(lab.server.address(7000))
        server = listener.accept()
        wire.wait_idle()
        yield wire, client, server
    finally:
        wire.close()


def _in_time_wait(pid: int) -> int:
    lines = Path(f"/proc/{pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    return sum(line.split()[3] == "06" for line in lines)  # Linux: TCP_TIME_WAIT


@pytest.mark.needs("lab")
@pytest.mark.parametrize("latency_ms", [0, 5])
def test_two_stacks_close_simultaneously(
    stacks: tuple[Namespaces, list[Observation]], latency_ms: float
) -> None:
    lab, emitted = stacks
    with wired(stacks, latency_ms) as (wire, client, server):
        with wire.hold(FIN):
            client.close()
            server.close()
        wire.wait_idle()
        # A passive closer never comes to TIME-WAIT (RFC 9293 3.3.2), so both closed actively.
        assert _in_time_wait(lab.client.pid) == _in_time_wait(lab.server.pid) == 1
    delivered = [
        one.payload.segment.fin
        for one in emitted
        if isinstance(one.payload, SegmentSeen) and one.payload.point is Point.DELIVERED
    ]
    assert delivered[-4:] == [True, True, False, False]


@pytest.mark.needs("lab")
def test_a_stack_believes_an_injected_reset(
    stacks: tuple[Namespaces, list[Observation]],
) -> None:
    with wired(stacks, latency_ms=1) as (wire, client, server):
        client.send(b"hello")
        assert server.recv_exactly(5) == b"hello"
        wire.wait_idle()
        mark = wire.mark()
        wire.inject_rst("server", offset=100)
        wire.wait_for(PURE_ACK, by="server", since=mark)  # RFC 5961 3.2: a challenge ACK
        server.send(b"alive")
        assert client.recv_exactly(5) == b"alive"
        wire.wait_idle()
        wire.inject_rst("server")
        server.recv(fails=errno.ECONNRESET)


@pytest.mark.needs("lab")
def test_a_stack_sends_again_what_was_dropped(
    stacks: tuple[Namespaces, list[Observation]],
) -> None:
    with wired(stacks, latency_ms=1) as (wire, client, server):
        with wire.drop(DATA, by="client", nth=1) as rule:
            client.send(b"hello")
            assert server.recv_exactly(5) == b"hello"
        (dropped,) = rule.dropped
        again = [seen for seen in wire.segments("client") if seen.segment.payload_len == 5]
        assert again[0].n == dropped
        assert again[1].segment.seq == again[0].segment.seq
