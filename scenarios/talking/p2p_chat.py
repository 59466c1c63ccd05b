"""Chat: each end is two processes on one socket, one that sends and one that receives.

The client's user has said all: his sender ends with shutdown(), for a close() would send no FIN
while the receiver holds the socket. The server's receiver reads EOF. It ends its own sender, waits
for it and closes; so does the client's at the EOF that this brings. Every child was waited for by
its own parent: no zombie is left, and no orphan.
"""

from tcpwatch.lab import Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
}


def play(lab: Lab) -> None:
    server = lab.server.run("chat", "listen", lab.server.ip, lab.port)
    server.wait_called("accept")
    client = lab.client.run("chat", "connect", lab.server.ip, lab.port)
    client.type("is anybody there?\n")
    server.wait_printed("is anybody there?\n")
    server.type("yes, and both of us may talk\n")
    client.type("at any time\n")
    client.wait_printed("yes, and both of us may talk\n")
    server.wait_printed("at any time\n")

    client.end_input()
    for program in (server, client):
        ending = program.join()
        lab.check(ending.exit_status == 0, f"the {program.name} {ending}")
        (sender,) = program.children
        lab.check(sender.reaped, f"nobody waited for {sender.name} of the {program.name}")
