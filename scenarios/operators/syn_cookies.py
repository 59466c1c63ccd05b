"""SYN cookies: the server answers a SYN and remembers nothing; its SYN,ACK remembers for it.

Under a flood of SYNs (here always: tcp_syncookies 2) the listener keeps no request socket: what it
must know of the client is in the SYN,ACK's sequence number, and comes back with the ACK. Only then
is there a socket at all. What does not fit in is lost: window scaling and SACK are saved in the
timestamps of a client that sends them (RFC 7323); this one does not, and has to do without.
"""

from tcpwatch.lab import PURE_ACK, SYN_ACK, Lab
from tcpwatch.tcp.segment import SACK_PERMITTED, WINDOW_SCALE

EXPECT = {
    "every client": "CLOSED > SYN-SENT > ESTABLISHED",
    "every server": "LISTEN > SYN-RECEIVED > ESTABLISHED",
}


def play(lab: Lab) -> None:
    lab.client.sysctl("net.ipv4.tcp_timestamps", 0)
    listener = lab.listen()
    for cookies in (0, 2):
        lab.server.sysctl("net.ipv4.tcp_syncookies", cookies)
        case = f"tcp_syncookies {cookies}"
        client = lab.program(lab.client).socket()
        before = lab.wire.mark()
        with lab.wire.hold(PURE_ACK, by="client") as third:
            client.connect(listener.address)
            third.wait()
            requests = len(lab.server.sockets("SYN-RECEIVED"))
        lab.measured("request sockets after the SYN", requests, case)
        lab.check(requests == (cookies == 0), f"{requests} request sockets with {case}")
        answer = lab.wire.wait_for(SYN_ACK, by="server", since=before).segment
        for name, option in (("window scaling", WINDOW_SCALE), ("SACK", SACK_PERMITTED)):
            agreed = answer.option(option) is not None
            lab.measured(name, "agreed" if agreed else "lost", case)
            lab.check(agreed == (cookies == 0), f"{name} with {case}: {agreed}")
        listener.accept()
        lab.wait(client="ESTABLISHED", server="ESTABLISHED")
    sent = lab.server.counter("SyncookiesSent"), lab.server.counter("SyncookiesRecv")
    lab.check(sent == (1, 1), f"the server sent and took {sent} cookies")
