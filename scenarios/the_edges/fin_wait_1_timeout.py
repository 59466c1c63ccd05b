"""FIN-WAIT-1 times out: nobody acknowledges the FIN, and the orphan is given up.

The client has closed, and from then on all that the server sends is lost. The client's kernel
repeats the FIN; as no process holds the socket any more, it does so only tcp_orphan_retries times
(8 by default, here 1) and then drops it. The server, in CLOSE-WAIT, is not told.
"""

from tcpwatch.lab import ACK, FIN, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > CLOSED",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT",
}


def play(lab: Lab) -> None:
    lab.client.sysctl("net.ipv4.tcp_orphan_retries", 1)
    client, _server = lab.connect()
    lab.wire.drop(ACK, by="server")  # from now on
    client.close()
    lab.wait(client="FIN-WAIT-1", server="CLOSE-WAIT")
    lab.wire.wait_for(FIN, by="client", count=2)  # at least one retransmission
    lab.wait(client="CLOSED")
