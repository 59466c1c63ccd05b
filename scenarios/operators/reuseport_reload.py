"""Reload with SO_REUSEPORT: the old listener closes, and its queue is reset, or moves to the new.

The new server binds the same port beside the old one (SO_REUSEPORT) and listens, then the old one
closes. No SYN is refused in between; but a connection that waits in the old one's accept queue dies
with it, by a RST, though a listener of the same port is there. With tcp_migrate_req 1 the kernel
moves it to that one's queue, and neither client nor program notices anything.
"""

import errno

from tcpwatch.lab import FIN, RST, Lab
from tcpwatch.lab.descriptor import Socket
from tcpwatch.lab.process import Process

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > CLOSED",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSED",
    "client 2": "CLOSED > SYN-SENT > ESTABLISHED",
    "server 2": "LISTEN > SYN-RECEIVED > ESTABLISHED",
}


def play(lab: Lab) -> None:
    old, new = lab.server.process("old"), lab.server.process("new")

    client, fresh = _reload(lab, old, new, migrate=0)
    client.recv(fails=errno.ECONNRESET)
    lab.wire.wait_for(RST, by="server")
    lab.wait(client="CLOSED", server="CLOSED")
    lab.check(lab.server.entry(fresh).receive_queue == 0, "the new server has a connection")
    _tell(lab, 0, "reset")
    fresh.close()

    client, fresh = _reload(lab, old, new, migrate=1)
    lab.check(lab.server.entry(fresh).receive_queue == 1, "the new server has no connection")
    server = fresh.accept()
    client.send(b"request")
    lab.check(server.recv() == b"request", "the server read something else than was sent")
    _tell(lab, 1, "accepted from the new one's")
    lab.check(not any(FIN(seen, "") for seen in lab.wire.segments()), "a FIN was sent")


def _reload(lab: Lab, old: Process, new: Process, migrate: int) -> tuple[Socket, Socket]:
    """A client that the old listener has queued when it closes, and the new listener."""
    lab.server.sysctl("net.ipv4.tcp_migrate_req", migrate)
    retiring = _listen(lab, old)
    client = lab.program(lab.client).socket()
    client.connect(retiring.address)
    lab.server.until(lambda: lab.server.entry(retiring).receive_queue == 1, "one in the queue")
    lab.settle()
    fresh = _listen(lab, new)
    lab.check(len(lab.server.sockets("LISTEN")) == 2, "there are not two listeners")
    retiring.close()
    lab.check(len(lab.server.sockets("LISTEN")) == 1, "the old listener is still there")
    return client, fresh


def _listen(lab: Lab, process: Process) -> Socket:
    listener = process.socket()
    listener.reuse_port()
    listener.bind(lab.port)
    listener.listen()
    return listener


def _tell(lab: Lab, migrate: int, fate: str) -> None:
    case = f"tcp_migrate_req {migrate}"
    lab.measured("the connection in the old one's queue", fate, case)
    moved = lab.measured("TCPMigrateReqSuccess", lab.server.counter("TCPMigrateReqSuccess"), case)
    lab.check(moved == migrate, f"{moved} connections were moved with {case}")
