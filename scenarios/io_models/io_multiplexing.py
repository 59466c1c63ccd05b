"""I/O multiplexing: the process sleeps in select(), and recv() then finds what there is.

The third of five ways to wait for the same delayed answer. It takes one call more than blocking
I/O, and it is as much asleep: what is gained is that select() can wait for many at once (see
select-client and select-server).
"""

from tcpwatch.lab import Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
}


def play(lab: Lab) -> None:
    accepting = lab.listen().start.accept()
    client = lab.client.run("io_multiplexing", lab.server.ip, lab.port)
    server = accepting.result()
    lab.check(server.recv() == b"request", "the server read something else than the request")

    lab.client.until(lambda: client.blocked_in == "select", "the client asleep in select()")
    lab.measured("blocked in", f"{client.blocked_in}()")
    server.send(b"answer")
    client.wait_printed("answer")

    looks = [call for call in client.calls if call.call in ("select", "recv")]
    lab.check([call.call for call in looks] == ["select", "recv"], f"it asked so: {looks}")
    lab.check(looks[-1].result == len(b"answer"), f"it asked so: {looks}")
    lab.measured("calls that found nothing", sum(call.errno == "EAGAIN" for call in client.calls))
    lab.measured("told by", f"{looks[0].call}()")
    lab.measured("read by", f"{looks[-1].call}()")
    lab.check(server.recv() == b"", "the server did not read EOF")
    server.close()
    lab.check(client.join().exit_status == 0, "the client failed")
