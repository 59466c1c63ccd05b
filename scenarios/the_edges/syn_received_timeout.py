"""SYN-RECEIVED times out: the third segment never comes, and the server forgets the call.

The client's ACKs are lost. The client is ESTABLISHED all the same, the server is not: it repeats
its SYN,ACK tcp_synack_retries times (5 by default, here 1), and then drops the half-made connection
without a word. Until it sends something, the client does not know; then a RST tells it.
"""

import errno

from tcpwatch.lab import ACK, SYN_ACK, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > CLOSED",
    "server": "LISTEN > SYN-RECEIVED[>=1s] > CLOSED",
}


def play(lab: Lab) -> None:
    lab.server.sysctl("net.ipv4.tcp_synack_retries", 1)
    listener = lab.listen()
    client = lab.program(lab.client).socket()
    with lab.wire.drop(ACK, by="client"):
        client.connect(listener.address)
        lab.wait(client="ESTABLISHED", server="SYN-RECEIVED")
        lab.wait(server="CLOSED")
        lab.wire.wait_idle()
    answers = [seen for seen in lab.wire.segments("server") if SYN_ACK(seen, "server")]
    lab.check(len(answers) == 2, f"{len(answers)} SYN,ACKs were sent, expected the first and one")

    client.send(b"request")
    client.recv(fails=errno.ECONNRESET)
