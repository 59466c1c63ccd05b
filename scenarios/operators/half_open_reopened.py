"""Half open and called again: who crashed returns on the same two ports, and must clear the old.

The client is gone as after a power cut (see half-open), so the server is ESTABLISHED still. Started
again, the client happens to call from the same port. Its SYN is none of the old connection's: the
server says by a challenge ACK what it expects (RFC 9293 3.5.1, RFC 5961), to the client's kernel
that is nonsense, and its RST ends the old connection. The SYN, sent again, then finds the listener.
"""

from tcpwatch.lab import PURE_ACK, RST, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > CLOSED",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSED",
    "client 2": "CLOSED > SYN-SENT > ESTABLISHED",
    "server 2": "LISTEN > SYN-RECEIVED > ESTABLISHED",
}


def play(lab: Lab) -> None:
    listener = lab.listen()
    client, server = lab.connect(listener)
    client.vanish()
    lab.wire.wait_idle()
    lab.settle()
    lab.check(lab.server.entry(server).state == "ESTABLISHED", "the server knows")

    before = lab.wire.mark()
    again = lab.program(lab.client).socket()
    again.reuse_address()
    again.bind(client.address)
    again.connect(listener.address)
    lab.wire.wait_for(PURE_ACK, by="server", since=before)
    lab.wire.wait_for(RST, by="client", since=before)
    listener.accept()
    lab.wait(client="ESTABLISHED", server="ESTABLISHED")
