"""Abort in SYN-SENT: shutdown() takes the call back, and leaves the socket as good as new.

There is no direction yet that could be shut down, so Linux makes shutdown() an ABORT here. Nothing
is sent: the SYN that is under way will be answered, and the answer finds nobody. The descriptor
stays open, and the same socket may call again: the second time somebody answers.
"""

import errno
import socket

from tcpwatch.lab import SYN, Lab

# Linux: inet_shutdown() in af_inet.c calls tcp_disconnect(), "ABORT function of RFC793".
EXPECT = {
    "client": "CLOSED > SYN-SENT > CLOSED",
    "client 2": "CLOSED > SYN-SENT > ESTABLISHED",
    "server 2": "LISTEN > SYN-RECEIVED > ESTABLISHED",
}


def play(lab: Lab) -> None:
    listener = lab.listen()
    client = lab.program(lab.client).socket()
    client.setblocking(blocking=False)
    with lab.wire.drop(SYN, by="client") as lost:
        client.connect(listener.address, fails=errno.EINPROGRESS)
        lost.wait()
        lab.wait(client="SYN-SENT")
        lab.settle()
        client.shutdown(socket.SHUT_RDWR)
        lab.wait(client="CLOSED")
    sent = [seen.segment for seen in lab.wire.segments()]
    lab.check(all(segment.syn for segment in sent), "something else than a SYN was sent")

    client.setblocking(blocking=True)
    client.connect(listener.address)
    lab.wait(client="ESTABLISHED", server="ESTABLISHED")
