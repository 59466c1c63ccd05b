"""Listener closed: what waits in its accept queue is reset, though the client was connected.

connect() has returned, for the kernel completes the handshake by itself; the server's program has
not yet called accept(). When it closes the listener instead, nobody will ever own the connection,
so it is aborted: a RST, no FIN. The next connect() is refused.
"""

import errno

from tcpwatch.lab import FIN, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > CLOSED",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSED",
    "client 2": "CLOSED > SYN-SENT > CLOSED",
}


def play(lab: Lab) -> None:
    listener = lab.listen()
    client = lab.program(lab.client).socket()
    client.connect(listener.address)
    lab.wait(client="ESTABLISHED", server="ESTABLISHED")
    lab.settle()
    address = listener.address
    listener.close()
    client.recv(fails=errno.ECONNRESET)
    lab.wait(client="CLOSED", server="CLOSED")
    fins = [seen for seen in lab.wire.segments() if FIN(seen, "")]
    lab.check(not fins, "a FIN was sent")

    another = lab.program(lab.client).socket()
    another.connect(address, fails=errno.ECONNREFUSED)
