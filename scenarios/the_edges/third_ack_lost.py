"""Third ACK lost: the first data carries the same acknowledgement, and opens the server's end.

The last segment of the handshake is a bare ACK, and nobody repeats a bare ACK. The client is
ESTABLISHED without knowing that its server still waits in SYN-RECEIVED. Every later segment says
ack 1 too: the request itself completes the handshake.
"""

from tcpwatch.lab import PURE_ACK, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED",
}


def play(lab: Lab) -> None:
    listener = lab.listen()
    client = lab.program(lab.client).socket()
    with lab.wire.drop(PURE_ACK, by="client") as third:
        client.connect(listener.address)
        third.wait()
        lab.wait(client="ESTABLISHED", server="SYN-RECEIVED")
        lab.settle()
        client.send(b"request")
        server = listener.accept()
    lab.check(server.recv() == b"request", "the server read something else than was sent")
    lab.wait(client="ESTABLISHED", server="ESTABLISHED")
