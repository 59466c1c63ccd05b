"""TIME-WAIT destroyed: an administrator may end what no process holds any more.

TIME-WAIT has no descriptor that could be closed. `ss -K` ends it all the same (SOCK_DESTROY, the
RFC's ABORT): nothing is sent, the entry is gone, and with it what it protected from. The server's
FIN, should it come again, finds nobody and is answered by a RST.
"""

from tcpwatch.lab import FIN, PURE_ACK, RST, Lab

# Linux: tcp_abort() in tcp.c, inet_twsk_deschedule_put().
EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT > CLOSED",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
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
    lab.settle()
    lab.client.destroy(client)
    lab.wait(client="CLOSED")
    lab.wire.wait_for(FIN, by="server", count=2)  # the retransmission
    lab.wire.wait_for(RST, by="client")
    lab.wait(server="CLOSED")
