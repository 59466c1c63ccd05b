"""Abort in SYN-RECEIVED: close() with SO_LINGER 0 ends by a RST what has hardly begun.

Two SYNs crossed, and both ends wait in SYN-RECEIVED for the other's SYN,ACK. The client thinks
better of it. A close() would send a FIN (see close-in-syn-received); with SO_LINGER 0 it is a RST,
and the server, which called connect() too, has no LISTEN to go back to: CLOSED and ECONNRESET.
"""

import errno

from tcpwatch.lab import RST, SYN, SYN_ACK, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > SYN-RECEIVED > CLOSED",
    "server": "CLOSED > SYN-SENT > SYN-RECEIVED > CLOSED",
}


def play(lab: Lab) -> None:
    client = lab.program(lab.client).socket()
    server = lab.program(lab.server).socket()
    client.bind(lab.port)
    server.bind(lab.port)
    client.setblocking(blocking=False)
    client.linger(0)
    syns = lab.wire.hold(SYN & ~SYN_ACK)
    client.connect(server.address, fails=errno.EINPROGRESS)
    called = server.start.connect(client.address, fails=errno.ECONNRESET)
    syns.wait(2)
    answers = lab.wire.drop(SYN_ACK)  # from now on
    syns.release()
    answers.wait(2)
    lab.wait(client="SYN-RECEIVED", server="SYN-RECEIVED")
    lab.settle()
    client.close()
    lab.wire.wait_for(RST, by="client")
    called.result()
    lab.wait(client="CLOSED", server="CLOSED")
