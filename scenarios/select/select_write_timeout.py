"""select() with a timeout, to write: the send buffer is full, for the peer reads nothing.

The server's receive buffer fills until its window is zero, then the client's send buffer. There a
blocking send() would sleep; select() times out. Nothing is wrong with the connection: both ends are
ESTABLISHED, and the client's kernel asks now and then whether the window has opened, by the persist
timer. Once the server reads, it has: room comes about, and the socket is writable again.
"""

import socket

from tcpwatch.lab import Lab, where

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED[>=400ms] > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED[>=400ms] > CLOSE-WAIT > LAST-ACK > CLOSED",
}
OCTETS = 16384
ZERO_WINDOW = where(lambda segment: segment.window == 0)


def play(lab: Lab) -> None:
    lab.server.sysctl("net.ipv4.tcp_rmem", "4096 8192 8192")
    accepting = lab.listen().start.accept()
    client = lab.client.run("select_write_timeout", lab.server.ip, lab.port, OCTETS, 0.2)
    server = accepting.result()
    client.wait_printed("1: no room")
    # The last octets of a window are too few to be sent before the persist timer does so (Linux:
    # tcp_write_wakeup() in tcp_output.c), and an offered window does not shrink.
    lab.wire.wait_for(ZERO_WINDOW, by="server")
    timeouts = client.printed.count("no room")
    client.wait_printed(f"{timeouts + 2}: no room")  # the one after the present one is all within
    lab.wait(client="ESTABLISHED", server="ESTABLISHED")
    full = lab.client.entry(server)
    lab.check(full.timer == "persist" and full.send_queue > 0, f"the table has {full}")

    data = server.recv(OCTETS, socket.MSG_WAITALL)
    lab.check(data == b"x" * OCTETS, f"{len(data)} octets came")
    lab.check(server.recv() == b"", "the server did not read EOF")
    server.close()
    lab.check(client.join().exit_status == 0, "the client failed")

    results = [str(call.result) for call in client.calls if call.call == "select"]
    lab.check("timeout" in results, f"select() never timed out: {results}")
    lab.check(results[-1].endswith("writable"), f"at last select() gave {results[-1]}")
    lab.measured("select()", "timeout", case="window 0")
    lab.measured("timer of the client", full.timer, case="window 0")
    lab.measured("select()", results[-1].split()[-1], case="the server reads")
