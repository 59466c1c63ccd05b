"""Segments that a wire is given, and the numbers that it knows for them."""

from __future__ import annotations

import pytest

from tcpwatch.errors import TcpwatchError
from tcpwatch.lab.filters import DATA, SYN
from tcpwatch.lab.inject import craft
from tcpwatch.model.events import (
    Point,
)
from tcpwatch.model.identity import SocketAddress
from tcpwatch.tcp.header import TcpPacket, parse_ip
from tcpwatch.tcp.seq import SeqNumber
from tests.lab.bench import (
    ADDRESSES,
    NOT_TCP,
    Bench,
)


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
