"""Compares ways to read a socket table of 10,000 TCP sockets, side by side in one run.

Run it as root: python tests/benchmarks/bench_sockdiag.py [SOCKETS] [ROUNDS]
The sockets live in a network namespace of their own, which ends with the process.
"""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from pyroute2 import IPRoute

sys.path.insert(0, str(Path(__file__).parents[2]))

from tcpwatch.sources import psutil_table, sockdiag

_CLONE_NEWNET = 0x40000000
_FLOOR, _OWN, _SS, _PSUTIL = (
    "bare kernel dump, unparsed",
    "own dump",
    "ss -tanH",
    "psutil.net_connections('tcp')",
)


def private_namespace() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET):
        sys.exit(f"cannot make a network namespace: {os.strerror(ctypes.get_errno())}; run as root")
    with IPRoute() as route:
        route.link("set", index=route.link_lookup(ifname="lo")[0], state="up")


def connect(sockets: int) -> list[socket.socket]:
    """That many established sockets, both ends of half as many connections."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    made = [listener]
    for _ in range(sockets // 2):
        made.append(socket.create_connection(listener.getsockname()))
        made.append(listener.accept()[0])
    return made


def bare_dump(sock: socket.socket) -> None:
    """The request and the reads that any dump costs; of the answer only its end is looked at."""
    body = struct.pack("=BBBB48xII", 0, 0, 0, 0, sockdiag.ALL_STATES, 0)
    sock.send(struct.pack("=IHHII", 16 + len(body), 18, 0x301, 0, 0) + body)
    buffer = bytearray(1 << 16)
    while True:
        octets = sock.recv_into(buffer)
        # NLMSG_DONE, 20 octets, stands alone or at the end of the last message.
        if struct.unpack_from("=IH", buffer, octets - 20) == (20, 3):
            return


def measure(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median seconds of each way, all of them taken in turn."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            took[name].append(time.perf_counter() - began)
    return {name: statistics.median(times) for name, times in took.items()}


def main() -> None:
    arguments = [int(argument) for argument in sys.argv[1:]]
    wanted, rounds = [*arguments, *(10_000, 15)[len(arguments) :]]
    private_namespace()
    made = connect(wanted)
    with sockdiag.open_socket() as own, sockdiag.open_socket() as bare:
        count = len(sockdiag.dump(own).rows)
        ways: dict[str, Callable[[], object]] = {
            _FLOOR: lambda: bare_dump(bare),
            _OWN: lambda: sockdiag.dump(own),
            "own dump, transient states only": lambda: sockdiag.dump(
                own, states=sockdiag.TRANSIENT_STATES
            ),
            "own psutil sampler": psutil_table.sample,
            _PSUTIL: lambda: psutil.net_connections("tcp"),
        }
        if shutil.which("ss"):
            ways[_SS] = lambda: subprocess.run(
                ["ss", "-tanH"], stdout=subprocess.DEVNULL, check=True
            )
        medians = measure(ways, rounds)
    print(f"{count} sockets, medians of {rounds} rounds taken in turn")
    print(f"{'':34} {'ms':>9} {'to the floor':>13} {'to own dump':>12}")
    for name, seconds in sorted(medians.items(), key=lambda item: item[1]):
        floor, ours = seconds / medians[_FLOOR], seconds / medians[_OWN]
        print(f"{name:34} {seconds * 1e3:9.2f} {floor:13.2f} {ours:12.2f}")
    for sock in made:
        sock.close()


if __name__ == "__main__":
    main()
