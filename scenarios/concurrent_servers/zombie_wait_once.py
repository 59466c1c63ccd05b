"""Zombies, one wait() a signal: signals of a kind are merged, so one may stand for three children.

Three children end at the same instant, here while the server is stopped. Each end raises SIGCHLD,
but a pending signal is one bit: when the server goes on, its handler runs once, calls wait() once,
and two zombies are left, for good or until another child happens to end. A server that is merely
busy for a moment loses children in the same way. The cure is in zombie-waitpid-loop.
"""

import signal

from tcpwatch.lab import Lab

EXPECT = {
    "every client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
    "every server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
}


def play(lab: Lab) -> None:
    server = lab.server.run("fork_server", lab.server.ip, lab.port, "wait-once")
    server.wait_called("accept")
    clients = [lab.client.run("echo_client", lab.server.ip, lab.port) for _ in range(3)]
    for client in clients:
        client.type("hello\n")
    for client in clients:
        client.wait_printed("hello\n")
    server.wait_called("accept", 4)  # it has closed what its children have

    server.kill(signal.SIGSTOP)
    for client in clients:
        client.end_input()
    for process in (*clients, *server.children):
        process.join()
    lab.check(server.zombies == 3, f"{server.zombies} of 3 children are zombies")
    server.kill(signal.SIGCONT)
    server.wait_returned("SIGCHLD handler")

    handled = lab.measured("SIGCHLD handled", server.called("SIGCHLD handler"))
    lab.check(handled == 1, f"the handler ran {handled} times")
    zombies = lab.measured("zombies left", server.zombies)
    lab.check(zombies == 2, f"{zombies} zombies are left, expected all but one")
