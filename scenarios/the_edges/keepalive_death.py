"""Keepalive death: an idle connection is probed, and given up with a RST when nobody answers.

Nothing is sent, so without SO_KEEPALIVE the client would never notice that its peer cannot be
heard. The probes start after TCP_KEEPIDLE (two hours by default, here 1 s). When they stay
unanswered the client's call fails with ETIMEDOUT, and a RST goes out in case somebody hears.
"""

import errno
import socket

from tcpwatch.lab import ACK, RST, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > CLOSED",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSED",
}


def play(lab: Lab) -> None:
    client, server = lab.connect()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 1)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    with lab.wire.drop(ACK, by="server"):
        client.recv(fails=errno.ETIMEDOUT)
        lab.wire.wait_for(RST, by="client")
        server.recv(fails=errno.ECONNRESET)
