"""Poll server: the same as select-server, by poll(), whose list has no bound.

Three clients are connected; the first is silent, and keeps nobody waiting. poll() is given a list
of descriptors where select() is given sets of 1024 bits (see fd-limit), but still all of them each
time, and the kernel looks at each.
"""

from tcpwatch.lab import Lab

EXPECT = {
    "every client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
    "every server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
}


def play(lab: Lab) -> None:
    server = lab.server.run("poll_server", lab.server.ip, lab.port)
    server.wait_returned("listen")
    clients = []
    for number in (1, 2, 3):
        clients.append(lab.client.run("echo_client", lab.server.ip, lab.port))
        server.wait_returned("accept", number)
    lab.server.until(lambda: server.blocked_in == "poll", "the server asleep in poll()")
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
    waits = [done.arguments for done in server.calls if done.call == "poll"]
    handed = sum(len(descriptors.split(",")) for descriptors in waits)
    lab.measured("descriptors handed to the kernel", handed)
    lab.check(all(done.errno is None for done in server.calls), "a call of the server failed")
