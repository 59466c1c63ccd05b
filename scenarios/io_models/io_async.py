"""Asynchronous I/O: the read itself is done for the process, and a signal says that it is done.

The last of five ways to wait for the same delayed answer. aio_read() of POSIX comes back at once;
when the signal comes the octets are in the process's buffer already, and there is no recv().
In glibc that is a thread of the process, which sleeps in a blocking read in its place; where a C
library has no aio_read() the program starts such a thread itself. Which of the two is measured.
"""

from tcpwatch.lab import Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
}
READING = ("recv", "recv_into", "SIGUSR1 handler", "aio_return")


def play(lab: Lab) -> None:
    accepting = lab.listen().start.accept()
    client = lab.client.run("io_async", lab.server.ip, lab.port)
    server = accepting.result()
    lab.check(server.recv() == b"request", "the server read something else than the request")

    client.wait_printed("asynchronous by")
    way = client.printed.strip().removeprefix("asynchronous by ")
    by_libc = way == "aio_read() of libc"
    if by_libc:
        client.wait_returned("aio_read")
    lab.client.until(lambda: client.blocked_in is None, "the client awake")
    lab.client.until(lambda: client.threads > 1, "somebody who reads for the client")
    lab.measured("blocked in", "nothing")
    lab.measured("read by", f"{way}, in one of {client.threads} threads")
    server.send(b"answer")
    client.wait_printed("answer")
    lab.check(server.recv() == b"", "the server did not read EOF")
    server.close()
    lab.check(client.join().exit_status == 0, "the client failed")

    told = [call.call for call in client.calls if call.call in READING]
    expected = ["SIGUSR1 handler", "aio_return"] if by_libc else ["recv_into", "SIGUSR1 handler"]
    lab.check(told == expected, f"it was told so: {told}")
    lab.measured("calls that found nothing", sum(call.errno == "EAGAIN" for call in client.calls))
    lab.measured("told by", "SIGUSR1")
