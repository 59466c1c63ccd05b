"""Signal-driven I/O: the process works on, and SIGIO tells it when recv() will find something.

The fourth of five ways to wait for the same delayed answer. O_ASYNC asks the kernel for a signal
whenever something happens to the socket, F_SETOWN says for whom. The handler then reads by itself,
without waiting; recv() is called once, and the process was never asleep.
"""

from tcpwatch.lab import Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
}


def play(lab: Lab) -> None:
    accepting = lab.listen().start.accept()
    client = lab.client.run("io_signal_driven", lab.server.ip, lab.port)
    server = accepting.result()
    lab.check(server.recv() == b"request", "the server read something else than the request")

    client.wait_returned("sendall")
    lab.client.until(lambda: client.blocked_in is None, "the client awake")
    lab.measured("blocked in", "nothing")
    server.send(b"answer")
    client.wait_printed("answer")
    lab.check(server.recv() == b"", "the server did not read EOF")
    server.close()
    lab.check(client.join().exit_status == 0, "the client failed")

    # The handler came back last: recv() was called within it.
    told = [call for call in client.calls if call.call in ("recv", "SIGIO handler")]
    lab.check([call.call for call in told] == ["recv", "SIGIO handler"], f"it was told so: {told}")
    lab.check(told[0].result == len(b"answer"), f"the handler read so: {told[0]}")
    lab.measured("calls that found nothing", sum(call.errno == "EAGAIN" for call in client.calls))
    lab.measured("told by", "SIGIO")
    lab.measured("read by", f"{told[0].call}()")
