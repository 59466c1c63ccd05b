"""Descriptor limit: EMFILE at accept(), while the client has long been connected and waits.

The server may open only two descriptors more. Its third client is ESTABLISHED, and so is the
server's end: in the accept queue, with inode 0, for accept() fails with EMFILE before it takes
anything out. The listener stays readable; a server that does not stop watching it would spin. When
the first client goes, the third is served at last.

select() has a bound of its own: a set has FD_SETSIZE bits, 1024. A fourth client's socket has that
number: Python refuses with ValueError what in C would write beyond the set. poll() takes it.
"""

from tcpwatch.lab import Lab

EXPECT = {
    "every client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
    "every server": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
}


def play(lab: Lab) -> None:
    server = lab.server.run("fd_limit_server", lab.server.ip, lab.port, 2)
    server.wait_returned("listen")
    clients = []
    for number in (1, 2, 3):
        clients.append(lab.client.run("echo_client", lab.server.ip, lab.port))
        server.wait_returned("accept", number)
    first, second, third = clients
    server.wait_printed("no descriptor left")
    lab.wait(client="ESTABLISHED", server="ESTABLISHED", connection=3)

    # Linux: __sys_accept4_file() in socket.c asks for a descriptor before it asks the queue.
    fates = [call.errno for call in server.calls if call.call == "accept"]
    lab.check(fates == [None, None, "EMFILE"], f"accept() came back so: {fates}")
    lab.measured("accept()", str(fates[-1]), case="no descriptor left")
    queue = lab.server.sockets("LISTEN")[0].receive_queue
    lab.check(queue == 1, f"{queue} connections wait to be accepted")
    ownerless = sum(entry.inode == 0 for entry in lab.server.sockets("ESTABLISHED"))
    lab.check(ownerless == 1, f"{ownerless} connections have inode 0")
    lab.measured("Recv-Q of the listener", queue, case="no descriptor left")
    lab.measured("ESTABLISHED with inode 0", ownerless, case="no descriptor left")

    third.type("hello\n")
    second.type("still served\n")
    second.wait_printed("still served\n")
    lab.check(not third.printed, "the third client was served without a descriptor")
    first.end_input()
    third.wait_printed("hello\n")
    lab.measured("accept()", "a connection", case="one closed")
    queue = lab.server.sockets("LISTEN")[0].receive_queue
    ownerless = sum(entry.inode == 0 for entry in lab.server.sockets("ESTABLISHED"))
    lab.check((queue, ownerless) == (0, 0), f"{queue} connections wait, {ownerless} with inode 0")
    lab.measured("Recv-Q of the listener", queue, case="one closed")
    lab.measured("ESTABLISHED with inode 0", ownerless, case="one closed")
    second.end_input()
    server.wait_returned("close", 2)

    fourth = lab.client.run("fd_setsize_client", lab.server.ip, lab.port)
    lab.check(fourth.join().exit_status == 0, "the fourth client failed")
    refused, polled = fourth.printed.splitlines()
    lab.check("out of range in select()" in refused, f"select() said: {refused}")
    lab.check(polled == "poll(): request", f"poll() gave: {polled}")
    for name in ("select", "poll"):
        (result,) = [str(call.result) for call in fourth.calls if call.call == name]
        lab.measured(f"{name}() of descriptor 1024", result)
    third.end_input()
    for program in clients:
        lab.check(program.join().exit_status == 0, f"the {program.name} failed")
