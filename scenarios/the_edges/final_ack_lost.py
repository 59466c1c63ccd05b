"""Final ACK lost: LAST-ACK sends its FIN again, and TIME-WAIT is there to acknowledge it.

The last segment of a connection is a bare ACK: if it is lost, only the other end notices. The
server repeats its FIN until it is acknowledged; had the client gone at once, a RST would be the
answer and an orderly close would look like a failure. This is what TIME-WAIT is for.
"""

from tcpwatch.lab import FIN, PURE_ACK, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK[>=100ms] > CLOSED",
}


def play(lab: Lab) -> None:
    client, server = lab.connect()
    client.close()
    lab.check(server.recv() == b"", "the server did not read EOF")
    lab.wait(client="FIN-WAIT-2", server="CLOSE-WAIT")
    lab.settle()

    with lab.wire.drop(PURE_ACK, by="client", count=1) as last_ack:
        server.close()
        last_ack.wait()
    lab.wait(client="TIME-WAIT", server="LAST-ACK")
    lab.wire.wait_for(FIN, by="server", count=2)  # the retransmission
    lab.wait(server="CLOSED")
