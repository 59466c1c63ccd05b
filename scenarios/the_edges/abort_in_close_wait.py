"""Abort in CLOSE-WAIT: a RST answers the peer's FIN, and LAST-ACK is left out.

The server has closed its direction and waits in FIN-WAIT-2 for the client's FIN. The client closes
with SO_LINGER 0 instead: both ends are CLOSED at once, and the server, which closed first, is
spared TIME-WAIT. Whether all that the client had sent was read, nobody knows.
"""

import errno
import socket

from tcpwatch.lab import RST, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > CLOSE-WAIT > CLOSED",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > CLOSED",
}


def play(lab: Lab) -> None:
    client, server = lab.connect()
    server.shutdown(socket.SHUT_WR)
    lab.check(client.recv() == b"", "the client did not read EOF")
    lab.wait(client="CLOSE-WAIT", server="FIN-WAIT-2")
    lab.settle()
    client.linger(0)
    client.close()
    lab.wire.wait_for(RST, by="client")
    server.recv(fails=errno.ECONNRESET)
    lab.wait(client="CLOSED", server="CLOSED")
