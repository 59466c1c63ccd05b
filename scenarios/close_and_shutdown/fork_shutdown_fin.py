"""Fork and shutdown: shutdown() sends the FIN at once, whoever else holds the socket.

It is the opposite of fork-close-no-fin. close() gives up a descriptor; shutdown() acts on the
connection, which parent and child have in common. Nobody can send over it any more, the child
neither: EPIPE. Its descriptor is open all the same, and it reads what the server still sends.
"""

import errno
import socket as sockets

from tcpwatch.lab import FIN, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
}


def play(lab: Lab) -> None:
    socket, server = lab.connect()
    parent = socket.process
    child = parent.fork("child")
    inode = lab.client.entry(socket).inode

    def look(case: str, holders: int, fins: int) -> None:
        lab.wire.wait_idle()
        held = sum(inode in process.open_sockets for process in (parent, child))
        sent = sum(FIN(seen, "client") for seen in lab.wire.segments("client"))
        lab.measured("processes that hold it", held, case=case)
        lab.measured("FINs sent", sent, case=case)
        lab.check((held, sent) == (holders, fins), f"{case}: {held} hold it, {sent} FINs were sent")

    look("after fork()", 2, 0)
    socket.shutdown(sockets.SHUT_WR)
    lab.check(server.recv() == b"", "the server did not read EOF")
    lab.wait(client="FIN-WAIT-2", server="CLOSE-WAIT")
    look("the parent shut down", 2, 1)
    shared = child.shares(socket)
    shared.send(b"still here?", fails=errno.EPIPE)

    server.send(b"the answer")
    lab.check(shared.recv() == b"the answer", "the child read something else than was sent")
    socket.close()
    look("the parent closed", 1, 1)
    server.close()
    lab.check(shared.recv() == b"", "the child did not read EOF")
    shared.close()
