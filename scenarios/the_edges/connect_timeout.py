"""Connect timeout: nothing answers the SYN, and the client gives up by itself.

Where a firewall drops the SYN there is no RST, only silence. The client repeats its SYN after a
second, then ever more slowly, and connect() fails with ETIMEDOUT. By default that takes more than
two minutes (tcp_syn_retries); here the client may try again only once.
"""

import errno

from tcpwatch.lab import SYN, Lab

EXPECT = {"client": "CLOSED > SYN-SENT[>=1s] > CLOSED"}


def play(lab: Lab) -> None:
    lab.client.sysctl("net.ipv4.tcp_syn_retries", 1)
    lab.client.sysctl("net.ipv4.tcp_syn_linear_timeouts", 0)  # else some more, a second apart
    client = lab.program(lab.client).socket()
    with lab.wire.drop(SYN, by="client"):
        client.connect((lab.server.ip, lab.port), fails=errno.ETIMEDOUT)
    tries = len(lab.wire.segments("client"))
    lab.check(tries == 2, f"the client sent {tries} SYNs, expected the first and one more")
