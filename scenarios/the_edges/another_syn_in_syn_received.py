"""Another SYN in SYN-RECEIVED: the half-made connection is reset, and the listener lives on.

A SYN was answered and the handshake waits for its third segment. Then a SYN comes from the same
ports with another number: the caller has rebooted and calls anew, or somebody lies. An end that
opened passively answers by a RST and is LISTEN again (RFC 9293 3.10.7.4); the next SYN finds it.
"""

import errno

from tcpwatch.lab import RST, SYN, SYN_ACK, Lab

# Linux: tcp_check_req() in tcp_minisocks.c, "embryonic_reset".
EXPECT = {
    "client": "CLOSED > SYN-SENT > CLOSED",
    "server": "LISTEN > SYN-RECEIVED > LISTEN",
    "client 2": "CLOSED > SYN-SENT > ESTABLISHED",
    "server 2": "LISTEN > SYN-RECEIVED > ESTABLISHED",
}


def play(lab: Lab) -> None:
    listener = lab.listen()
    client = lab.program(lab.client).socket()
    client.setblocking(blocking=False)
    with lab.wire.hold(SYN_ACK, by="server") as answer:
        client.connect(listener.address, fails=errno.EINPROGRESS)
        answer.wait()
        lab.wait(server="SYN-RECEIVED")
        lab.settle()
        with lab.wire.drop(SYN, by="client"):  # it may try again meanwhile
            expected = lab.wire.numbers("server").rcv_nxt
            lab.wire.inject("server", flags="S", seq=int(expected or 0) + 100)
            lab.wire.wait_for(RST, by="server")
            lab.wait(server="LISTEN")
            client.close()
            lab.wait(client="CLOSED")
        answer.drop()

    lab.connect(listener)
