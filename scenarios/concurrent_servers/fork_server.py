"""Fork server: a child for each connection, so that a client who says nothing keeps nobody waiting.

The first client connects and is silent; the next two are answered meanwhile, by children of their
own. A fork duplicates every descriptor. So the parent closes the connection, else no close() of the
child's would send a FIN; and the child closes the listener, which is none of its business. Each
child that ends is waited for in the handler of SIGCHLD: no zombie is left.
"""

import signal

from tcpwatch.lab import Lab

EXPECT = {
    "every client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
    "every server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
}
CHANCE = ("waitpid() ECHILD",)  # two children may end before either is waited for


def play(lab: Lab) -> None:
    server = lab.server.run("fork_server", lab.server.ip, lab.port, "waitpid-loop")
    server.wait_called("accept")
    silent = lab.client.run("echo_client", lab.server.ip, lab.port)
    lab.wait(client="ESTABLISHED", server="ESTABLISHED", connection=1)
    others = [lab.client.run("echo_client", lab.server.ip, lab.port) for _ in range(2)]
    for client in others:
        client.type("hello\n")
    for client in others:
        client.wait_printed("hello\n")
    lab.check(not silent.printed, "the silent client was answered")

    server.wait_returned("close", 3)
    for child in server.children:
        child.wait_returned("close")
    table = lab.server.sockets()
    held = [
        [entry.state for entry in table if entry.inode in process.open_sockets]
        for process in (server, *server.children)
    ]
    lab.check(held[0] == ["LISTEN"], f"the parent holds {held[0]}")
    lab.check(held[1:] == [["ESTABLISHED"]] * 3, f"the children hold {held[1:]}")
    lab.measured("sockets held", "the listener", case="the parent")
    lab.measured("sockets held", "one connection", case="each of 3 children")

    silent.type("at last\n")
    silent.wait_printed("at last\n")
    for client in (silent, *others):
        client.end_input()
    for process in (silent, *others, *server.children):
        ending = process.join()
        lab.check(ending.exit_status == 0, f"{process.name} {ending}")
    # CPython runs a handler between two of its instructions. For a signal that comes after the last
    # of them and before accept(2), that is when accept() is interrupted: by the next child's end.
    lab.server.until(lambda: server.blocked_in == "accept", "the server waiting for clients")
    server.kill(signal.SIGCHLD)
    lab.server.until(lambda: not server.zombies, "a fork server without a zombie")
    lab.measured("zombies left", server.zombies)
