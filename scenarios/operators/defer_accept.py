"""Deferred accept: with TCP_DEFER_ACCEPT the third segment does not open the server's end.

The listener asked not to be woken before there is something to read. So its kernel ignores the bare
ACK: the client is ESTABLISHED and its connect() has returned, the server is in SYN-RECEIVED still,
a request socket with inode 0, and accept() finds nothing. The first data does it all at once:
ESTABLISHED, accepted, readable.
"""

import errno
import socket

from tcpwatch.lab import DATA, PURE_ACK, Lab
from tcpwatch.lab.descriptor import Socket

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED",
}


def play(lab: Lab) -> None:
    listener = lab.listen()
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5)  # seconds
    listener.setblocking(blocking=False)
    client = lab.program(lab.client).socket()
    client.connect(listener.address)
    lab.wire.wait_for(PURE_ACK, by="client")
    lab.wire.wait_idle()
    _look(lab, client, "after the ACK", "SYN-RECEIVED")
    lab.check(lab.server.entry(client).inode == 0, "a process holds it")
    lab.check(lab.server.entry(listener).receive_queue == 0, "it waits in the accept queue")
    listener.accept(fails=errno.EAGAIN)

    client.send(b"request")
    lab.wire.wait_for(DATA, by="client")
    lab.wire.wait_idle()
    _look(lab, client, "after the data", "ESTABLISHED")
    server = listener.accept()
    lab.check(server.recv() == b"request", "the server read something else than was sent")


def _look(lab: Lab, client: Socket, case: str, expected: str) -> None:
    state = lab.measured("the server's state", lab.server.entry(client).state, case)
    lab.check(state == expected, f"{case} the server is in {state}, not {expected}")
