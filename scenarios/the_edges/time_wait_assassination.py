"""TIME-WAIT assassination: an old FIN and its answer end TIME-WAIT early, unless told otherwise.

The server's FIN arrives once more. TIME-WAIT acknowledges it, as it must; the server is long CLOSED
and answers that by a RST, which ends TIME-WAIT. RFC 1337 advises to ignore a RST there, and Linux
does so where tcp_rfc1337 is 1; its default is 0, and then nothing protects the next connection of
the same ports from segments of this one.
"""

from tcpwatch.lab import PURE_ACK, RST, Lab

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
    server.close()
    lab.wait(client="TIME-WAIT", server="CLOSED")
    lab.wire.wait_idle()
    lab.settle()
    fin = int(lab.wire.numbers("client").rcv_nxt or 0) - 1

    for rfc1337 in (1, 0):
        lab.client.sysctl("net.ipv4.tcp_rfc1337", rfc1337)
        before = lab.wire.mark()
        lab.wire.inject("client", flags="FA", seq=fin)
        lab.wire.wait_for(PURE_ACK, by="client", since=before)  # TIME-WAIT was there to answer
        lab.wire.wait_for(RST, by="server", since=before)
        lab.wire.wait_idle()
    lab.wait(client="CLOSED")
