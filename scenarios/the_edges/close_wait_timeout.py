"""CLOSE-WAIT times out: the peer has gone after its FIN, and nobody acknowledges the answer.

No timer ends CLOSE-WAIT by itself, however long the program waits. But data that it sends must be
acknowledged. The server has closed and cannot be heard any more; the client repeats its answer,
for half a second (TCP_USER_TIMEOUT; else tcp_retries2, about fifteen minutes), and gives up.
"""

import errno
import socket

from tcpwatch.lab import ACK, DATA, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > CLOSE-WAIT > CLOSED",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2",
}


def play(lab: Lab) -> None:
    client, server = lab.connect()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 500)  # milliseconds
    server.shutdown(socket.SHUT_WR)
    lab.check(client.recv() == b"", "the client did not read EOF")
    lab.wait(client="CLOSE-WAIT", server="FIN-WAIT-2")
    lab.settle()
    lab.wire.drop(ACK, by="server")  # from now on
    client.send(b"answer")
    lab.wire.wait_for(DATA, by="client", count=2)  # it was tried again
    lab.wait(client="CLOSED", server="FIN-WAIT-2")
    error = client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    lab.check(error == errno.ETIMEDOUT, f"SO_ERROR is {error}, expected ETIMEDOUT")
