"""Fork and close: only the last close() sends a FIN, for the kernel counts who holds the socket.

After a fork two processes hold the same connection. When the parent closes it, nothing is sent:
close() gives up a descriptor, and the socket has another one. The child still writes, the server
still reads. The child's close() is the last, and its FIN ends the connection. A server whose
parent forgets to close what its children serve leaves its clients waiting for a FIN in this way.
"""

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
    socket.close()
    look("the parent closed", 1, 0)
    shared = child.shares(socket)
    shared.send(b"still here")
    lab.check(server.recv() == b"still here", "the server read something else than was sent")
    lab.wait(client="ESTABLISHED", server="ESTABLISHED")

    shared.close()
    lab.check(server.recv() == b"", "the server did not read EOF")
    lab.wait(client="FIN-WAIT-2", server="CLOSE-WAIT")
    look("the child closed", 0, 1)
    server.close()
