"""Shutdown of reading: SHUT_RD sends nothing and changes no state; the peer never learns of it.

TCP has no segment that says "I shall read no more" but a RST, and SHUT_RD sends none. What it
changes is local: a recv() that would wait gives EOF instead, which no FIN has caused. The server's
data is acknowledged as before, and on Linux even read. Only a true FIN moves the client's state.
"""

import socket

from tcpwatch.lab import Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
}


def play(lab: Lab) -> None:
    client, server = lab.connect()
    lab.wire.wait_idle()
    before = len(lab.wire.segments())
    client.shutdown(socket.SHUT_RD)
    lab.check(client.recv() == b"", "recv() gave something else than EOF")
    lab.wire.wait_idle()
    sent = lab.measured("segments that SHUT_RD sent", len(lab.wire.segments()) - before)
    lab.check(sent == 0, f"SHUT_RD sent {sent} segments")
    lab.check(lab.client.entry(client).state == "ESTABLISHED", "it is not ESTABLISHED")

    lab.check(server.send(b"data") == 4, "the server's data was not taken")
    lab.wire.wait_idle()
    queue = lab.client.entry(client).receive_queue
    lab.check(lab.measured("octets received after it", queue) == 4, f"Recv-Q is {queue}")
    lab.check(lab.server.entry(server).send_queue == 0, "the data is not acknowledged")
    # Linux: tcp_recvmsg_locked() looks into the queue before it looks at RCV_SHUTDOWN.
    lab.check(client.recv() == b"data", "the client read something else than was sent")
    lab.check(client.recv() == b"", "recv() gave something else than EOF")
    lab.wait(client="ESTABLISHED", server="ESTABLISHED")

    lab.check(client.send(b"answer") == 6, "the other direction was not open")
    lab.check(server.recv() == b"answer", "the server read something else than was sent")
    server.close()
    lab.wait(client="CLOSE-WAIT", server="FIN-WAIT-2")
    client.close()
