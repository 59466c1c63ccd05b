"""Dual stack: one connection, in the IPv4 table at one end and in the IPv6 table at the other.

The server listens on ``::``, which takes IPv4 too (IPV6_V6ONLY is off). A client calls it over
IPv4, and IPv4 is all that is on the wire. But the server's socket is an IPv6 one: its table, and
accept(), have both addresses mapped, ::ffff:a.b.c.d. Who pairs the two ends by their addresses as
they stand sees two halves of two connections.
"""

import socket

from tcpwatch.lab import Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
}


def play(lab: Lab) -> None:
    listener = lab.program(lab.server).socket(ipv6=True)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind(("::", lab.port))
    listener.listen()
    client = lab.program(lab.client).socket(ipv6=False)
    client.connect((lab.server.ip4, lab.port))
    server = listener.accept()
    lab.wait(client="ESTABLISHED", server="ESTABLISHED")
    lab.settle()

    here, there = lab.client.entry(client), lab.server.entry(server)
    lab.measured("the client's table", " to ".join(here.listed))
    lab.measured("the server's table", " to ".join(there.listed))
    ips = lab.client.ip4, lab.server.ip4
    lab.check(here.listed == ips, f"the client's table has {here.listed}")
    mapped = tuple(f"::ffff:{ip}" for ip in reversed(ips))
    lab.check(there.listed == mapped, f"the server's table has {there.listed}")
    paired = there.ends is not None and here.ends == there.ends.flipped
    lab.check(paired, "even normalised they are not the two ends of one connection")

    server.close()
    lab.check(client.recv() == b"", "the client did not read EOF")
    lab.wait(server="FIN-WAIT-2")
    client.close()
    lab.wait(client="CLOSED", server="TIME-WAIT")
