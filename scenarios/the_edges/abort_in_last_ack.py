"""Abort in LAST-ACK: the last acknowledgement is not waited for, and nothing is sent.

The server closed first, the client after it; only the ACK of the client's FIN is missing. Closing
with SO_LINGER 0 gives up waiting for it. A RST would tell the server nothing that it needs: it is
in TIME-WAIT already, and stays there.
"""

import socket

from tcpwatch.lab import ACK, RST, Lab

# Linux: tcp_disconnect() in tcp.c sends a RST here only where data was not sent yet.
EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
}


def play(lab: Lab) -> None:
    client, server = lab.connect()
    server.close()
    lab.check(client.recv() == b"", "the client did not read EOF")
    lab.wait(client="CLOSE-WAIT", server="FIN-WAIT-2")
    lab.settle()
    lab.wire.drop(ACK, by="server")  # from now on
    client.shutdown(socket.SHUT_WR)
    lab.wait(client="LAST-ACK", server="TIME-WAIT")
    lab.settle()
    client.linger(0)
    client.close()
    lab.wait(client="CLOSED", server="TIME-WAIT")
    resets = [seen for seen in lab.wire.segments("client") if RST(seen, "")]
    lab.check(not resets, "a RST was sent")
