"""FIN-WAIT-2 times out: an orphan does not wait for ever for a peer that never closes.

The client has closed and its FIN is acknowledged; the server never closes. RFC 9293 has the client
wait as long as it takes. Linux waits so for a socket that a process still holds; one that nobody
holds is given up after tcp_fin_timeout (60 s by default, here 1), and the server is not told.
"""

from tcpwatch.lab import Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2[>=800ms] > CLOSED",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT",
}


def play(lab: Lab) -> None:
    lab.client.sysctl("net.ipv4.tcp_fin_timeout", 1)
    client, server = lab.connect()
    client.close()
    lab.check(server.recv() == b"", "the server did not read EOF")
    lab.wait(client="FIN-WAIT-2", server="CLOSE-WAIT")
    lab.wait(client="CLOSED")
