"""Echo: the first server and the first client, each call of both beside what it does on the wire.

socket, bind, listen, accept, read, write, close: the server's seven calls, in their order, and the
client's five. SO_REUSEADDR lets a server bind its port again at once when it is restarted. The
client closes first, when its input ends; the server reads that as EOF, and closes too.
"""

from tcpwatch.lab import Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
}


def play(lab: Lab) -> None:
    server = lab.server.run("echo_server", lab.server.ip, lab.port)
    server.wait_called("accept")
    client = lab.client.run("echo_client", lab.server.ip, lab.port)
    for line in ("hello\n", "and goodbye\n"):
        client.type(line)
        client.wait_printed(line)
    client.end_input()
    for program in (client, server):
        ending = program.join()
        lab.check(ending.exit_status == 0, f"the {program.name} {ending}")

    preparing = ["socket", "setsockopt", "bind", "listen"]
    made = {
        server: {**dict.fromkeys(preparing, 1), "accept": 1, "recv": 3, "sendall": 2, "close": 2},
        client: {"socket": 1, "connect": 1, "recv": 2, "sendall": 2, "close": 1},
    }
    for program, calls in made.items():
        told = {call: program.called(call) for call in calls}
        lab.check(told == calls, f"the {program.name} has called {told}")
