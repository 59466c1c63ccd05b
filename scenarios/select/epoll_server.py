"""Epoll server: the same as select-server, by epoll: the kernel keeps the list of descriptors.

Three clients are connected; the first is silent, and keeps nobody waiting. Each descriptor is
handed over once, by epoll_ctl(); epoll_wait() is given none, and what it costs grows with those
that are ready, not with those that are watched.
"""

from tcpwatch.lab import Lab

EXPECT = {
    "every client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
    "every server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
}


def play(lab: Lab) -> None:
    server = lab.server.run("epoll_server", lab.server.ip, lab.port)
    server.wait_returned("listen")
    clients = []
    for number in (1, 2, 3):
        clients.append(lab.client.run("echo_client", lab.server.ip, lab.port))
        server.wait_returned("accept", number)
    lab.server.until(lambda: server.blocked_in == "epoll_wait", "the server asleep in epoll_wait()")
    lab.measured("blocked in", f"{server.blocked_in}()")
    lab.measured("clients at once", len(lab.server.sockets("ESTABLISHED")))

    first, second, third = clients
    turns = [(second, "one\n"), (third, "two\n"), (first, "three\n"), (second, "four\n")]
    for client, line in turns:
        client.type(line)
        client.wait_printed(line)
    for number, client in enumerate(clients, 1):
        client.end_input()
        lab.check(client.join().exit_status == 0, f"the {client.name} failed")
        server.wait_returned("close", number)
    lab.wait(client="TIME-WAIT", server="CLOSED")

    lab.measured("processes", 1 + len(server.children))
    handed = sum(done.call == "epoll_ctl" for done in server.calls)
    lab.measured("descriptors handed to the kernel", handed)
    lab.check(all(done.errno is None for done in server.calls), "a call of the server failed")
