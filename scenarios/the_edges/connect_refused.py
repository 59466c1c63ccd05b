"""Connection refused: nobody listens, and a RST answers the SYN.

The host is there, the port is not open. Its kernel answers by a RST that acknowledges the SYN, and
connect() fails with ECONNREFUSED after one trip there and back. A RST in any other state is
ECONNRESET: the errno tells that the connection had never been.
"""

import errno

from tcpwatch.lab import RST, Lab

EXPECT = {"client": "CLOSED > SYN-SENT > CLOSED", "server": "CLOSED"}


def play(lab: Lab) -> None:
    client = lab.program(lab.client).socket()
    client.connect((lab.server.ip, lab.port), fails=errno.ECONNREFUSED)
    refusal = lab.wire.wait_for(RST, by="server").segment
    lab.check(refusal.ack is not None, "the RST does not acknowledge the SYN")
    lab.check(len(lab.wire.segments("client")) == 1, "one SYN was not enough")
    lab.check(len(lab.wire.segments("server")) == 1, "more than a RST came back")
