"""Simultaneous close: both FINs cross on the wire, so both ends pass through CLOSING.

Each end closes before it has seen the other's FIN. Each then gets a FIN while it still waits for
the acknowledgement of its own: that is CLOSING, a state that few people have ever seen, because
the two calls must fall within one trip of a segment. Here the wire holds both FINs for a moment.
"""

from tcpwatch.lab import FIN, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > CLOSING > TIME-WAIT",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > FIN-WAIT-1 > CLOSING > TIME-WAIT",
}


def play(lab: Lab) -> None:
    client, server = lab.connect()
    with lab.wire.hold(FIN):  # both FINs are in flight at once
        client.close()
        server.close()
