"""Fixed records: each message is as long as the longest, and read by its known length.

readn() asks again until it has the whole record: it takes one record of two that have arrived, and
waits for the rest of one that has not. What is short is padded, and pays with octets.
"""

import signal

from tcpwatch.lab import DATA, PSH, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
}
HELLO, WORLD, LONG = MESSAGES = ["hello", "world", "longer than a segment, " * 80]


def play(lab: Lab) -> None:
    server = lab.server.run("message_reader", lab.server.ip, lab.port, "fixed")
    server.wait_called("accept")
    server.kill(signal.SIGSTOP)  # it does not come to read until both have arrived
    client = lab.client.run("message_writer", lab.server.ip, lab.port, "fixed")
    client.type(f"{HELLO}\n{WORLD}\n")
    octets = 2 * 2000
    lab.server.until(
        lambda: [entry.receive_queue for entry in lab.server.sockets("ESTABLISHED")] == [octets],
        "both messages in the receive queue",
    )
    server.kill(signal.SIGCONT)
    server.wait_printed("world\n")
    with lab.wire.hold(DATA & PSH, by="client") as end:  # the last segment of the long message
        client.type(f"{LONG}\n")
        end.wait()
        server.wait_called("recv", 4)  # it has read the beginning, and asks for more
    client.end_input()
    for program in (client, server):
        ending = program.join()
        lab.check(ending.exit_status == 0, f"the {program.name} {ending}")

    read = server.printed.splitlines()
    lab.check(read == MESSAGES, f"the server has read {read}")
    sent = {seen.segment.seq: seen.segment for seen in lab.wire.segments(by="client")}
    sizes = [segment.payload_len for segment in sent.values() if segment.payload_len]
    lab.measured("messages written", len(MESSAGES))
    lab.measured("octets on the wire", sum(sizes))
    lab.measured("segments with data", len(sizes))
    lab.measured("calls of recv()", server.called("recv"))
    lab.measured("messages read as written", len({*read} & {*MESSAGES}))
