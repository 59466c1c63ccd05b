"""select() with a timeout, to read: what ends is the waiting, not the connection.

The server is slow to answer. The client waits in select() for 200 ms at a time, and between two of
them it may do something else, or give up. At either end nothing has happened: both stay in
ESTABLISHED, and when the answer comes the same select() reports it.
"""

from tcpwatch.lab import Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED[>=200ms] > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED[>=200ms] > CLOSE-WAIT > LAST-ACK > CLOSED",
}


def play(lab: Lab) -> None:
    accepting = lab.listen().start.accept()
    client = lab.client.run("select_read_timeout", lab.server.ip, lab.port, 0.2)
    server = accepting.result()
    lab.check(server.recv() == b"request", "the server read something else than the request")
    client.wait_printed("nothing within 0.2 s")
    lab.wait(client="ESTABLISHED", server="ESTABLISHED")

    server.send(b"answer")
    client.wait_printed("answer")
    lab.check(server.recv() == b"", "the server did not read EOF")
    server.close()
    lab.check(client.join().exit_status == 0, "the client failed")

    *vain, last = [str(call.result) for call in client.calls if call.call == "select"]
    lab.check(set(vain) == {"timeout"}, f"before the answer select() gave {vain}")
    lab.check(last.endswith("readable"), f"at the answer select() gave {last}")
    lab.measured("select()", vain[0], case="before the answer")
    lab.measured("select()", last.split()[-1], case="after it")
