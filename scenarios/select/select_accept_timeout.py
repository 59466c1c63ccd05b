"""select() with a timeout, to accept: a listener is readable when a handshake is over, not begun.

Nobody comes, and select() times out. Then a SYN comes, but the last ACK of its handshake is held by
the wire: the connection is in SYN-RECEIVED, not in the accept queue, and select() times out again.
The client is long ESTABLISHED. With the ACK the connection enters the queue, the listener is
readable, and accept() comes back at once.
"""

from tcpwatch.lab import PURE_ACK, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
    "server": "LISTEN > SYN-RECEIVED[>=200ms] > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
}


def play(lab: Lab) -> None:
    server = lab.server.run("select_accept_timeout", lab.server.ip, lab.port, 0.2)
    server.wait_printed("1: nobody")
    client = lab.program(lab.client).socket()
    with lab.wire.hold(PURE_ACK, by="client") as last_ack:
        client.connect((lab.server.ip, lab.port))
        last_ack.wait()
        lab.wait(client="ESTABLISHED", server="SYN-RECEIVED")
        so_far = server.printed.count("nobody")
        server.wait_printed(f"{so_far + 2}: nobody")  # the one after the present one is all within
    server.wait_returned("accept")

    client.send(b"hello")
    lab.check(client.recv() == b"hello", "the server echoed something else")
    client.close()
    lab.check(server.join().exit_status == 0, "the server failed")

    *vain, last = [call.result for call in server.calls if call.call == "select"]
    lab.check(set(vain) == {"timeout"}, f"before the last ACK select() gave {vain}")
    lab.check(last == "listener readable", f"after it select() gave {last}")
    lab.measured("select()", "timeout", case="nobody comes")
    lab.measured("select()", "timeout", case="in SYN-RECEIVED")
    lab.measured("select()", "readable", case="in the accept queue")
