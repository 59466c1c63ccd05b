"""Zero window: a FIN behind data that nobody takes keeps an orphan, long after its process ended.

The server reads nothing, so its window closes and the client's data piles up. Then the client's
process ends. Its kernel still owes that data and the FIN behind it, so the socket stays: with inode
0, in FIN-WAIT-1, though no FIN was sent. Nothing is lost, so there is nothing to retransmit; it is
the persist timer that runs, and probes the window. Once the server reads, everything arrives.
"""

import socket

from tcpwatch.lab import FIN, PURE_ACK, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
}


def play(lab: Lab) -> None:
    listener = lab.program(lab.server).socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # before it has a window
    listener.reuse_address()
    listener.bind(lab.port)
    listener.listen()
    client, server = lab.connect(listener)
    written = client.send(bytes(12000))
    lab.client.until(lambda: lab.client.entry(client).timer == "persist", "a closed window")
    client.process.exit()
    lab.client.until(lambda: lab.client.entry(client).inode == 0, "an orphan")
    lab.settle()

    orphan = lab.client.entry(client)
    lab.check(orphan.state == "FIN-WAIT-1", f"the table says {orphan.state}")
    lab.measured("written by the process", written)
    unread = lab.measured("Recv-Q of the server", lab.server.entry(server).receive_queue)
    owed = lab.measured("Send-Q of the orphan", orphan.send_queue)
    lab.check(owed == written - unread + 1 > 1, "Send-Q is not the rest and the FIN")
    lab.check(lab.measured("timer of the orphan", orphan.timer) == "persist", orphan.timer)
    lab.wire.wait_for(PURE_ACK, by="client", since=lab.wire.mark())  # a probe of the window
    fins = [seen for seen in lab.wire.segments("client") if FIN(seen, "client")]
    lab.check(not fins, "a FIN was sent")

    lab.check(len(server.recv_to_end()) == written, "the server did not get all that was written")
    server.close()
    lab.wait(client="TIME-WAIT", server="CLOSED")
