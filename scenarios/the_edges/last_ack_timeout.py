"""LAST-ACK times out: nobody acknowledges the last FIN, and the orphan is given up.

The server has closed after its client. Its FIN arrives, but all acknowledgements of it are lost.
The client is in TIME-WAIT and answers each repetition; the server hears nothing, and after
tcp_orphan_retries (8 by default, here 1) its kernel drops the socket.
"""

from tcpwatch.lab import ACK, FIN, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
}


def play(lab: Lab) -> None:
    lab.server.sysctl("net.ipv4.tcp_orphan_retries", 1)
    client, server = lab.connect()
    client.close()
    lab.check(server.recv() == b"", "the server did not read EOF")
    lab.wait(client="FIN-WAIT-2", server="CLOSE-WAIT")
    lab.settle()
    lab.wire.drop(ACK, by="client")  # from now on
    server.close()
    lab.wait(client="TIME-WAIT", server="LAST-ACK")
    lab.wire.wait_for(FIN, by="server", count=2)  # at least one retransmission
    lab.wait(server="CLOSED")
