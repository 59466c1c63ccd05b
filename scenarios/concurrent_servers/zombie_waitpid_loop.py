"""No zombies: waitpid() with WNOHANG, again and again until there is none left, leaves none.

Three children end at the same instant, and their three SIGCHLDs are one, as in zombie-wait-once.
But the handler takes the signal for what it says, that some child has ended, and asks until the
answer is no. WNOHANG lets it ask: while other children live, wait() would block the server.
"""

import signal

from tcpwatch.lab import Lab

EXPECT = {
    "every client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
    "every server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
}


def play(lab: Lab) -> None:
    server = lab.server.run("fork_server", lab.server.ip, lab.port, "waitpid-loop")
    server.wait_called("accept")
    *clients, living = (lab.client.run("echo_client", lab.server.ip, lab.port) for _ in range(4))
    for client in (*clients, living):
        client.type("hello\n")
    for client in (*clients, living):
        client.wait_printed("hello\n")
    server.wait_called("accept", 5)  # it has closed what its children have

    server.kill(signal.SIGSTOP)
    for client in clients:
        client.end_input()
    for client in clients:
        client.join()
    lab.server.until(lambda: server.zombies == 3, "three zombies")
    server.kill(signal.SIGCONT)
    server.wait_returned("SIGCHLD handler")

    handled = lab.measured("SIGCHLD handled", server.called("SIGCHLD handler"))
    lab.check(handled == 1, f"the handler ran {handled} times")
    calls = lab.measured("waitpid() called", server.called("waitpid"))
    lab.check(calls == 4, f"waitpid() was called {calls} times: for three children and for none")
    zombies = lab.measured("zombies left", server.zombies)
    lab.check(zombies == 0, f"{zombies} zombies are left")

    living.end_input()  # whose child lived through it
    server.wait_returned("SIGCHLD handler", 2)
    lab.check(server.zombies == 0, "the last child is a zombie")
