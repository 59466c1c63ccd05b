"""Abort in CLOSING: both FINs are out, so there is nobody to tell, and nothing is sent.

The FINs crossed, and the acknowledgement of the client's is missing. It closes with SO_LINGER 0:
RFC 9293 (3.10.5) ends the connection without a RST, for the peer has said all that it had to say.
The client leaves CLOSING without TIME-WAIT; the server goes on repeating its FIN.
"""

import socket

from tcpwatch.lab import ACK, FIN, RST, Lab

# Linux: tcp_disconnect() in tcp.c sends a RST here only where data was not sent yet.
EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > CLOSING > CLOSED",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > FIN-WAIT-1 > CLOSING",
}


def play(lab: Lab) -> None:
    client, server = lab.connect()
    fins = lab.wire.hold(FIN)
    client.shutdown(socket.SHUT_WR)
    server.shutdown(socket.SHUT_WR)
    fins.wait(2)
    lab.wire.drop(ACK)  # all that comes after the two FINs
    fins.release()
    lab.wait(client="CLOSING", server="CLOSING")
    lab.settle()
    client.linger(0)
    client.close()
    lab.wait(client="CLOSED", server="CLOSING")
    resets = [seen for seen in lab.wire.segments("client") if RST(seen, "")]
    lab.check(not resets, "a RST was sent")
