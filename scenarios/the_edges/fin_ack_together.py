"""FIN and ACK together: one segment takes the closer from FIN-WAIT-1 to TIME-WAIT.

The bare acknowledgement of the client's FIN is lost, so the first to acknowledge it is the
server's own FIN. RFC 9293 draws this as an arrow of its own. Linux works through the segment in
two steps, and so does pass through FIN-WAIT-2: for microseconds, on one segment.
"""

from tcpwatch.lab import FIN, PURE_ACK, Lab

# Linux: tcp_rcv_state_process() in tcp_input.c takes the ACK first (FIN-WAIT-2), then the FIN.
EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
}


def play(lab: Lab) -> None:
    client, server = lab.connect()
    with lab.wire.drop(PURE_ACK, by="server"):
        client.close()
        lab.check(server.recv() == b"", "the server did not read EOF")
        lab.wait(client="FIN-WAIT-1", server="CLOSE-WAIT")
        lab.settle()
        server.close()
        lab.wire.wait_for(FIN, by="server")
    lab.wait(client="TIME-WAIT", server="CLOSED")
