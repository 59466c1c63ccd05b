"""Select client: it watches its input and its socket at once, and hears at once of either's end.

Twice. First its input ends before the answer is back: it says so with shutdown(), goes on reading,
and misses nothing. Then the server is killed while nobody types: select() reports the socket,
recv() gives EOF, and the client ends. One that waits for its input first would learn of it only at
the next line, from the RST that answers it (see rst-on-write).
"""

from tcpwatch.lab import DATA, Lab

EXPECT = {
    "client 1": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
    "server 1": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
    "client 2": "CLOSED > SYN-SENT > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
    "server 2": "LISTEN > SYN-RECEIVED > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
}


def play(lab: Lab) -> None:
    server = lab.server.run("select_server", lab.server.ip, lab.port)
    server.wait_returned("listen")

    client = lab.client.run("select_client", lab.server.ip, lab.port)
    with lab.wire.hold(DATA, by="server") as echo:
        client.type("hello\n")
        echo.wait()
        client.end_input()
        client.wait_returned("shutdown")
        lab.check("hello" not in client.printed, "the echo was not held")
    client.wait_printed("hello\n")
    lab.check(client.join().exit_status == 0, "the first client failed")
    lab.wait(client="TIME-WAIT", server="CLOSED")

    client = lab.client.run("select_client", lab.server.ip, lab.port)
    client.type("and again\n")
    client.wait_printed("and again\n")
    lab.client.until(lambda: client.blocked_in == "select", "the client asleep in select()")
    lab.measured("blocked in", f"{client.blocked_in}()")
    server.kill()
    lab.check(client.join().exit_status == 1, "the client did not notice the server's end")
