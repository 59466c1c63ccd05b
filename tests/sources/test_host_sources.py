"""What watches a host: the table at two paces, a socket by name, holders, the namespace."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpwatch.model.events import Gap, KernelNote, KernelNoted, StateReported
from tcpwatch.model.host import Holder
from tcpwatch.model.identity import SocketAddress
from tcpwatch.sources import sockdiag
from tcpwatch.sources.holders import Holders
from tcpwatch.sources.hosttable import HostTable
from tcpwatch.sources.ownnamespace import OwnNamespace
from tcpwatch.sources.sockdiag import Row, Rows, row_id
from tcpwatch.sources.sockinfo import look_up, parse_answer, parse_info
from tcpwatch.tcp.state import TcpState as S

HERE, THERE = ("10.0.0.1", 80), ("10.0.0.2", 4000)
ESTABLISHED, TIME_WAIT, CLOSE_WAIT = 1, 6, 8


def row(state: int, cookie: int = 1, queue: int = 0) -> Row:
    return Row(2, state, 0, 0, row_id(HERE, THERE, 2, cookie), 0, queue, 0, 0, 5)


class Table:
    """A table that shows what it is told to."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.atomic = True
        self.problem = ""
        self.table = HostTable(self.sample, self.sample)

    def sample(self) -> Rows:
        return Rows(self.rows, self.problem, self.atomic)

    def look(self) -> list[S | None]:
        return [seen.sampled.state for seen in self.table.look(7)]


def test_a_look_tells_what_has_changed_and_keeps_what_has_not() -> None:
    host = Table()
    host.rows = [row(ESTABLISHED)]
    assert host.look() == [S.ESTABLISHED]
    host.rows = [row(ESTABLISHED, queue=9)]
    assert host.look() == []  # a queue is no event, and is known all the same
    assert host.table.rows[host.rows[0].id].receive_queue == 9
    host.rows = [row(CLOSE_WAIT)]
    assert host.look() == [S.CLOSE_WAIT]
    host.rows = []
    assert host.look() == [None]


def test_what_a_dump_in_pieces_lacks_once_may_be_there_all_the_same() -> None:
    host = Table()
    host.rows, host.atomic = [row(ESTABLISHED)], False
    host.look()
    host.rows = []
    assert host.look() == []
    assert len(host.table.rows) == 1
    assert host.look() == [None]
    assert not host.table.rows


def test_a_successor_on_the_same_addresses_ends_the_one_before() -> None:
    host = Table()
    host.rows, host.atomic = [row(ESTABLISHED)], False
    host.look()
    host.rows = [row(ESTABLISHED, cookie=2)]
    assert host.look() == [None, S.ESTABLISHED]


def test_a_glance_ends_nothing_and_tells_whom_to_ask_for() -> None:
    host = Table()
    host.rows = [row(CLOSE_WAIT)]
    assert [seen.sampled.state for seen in host.table.glance(7)] == [S.CLOSE_WAIT]
    gone = host.rows[0].id
    host.rows = []
    assert host.table.glance(7) == []
    assert host.table.left == [gone]
    assert gone in host.table.rows


@pytest.mark.needs("table")
def test_one_socket_is_found_by_name_with_what_tcp_knows_of_it() -> None:
    with (
        sockdiag.open_socket() as asking,
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        server, _ = listener.accept()
        with server:
            client.sendall(b"hello")
            name = row_id(server.getsockname(), server.getpeername(), socket.AF_INET)
            found = look_up(asking, socket.AF_INET, name, info=True)
            assert found is not None
            assert found.row.state is S.ESTABLISHED
            assert found.row.receive_queue == 5
            assert found.info["bytes_received"] == 5
            assert found.info["snd_mss"] > 500
            assert found.congestion
            # Where nobody has those addresses the kernel finds the listener, which is none of it.
            nobody = row_id(server.getsockname(), ("127.0.0.1", 1), socket.AF_INET)
            assert look_up(asking, socket.AF_INET, nobody) is None


@given(st.binary(max_size=300))
def test_any_answer_is_survived(octets: bytes) -> None:
    parse_answer(octets, b"\0" * 48)
    parse_info(octets)


def process(proc: Path, pid: int, name: bytes, command: bytes, inodes: list[int]) -> None:
    folder = proc / str(pid)
    (folder / "fd").mkdir(parents=True)
    (folder / "comm").write_bytes(name + b"\n")
    (folder / "cmdline").write_bytes(command)
    for number, inode in enumerate(inodes):
        (folder / "fd" / str(number)).symlink_to(f"socket:[{inode}]")
    (folder / "fd" / "900").symlink_to("/dev/null")


def test_all_holders_of_a_socket_are_found(tmp_path: Path) -> None:
    process(tmp_path, 12, b"server", b"server\0--all\0", [7, 8])
    process(tmp_path, 13, b"child \xff\x1b[0m", b"", [7, 7])
    process(tmp_path, 14, b"other", b"", [])
    (tmp_path / "meminfo").write_text("")
    holders = Holders(tmp_path)
    assert holders.search(10)
    first, second = holders.of(7)
    assert first == Holder(12, "server", "server --all")
    assert second.pid == 13
    assert second.name.encode("utf-8", "surrogateescape") == b"child \xff\x1b[0m"
    assert holders.of(8) == (first,)
    assert holders.of(9) == ()
    assert holders.knows(8)
    assert not holders.knows(9)


def test_a_search_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    for pid in range(20, 60):
        process(tmp_path, pid, b"many", b"", [pid])
    holders = Holders(tmp_path)
    slices = 1
    while not holders.search(0):
        assert holders.searching
        slices += 1
    assert slices > 10
    assert [one.pid for one in holders.of(59)] == [59]


def test_this_process_holds_its_socket() -> None:
    with socket.socket() as mine:
        holders = Holders()
        while not holders.search(1):
            pass
        assert os.getpid() in [one.pid for one in holders.of(os.fstat(mine.fileno()).st_ino)]


OURS, THEIRS = "net:[1]", "net:[2]"
PIDS = {os.getpid(): OURS, 5: OURS, 6: THEIRS}
LOOPBACK = SocketAddress("127.0.0.1", 4000), SocketAddress("127.0.0.1", 80)


def namespace() -> OwnNamespace:
    return OwnNamespace(lambda: frozenset({"10.0.0.1"}), PIDS.get)


def reported(before: S, after: S, pid: int, skaddr: int, port: int = 4000) -> StateReported:
    local = SocketAddress("127.0.0.1", port)
    return StateReported(skaddr, local, LOOPBACK[1], before, after, pid)


def test_an_address_of_ours_is_ours() -> None:
    ours = namespace()
    anybody = SocketAddress("10.0.0.9", 1)
    assert ours.has(SocketAddress("10.0.0.1", 80), anybody)
    assert ours.has(SocketAddress("127.8.0.1", 80), anybody)
    assert ours.has(SocketAddress("0.0.0.0", 80), anybody)  # noqa: S104 - nothing binds
    assert not ours.has(SocketAddress("10.0.0.2", 80), anybody)


def test_on_loopback_the_process_that_connects_tells_whose_it_is() -> None:
    ours = namespace()
    assert not ours.is_foreign(reported(S.CLOSED, S.SYN_SENT, 5, 1), ())
    assert ours.is_foreign(reported(S.CLOSED, S.SYN_SENT, 6, 2), ())
    assert ours.is_foreign(reported(S.SYN_SENT, S.ESTABLISHED, 5, 2), ())
    assert ours.is_foreign(KernelNoted(KernelNote.RETRANSMITTED, 2, *LOOPBACK), ())
    assert ours.is_foreign(reported(S.ESTABLISHED, S.CLOSED, 5, 2), ())
    # The kernel uses its memory again: for one of ours.
    assert not ours.is_foreign(reported(S.CLOSED, S.SYN_SENT, 5, 2), ())
    # A process that is gone cannot be asked: then it is whom it called.
    assert ours.is_foreign(reported(S.CLOSED, S.SYN_SENT, 99, 3), ())
    assert not ours.is_foreign(reported(S.CLOSED, S.SYN_SENT, 99, 4), {80: 1})


def test_what_is_accepted_is_ours_where_somebody_of_ours_listens() -> None:
    ours = namespace()
    assert ours.is_foreign(reported(S.LISTEN, S.SYN_RECEIVED, 0, 1, port=80), ())
    assert not ours.is_foreign(reported(S.LISTEN, S.SYN_RECEIVED, 0, 2, port=80), {80: 1})
    listens = StateReported(
        3,
        SocketAddress("127.0.0.1", 81),
        SocketAddress("0.0.0.0", 0),  # noqa: S104 - nothing binds
        S.CLOSED,
        S.LISTEN,
        5,
    )
    assert not ours.is_foreign(listens, ())
    assert not ours.is_foreign(reported(S.LISTEN, S.SYN_RECEIVED, 0, 4, port=81), ())
    assert not ours.is_foreign(Gap("full", 1, 0), ())
