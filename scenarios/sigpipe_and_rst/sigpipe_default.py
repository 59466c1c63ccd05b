"""SIGPIPE by default: the second write to a peer that is gone ends the process, without a word.

The server is killed, and its kernel sends a FIN. The client's first write is taken, and answered by
a RST. With the second one the client's kernel sends it SIGPIPE, whose default action is to end it:
that write does not return, and no line of the program says why. (See sigpipe-ignored for the same
write that fails with EPIPE, and write-after-fin for the same FIN from a peer that is still there.)
"""

from tcpwatch.lab import RST, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > CLOSE-WAIT > CLOSED",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > CLOSED",
}


def play(lab: Lab) -> None:
    listener = lab.listen()
    client = lab.client.run("writer", lab.server.ip, lab.port, "default")
    server = listener.accept()
    server.process.kill()
    lab.wait(client="CLOSE-WAIT", server="FIN-WAIT-2")

    client.type("first\n")
    client.wait_printed("sent first\n")
    lab.wire.wait_for(RST, by="server")
    lab.wait(client="CLOSED", server="CLOSED")
    client.type("second\n")
    ending = client.join()
    lab.measured("first write after the FIN", "sent")
    lab.measured("second write", f"killed by {ending.signal}")
    lab.check(ending.signal == "SIGPIPE", f"the client {ending}")
    lab.check("second" not in client.printed, "the second write came back")
