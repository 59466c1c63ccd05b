"""FIN lost: FIN-WAIT-1 repeats it, as it would data.

A FIN has a place of its own in the sequence, so it is acknowledged and retransmitted like an
octet. close() returned at once all the same: the kernel does this alone, and the program that
closed may long be gone.
"""

from tcpwatch.lab import FIN, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1[>=100ms] > FIN-WAIT-2 > TIME-WAIT",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
}


def play(lab: Lab) -> None:
    client, server = lab.connect()
    with lab.wire.drop(FIN, by="client", count=1) as lost:
        client.close()
        lost.wait()
    lab.wait(client="FIN-WAIT-1", server="ESTABLISHED")
    lab.wire.wait_for(FIN, by="client", count=2)  # the retransmission
    lab.check(server.recv() == b"", "the server did not read EOF")
    lab.wait(client="FIN-WAIT-2")
    server.close()
