"""FIN-WAIT-2, late data: who closed cannot be told anything more, and answers by a RST.

The client called close(), not shutdown(): nobody is left to read. Its kernel keeps the connection
in FIN-WAIT-2 for the server's FIN, as a minisocket without a process (inode 0), but data is more
than it can take: a RST, and the end. The server's first write succeeded; the next fails with EPIPE,
for in CLOSE-WAIT a RST is told so. (In half-close, a shutdown(), the same data is welcome.)
"""

import errno

from tcpwatch.lab import DATA, RST, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > CLOSED",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > CLOSED",
}


def play(lab: Lab) -> None:
    client, server = lab.connect()
    client.close()
    lab.check(server.recv() == b"", "the server did not read EOF")
    lab.wait(client="FIN-WAIT-2", server="CLOSE-WAIT")
    lab.settle()
    orphan = lab.client.entry(client)
    lab.check(orphan.state == "FIN-WAIT-2", f"the table says {orphan.state}")
    lab.check(orphan.inode == 0, "a process holds it")
    # Linux: tcp_time_wait() in tcp_minisocks.c makes a minisocket of it, with FIN-WAIT-2 inside.
    lab.check(lab.measured("timer of the orphan", orphan.timer) == "timewait", orphan.timer)

    lab.check(server.send(b"late") == 4, "the first write was not taken")
    lab.wire.wait_for(RST, by="client")
    lab.wait(client="CLOSED", server="CLOSED")
    lab.check(lab.client.entry(client).state == "CLOSED", "the orphan is still there")
    server.send(b"later", fails=errno.EPIPE)
    late = [seen for seen in lab.wire.segments("server") if DATA(seen, "server")]
    lab.check(len(late) == 1, "what failed was sent all the same")
