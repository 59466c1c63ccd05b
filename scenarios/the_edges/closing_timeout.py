"""CLOSING times out: the FINs crossed, then everything is lost, and both orphans are given up.

Both ends have the other's FIN and wait only for the acknowledgement of their own. It never comes.
Each repeats its FIN, tcp_orphan_retries times (8 by default, here 1), and is dropped: no
TIME-WAIT, for nothing was acknowledged that a late segment could ask for again.
"""

from tcpwatch.lab import ACK, FIN, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > CLOSING > CLOSED",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > FIN-WAIT-1 > CLOSING > CLOSED",
}


def play(lab: Lab) -> None:
    for host in (lab.client, lab.server):
        host.sysctl("net.ipv4.tcp_orphan_retries", 1)
    client, server = lab.connect()
    fins = lab.wire.hold(FIN)
    client.close()
    server.close()
    fins.wait(2)
    lab.wire.drop(ACK)  # all that comes after the two FINs
    fins.release()
    lab.wait(client="CLOSING", server="CLOSING")
    lab.wait(client="CLOSED", server="CLOSED")
