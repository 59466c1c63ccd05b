"""Abort in FIN-WAIT-1: who has said goodbye and gets no answer may still slam the door.

The client's FIN is out and not acknowledged. It closes with SO_LINGER 0: the FIN is not repeated,
a RST follows it. The server had read EOF, a whole stream; now every call of its own fails, and it
cannot answer any more.
"""

import errno
import socket

from tcpwatch.lab import ACK, RST, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > CLOSED",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > CLOSED",
}


def play(lab: Lab) -> None:
    client, server = lab.connect()
    lab.wire.drop(ACK, by="server")  # from now on
    client.shutdown(socket.SHUT_WR)
    lab.check(server.recv() == b"", "the server did not read EOF")
    lab.wait(client="FIN-WAIT-1", server="CLOSE-WAIT")
    lab.settle()
    client.linger(0)
    client.close()
    lab.wire.wait_for(RST, by="client")
    lab.wait(client="CLOSED", server="CLOSED")
    server.send(b"too late", fails=errno.EPIPE)
