"""Reset in CLOSING: both FINs are out, and a RST comes before the last acknowledgement.

Nothing can be lost any more but the knowledge that all arrived. The client skips TIME-WAIT and is
CLOSED. recv() would still say EOF, as that FIN had come in order; SO_ERROR tells of the RST.
"""

import errno
import socket

from tcpwatch.lab import ACK, FIN, Lab

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
    lab.wire.inject_rst("client")
    lab.wait(client="CLOSED", server="CLOSING")
    error = client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    lab.check(error == errno.ECONNRESET, f"SO_ERROR is {error}, expected ECONNRESET")
