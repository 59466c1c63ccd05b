"""CLOSE-WAIT leak: the peer has gone, the program has not closed, and so it stays for ever.

Three clients came, said goodbye and left. The server accepted each, but does not call close():
each connection stays in CLOSE-WAIT, where no timer runs, long after its client's end is gone. The
socket table tells whose fault it is: an inode, so a process holds it; and Recv-Q, where the FIN
counts as one octet until the program has read EOF. (See never-accepted for the opposite bug.)
"""

from tcpwatch.lab import Lab

EXPECT = {
    "every client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > CLOSED",
    "every server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT",
}


def play(lab: Lab) -> None:
    lab.client.sysctl("net.ipv4.tcp_fin_timeout", 1)
    listener = lab.listen()
    leaked = []
    for _ in range(3):
        client, server = lab.connect(listener)
        client.send(b"bye")
        client.close()
        lab.wait(client="FIN-WAIT-2", server="CLOSE-WAIT")
        leaked.append(server)

    server = leaked[0]
    unread = lab.server.entry(server).receive_queue
    lab.measured("Recv-Q in CLOSE-WAIT", unread, case="nothing was read")
    lab.check(unread == len(b"bye") + 1, f"Recv-Q is {unread}, not the data and the FIN")
    lab.check(server.recv_to_end() == b"bye", "the server read something else than was sent")
    unread = lab.server.entry(server).receive_queue
    lab.measured("Recv-Q in CLOSE-WAIT", unread, case="all was read")
    lab.check(unread == 0, f"Recv-Q is {unread}, though EOF was read")

    lab.client.until(lambda: not lab.client.sockets(), "no socket of any client any more")
    lab.settle()
    left = lab.server.sockets("CLOSE-WAIT")
    count = lab.measured("left in CLOSE-WAIT when the clients are gone", len(left))
    lab.check(count == 3, f"{count} sockets are left in CLOSE-WAIT")
    held = len({entry.inode for entry in left} - {0})
    lab.check(lab.measured("of them held by a process", held) == 3, "a process does not hold each")
    lab.check(not any(entry.timer for entry in left), "a timer runs that may end CLOSE-WAIT")
