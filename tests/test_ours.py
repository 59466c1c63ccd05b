"""Whose a connection is: what this process called, and nobody else's that looks like it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import tcpwatch
from tcpwatch.model.identity import ConnectionId, FourTuple, SocketAddress
from tcpwatch.model.timeline import Connection
from tcpwatch.observing.observer import Held, Holder
from tcpwatch.observing.ours import Ours
from tcpwatch.tcp.state import TcpState

RECORDED = Path(__file__).parent / "data" / "recordings" / "simultaneous-close.jsonl"


@pytest.fixture
def ours() -> Iterator[Ours]:
    noting = Ours()
    noting.begin()
    yield noting
    noting.end()


def connection(local: SocketAddress, remote: SocketAddress) -> Connection:
    (run,) = tcpwatch.replay(RECORDED)
    (recorded,) = run.connections
    active, passive = recorded.endpoints
    ends = (replace(active, address=local), replace(passive, address=remote))
    return replace(recorded, id=ConnectionId(FourTuple(local, remote)), endpoints=ends)


def address(sock: socket.socket) -> SocketAddress:
    return SocketAddress(*sock.getsockname()[:2])


@pytest.mark.parametrize("family, host", [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_what_it_connects_to_and_who_connects_to_it(
    ours: Ours, family: socket.AddressFamily, host: str
) -> None:
    with socket.create_server((host, 0), family=family) as listener:
        server = address(listener)
        stranger = SocketAddress(host, 1)
        assert ours.has(connection(stranger, server))
        ours.end()  # what follows is known by the call to connect() alone
        noting = Ours()
        noting.begin()
        with socket.create_connection((server.ip, server.port)) as client:
            mine = address(client)
        noting.end()
    assert noting.has(connection(mine, server))
    assert noting.may_be(FourTuple(server, mine))
    assert not noting.has(connection(stranger, server))
    # Linux gives the same port to somebody else, towards another server.
    assert not noting.has(connection(mine, stranger))


def test_a_call_fails_as_it_does_where_nobody_looks(ours: Ours) -> None:
    with socket.socket() as sock:
        with pytest.raises(TypeError, match="must be tuple, not int"):
            sock.connect(7)  # type: ignore[arg-type]
        assert sock.connect_ex(("127.0.0.1", 0)) != 0
        sock.listen()
    assert sock.fileno() == -1
    with pytest.raises(OSError, match="Bad file descriptor"):
        sock.listen(3)
    assert ours.ports


def test_what_others_hold_is_not_ours(ours: Ours) -> None:
    ends = (SocketAddress("127.0.0.1", 80), SocketAddress("127.0.0.1", 40000))
    mine = Held(*ends, TcpState.ESTABLISHED, 7, holders=(Holder(os.getpid(), "us"),))
    theirs = Held(*ends, TcpState.ESTABLISHED, 7, holders=(Holder(1, "init"),))
    ours.learn([theirs])
    assert not ours.holds(theirs)
    assert not ours.has(connection(*ends))
    ours.learn([mine])
    assert ours.holds(mine)
    assert ours.has(connection(*ends))
