"""Half open: the peer vanished without a segment, and only the next write finds out.

The server's end is gone as after a power cut: by TCP_REPAIR, which moves a socket to another
machine, close() says nothing to anybody. The client is ESTABLISHED and would be for ever: TCP sends
nothing on an idle connection. Its first write succeeds, for it only fills a buffer; the answer is a
RST. The next call reports that, ECONNRESET, and those after it EPIPE.
"""

import errno

from tcpwatch.lab import RST, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > CLOSED",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSED",
}


def play(lab: Lab) -> None:
    client, server = lab.connect()
    sent = len(lab.wire.segments())
    server.vanish()
    lab.wire.wait_idle()
    lab.settle()
    told = len(lab.wire.segments()) - sent
    lab.check(lab.measured("segments that tell of its end", told) == 0, "a segment told the client")
    lab.check(lab.server.entry(server).state == "CLOSED", "the server's kernel still has a socket")
    lab.check(lab.client.entry(client).state == "ESTABLISHED", "the client knows")

    lab.check(client.send(b"still there?") == 12, "the first write was not taken")
    lab.wire.wait_for(RST, by="server")
    lab.wait(client="CLOSED")
    client.send(b"hello?", fails=errno.ECONNRESET)
    client.send(b"hello?", fails=errno.EPIPE)
