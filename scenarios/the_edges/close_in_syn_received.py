"""Close in SYN-RECEIVED: the FIN goes out before the connection was ever ESTABLISHED.

Two SYNs crossed, and both ends wait in SYN-RECEIVED for the other's SYN,ACK. The client closes
there: its program has nothing more to say, so FIN-WAIT-1 it is. The server becomes ESTABLISHED and
reads EOF at once. Only a simultaneous open lets a program close here: a listener's child has no
descriptor before its handshake is over.
"""

import errno

from tcpwatch.lab import SYN, SYN_ACK, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > SYN-RECEIVED > FIN-WAIT-1 > FIN-WAIT-2",
    "server": "CLOSED > SYN-SENT > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT",
}


def play(lab: Lab) -> None:
    client = lab.program(lab.client).socket()
    server = lab.program(lab.server).socket()
    client.bind(lab.port)
    server.bind(lab.port)
    client.setblocking(blocking=False)
    syns = lab.wire.hold(SYN & ~SYN_ACK)
    client.connect(server.address, fails=errno.EINPROGRESS)
    called = server.start.connect(client.address)
    syns.wait(2)
    with lab.wire.hold(SYN_ACK) as answers:
        syns.release()
        answers.wait(2)
        lab.wait(client="SYN-RECEIVED", server="SYN-RECEIVED")
        lab.settle()
        client.close()
        lab.wait(client="FIN-WAIT-1")
        lab.settle()
    called.result()
    lab.check(server.recv() == b"", "the server did not read EOF")
    lab.wait(client="FIN-WAIT-2", server="CLOSE-WAIT")
