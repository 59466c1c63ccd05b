"""Fast Open: from the second connection on the request rides in the SYN, a round trip earlier.

The first connection asks for a cookie (RFC 7413), and its request waits for the handshake as ever.
The second brings the cookie along, and the request in the SYN itself. The server's program accepts,
reads and answers in SYN-RECEIVED: no acknowledgement of its SYN has arrived, the wire holds them.
Nobody but the cookie vouches for the client, which is why not every request may come so.
"""

import socket

from tcpwatch.lab import DATA, PURE_ACK, SYN_ACK, Lab
from tcpwatch.lab.descriptor import Socket

EXPECT = {
    "every client": "CLOSED > SYN-SENT > ESTABLISHED",
    "every server": "LISTEN > SYN-RECEIVED > ESTABLISHED",
}

TCP_FASTOPEN_CONNECT = 30  # linux/tcp.h; the socket module has no name for it
COOKIE = 34  # the option's kind, RFC 7413 4.1.1


def play(lab: Lab) -> None:
    lab.client.sysctl("net.ipv4.tcp_fastopen", 1)  # as a client
    lab.server.sysctl("net.ipv4.tcp_fastopen", 2)  # as a server
    listener = lab.listen()
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 8)
    _ask(lab, listener, "first connection", "ESTABLISHED")
    with lab.wire.hold(PURE_ACK, by="client"):
        _ask(lab, listener, "second connection", "SYN-RECEIVED")
    lab.wait(client="ESTABLISHED", server="ESTABLISHED")


def _ask(lab: Lab, listener: Socket, case: str, expected: str) -> None:
    """A request and its answer. The server reads it in the state ``expected``."""
    before = lab.wire.mark()
    client = lab.program(lab.client).socket()
    client.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
    client.connect(listener.address)  # with a cookie it returns at once: the SYN waits for data
    client.send(b"request")
    server = listener.accept()
    state = lab.measured("state in which it is accepted", lab.server.entry(server).state, case)
    lab.check(state == expected, f"{case}: accepted in {state}, not in {expected}")
    lab.check(server.recv() == b"request", "the server read something else than was sent")
    server.send(b"answer")
    lab.check(client.recv() == b"answer", "the client read something else than was sent")

    request = lab.wire.wait_for(DATA, by="client", since=before)
    answer = lab.wire.wait_for(SYN_ACK, by="server", since=before)
    trips = lab.measured("round trips before the request", int(answer.n < request.n), case)
    lab.check(request.segment.syn == (trips == 0), f"{case}: {trips} round trips")
    cookie = request.segment.option(COOKIE) or b""
    lab.measured("octets of the cookie beside it", len(cookie), case)
    lab.check(bool(cookie) == request.segment.syn, f"{case}: the cookie is {cookie!r}")
