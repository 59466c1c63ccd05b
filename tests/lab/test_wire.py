"""The wire over real kernel sockets: its rules, its order, its facts, its end."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any, TypeVar

import pytest

from tcpwatch.errors import TcpwatchError
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
    SegmentFate,
    SegmentSeen,
    Vantage,
)
from tcpwatch.model.identity import SocketAddress
from tcpwatch.model.witness import Observation
from tcpwatch.tcp.header import TcpPacket, parse_ip
from tcpwatch.tcp.seq import SeqNumber

T = TypeVar("T")
ADDRESSES = {
    4: {"client": SocketAddress("10.77.0.1", 40000), "server": SocketAddress("10.77.0.2", 7000)},
    6: {"client": SocketAddress("fd77::1", 40000), "server": SocketAddress("fd77::2", 7000)},
}
OTHER = {"client": "server", "server": "client"}
TUN = pytest.param(
    "tun",
    marks=pytest.mark.skipif(
        not os.access("/dev/net/tun", os.R_OK | os.W_OK), reason="may not open /dev/net/tun here"
    ),
)
PATIENCE_S = 30.0
MANY = 150  # segments, more than the wire reads from a port in one go
NOT_TCP = bytes.fromhex("4500001c00000000400166c30a4d00010a4d0002") + bytes(8)  # ICMP
MALFORMED = bytes.fromhex("4500001c00000000400666c30a4d00010a4d0002") + bytes(8)  # 8 octets of TCP


class PairPort:
    """A port whose other end is a datagram socket in the test's hand."""

    def __init__(self, end: socket.socket, other_end: socket.socket) -> None:
        self._socket = end
        self._other_end = other_end

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> bytes | None:
        try:
            return self._socket.recv(65535, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None

    def write(self, packet: bytes) -> None:
        self._socket.send(packet)

    def close(self) -> None:
        self._socket.close()


class GonePort(PairPort):
    """A port whose device is gone: it is readable for ever, and has nothing but this error."""

    def read(self) -> bytes | None:
        raise OSError(errno.EBADFD, os.strerror(errno.EBADFD))


class BrokenPort(PairPort):
    """A port that refuses what is written, as a device does that is down."""

    def write(self, packet: bytes) -> None:
        assert packet
        raise OSError(errno.ENETDOWN, os.strerror(errno.ENETDOWN))


class ReflexPort(PairPort):
    """Behind it a FIN is acknowledged before `write` returns, as a kernel does."""

    def write(self, packet: bytes) -> None:
        super().write(packet)
        got = parse_ip(packet)
        if isinstance(got, TcpPacket) and got.segment.fin:
            src, dst = (
                SocketAddress(got.dst_ip, got.dst_port),
                SocketAddress(got.src_ip, got.src_port),
            )
            self._other_end.send(craft(src, dst, "A", 1, int(got.segment.seq_end)))


class Host:
    """What stands for a stack: it sends what it is told to, and gives what arrived."""

    def __init__(self, name: str, end: socket.socket) -> None:
        self.name = name
        self.end = end
        self.end.settimeout(PATIENCE_S)

    def packet(self, flags: str, seq: int = 0, ack: int | None = None, data: bytes = b"") -> bytes:
        src, dst = ADDRESSES[4][self.name], ADDRESSES[4][OTHER[self.name]]
        return craft(src, dst, flags, seq, ack, payload=data)

    def send(self, flags: str, seq: int = 0, ack: int | None = None, data: bytes = b"") -> None:
        self.end.send(self.packet(flags, seq, ack, data))

    def receive(self) -> TcpPacket:
        parsed = parse_ip(self.end.recv(65535))
        assert isinstance(parsed, TcpPacket)
        return parsed

    def receive_seq(self) -> int:
        return int(self.receive().segment.seq)

    def seqs(self, count: int) -> list[int]:
        return [self.receive_seq() for _ in range(count)]

    def has_nothing(self) -> bool:
        readable, _, _ = select.select([self.end], (), (), 0)
        return not readable


class Bench:
    """A wire between two such hosts, and what it emitted."""

    def __init__(
        self,
        latency_ms: float,
        emit: Callable[[Observation], None] | None,
        port: type[PairPort] = PairPort,
    ) -> None:
        self.emitted: list[Observation] = []
        self._ours: list[socket.socket] = []
        self.hosts: dict[str, Host] = {}
        ports: dict[str, PairPort] = {}
        for name in ("client", "server"):
            near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._ours += [near, far]
            self.hosts[name] = Host(name, far)
            ports[name] = port(near, far)
        self.wire = Wire(
            ports, emit or self.emitted.append, latency_ms=latency_ms, patience_s=PATIENCE_S
        )
        self.client, self.server = self.hosts["client"], self.hosts["server"]

    def close(self) -> None:
        self.wire.close()
        for end in self._ours:
            end.close()

    def fates(self) -> list[tuple[int, Fate]]:
        return [
            (one.payload.n, one.payload.fate)
            for one in self.emitted
            if isinstance(one.payload, SegmentFate)
        ]

    def passed(self, point: Point) -> list[tuple[str | None, SegmentSeen]]:
        return [
            (one.vantage.side, one.payload)
            for one in self.emitted
            if isinstance(one.payload, SegmentSeen) and one.payload.point is point
        ]


@contextmanager
def benched(
    latency_ms: float = 0,
    emit: Callable[[Observation], None] | None = None,
    port: type[PairPort] = PairPort,
) -> Iterator[Bench]:
    bench = Bench(latency_ms, emit, port)
    try:
        yield bench
    finally:
        bench.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    with benched() as bench:
        yield bench


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


# ---- injection


@pytest.mark.parametrize("version", [4, 6])
def test_what_is_crafted_is_a_right_segment(version: int) -> None:
    src, dst = ADDRESSES[version]["client"], ADDRESSES[version]["server"]
    parsed = parse_ip(craft(src, dst, "PA", 2**32 + 5, 7, 1000, b"hello", [("MSS", 1460)]))
    assert isinstance(parsed, TcpPacket)
    assert parsed.checksum_ok is True
    assert (parsed.src_ip, parsed.src_port) == (src.ip, src.port)
    assert (parsed.dst_ip, parsed.dst_port) == (dst.ip, dst.port)
    segment = parsed.segment
    assert (int(segment.seq), segment.ack, segment.window) == (5, SeqNumber(7), 1000)
    assert (segment.flags.letters, segment.payload_len) == ("PA", 5)
    assert segment.option(2) == (1460).to_bytes(2)


def test_addresses_of_two_families_make_no_packet() -> None:
    with pytest.raises(ValueError, match="different address families"):
        craft(ADDRESSES[4]["client"], ADDRESSES[6]["server"], "S", 0)


def _handshake(bench: Bench) -> None:
    bench.client.send("S", 100)
    bench.server.receive()
    bench.server.send("SA", 500, 101)
    bench.client.receive()
    bench.client.send("A", 101, 501)
    bench.server.receive()
    bench.wire.wait_idle()


def test_an_injected_segment_has_the_numbers_its_receiver_expects(bench: Bench) -> None:
    _handshake(bench)
    bench.client.send("PA", 101, 501, b"abc")  # delivered, not acknowledged yet
    bench.server.receive()
    bench.wire.wait_for(DATA, point=Point.DELIVERED)
    n = bench.wire.inject("server", flags="FA")
    got = bench.server.receive()
    assert got.checksum_ok is True
    assert (got.src_ip, got.src_port) == ("10.77.0.1", 40000)
    assert (int(got.segment.seq), got.segment.ack) == (104, SeqNumber(501))
    told = [
        (side, seen)
        for point in (Point.SENT, Point.DELIVERED)
        for side, seen in bench.passed(point)
        if seen.n == n
    ]
    assert [(side, seen.point, seen.injected) for side, seen in told] == [
        (None, Point.SENT, True),
        ("server", Point.DELIVERED, True),
    ]
    assert parse_ip(told[0][1].raw) == got


def test_an_injected_reset_is_exact_or_beside_by_an_offset(bench: Bench) -> None:
    _handshake(bench)
    bench.wire.inject_rst("client")
    bench.wire.inject_rst("client", offset=10)
    exact, beside = bench.client.receive(), bench.client.receive()
    assert (exact.segment.flags.letters, int(exact.segment.seq)) == ("R", 501)
    assert int(beside.segment.seq) == 511
    assert exact.dst_port == 40000


def test_a_reset_in_syn_sent_acknowledges_the_syn(bench: Bench) -> None:
    with bench.wire.drop(SYN):
        bench.client.send("S", 100)
        bench.wire.wait_for(SYN)
        bench.wire.inject_rst("client")
    got = bench.client.receive().segment
    assert (got.flags.letters, int(got.seq), got.ack) == ("RA", 0, SeqNumber(101))


def test_numbers_begin_anew_with_the_tuples_next_life(bench: Bench) -> None:
    _handshake(bench)
    bench.client.send("S", 90)
    bench.server.receive()
    bench.server.send("SA", 40, 91)
    bench.client.receive()
    bench.wire.wait_idle()
    for host, rcv_nxt, snd_nxt in (("server", 91, 41), ("client", 41, 91)):
        numbers = bench.wire.numbers(host)
        assert (numbers.rcv_nxt, numbers.snd_nxt) == (SeqNumber(rcv_nxt), SeqNumber(snd_nxt))


def test_numbers_are_those_of_the_connection_that_is_named(bench: Bench) -> None:
    _handshake(bench)
    far, near = SocketAddress("10.77.0.1", 40001), ADDRESSES[4]["server"]
    bench.client.end.send(craft(far, near, "S", 9000))
    bench.server.receive()
    bench.wire.wait_idle()
    assert bench.wire.numbers("server").rcv_nxt == SeqNumber(9001)
    assert bench.wire.numbers("server", remote=ADDRESSES[4]["client"]).rcv_nxt == SeqNumber(101)


def test_scapys_packets_are_injected_as_they_are(bench: Bench) -> None:
    from scapy.layers.inet import IP, TCP

    bench.wire.inject("client", IP(src="10.77.0.2", dst="10.77.0.1") / TCP(seq=77, flags="R"))
    assert bench.client.receive_seq() == 77
    assert bench.wire.inject("client", NOT_TCP) == 0
    assert bench.client.end.recv(65535) == NOT_TCP
    with pytest.raises(ValueError, match="IP header"):
        bench.wire.inject("client", b"")


def test_no_connection_has_no_numbers(bench: Bench) -> None:
    with pytest.raises(TcpwatchError, match="no connection of client"):
        bench.wire.inject_rst("client")


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
