"""TIME-WAIT overflow: beyond tcp_max_tw_buckets who closes first goes straight to CLOSED.

Linux keeps only so many connections in TIME-WAIT; here one. The second has nowhere to wait: at the
server's FIN its socket is gone, without a minisocket. That is what TIME-WAIT is for: the last
acknowledgement is lost, the server's FIN comes again, and now a RST answers it, since there is
nobody who could acknowledge it. The server had closed in good order and is told of a reset.
"""

import socket

from tcpwatch.lab import FIN, PURE_ACK, RST, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
    # By RFC 9293 there is no way around TIME-WAIT, so the wire alone takes it for granted.
    "client 2": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT? > CLOSED",
    "server 2": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
}


def play(lab: Lab) -> None:
    lab.client.sysctl("net.ipv4.tcp_max_tw_buckets", 1)
    listener = lab.listen()
    for place in ("the first", "one too many"):
        client, server = lab.connect(listener)
        # Not close(): an orphan in FIN-WAIT-2 is a minisocket already, and would not get so far.
        client.shutdown(socket.SHUT_WR)
        lab.check(server.recv() == b"", "the server did not read EOF")
        lab.wait(client="FIN-WAIT-2", server="CLOSE-WAIT")
        lab.settle()
        with lab.wire.drop(PURE_ACK, by="client", count=1) as last_ack:
            before = lab.wire.mark()
            server.close()
            last_ack.wait()
        state = lab.measured("after the server's FIN", lab.client.entry(client).state, case=place)
        lab.check(state == ("TIME-WAIT" if place == "the first" else "CLOSED"), f"{place}: {state}")
        lab.wire.wait_for(FIN, by="server", count=2, since=before)
        lab.wait(server="CLOSED")
        resets = [seen for seen in lab.wire.segments("client") if RST(seen, "client")]
        answer = lab.measured(
            "answer to the FIN sent again", "RST" if resets else "ACK", case=place
        )
        lab.check(answer == ("ACK" if place == "the first" else "RST"), f"{place}: {answer}")
    overflows = lab.client.counter("TCPTimeWaitOverflow")
    lab.check(overflows == 1, f"TCPTimeWaitOverflow is {overflows}")
