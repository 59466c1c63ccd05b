"""User timeout: TCP_USER_TIMEOUT bounds how long data may go unacknowledged.

Without it Linux repeats a segment for about fifteen minutes (tcp_retries2) before it gives up. The
client sets half a second. Its data arrives, but no acknowledgement comes back: ETIMEDOUT, and the
connection is gone at this end, without a segment; the server still believes in it.
"""

import errno
import socket

from tcpwatch.lab import ACK, DATA, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > CLOSED",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED",
}


def play(lab: Lab) -> None:
    client, server = lab.connect()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 500)  # milliseconds
    lab.wire.drop(ACK, by="server")  # from now on
    client.send(b"hello?")
    client.recv(fails=errno.ETIMEDOUT)
    lab.wire.wait_for(DATA, by="client", count=2)  # it was tried again
    lab.wait(client="CLOSED")
    lab.check(server.recv() == b"hello?", "the server read something else than was sent")
