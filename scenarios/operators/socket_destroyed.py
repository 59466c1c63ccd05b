"""Socket destroyed: the administrator ends a connection under a program that is reading from it.

`ss -K` asks the kernel to destroy a socket (SOCK_DESTROY). Whatever the program is doing, its call
comes back at once with ECONNABORTED, which no peer can cause; the descriptor stays, for the program
to close. The peer gets a RST, so to it this is like any abort: ECONNRESET.
"""

import errno

from tcpwatch.lab import FIN, RST, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > CLOSED",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSED",
}


def play(lab: Lab) -> None:
    client, server = lab.connect()
    reading = server.start.recv(fails=errno.ECONNABORTED)
    waiting = client.start.recv(fails=errno.ECONNRESET)
    lab.server.destroy(server)
    reading.result()
    lab.wait(server="CLOSED")
    lab.wire.wait_for(RST, by="server")
    waiting.result()
    lab.wait(client="CLOSED")
    lab.check(not any(FIN(seen, "") for seen in lab.wire.segments()), "a FIN was sent")
    gone = lab.server.entry(server).state == lab.client.entry(client).state == "CLOSED"
    lab.check(gone, "a kernel still has its socket")
    server.send(b"hello?", fails=errno.EPIPE)  # the descriptor is there, the connection is not
