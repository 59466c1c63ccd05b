"""Normal close: one end closes, the other reads the end of the stream and closes too.

The client asks, the server answers, the client has heard enough and closes. Its FIN lets the
server read EOF. The server may still send in CLOSE-WAIT; here it just closes, and the client,
who closed first, is the one that stays in TIME-WAIT.
"""

from tcpwatch.lab import Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
}


def play(lab: Lab) -> None:
    client, server = lab.connect()
    client.send(b"ping")
    lab.check(server.recv() == b"ping", "the server read something else than the request")
    server.send(b"pong")
    lab.check(client.recv() == b"pong", "the client read something else than the answer")

    client.close()
    lab.check(server.recv() == b"", "the server did not read EOF")
    lab.wait(client="FIN-WAIT-2")  # its FIN is acknowledged, the server's is yet to come
    server.close()
