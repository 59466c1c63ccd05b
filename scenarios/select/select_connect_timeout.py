"""select() with a timeout, to connect: either select() gives up in SYN-SENT, or the kernel does.

Nothing answers the SYNs of two clients, whose connect() does not block: EINPROGRESS. The first
waits in select() for 300 ms, then closes: it decides itself how long to be patient. The second
waits until its kernel gives up, which TCP_USER_TIMEOUT hastens: then its socket is writable, and
SO_ERROR says ETIMEDOUT. That takes at least the second until the first SYN would be sent again.
"""

from tcpwatch.lab import SYN, Lab

EXPECT = {
    "client 1": "CLOSED > SYN-SENT > CLOSED",
    "client 2": "CLOSED > SYN-SENT[>=1s] > CLOSED",
}


def play(lab: Lab) -> None:
    with lab.wire.drop(SYN, by="client") as dropped:
        first = lab.client.run("select_connect", lab.server.ip, lab.port, 0.3)
        dropped.wait()
        second = lab.client.run("select_connect", lab.server.ip, lab.port, 10, 500)
        endings = first.join(), second.join()
    lab.check(all(ending.exit_status == 0 for ending in endings), "a client failed")
    for program, case, said in (
        (first, "select() gives up", "not writable within 0.3 s"),
        (second, "the kernel gives up", "writable: ETIMEDOUT"),
    ):
        answers = program.printed.splitlines()
        lab.check(answers == ["connect(): EINPROGRESS", said], f"{program.name} printed {answers}")
        came = {call.call: str(call.result) for call in program.calls}
        lab.measured("select()", came["select"].split()[-1], case)
        lab.measured("SO_ERROR", came.get("getsockopt", "not asked"), case)
