"""SYN,ACK lost: both ends wait, and a retransmission opens the connection a second later.

The SYN has arrived, the answer has not. The client cannot tell that from a lost SYN and repeats it;
the server, in SYN-RECEIVED, takes it for the duplicate that it is and answers again. The loss of
one segment costs a whole second: there was no round trip yet to learn a better timeout from.
"""

from tcpwatch.lab import SYN_ACK, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT[>=500ms] > ESTABLISHED",
    "server": "LISTEN > SYN-RECEIVED[>=500ms] > ESTABLISHED",
}


def play(lab: Lab) -> None:
    with lab.wire.drop(SYN_ACK, by="server", count=1) as lost:
        lab.connect()
    lab.check(len(lost.dropped) == 1, "no SYN,ACK was lost")
    lab.wire.wait_for(SYN_ACK, by="server", count=2)
