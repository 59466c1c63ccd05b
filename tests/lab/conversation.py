"""A program for the tests: opens a lab, lets two processes talk, and prints what came of it.

Arguments: the wire (tun, veth, auto, loopback), 4 or 6, and ``stay`` to play on until it is killed.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tcpwatch.errors import TcpwatchError
from tcpwatch.lab.loopback import Loopback
from tcpwatch.lab.namespace import Namespaces
from tcpwatch.lab.ports import Port
from tcpwatch.model.witness import Observation

AMOUNT = 300_000  # octets: more than a socket's buffer and a TUN's queue take at once


def relay(first: Port, second: Port, sizes: list[int]) -> None:
    peers = {first.fileno(): (first, second), second.fileno(): (second, first)}
    poller = select.poll()
    for fd in peers:
        poller.register(fd, select.POLLIN)
    while True:
        for fd, _ in poller.poll():
            source, target = peers[fd]
            while (packet := source.read()) is not None:
                sizes.append(len(packet))
                target.write(packet)


def open_lab(kind: str, ip: int, seen: list[Observation]) -> Namespaces | Loopback:
    if kind == "loopback":
        return Loopback.open(emit=seen.append, ip=ip)
    return Namespaces.open(index=201, emit=seen.append, wire=kind, ip=ip)


def talk(lab: Namespaces | Loopback, round_: int = 0) -> bytes:
    server = lab.server.process(f"server{round_}")
    listener = server.socket()
    listener.bind(0)
    listener.listen()
    client = lab.client.process(f"client{round_}").socket()
    client.connect(listener.address)
    accepted = listener.accept()
    sending = client.start.send(b"x" * AMOUNT)
    data = accepted.recv_exactly(AMOUNT)
    assert sending.result() == AMOUNT
    client.close()
    assert accepted.recv() == b""
    accepted.close()
    return data


def main() -> None:
    kind, ip = sys.argv[1], int(sys.argv[2])
    seen: list[Observation] = []
    sizes: list[int] = []
    try:
        lab = open_lab(kind, ip, seen)
    except TcpwatchError as error:
        print(json.dumps({"error": error.message, "remedy": error.remedy}))  # noqa: T201
        return
    print("open", flush=True)  # noqa: T201
    if isinstance(lab, Namespaces):
        ports = (lab.client.port, lab.server.port)
        threading.Thread(target=relay, args=(*ports, sizes), daemon=True).start()
    data = talk(lab)
    for round_ in itertools.count(1) if "stay" in sys.argv else ():
        talk(lab, round_)
    answer = {
        "privilege": lab.privilege,
        "wire": lab.wire_kind,
        "octets": len(data),
        "longest": max(sizes, default=0),
        "fin_timeout": lab.server.sysctl("net.ipv4.tcp_fin_timeout", 7)
        if kind != "loopback"
        else "",
    }
    print(json.dumps(answer), flush=True)  # noqa: T201
    os._exit(0)  # without closing: the end of this process must be enough


if __name__ == "__main__":
    main()
