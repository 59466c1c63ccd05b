"""Blocking I/O: the process sleeps in recv() until the answer is here.

The first of five ways to wait for the same delayed answer. It asks once and is asleep for as long
as it takes: simple, and it can do nothing else meanwhile, nor listen to anybody else. The states of
both ends are the same in all five: TCP does not know how a process waits.
"""

from tcpwatch.lab import Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
}


def play(lab: Lab) -> None:
    accepting = lab.listen().start.accept()
    client = lab.client.run("io_blocking", lab.server.ip, lab.port)
    server = accepting.result()
    lab.check(server.recv() == b"request", "the server read something else than the request")

    lab.client.until(lambda: client.blocked_in == "recv", "the client asleep in recv()")
    lab.measured("blocked in", f"{client.blocked_in}()")
    server.send(b"answer")
    client.wait_printed("answer")

    looks = [call for call in client.calls if call.call == "recv"]
    lab.check([call.result for call in looks] == [len(b"answer")], f"it asked so: {looks}")
    lab.measured("calls that found nothing", sum(call.errno == "EAGAIN" for call in client.calls))
    lab.measured("told by", f"{looks[0].call}()")
    lab.measured("read by", f"{looks[-1].call}()")
    lab.check(server.recv() == b"", "the server did not read EOF")
    server.close()
    lab.check(client.join().exit_status == 0, "the client failed")
