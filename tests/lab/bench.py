"""A wire between two hosts of the test: what they send, what it emits."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tcpwatch.lab.inject import craft
from tcpwatch.lab.wire import Wire
from tcpwatch.model.events import (
    Fate,
    Point,
    SegmentFate,
    SegmentSeen,
)
from tcpwatch.model.identity import SocketAddress
from tcpwatch.model.witness import Observation
from tcpwatch.tcp.header import TcpPacket, parse_ip

T = TypeVar("T")
ADDRESSES = {
    4: {"client": SocketAddress("10.77.0.1", 40000), "server": SocketAddress("10.77.0.2", 7000)},
    6: {"client": SocketAddress("fd77::1", 40000), "server": SocketAddress("fd77::2", 7000)},
}
OTHER = {"client": "server", "server": "client"}
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
