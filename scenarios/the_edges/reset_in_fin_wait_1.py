"""Reset in FIN-WAIT-1: the FIN is not acknowledged yet, and never will be.

The client has said that it will send no more (its FIN is out) and could still read. A RST comes
instead of the acknowledgement: CLOSED, with ECONNRESET for whoever still reads.
"""

import errno
import socket

from tcpwatch.lab import ACK, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > CLOSED",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT",
}


def play(lab: Lab) -> None:
    client, _server = lab.connect()
    lab.wire.drop(ACK, by="server")  # from now on
    client.shutdown(socket.SHUT_WR)
    lab.wait(client="FIN-WAIT-1", server="CLOSE-WAIT")
    lab.settle()
    lab.wire.inject_rst("client")
    client.recv(fails=errno.ECONNRESET)
    lab.wait(client="CLOSED", server="CLOSE-WAIT")
