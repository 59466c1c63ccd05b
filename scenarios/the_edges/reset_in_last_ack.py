"""Reset in LAST-ACK: the last FIN is answered by a RST, and the connection ends all the same.

The server closed first, the client after it, and its FIN waits for the acknowledgement. A RST is
as final as the ACK would have been: CLOSED. Only SO_ERROR, here ECONNRESET, tells the difference.
"""

import errno
import socket

from tcpwatch.lab import ACK, Lab

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
    lab.wire.inject_rst("client")
    lab.wait(client="CLOSED")
    error = client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    lab.check(error == errno.ECONNRESET, f"SO_ERROR is {error}, expected ECONNRESET")
