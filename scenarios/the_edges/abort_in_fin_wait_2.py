"""Abort in FIN-WAIT-2: who no longer wants the answer need not wait for the other's FIN.

The client has closed its direction, the server may take for ever to close its own. Closing with
SO_LINGER 0 sends a RST: no waiting and no TIME-WAIT. What the server still had to say is lost.
"""

import errno
import socket

from tcpwatch.lab import RST, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > CLOSED",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > CLOSED",
}


def play(lab: Lab) -> None:
    client, server = lab.connect()
    client.shutdown(socket.SHUT_WR)
    lab.check(server.recv() == b"", "the server did not read EOF")
    lab.wait(client="FIN-WAIT-2", server="CLOSE-WAIT")
    lab.settle()
    client.linger(0)
    client.close()
    lab.wire.wait_for(RST, by="client")
    lab.wait(client="CLOSED", server="CLOSED")
    server.send(b"too late", fails=errno.EPIPE)
