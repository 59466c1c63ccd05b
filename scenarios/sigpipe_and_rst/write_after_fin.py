"""Write after FIN: the same FIN, but its sender still reads, and then any number of writes is fine.

The server has only shut down its sending side. To the client, in CLOSE-WAIT, this looks exactly
like sigpipe-default: a FIN says "I shall send no more", never "I shall read no more". Only a RST
says that. None comes: each write is acknowledged and read, though SIGPIPE would end the client.
"""

import socket

from tcpwatch.lab import RST, Lab

EXPECT = {
    "client": "CLOSED > SYN-SENT > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
    "server": "LISTEN > SYN-RECEIVED > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
}


def play(lab: Lab) -> None:
    listener = lab.listen()
    client = lab.client.run("writer", lab.server.ip, lab.port, "default")
    server = listener.accept()
    server.shutdown(socket.SHUT_WR)
    lab.wait(client="CLOSE-WAIT", server="FIN-WAIT-2")

    for line in ("first\n", "second\n"):
        client.type(line)
        client.wait_printed(f"sent {line}")
        lab.check(server.recv() == line.encode(), "the server read something else than was sent")
    lab.wait(client="CLOSE-WAIT", server="FIN-WAIT-2")  # they moved neither end
    lab.measured("first write after the FIN", "sent")
    lab.measured("second write", "sent")
    client.end_input()
    ending = client.join()
    lab.check(ending.exit_status == 0, f"the client {ending}")
    lab.check(server.recv() == b"", "the server did not read EOF")
    lab.check(not any(RST(seen, "") for seen in lab.wire.segments()), "a RST was sent")
    lab.wait(client="CLOSED", server="TIME-WAIT")
    server.close()
