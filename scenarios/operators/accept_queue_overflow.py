"""Accept queue overflow: the handshake was good, but there is no room for one more to wait.

A backlog of two lets three wait for accept(). Two do; two more have their SYN,ACK when there still
is room, but for the second the queue is full. tcp_abort_on_overflow 0 ignores its ACK: the client
is ESTABLISHED and its server in SYN-RECEIVED, until accept() makes room and the client's data,
sent again, carries the same acknowledgement. With 1 it is reset, and its next call fails.
"""

import errno

from tcpwatch.lab import PURE_ACK, RST, Lab
from tcpwatch.lab.descriptor import Socket

EXPECT = {
    "client 4": "CLOSED > SYN-SENT > ESTABLISHED",
    "server 4": "LISTEN > SYN-RECEIVED > ESTABLISHED",
    "client 6": "CLOSED > SYN-SENT > ESTABLISHED > CLOSED",
    "server 6": "LISTEN > SYN-RECEIVED > (LISTEN | CLOSED)",
}


def play(lab: Lab) -> None:
    listener = lab.listen(backlog=2)
    for _ in range(2):
        _connect(lab, listener)
        lab.server.until(lambda: not lab.server.sockets("SYN-RECEIVED"), "the handshake is over")

    too_many = _overflow(lab, listener, abort=0)
    _tell(lab, "tcp_abort_on_overflow 0", too_many, client="ESTABLISHED", server="SYN-RECEIVED")
    too_many.send(b"request")
    listener.accept()
    lab.server.until(lambda: lab.server.entry(too_many).state == "ESTABLISHED", "it fits in")

    listener.accept()
    too_many = _overflow(lab, listener, abort=1)
    lab.wire.wait_for(RST, by="server")
    _tell(lab, "tcp_abort_on_overflow 1", too_many, client="CLOSED", server="CLOSED")
    too_many.recv(fails=errno.ECONNRESET)


def _overflow(lab: Lab, listener: Socket, abort: int) -> Socket:
    """Two more: one fills the queue; the other, which is given back, finds it full."""
    lab.server.sysctl("net.ipv4.tcp_abort_on_overflow", abort)
    before = lab.server.counter("ListenOverflows")
    with lab.wire.hold(PURE_ACK, by="client") as acks:
        _connect(lab, listener)
        too_many = _connect(lab, listener)
        acks.wait(2)
        lab.settle()
    lab.server.until(lambda: lab.server.counter("ListenOverflows") > before, "an overflow")
    lab.wire.wait_idle()
    return too_many


def _connect(lab: Lab, listener: Socket) -> Socket:
    client = lab.program(lab.client).socket()
    client.connect(listener.address)
    return client


def _tell(lab: Lab, case: str, too_many: Socket, *, client: str, server: str) -> None:
    (queue,) = lab.server.sockets("LISTEN")
    lab.measured("backlog", queue.send_queue, case)
    lab.measured("waiting for accept()", queue.receive_queue, case)
    lab.check((queue.send_queue, queue.receive_queue) == (2, 3), f"{case}: the queue is {queue}")
    here = lab.measured("the client's state", lab.client.entry(too_many).state, case)
    there = lab.measured("the server's state", lab.server.entry(too_many).state, case)
    lab.check((here, there) == (client, server), f"{case}: {here} and {there}")
