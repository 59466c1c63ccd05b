"""Never accepted: CLOSE-WAIT with inode 0, for the program did not even call accept().

connect() returned, the client sent its request, gave up waiting and closed; all that was between it
and the server's kernel. The connection waits in the accept queue, in CLOSE-WAIT like a leaked one.
But no process holds it, its inode is 0: not close() is missing, but accept(). That one is the
cure, and finds everything still there. (See close-wait-leak for the opposite bug.)
"""

from tcpwatch.lab import Lab
from tcpwatch.lab.sockets import Entry

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
}


def play(lab: Lab) -> None:
    listener = lab.listen(backlog=8)
    client = lab.program(lab.client).socket()
    client.connect(listener.address)
    client.send(b"request")
    client.close()
    lab.wait(client="FIN-WAIT-2", server="CLOSE-WAIT")
    lab.settle()

    entry, queue = lab.server.entry(client), lab.server.entry(listener)
    lab.check(entry.state == "CLOSE-WAIT", f"the table says {entry.state}")
    lab.check(entry.inode == 0, "a process holds it, though nobody has accepted it")
    lab.check(entry.receive_queue == len(b"request") + 1, "Recv-Q is not the request and its FIN")
    lab.check((queue.receive_queue, queue.send_queue) == (1, 8), f"the listener has {queue}")
    _tell(lab, "before accept()", entry, queue)

    server = listener.accept()
    entry, queue = lab.server.entry(client), lab.server.entry(listener)
    lab.check(entry.state == "CLOSE-WAIT" and entry.inode, f"the table has {entry}")
    lab.check(queue.receive_queue == 0, "the accept queue is not empty")
    _tell(lab, "after it", entry, queue)
    lab.check(server.recv_to_end() == b"request", "the server read something else than was sent")
    server.close()
    lab.wait(client="TIME-WAIT", server="CLOSED")


def _tell(lab: Lab, case: str, entry: Entry, queue: Entry) -> None:
    lab.measured("state", entry.state, case)
    lab.measured("held by a process", "yes" if entry.inode else "no", case)
    lab.measured("Recv-Q", entry.receive_queue, case)
    lab.measured("Recv-Q of the listener", queue.receive_queue, case)
