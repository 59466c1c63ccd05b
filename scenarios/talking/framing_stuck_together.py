"""Stuck together: two writes arrive as one read, and a longer one as two; TCP has no messages.

TCP carries octets in their order, and nothing else: where one send() ended is written nowhere. What
a recv() gives is what has arrived by then, from however many of them. No message is read as it was
written. The other framing-... scenarios send the same three, and mark where each ends.
"""

import signal

from tcpwatch.lab import DATA, PSH, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
}
HELLO, WORLD, LONG = MESSAGES = ["hello", "world", "longer than a segment, " * 80]


def play(lab: Lab) -> None:
    server = lab.server.run("message_reader", lab.server.ip, lab.port, "none")
    server.wait_called("accept")
    server.kill(signal.SIGSTOP)  # it does not come to read until both have arrived
    client = lab.client.run("message_writer", lab.server.ip, lab.port, "none")
    client.type(f"{HELLO}\n{WORLD}\n")
    octets = len(HELLO + WORLD)
    lab.server.until(
        lambda: [entry.receive_queue for entry in lab.server.sockets("ESTABLISHED")] == [octets],
        "both messages in the receive queue",
    )
    server.kill(signal.SIGCONT)
    server.wait_printed("world\n")
    with lab.wire.hold(DATA & PSH, by="client") as end:  # the last segment of the long message
        client.type(f"{LONG}\n")
        end.wait()
        server.wait_called("recv", 3)  # it has read the beginning, and asks for more
    client.end_input()
    for program in (client, server):
        ending = program.join()
        lab.check(ending.exit_status == 0, f"the {program.name} {ending}")

    read = server.printed.splitlines()
    lab.check(read[0] == HELLO + WORLD, f"the first recv() gave {read[0]!r}")
    lab.check(len(read) == 3 and read[1] + read[2] == LONG, "the long message is not in two pieces")
    sent = {seen.segment.seq: seen.segment for seen in lab.wire.segments(by="client")}
    sizes = [segment.payload_len for segment in sent.values() if segment.payload_len]
    lab.measured("messages written", len(MESSAGES))
    lab.measured("octets on the wire", sum(sizes))
    lab.measured("segments with data", len(sizes))
    lab.measured("calls of recv()", server.called("recv"))
    lab.measured("messages read as written", len({*read} & {*MESSAGES}))
