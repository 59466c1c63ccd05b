"""The gate on the wire: what a person does to a segment that is stopped, and what is told of it."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator

import pytest

from tcpwatch.lab.failures import LabClosed
from tcpwatch.lab.filters import FIN
from tcpwatch.lab.inject import craft
from tcpwatch.lab.wire import Wire
from tcpwatch.model.events import Fate, SegmentFate
from tcpwatch.model.identity import SocketAddress
from tcpwatch.model.witness import Observation
from tcpwatch.tcp.header import TcpPacket, parse_ip

CLIENT, SERVER = SocketAddress("10.77.0.1", 40000), SocketAddress("10.77.0.2", 7000)
PATIENCE_S = 30.0


class EndPort:
    """A port whose other end is in the test's hand."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def fileno(self) -> int:
        return self._end.fileno()

    def read(self) -> bytes | None:
        try:
            return self._end.recv(65535, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None

    def write(self, packet: bytes) -> None:
        self._end.send(packet)

    def close(self) -> None:
        self._end.close()


class Bench:
    """A wire whose gate is shut, between two hosts that send what they are told to."""

    def __init__(self) -> None:
        self.emitted: list[Observation] = []
        near, self.client = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        other, self.server = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ours = [near, other, self.client, self.server]
        for end in self._ours[2:]:
            end.settimeout(PATIENCE_S)
        ports = {"client": EndPort(near), "server": EndPort(other)}
        self.wire = Wire(ports, self.emitted.append, latency_ms=0, patience_s=PATIENCE_S)
        self.gate = self.wire.gate
        self.gate.shut()

    def send(self, flags: str, seq: int, ack: int | None = None) -> None:
        self.client.send(craft(CLIENT, SERVER, flags, seq, ack))

    def stopped(self, count: int) -> list[int]:
        """The numbers of those that wait, once there are so many."""
        self.wire.await_(lambda: len(self.gate.waiting()) == count, lambda: f"not {count}", None)
        return [one.n for one in self.gate.waiting()]

    def arrives(self) -> int:
        parsed = parse_ip(self.server.recv(65535))
        assert isinstance(parsed, TcpPacket)
        return int(parsed.segment.seq)

    def nothing_arrives(self) -> bool:
        return not select.select([self.server], (), (), 0)[0]

    def fates(self, n: int) -> list[Fate]:
        payloads = [one.payload for one in self.emitted]
        return [one.fate for one in payloads if isinstance(one, SegmentFate) and one.n == n]

    def close(self) -> None:
        self.wire.close()
        for end in self._ours:
            end.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


def test_a_shut_gate_stops_every_segment_and_says_so(bench: Bench) -> None:
    bench.send("S", 1)
    bench.send("A", 2, 1)
    assert bench.stopped(2) == [1, 2]
    assert bench.nothing_arrives()
    assert bench.fates(1) == [Fate.HELD]
    assert not bench.wire.idle


def test_a_chosen_one_goes_on_and_the_others_stay(bench: Bench) -> None:
    for seq in (1, 2, 3):
        bench.send("A", seq, 1)
    bench.stopped(3)
    assert bench.gate.deliver(2)
    assert bench.arrives() == 2
    assert bench.stopped(2) == [1, 3]
    assert bench.fates(2) == [Fate.HELD, Fate.RELEASED]


def test_a_dropped_one_never_arrives(bench: Bench) -> None:
    bench.send("A", 1, 1)
    bench.send("A", 2, 1)
    bench.stopped(2)
    assert bench.gate.drop(1)
    assert bench.gate.deliver(2)
    assert bench.arrives() == 2
    assert bench.nothing_arrives()
    assert bench.fates(1) == [Fate.HELD, Fate.DROPPED]


def test_a_copy_waits_behind_what_it_is_a_copy_of(bench: Bench) -> None:
    bench.send("A", 7, 1)
    bench.stopped(1)
    copy = bench.gate.duplicate(1)
    assert bench.stopped(2) == [1, copy]
    bench.gate.open()
    assert [bench.arrives(), bench.arrives()] == [7, 7]


def test_a_delayed_one_goes_on_by_itself(bench: Bench) -> None:
    bench.send("A", 7, 1)
    bench.stopped(1)
    assert bench.gate.delay(1, 5)
    assert bench.arrives() == 7
    assert bench.fates(1) == [Fate.HELD, Fate.DELAYED]


def test_a_reordered_one_lets_the_next_pass(bench: Bench) -> None:
    bench.send("A", 1, 1)
    bench.send("A", 2, 1)
    bench.stopped(2)
    assert bench.gate.reorder(1)
    assert bench.stopped(2) == [2, 1]
    assert not bench.gate.reorder(1)  # nothing is behind it
    bench.gate.open()
    assert [bench.arrives(), bench.arrives()] == [2, 1]


def test_a_retransmission_is_counted_on_what_is_stopped_and_not_piled_up(bench: Bench) -> None:
    for _ in range(3):
        bench.send("S", 1)
    bench.send("A", 2, 1)
    assert bench.stopped(2) == [1, 4]
    assert [one.again for one in bench.gate.waiting()] == [2, 0]
    assert bench.fates(2) == [Fate.DROPPED]


def test_two_acknowledgements_alike_are_two(bench: Bench) -> None:
    bench.send("A", 2, 1)
    bench.send("A", 2, 1)
    assert bench.stopped(2) == [1, 2]


def test_what_was_stopped_arrives_in_order_when_the_gate_opens(bench: Bench) -> None:
    for seq in (1, 2, 3):
        bench.send("A", seq, 1)
    bench.stopped(3)
    bench.gate.open()
    assert [bench.arrives() for _ in range(3)] == [1, 2, 3]
    bench.send("A", 4, 1)
    assert bench.arrives() == 4


def test_what_a_scenario_holds_comes_to_the_gate_when_it_lets_go(bench: Bench) -> None:
    with bench.wire.hold(FIN) as held:
        bench.send("FA", 1, 1)
        held.wait()
        assert bench.gate.waiting() == ()
    assert bench.stopped(1) == [1]
    assert bench.fates(1) == [Fate.HELD, Fate.RELEASED, Fate.HELD]


def test_what_is_injected_is_not_stopped(bench: Bench) -> None:
    bench.wire.inject("server", craft(CLIENT, SERVER, "R", 9))
    assert bench.arrives() == 9


def test_one_that_has_gone_on_already_is_not_there(bench: Bench) -> None:
    assert not bench.gate.deliver(5)
    assert not bench.gate.drop(5)
    assert not bench.gate.delay(5, 1)
    assert bench.gate.duplicate(5) == 0


def test_a_closed_wire_says_so() -> None:
    bench = Bench()
    bench.send("A", 1, 1)
    bench.stopped(1)
    bench.close()
    assert bench.fates(1) == [Fate.HELD, Fate.LOST]
    with pytest.raises(LabClosed):
        bench.gate.deliver(1)
