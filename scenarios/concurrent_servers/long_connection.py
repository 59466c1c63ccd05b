"""Long connection: four requests over one connection cost one handshake and leave one TIME-WAIT.

The client keeps its connection and asks again over it; the server's child serves it from first to
last. But for the three segments of the handshake and those of the close all segments carry a
request or an answer, or acknowledge one. Set against this, see short-connections.
"""

from tcpwatch.lab import DATA, SYN_ACK, Lab

EXPECT = {
    "every client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
    "every server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
}
CHANCE = ("segments",)  # an acknowledgement rides on data, or goes before it
REQUESTS = 4


def play(lab: Lab) -> None:
    server = lab.server.run("fork_server", lab.server.ip, lab.port, "waitpid-loop")
    server.wait_called("accept")
    client = lab.client.run("request_client", lab.server.ip, lab.port, REQUESTS, "long")
    lab.check(client.join().exit_status == 0, "the client failed")
    lab.check(client.printed.count("request") == REQUESTS, f"it printed {client.printed}")
    server.wait_returned("fork")
    server.children[0].join()
    lab.wait(client="TIME-WAIT", server="CLOSED")

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
    lab.check(told == (1, 1, 1, 1), f"connections, handshakes, children, TIME-WAITs: {told}")
    lab.check(not lab.server.sockets("TIME-WAIT"), "the server has a TIME-WAIT, and closed last")
