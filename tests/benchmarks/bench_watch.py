"""What `tcpwatch watch` costs: of a core, with so many sockets and so many moves a second.

Run it as root: python tests/benchmarks/bench_watch.py [SECONDS]
The sockets are real, in a network namespace of their own that ends with the process; the screen
runs on a pseudo-terminal of 120x40 whose output is read. Goals: 3 % of a core with 1,000 sockets
at rest, 10 % with 10,000 and 1,000 moves a second.
"""

from __future__ import annotations

import ctypes
import fcntl
import multiprocessing
import os
import pty
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
from pyroute2 import IPRoute

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

_CLONE_NEWNET = 0x40000000
_MOVES_A_CONNECTION = 10  # that become known: each end opens in two or three, and closes in four
_CASES = ((1_000, 0), (10_000, 0), (10_000, 1_000))


def private_namespace() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET):
        sys.exit(f"cannot make a network namespace: {os.strerror(ctypes.get_errno())}; run as root")
    with IPRoute() as route:
        route.link("set", index=route.link_lookup(ifname="lo")[0], state="up")


def load(sockets: int, moves_a_second: int, ready: Connection) -> None:
    """A process with that many sockets, which opens and closes others; ends with its parent."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    at = listener.getsockname()
    kept = []
    for _ in range(sockets // 2):
        kept += [socket.create_connection(at), listener.accept()[0]]
    ready.send(len(kept))
    if not moves_a_second:
        ready.recv()
        return
    pause_s = _MOVES_A_CONNECTION / max(moves_a_second, 1)
    due_s = time.monotonic()
    while not ready.poll(max(due_s - time.monotonic(), 0)):
        due_s += pause_s
        client = socket.create_connection(at)
        server = listener.accept()[0]
        client.close()
        server.close()


class Watcher:
    """`tcpwatch watch`, on a terminal of its own or into nothing."""

    def __init__(self, *arguments: str, screen: bool) -> None:
        command = [sys.executable, "-m", "tcpwatch", "watch", *arguments]
        self.octets = 0
        self._begun = threading.Event()
        if screen:
            self.pid, self._terminal = pty.fork()
            if self.pid == 0:
                os.environ.update(TERM="xterm-256color", PYTHONPATH=str(ROOT), COLUMNS="", LINES="")
                os.execv(sys.executable, command)  # noqa: S606 - our own program
            fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        else:
            reading, writing = os.pipe()
            self._process = subprocess.Popen(
                command,
                stdout=writing,
                stderr=writing,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
            )
            os.close(writing)
            self.pid, self._terminal = self._process.pid, reading
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while select.select([self._terminal], [], []):
            try:
                octets = len(os.read(self._terminal, 1 << 16))
            except OSError:
                return
            if not octets:
                return
            self.octets += octets
            self._begun.set()

    def begun(self) -> bool:
        return self._begun.wait(20)

    def cpu_s(self) -> float:
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def end(self) -> None:
        os.kill(self.pid, signal.SIGINT)
        os.waitpid(self.pid, 0)
        os.close(self._terminal)


def measure(seconds: float, *arguments: str, screen: bool) -> tuple[float, float, int]:
    """Of a core while it watches, what it took to begin, and what it wrote in a second."""
    watcher = Watcher(*arguments, screen=screen)
    try:
        if not watcher.begun():
            sys.exit("tcpwatch watch does not begin")
        settle_s = time.monotonic() + 4  # the first look, the first search for holders
        while time.monotonic() < settle_s:
            time.sleep(0.2)
        begin_s, before, written = watcher.cpu_s(), time.monotonic(), watcher.octets
        time.sleep(seconds)
        share = (watcher.cpu_s() - begin_s) / (time.monotonic() - before)
        return share, begin_s, round((watcher.octets - written) / seconds)
    finally:
        watcher.end()


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    private_namespace()
    print(" sockets  moves/s  as        of a core  to begin, s  octets/s")
    for sockets, moves in _CASES:
        ours, theirs = multiprocessing.Pipe()
        # Not forked: threads of ours read terminals.
        spawn = multiprocessing.get_context("spawn")
        process = spawn.Process(target=load, args=(sockets, moves, theirs), daemon=True)
        process.start()
        ours.recv()
        for name, arguments, screen in (("screen", (), True), ("--text", ("--text",), False)):
            share, began_s, octets = measure(seconds, *arguments, screen=screen)
            print(
                f"{sockets:8} {moves:8}  {name:8} {share:10.1%} {began_s:12.2f} {octets:9}",
                flush=True,
            )
        ours.send("end")
        process.join()


if __name__ == "__main__":
    main()
