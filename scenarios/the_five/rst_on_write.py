"""RST on write: the first write to a dead peer succeeds, and only the second one fails.

The server's process is killed: its kernel says goodbye with a FIN, like any close. To the client
that only means that nothing more will come, so it may write. The answer to that is a RST, for
nobody is there to read; the next write fails with EPIPE (and SIGPIPE, where not ignored).
"""

import errno
import signal

from tcpwatch.lab import Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > CLOSE-WAIT > CLOSED",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > CLOSED",
}


def play(lab: Lab) -> None:
    client, server = lab.connect()
    server.process.kill(signal.SIGKILL)
    lab.check(client.recv() == b"", "the client did not read EOF")
    lab.wait(client="CLOSE-WAIT", server="FIN-WAIT-2")
    lab.settle()

    client.send(b"are you there?")  # allowed: only the other direction has ended
    lab.wait(client="CLOSED", server="CLOSED")
    client.send(b"hello?", fails=errno.EPIPE)
