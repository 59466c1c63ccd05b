"""Listen queues: half-made connections wait in one, whole ones in another, and no more get in.

A SYN puts a connection into the SYN queue, the handshake's last ACK moves it into the accept queue
(Recv-Q of the listener in `ss`, beside the backlog in Send-Q), and accept() takes it out. The wire
keeps the ACKs back at first. A backlog of 2 admits 3, to either queue. The next client hears
nothing at all: its SYN is thrown away, it stays in SYN-SENT and tries again after a second.
"""

from tcpwatch.lab import PURE_ACK, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT[<1s] > ESTABLISHED",
    "client 2": "CLOSED > SYN-SENT[<1s] > ESTABLISHED",
    "client 3": "CLOSED > SYN-SENT[<1s] > ESTABLISHED",
    "client 4": "CLOSED > SYN-SENT[>=1s] > ESTABLISHED",
    "client 5": "CLOSED > SYN-SENT[>=1s] > ESTABLISHED",
    "every server": "LISTEN > SYN-RECEIVED > ESTABLISHED",
}
BACKLOG = 2


def play(lab: Lab) -> None:
    # Or the kernel, once the SYN queue is full, answers by cookies, for which it needs no queue.
    lab.server.sysctl("net.ipv4.tcp_syncookies", 0)
    listener = lab.listen(backlog=BACKLOG)
    clients = [lab.client.process(f"client {number}").socket() for number in range(1, 6)]
    calls = []

    # Linux: inet_csk_reqsk_queue_is_full() and sk_acceptq_is_full(), "more than", both. (The first
    # said "as many as" before 6.14 and the backports of that.)
    with lab.wire.hold(PURE_ACK, by="client") as acks:
        for number, client in enumerate(clients[: BACKLOG + 1], 1):
            client.connect(listener.address)  # the SYN,ACK is enough for it
            acks.wait(number)
        look(lab, waiting=0, half_made=3, case="3 SYNs")
        calls.append(clients[3].start.connect(listener.address))
        lab.server.until(lambda: lab.server.counter("ListenDrops") >= 1, "a dropped SYN")
        look(lab, waiting=0, half_made=3, case="4 SYNs")
    lab.server.until(lambda: not lab.server.sockets("SYN-RECEIVED"), "an empty SYN queue")
    look(lab, waiting=3, half_made=0, case="3 ACKs")
    calls.append(clients[4].start.connect(listener.address))
    lab.server.until(lambda: lab.server.counter("ListenOverflows") >= 1, "an overflow")
    look(lab, waiting=3, half_made=0, case="a 5th SYN")

    left = lab.client.sockets("SYN-SENT")
    lab.check(len(left) == len(calls) == 2, f"{len(left)} clients are in SYN-SENT")
    lab.check(not any(call.done for call in calls), "a connect() too many came back")
    for _ in calls:
        listener.accept()
    look(lab, waiting=1, half_made=0, case="2 accept()s")
    for call in calls:
        call.result()
    lab.server.until(lambda: len(lab.server.sockets("ESTABLISHED")) == 5, "5 connections")
    look(lab, waiting=3, half_made=0, case="their SYNs again")


def look(lab: Lab, *, waiting: int, half_made: int, case: str) -> None:
    """Checks and records both queues, as the server's socket table has them."""
    listener = lab.server.sockets("LISTEN")[0]
    syns = len(lab.server.sockets("SYN-RECEIVED"))
    lab.measured("SYN queue", syns, case=case)
    lab.measured("Recv-Q", listener.receive_queue, case=case)
    lab.measured("Send-Q", listener.send_queue, case=case)
    lab.check(syns == half_made, f"after {case} the SYN queue has {syns}")
    lab.check(
        (listener.receive_queue, listener.send_queue) == (waiting, BACKLOG),
        f"after {case} the listener has {listener}",
    )
