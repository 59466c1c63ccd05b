"""Reset in FIN-WAIT-2: the peer goes without a FIN while the client still waits for one.

The client's own FIN is acknowledged; it only reads. A RST ends the wait: ECONNRESET, so that a
reader cannot mistake what was cut off for the end of the stream.
"""

import errno
import socket

from tcpwatch.lab import Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > CLOSED",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT",
}


def play(lab: Lab) -> None:
    client, _server = lab.connect()
    client.shutdown(socket.SHUT_WR)
    lab.wait(client="FIN-WAIT-2", server="CLOSE-WAIT")
    lab.settle()
    lab.wire.inject_rst("client")
    client.recv(fails=errno.ECONNRESET)
    lab.wait(client="CLOSED", server="CLOSE-WAIT")
