"""The socket table over netlink: real sockets on loopback, and messages that lie."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpwatch.model.identity import FourTuple, SocketAddress
from tcpwatch.sources import psutil_table, sockdiag
from tcpwatch.sources.sockdiag import DumpParser, Row
from tcpwatch.tcp.state import TcpState

on_this_kernel = pytest.mark.needs("table")
REQUEST, SEQUENCE = 18, 5
LIMIT = 1 << 14


def header(length: int, kind: int = REQUEST, flags: int = 2, sequence: int = SEQUENCE) -> bytes:
    return struct.pack("=IHHII", length, kind, flags, sequence, 0)


def message(number: int, attributes: int = 8, flags: int = 2, sequence: int = SEQUENCE) -> bytes:
    ident = sockdiag.row_id(("10.0.0.1", number), ("10.0.0.2", 80), socket.AF_INET, number)
    body = struct.pack("=BBBB48sIIIII", socket.AF_INET, 1, 0, 0, ident, 0, 1, 2, 3, number)
    length = 16 + len(body) + attributes
    return header(length, flags=flags, sequence=sequence) + body + bytes(attributes)


def done(code: int = 0) -> bytes:
    return header(20, kind=3) + struct.pack("=i", code)


def parse(*pieces: bytes) -> DumpParser:
    parser = DumpParser(REQUEST, SEQUENCE)
    for piece in pieces:
        parser.feed(bytearray(piece), len(piece))
    return parser


def inodes(parser: DumpParser) -> list[int]:
    return [row.inode for row in parser.rows]


@given(st.lists(st.tuples(st.integers(1, 60000), st.sampled_from([0, 8, 36, 44])), max_size=30))
def test_rows_of_mixed_lengths_are_all_taken(rows: list[tuple[int, int]]) -> None:
    parser = parse(b"".join(message(number, attributes) for number, attributes in rows), done())
    assert inodes(parser) == [number for number, _ in rows]
    assert [row.endpoints[0].port for row in parser.rows] == inodes(parser)
    assert (parser.problem, parser.error, parser.done) == ("", 0, True)


def test_the_end_of_the_dump_may_stand_behind_its_last_rows() -> None:
    parser = parse(message(1) + message(2) + done())
    assert inodes(parser) == [1, 2]
    assert parser.done


def test_rows_of_a_dump_that_was_given_up_are_not_taken() -> None:
    parser = parse(message(1) + message(2, sequence=4) + message(3), done())
    assert inodes(parser) == [1, 3]
    assert not parser.problem


def test_an_interrupted_dump_says_so_and_keeps_its_rows() -> None:
    parser = parse(message(1) + message(2, flags=0x12) + message(3), done())
    assert inodes(parser) == [1, 2, 3]
    assert "DUMP_INTR" in parser.problem


def test_a_refusal_ends_the_dump() -> None:
    parser = parse(header(36, kind=2) + struct.pack("=i", -errno.EPERM) + bytes(16))
    assert (parser.error, parser.done) == (errno.EPERM, True)


@pytest.mark.parametrize("length", [0, 1, 15, 17, 87, 89, 96, 97, 1 << 20, (1 << 32) - 1])
def test_a_lying_length_never_takes_more_than_there_is(length: int) -> None:
    parser = parse(message(1) + header(length) + bytes(60))
    assert 1 in inodes(parser)
    assert parser.problem


@given(st.lists(st.binary(max_size=300), max_size=4), st.integers(0, 300))
def test_any_octets_are_survived(pieces: list[bytes], cut: int) -> None:
    parser = parse(*pieces, (message(1) + message(2, 0) + b"".join(pieces))[:cut])
    assert all(isinstance(row, Row) for row in parser.rows)


def table(port: int, *, states: int = sockdiag.ALL_STATES) -> dict[tuple[int, int], Row]:
    """The rows in which that port takes part, by local and remote port."""
    with sockdiag.open_socket() as sock:
        rows = sockdiag.dump(sock, states=states).rows
    ends = {(local.port, remote.port): row for row in rows for local, remote in [row.endpoints]}
    return {ports: row for ports, row in ends.items() if port in ports}


def eventually(port: int, holds: Callable[[dict[tuple[int, int], Row]], bool]) -> None:
    for _ in range(LIMIT):
        if holds(table(port)):
            return
    pytest.fail(f"after {LIMIT} dumps: {table(port)}")


@on_this_kernel
def test_a_connection_in_the_table_from_listen_to_time_wait() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=5) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            mine = client.getsockname()[1]
            found = table(port)
            assert found[port, 0].state is TcpState.LISTEN
            assert (found[port, 0].receive_queue, found[port, 0].send_queue) == (1, 5)
            assert found[mine, port].inode == os.fstat(client.fileno()).st_ino
            assert found[port, mine].state is TcpState.ESTABLISHED
            assert found[port, mine].inode == 0  # not accepted yet
            server, _ = listener.accept()
            client.sendall(b"abc")
            # Each end of the loopback has its delivery done before send() returns.
            assert table(port)[port, mine].receive_queue == 3
            server.recv(3)
            before = table(port)[mine, port].id
        eventually(port, lambda rows: rows[mine, port].state is TcpState.FIN_WAIT_2)
        minisocket = table(port)[mine, port]
        assert (minisocket.inode, minisocket.timer, minisocket.id) == (0, 3, before)
        assert table(port)[port, mine].state is TcpState.CLOSE_WAIT
        server.close()
        eventually(port, lambda rows: rows[mine, port].state is TcpState.TIME_WAIT)
        left = table(port)[mine, port]
        assert (left.timer, left.id) == (3, before)
        assert 0 < left.expires_ms <= 60_000
        assert (port, mine) not in table(port)


@on_this_kernel
def test_a_state_mask_leaves_the_others_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            listening = table(port, states=sockdiag.state_mask([TcpState.LISTEN]))
            assert list(listening) == [(port, 0)]
            assert table(port, states=sockdiag.TRANSIENT_STATES) == {}


def from_proc() -> set[tuple[str, str, str, str]]:
    """/proc/net/tcp and tcp6: local, remote, state and inode in the kernel's own hexadecimal."""
    found = set()
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            words = line.split()
            found.add((words[1], words[2], words[3], words[9]))
    return found


def as_proc(row: Row) -> tuple[str, str, str, str]:
    local_port, remote_port, local, remote = struct.unpack_from("!HH16s16s", row.id)
    octets = 4 if row.family == socket.AF_INET else 16

    def spell(address: bytes, port: int) -> str:
        words = struct.unpack(f"={octets // 4}I", address[:octets])
        return "".join(f"{word:08X}" for word in words) + f":{port:04X}"

    ends = spell(local, local_port), spell(remote, remote_port)
    return (*ends, f"{row.linux_state:02X}", str(row.inode))


@on_this_kernel
@pytest.mark.parametrize(
    "families", [(socket.AF_INET, socket.AF_INET6), (socket.AF_INET,), (socket.AF_INET6,)]
)
def test_a_dump_says_what_proc_says(families: tuple[int, ...]) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as four,
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as both,
        socket.create_connection(("127.0.0.1", four.getsockname()[1])),
        socket.create_connection(("127.0.0.1", both.getsockname()[1])),
        sockdiag.open_socket() as sock,
    ):
        ports = {f"{listener.getsockname()[1]:04X}" for listener in (four, both)}

        def ours(rows: set[tuple[str, str, str, str]]) -> set[tuple[str, str, str, str]]:
            return {row for row in rows if ports & {row[0][-4:], row[1][-4:]}}

        dumped = ours({as_proc(row) for row in sockdiag.dump(sock, families=families).rows})
        lengths = {
            {socket.AF_INET: 13, socket.AF_INET6: 37}[socket.AddressFamily(f)] for f in families
        }
        assert dumped == {row for row in ours(from_proc()) if len(row[0]) in lengths}
        assert dumped


@on_this_kernel
def test_psutil_and_sock_diag_agree() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()),
    ):
        port = listener.getsockname()[1]
        for sampled in (psutil_table.sample(), psutil_table.sample_proc(os.getpid())):
            found = {
                (*row.endpoints, row.state, row.inode)
                for row in sampled.rows
                if port in (row.endpoints[0].port, row.endpoints[1].port)
            }
            agreed = {(*row.endpoints, row.state, row.inode) for row in table(port).values()}
            assert found == agreed


@on_this_kernel
def test_a_v4_mapped_address_is_the_ipv4_one() -> None:
    with (
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener,
        socket.create_connection(("127.0.0.1", listener.getsockname()[1])) as client,
    ):
        mine, port = client.getsockname()[1], listener.getsockname()[1]
        rows = table(port)
        assert rows[port, mine].family == socket.AF_INET6
        assert rows[port, mine].endpoints == rows[mine, port].endpoints[::-1]


@pytest.mark.needs("lab")
@on_this_kernel
@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
def test_destroying_a_socket_tells_its_process(ip: str) -> None:
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    if os.geteuid() != 0:
        pytest.skip("SOCK_DESTROY takes CAP_NET_ADMIN; run as root")
    with (
        socket.create_server((ip, 0), family=family) as listener,
        socket.create_connection((ip, listener.getsockname()[1])) as client,
        sockdiag.open_socket() as sock,
    ):
        local, remote = client.getsockname(), client.getpeername()
        four_tuple = FourTuple(SocketAddress(*local[:2]), SocketAddress(*remote[:2]))
        assert sockdiag.destroy(sock, four_tuple) is True
        with pytest.raises(ConnectionAbortedError):
            client.recv(1)
        assert sockdiag.destroy(sock, four_tuple) is False
        assert sockdiag.dump(sock).rows  # the answers did not get in the way
