"""A connection's segments are captured from the kernel, and nobody else's."""

from __future__ import annotations

import socket

import pytest

from tcpwatch.errors import TcpwatchError
from tcpwatch.model.identity import FourTuple, SocketAddress
from tcpwatch.sources.sniffer import Captured, Sniffer
from tcpwatch.tcp.segment import Flags


@pytest.mark.needs("kernel")  # root
@pytest.mark.parametrize(
    "family, ip", [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")], ids=["IPv4", "IPv6"]
)
def test_each_segment_of_a_connection_is_seen_once_on_loopback(family: int, ip: str) -> None:
    with socket.create_server((ip, 0), family=family) as listener:
        at = listener.getsockname()
        with socket.create_connection(at[:2]) as client, socket.create_connection(at[:2]) as other:
            server, _ = listener.accept()
            local = SocketAddress(*client.getsockname()[:2])
            sniffer = Sniffer(FourTuple(local, SocketAddress(*at[:2])))
            try:
                other.sendall(b"not this one")
                client.sendall(b"hello")
                assert server.recv(5) == b"hello"
                server.sendall(b"you")
                assert client.recv(3) == b"you"
                client.close()
                assert server.recv(1) == b""
                seen = sniffer.read()
                assert sniffer.dropped() == 0
            finally:
                sniffer.close()
                server.close()
    data = [told(one) for one in seen if one.segment.payload_len or one.segment.flags & Flags.FIN]
    assert data == ["sent PA 5", "received PA 3", "sent FA 0"]
    assert all(one.unix_ns for one in seen)


def told(one: Captured) -> str:
    way = "sent" if one.sent else "received"
    return f"{way} {one.segment.flags.letters} {one.segment.payload_len}"


def test_who_may_not_capture_is_told_what_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> socket.socket:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(socket, "socket", refuse)
    ends = FourTuple(SocketAddress("10.0.0.1", 1), SocketAddress("10.0.0.2", 2))
    with pytest.raises(TcpwatchError, match=r"cannot capture .*run as root"):
        Sniffer(ends)
