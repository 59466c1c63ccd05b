"""Zombies, ignored: SIGCHLD does nothing by default, and each child stays as a zombie.

The server forks a child for each of its clients and never waits. Three children end; what is left
of each is its pid and its exit status, for a parent who does not ask. Their connections ended in
good order: a zombie holds no socket. SIG_IGN looks like the same indifference and is the opposite:
by it the parent says that it never will ask, and the kernel keeps nothing (POSIX: _exit()).
"""

from tcpwatch.lab import Lab

EXPECT = {
    "every client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
    "every server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
}


def play(lab: Lab) -> None:
    for port, mode, wanted in ((lab.port, "ignored", 3), (lab.port + 1, "sig-ign", 0)):
        server = lab.server.run("fork_server", lab.server.ip, port, mode)
        server.wait_called("accept")
        clients = [lab.client.run("echo_client", lab.server.ip, port) for _ in range(3)]
        for client in clients:
            client.type("hello\n")
        for client in clients:
            client.wait_printed("hello\n")
        server.wait_called("accept", 4)  # it has closed what its children have
        for client in clients:
            client.end_input()
        for process in (*clients, *server.children):
            process.join()

        case = {"ignored": "by default", "sig-ign": "SIG_IGN"}[mode]
        zombies = lab.measured("zombies left", server.zombies, case=case)
        lab.check(zombies == wanted, f"{zombies} of 3 children are zombies, SIGCHLD {case}")
        lab.check(not server.called("waitpid") + server.called("wait"), "the server has waited")
        lab.check(server.alive, "the server has ended")
