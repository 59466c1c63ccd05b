"""Simultaneous open: two SYNs cross, and both ends pass through SYN-RECEIVED with no listener.

Both ends call connect() on each other from ports that they chose beforehand. Each sends its SYN
before the other's arrives, answers it by a SYN,ACK, and is ESTABLISHED by the other's SYN,ACK.
It is one connection, not two, and nobody ever called listen().
"""

from tcpwatch.lab import SYN, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > SYN-RECEIVED > ESTABLISHED",
    "server": "CLOSED > SYN-SENT > SYN-RECEIVED > ESTABLISHED",
}


def play(lab: Lab) -> None:
    client = lab.program(lab.client).socket()
    server = lab.program(lab.server).socket()
    client.bind(lab.port)
    server.bind(lab.port)
    with lab.wire.hold(SYN) as syns:
        calling = client.start.connect(server.address)
        called = server.start.connect(client.address)
        syns.wait(2)  # both are on their way before either arrives
    calling.result()
    called.result()
    lab.wait(client="ESTABLISHED", server="ESTABLISHED")
    client.send(b"hello")
    lab.check(server.recv() == b"hello", "the server read something else than was sent")
