"""Linger zero: close() aborts, a RST goes out instead of a FIN, and no TIME-WAIT stays.

SO_LINGER with a time of 0 turns close() into the RFC's ABORT. Both ends are CLOSED after one
segment, and what was still to be sent is thrown away; the peer's next call fails with ECONNRESET.
It is no cure for TIME-WAIT: it gives up what TIME-WAIT and the FIN are for.
"""

import errno

from tcpwatch.lab import FIN, RST, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > CLOSED",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSED",
}


def play(lab: Lab) -> None:
    client, server = lab.connect()
    client.linger(0)
    client.close()
    server.recv(fails=errno.ECONNRESET)
    lab.wire.wait_for(RST, by="client")
    fins = [seen for seen in lab.wire.segments() if FIN(seen, "")]
    lab.check(not fins, "a FIN was sent")
