"""Nonblocking I/O: the process is never asleep, and asks again and again for the answer.

The second of five ways to wait for the same delayed answer. On a nonblocking socket recv() comes
back at once: with EWOULDBLOCK (on Linux the same as EAGAIN) while there is nothing. The process
does something else between two looks; nobody tells it, so it is late or it looks in vain.
"""

from tcpwatch.lab import Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
}
CHANCE = ("calls that found nothing",)


def play(lab: Lab) -> None:
    accepting = lab.listen().start.accept()
    client = lab.client.run("io_nonblocking", lab.server.ip, lab.port)
    server = accepting.result()
    lab.check(server.recv() == b"request", "the server read something else than the request")

    client.wait_returned("recv", count=2)
    lab.client.until(lambda: client.blocked_in is None, "the client awake")
    lab.measured("blocked in", "nothing")
    server.send(b"answer")
    client.wait_printed("answer")

    *vain, last = [call for call in client.calls if call.call == "recv"]
    lab.check(vain and all(call.errno == "EAGAIN" for call in vain), f"it asked so: {vain}")
    lab.check(last.result == len(b"answer"), f"it asked at last so: {last}")
    lab.measured("calls that found nothing", sum(call.errno == "EAGAIN" for call in client.calls))
    lab.measured("told by", "nobody")
    lab.measured("read by", f"{last.call}()")
    lab.check(server.recv() == b"", "the server did not read EOF")
    server.close()
    lab.check(client.join().exit_status == 0, "the client failed")
