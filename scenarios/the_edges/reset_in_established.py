"""Reset in ESTABLISHED: one segment ends the connection, at the end that it reaches.

A RST with exactly the sequence number that the client expects next. The client is CLOSED at once,
without an answer; its next call fails with ECONNRESET. The server did not send that RST and knows
nothing of it: the connection is half open until the server sends something.
"""

import errno

from tcpwatch.lab import Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > CLOSED",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED",
}


def play(lab: Lab) -> None:
    client, _server = lab.connect()
    before = len(lab.wire.segments("client"))
    lab.wire.inject_rst("client")
    client.recv(fails=errno.ECONNRESET)
    lab.wait(client="CLOSED", server="ESTABLISHED")
    lab.check(len(lab.wire.segments("client")) == before, "the client answered the RST")
