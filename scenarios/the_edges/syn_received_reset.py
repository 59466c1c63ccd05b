"""Reset before the handshake ends: SYN-RECEIVED goes back to LISTEN, and the listener lives on.

A SYN was answered, then a RST comes instead of the third segment: the caller has changed its mind.
A passive opener is LISTEN again, as if nothing had happened; its program never hears of it. The
next client is served as ever.
"""

import errno

from tcpwatch.lab import SYN, SYN_ACK, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > CLOSED",
    "server": "LISTEN > SYN-RECEIVED > LISTEN",
    "client 2": "CLOSED > SYN-SENT > ESTABLISHED",
    "server 2": "LISTEN > SYN-RECEIVED > ESTABLISHED",
}


def play(lab: Lab) -> None:
    listener = lab.listen()
    client = lab.program(lab.client).socket()
    client.setblocking(blocking=False)
    with lab.wire.hold(SYN_ACK, by="server") as answer:
        client.connect(listener.address, fails=errno.EINPROGRESS)
        answer.wait()
        lab.wait(server="SYN-RECEIVED")
        lab.settle()
        with lab.wire.drop(SYN, by="client"):  # it may try again meanwhile
            lab.wire.inject_rst("server")
            lab.wait(server="LISTEN")
            client.close()
            lab.wait(client="CLOSED")
        answer.drop()

    lab.connect(listener)
