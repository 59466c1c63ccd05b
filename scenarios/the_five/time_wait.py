"""TIME-WAIT: who closes first must stay, to acknowledge a FIN that comes again.

The server closes first. The last ACK, its acknowledgement of the client's FIN, is lost, so the
client sends its FIN again: TIME-WAIT is still there to answer. Meanwhile a restarted server
cannot bind the port, unless it asks for SO_REUSEADDR.
"""

import errno
import socket

from tcpwatch.lab import FIN, PURE_ACK, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
}


def play(lab: Lab) -> None:
    listener = lab.listen()
    client, server = lab.connect(listener)
    listener.close()
    server.close()
    lab.check(client.recv() == b"", "the client did not read EOF")
    lab.wait(server="FIN-WAIT-2")

    with lab.wire.drop(PURE_ACK, by="server", count=1) as last_ack:
        client.close()
        last_ack.wait()
    lab.wait(client="LAST-ACK", server="TIME-WAIT")

    restarted = lab.server.process("second").socket()
    restarted.bind(lab.port, fails=errno.EADDRINUSE)
    restarted.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    restarted.bind(lab.port)
    restarted.close()

    lab.wire.wait_for(FIN, by="client", count=2)  # the retransmission
    lab.wait(client="CLOSED")  # it was acknowledged again
