"""Close with unread data: who does not read to the end says so, by a RST.

The client closes while data that it has not read waits in its buffer. A FIN would let the server
believe that all had been read; RFC 9293 (3.10.4, after RFC 2525) lets the close become an abort.
A server that answers before it has read the whole request loses its answer in this way.
"""

import errno

from tcpwatch.lab import FIN, RST, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > CLOSED",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSED",
}


def play(lab: Lab) -> None:
    client, server = lab.connect()
    server.send(b"more than is read")
    lab.check(client.recv(4) == b"more", "the client read something else than was sent")
    client.close()
    server.recv(fails=errno.ECONNRESET)
    lab.wire.wait_for(RST, by="client")
    fins = [seen for seen in lab.wire.segments() if FIN(seen, "")]
    lab.check(not fins, "a FIN was sent")
