"""SIGPIPE ignored: the same second write fails with EPIPE, and the process lives to tell of it.

All is as in sigpipe-default, to the segment: the server is killed, the client's first write is
answered by a RST. But the client has set SIGPIPE to SIG_IGN, as any program should that writes to
sockets (or asks for MSG_NOSIGNAL each time). Then the write returns, with EPIPE, each time anew.
"""

from tcpwatch.lab import RST, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > CLOSE-WAIT > CLOSED",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > CLOSED",
}


def play(lab: Lab) -> None:
    listener = lab.listen()
    client = lab.client.run("writer", lab.server.ip, lab.port, "ignored")
    server = listener.accept()
    server.process.kill()
    lab.wait(client="CLOSE-WAIT", server="FIN-WAIT-2")

    client.type("first\n")
    client.wait_printed("sent first\n")
    lab.wire.wait_for(RST, by="server")
    lab.wait(client="CLOSED", server="CLOSED")
    client.type("second\n")
    client.wait_printed("EPIPE for second\n")
    lab.measured("first write after the FIN", "sent")
    lab.measured("second write", "EPIPE")
    client.type("third\n")
    client.wait_printed("EPIPE for third\n")
    client.end_input()
    ending = client.join()
    lab.check(ending.exit_status == 0, f"the client {ending}")
