"""Reset in SYN-RECEIVED: one that opened actively has no LISTEN to go back to.

Two SYNs crossed, and both ends are in SYN-RECEIVED. Then the client gets a RST. A passive opener
would return to LISTEN (see syn-received-reset); this one called connect(), so the connection ends,
and connect() fails with ECONNRESET: the peer had answered, so it is not ECONNREFUSED.
"""

import errno

from tcpwatch.lab import SYN, SYN_ACK, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > SYN-RECEIVED > CLOSED",
    "server": "CLOSED > SYN-SENT > SYN-RECEIVED",
}


def play(lab: Lab) -> None:
    client = lab.program(lab.client).socket()
    server = lab.program(lab.server).socket()
    client.bind(lab.port)
    server.bind(lab.port)
    syns = lab.wire.hold(SYN & ~SYN_ACK)
    calling = client.start.connect(server.address, fails=errno.ECONNRESET)
    server.start.connect(client.address)
    syns.wait(2)
    answers = lab.wire.drop(SYN_ACK)  # from now on
    syns.release()
    answers.wait(2)
    lab.wait(client="SYN-RECEIVED", server="SYN-RECEIVED")
    lab.settle()
    lab.wire.inject_rst("client")
    calling.result()
    lab.wait(client="CLOSED", server="SYN-RECEIVED")
