"""Refused: the socket is writable, as if connect() had gone well; only SO_ERROR says the truth.

A connect() that does not block is over when the socket is writable, be it ESTABLISHED or reset.
Nobody listens when the first client comes: the RST makes its socket writable, and SO_ERROR holds
ECONNREFUSED, once. When the second comes somebody does. To select() both are the same.
"""

from tcpwatch.lab import Lab

EXPECT = {
    "client 1": "CLOSED > SYN-SENT > CLOSED",
    "client 2": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT",
    "server 2": "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED",
}


def play(lab: Lab) -> None:
    refused = lab.client.run("select_connect", lab.server.ip, lab.port, 10)
    lab.check(refused.join().exit_status == 0, "the first client failed")
    accepting = lab.listen().start.accept()
    accepted = lab.client.run("select_connect", lab.server.ip, lab.port, 10)
    server = accepting.result()
    lab.check(server.recv() == b"", "the server did not read EOF")
    lab.wait(client="FIN-WAIT-2")
    server.close()
    lab.check(accepted.join().exit_status == 0, "the second client failed")

    for program, case, outcome in (
        (refused, "nobody listens", "ECONNREFUSED"),
        (accepted, "somebody listens", "connected"),
    ):
        answers = program.printed.splitlines()
        expected = ["connect(): EINPROGRESS", f"writable: {outcome}"]
        lab.check(answers == expected, f"{program.name} printed {answers}")
        came = {call.call: str(call.result) for call in program.calls}
        lab.measured("select()", came["select"].split()[-1], case)
        lab.measured("SO_ERROR", came["getsockopt"], case)
