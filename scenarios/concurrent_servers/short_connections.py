"""Short connections: four requests over four connections, a handshake and a TIME-WAIT for each.

The client closes after each answer. Every request waits for a handshake first, the server forks a
child for it, and each close leaves a TIME-WAIT at the client, for a minute: a busy client fills its
table with them, and its ports. More segments make and end connections than carry anything. Set
against this, see long-connection.
"""

from tcpwatch.lab import DATA, SYN_ACK, Lab

EXPECT = {
    "every client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
    "every server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
}
REQUESTS = 4


def play(lab: Lab) -> None:
    server = lab.server.run("fork_server", lab.server.ip, lab.port, "waitpid-loop")
    server.wait_called("accept")
    client = lab.client.run("request_client", lab.server.ip, lab.port, REQUESTS, "short")
    lab.check(client.join().exit_status == 0, "the client failed")
    lab.check(client.printed.count("request") == REQUESTS, f"it printed {client.printed}")
    server.wait_returned("fork", REQUESTS)
    for number, child in enumerate(server.children, 1):
        child.join()
        lab.wait(client="TIME-WAIT", server="CLOSED", connection=number)

    lab.wire.wait_idle()
    sent = lab.wire.segments()
    lab.measured("requests", REQUESTS)
    connections = lab.measured(
        "connections", len({seen.src for seen in lab.wire.segments("client")})
    )
    answers = {seen.dst for seen in sent if SYN_ACK(seen, "server")}
    handshakes = lab.measured("handshakes", len(answers))
    lab.measured("segments", len(sent))
    lab.measured("of them with data", sum(DATA(seen, "") for seen in sent))
    lab.measured("children forked", len(server.children))
    left = lab.measured("TIME-WAITs left", len(lab.client.sockets("TIME-WAIT")))
    told = (connections, handshakes, len(server.children), left)
    lab.check(told == (REQUESTS,) * 4, f"connections, handshakes, children, TIME-WAITs: {told}")
    lab.check(not lab.server.sockets("TIME-WAIT"), "the server has a TIME-WAIT, and closed last")
