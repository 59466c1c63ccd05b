"""Reset in CLOSE-WAIT: the errno is EPIPE, for the peer had already said goodbye.

The server has closed its direction, the client has read EOF and could still write. After a RST it
cannot: send() fails with EPIPE (and SIGPIPE, where not ignored), not with ECONNRESET as in the
other states.
"""

import errno

from tcpwatch.lab import Lab

# Linux: tcp_reset() in tcp_input.c chooses the errno by the state.
EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > CLOSE-WAIT > CLOSED",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2",
}


def play(lab: Lab) -> None:
    client, server = lab.connect()
    server.close()
    lab.check(client.recv() == b"", "the client did not read EOF")
    lab.wait(client="CLOSE-WAIT", server="FIN-WAIT-2")
    lab.settle()
    lab.wire.inject_rst("client")
    lab.wait(client="CLOSED")
    client.send(b"hello?", fails=errno.EPIPE)
    lab.wait(server="FIN-WAIT-2")
