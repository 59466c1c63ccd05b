"""TIME-WAIT reopened: a newer SYN on the same two ports does not have to wait.

The server closed first and is in TIME-WAIT. The same client calls again from the same port: its SYN
is newer than all that the old connection has seen (by timestamp or sequence number), so nothing
old can be mistaken for it. The listener takes it (RFC 6191, RFC 9293 3.10.7.4), and TIME-WAIT ends.
"""

from tcpwatch.lab import Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
    "client 2": "CLOSED > SYN-SENT > ESTABLISHED",
    "server 2": "(LISTEN | TIME-WAIT) > SYN-RECEIVED > ESTABLISHED",
}


def play(lab: Lab) -> None:
    listener = lab.listen()
    client, server = lab.connect(listener)
    server.close()
    lab.check(client.recv() == b"", "the client did not read EOF")
    lab.wait(client="CLOSE-WAIT", server="FIN-WAIT-2")
    lab.settle()
    client.close()
    lab.wait(client="CLOSED", server="TIME-WAIT")
    lab.wire.wait_idle()
    lab.settle()

    again = lab.program(lab.client).socket()
    again.reuse_address()
    again.bind(client.address)
    again.connect(listener.address)
    listener.accept()
    lab.wait(client="ESTABLISHED", server="ESTABLISHED")
