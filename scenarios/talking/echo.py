"""Echo: the first server and the first client, each call of both beside what it does on the wire.

socket, bind, listen, accept, read, write, close: the server's seven calls, in their order, and the
client's four. SO_REUSEADDR lets the server bind its port again at once when it is restarted. The
client closes first, when its input ends; the server reads that as EOF, and closes too.
"""

from tcpwatch.lab import Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
}


def play(lab: Lab) -> None:
    server = lab.server.run("echo_server", lab.port)
    server.wait_called("accept")
    client = lab.client.run("echo_client", lab.server.ip, lab.port)
    client.type("hello\n")
    client.wait_printed("hello\n")
    client.type("and goodbye\n")
    client.wait_printed("and goodbye\n")
    client.end_input()
    for program in (client, server):
        ending = program.join()
        lab.check(ending.exit_status == 0, f"the {program.name} {ending}")
