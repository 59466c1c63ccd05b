"""Listener shut down: LISTEN is aborted, and the same socket may listen again.

shutdown() has no direction to close where there is no connection: on a listener Linux makes it an
ABORT. What waits in the accept queue is reset, a SYN that comes meanwhile is refused. But unlike
after close() the program still has its socket and its port; it calls listen() and is back.
"""

import errno
import socket

from tcpwatch.lab import Lab

# Linux: inet_shutdown() in af_inet.c calls tcp_disconnect(), "ABORT function of RFC793".
EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > CLOSED",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSED",
    "client 2": "CLOSED > SYN-SENT > CLOSED",
    "client 3": "CLOSED > SYN-SENT > ESTABLISHED",
    "server 3": "LISTEN > SYN-RECEIVED > ESTABLISHED",
}


def play(lab: Lab) -> None:
    listener = lab.listen()
    client = lab.program(lab.client).socket()
    client.connect(listener.address)
    lab.wait(client="ESTABLISHED", server="ESTABLISHED")
    lab.settle()
    listener.shutdown(socket.SHUT_RD)
    client.recv(fails=errno.ECONNRESET)
    lab.wait(client="CLOSED", server="CLOSED")

    refused = lab.program(lab.client).socket()
    refused.connect(listener.address, fails=errno.ECONNREFUSED)

    listener.listen()
    lab.connect(listener)
    lab.wait(client="ESTABLISHED", server="ESTABLISHED")
