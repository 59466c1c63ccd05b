"""Close in SYN-SENT: who gives up before an answer just goes, and sends nothing.

The SYN got lost. The client does not wait for the answer (its socket is non-blocking) and closes:
there is no connection yet that a FIN could end, so the socket is CLOSED at once and in silence.
"""

import errno

from tcpwatch.lab import SYN, Lab

EXPECT = {"client": "CLOSED > SYN-SENT > CLOSED"}


def play(lab: Lab) -> None:
    lab.listen()
    client = lab.program(lab.client).socket()
    client.setblocking(blocking=False)
    with lab.wire.drop(SYN, by="client") as lost:
        client.connect((lab.server.ip, lab.port), fails=errno.EINPROGRESS)
        lost.wait()
        lab.wait(client="SYN-SENT")
        lab.settle()
        client.close()
        lab.wait(client="CLOSED")
    sent = [seen.segment for seen in lab.wire.segments()]
    lab.check(all(segment.syn for segment in sent), "something else than a SYN was sent")
