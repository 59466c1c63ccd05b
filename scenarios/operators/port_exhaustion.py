"""Port exhaustion: four ports, four connections in TIME-WAIT, and connect() has none left.

A connection is its four numbers. Towards one server only the client's port can differ, and of these
there are as many as net.ipv4.ip_local_port_range has: here four. Who closes first keeps its port in
TIME-WAIT, a minute each, so the fifth connect() fails with EADDRNOTAVAIL before a segment is sent.
Another port of the server's is another connection; and tcp_tw_reuse allows to take one again.
"""

import errno

from tcpwatch.lab import Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT > CLOSED?",
    "client 4": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT > CLOSED?",
    "server 4": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
    "client 5": "CLOSED > SYN-SENT > ESTABLISHED",
    "server 5": "LISTEN > SYN-RECEIVED > ESTABLISHED",
    "client 6": "CLOSED > SYN-SENT > ESTABLISHED",
    "server 6": "LISTEN > SYN-RECEIVED > ESTABLISHED",
}
# Which of the four ports the kernel takes.
CHANCE = ("to another port of the server's: connect()", "with tcp_tw_reuse 1: connect()")

PORTS = range(40000, 40004)


def play(lab: Lab) -> None:
    lab.client.sysctl("net.ipv4.ip_local_port_range", f"{PORTS[0]} {PORTS[-1]}")
    lab.client.sysctl("net.ipv4.tcp_tw_reuse", 0)
    listener = lab.listen()
    for _ in range(4):
        client, server = lab.connect(listener)
        client.close()
        lab.check(server.recv() == b"", "the server did not read EOF")
        server.close()
        lab.wait(client="TIME-WAIT", server="CLOSED")
    taken = {entry.ends.local.port for entry in lab.client.sockets("TIME-WAIT") if entry.ends}
    lab.measured("ports in TIME-WAIT", " ".join(map(str, sorted(taken))))
    lab.check(taken == set(PORTS), f"{taken} are in TIME-WAIT")

    sent = len(lab.wire.segments())
    fifth = lab.program(lab.client).socket()
    fifth.connect(listener.address, fails=errno.EADDRNOTAVAIL)
    lab.measured("connect()", "EADDRNOTAVAIL", case="to the same port")
    lab.check(len(lab.wire.segments()) == sent, "a segment was sent")
    fifth.close()

    other, _ = lab.connect(port=lab.port + 1)
    lab.measured("connect()", f"port {other.address.port}", case="to another port of the server's")
    # Not before a millisecond of TIME-WAIT; a second by default. Linux: tcp_twsk_unique()
    lab.client.sysctl("net.ipv4.tcp_tw_reuse_delay", 1)
    lab.client.sysctl("net.ipv4.tcp_tw_reuse", 1)
    again, _ = lab.connect(listener)
    lab.measured("connect()", f"port {again.address.port}", case="with tcp_tw_reuse 1")
    lab.check({other.address.port, again.address.port} <= taken, "a fifth port was found")
