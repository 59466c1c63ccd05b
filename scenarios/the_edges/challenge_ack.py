"""Challenge ACK: a RST that is not exact, or a SYN, changes nothing but is asked about.

Who guesses a sequence number within the window must not be able to cut a connection (RFC 5961).
A RST counts only with exactly the number that is expected next; one octet beside it, and likewise
for a SYN, the end stays ESTABLISHED and answers by an ACK. A peer that had really lost the
connection would answer that by an exact RST.
"""

from tcpwatch.lab import PURE_ACK, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED",
}


def play(lab: Lab) -> None:
    client, server = lab.connect()

    before = lab.wire.mark()
    lab.wire.inject_rst("client", offset=1)
    lab.wire.wait_for(PURE_ACK, by="client", since=before)

    before = lab.wire.mark()
    expected = lab.wire.numbers("server").rcv_nxt
    lab.wire.inject("server", flags="S", seq=int(expected or 0) + 1)
    lab.wire.wait_for(PURE_ACK, by="server", since=before)
    lab.wire.wait_idle()

    client.send(b"still here")
    lab.check(server.recv() == b"still here", "the server read something else than was sent")
    lab.wait(client="ESTABLISHED", server="ESTABLISHED")
