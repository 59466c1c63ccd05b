"""Self-connect: a socket that calls its own port is both ends, a simultaneous open with itself.

One socket, bound to a port, calls connect() on that very port. Its SYN comes back to itself as the
peer's: SYN-RECEIVED, and its SYN,ACK opens it. What it sends, it reads. Its FIN comes back as the
peer's before it is acknowledged, so it passes CLOSING. All of it stays in the client's own kernel,
where no wire sees a segment.
"""

from tcpwatch.lab import Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > SYN-RECEIVED > ESTABLISHED > FIN-WAIT-1 > CLOSING > TIME-WAIT",
}


def play(lab: Lab) -> None:
    client = lab.program(lab.client).socket()
    client.bind(lab.port)
    client.connect(client.address)
    client.send(b"hello")
    lab.check(client.recv() == b"hello", "it read something else than it sent")
    lab.check(not lab.wire.segments(), "a segment was on the wire")
    client.close()
    lab.wait(client="TIME-WAIT")
