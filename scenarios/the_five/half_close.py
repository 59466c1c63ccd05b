"""Half-close: shutdown() ends one direction only, and the other goes on as long as it likes.

The client has asked all it wants to ask and says so with shutdown(SHUT_WR). The server reads EOF
and still answers, from CLOSE-WAIT, in several pieces; the client receives them in FIN-WAIT-2.
"""

import socket

from tcpwatch.lab import Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
}


def play(lab: Lab) -> None:
    client, server = lab.connect()
    client.send(b"count!")
    client.shutdown(socket.SHUT_WR)
    lab.check(server.recv() == b"count!", "the server read something else than the request")
    lab.check(server.recv() == b"", "the server did not read EOF")
    lab.wait(client="FIN-WAIT-2", server="CLOSE-WAIT")

    for piece in (b"one", b"two", b"three"):
        server.send(piece)
        lab.check(client.recv() == piece, "the client read something else than was sent")
    lab.wait(client="FIN-WAIT-2", server="CLOSE-WAIT")  # the data moved neither end
    server.close()

    lab.check(client.recv() == b"", "the client did not read EOF")
    client.close()
