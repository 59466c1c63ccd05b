"""No socket outlives the lab in the kernel, to keep its host's network namespace there."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tcpwatch.lab.descriptor import Socket
from tcpwatch.lab.filters import ANY, FIN, SYN_ACK
from tcpwatch.lab.namespace import Namespaces
from tcpwatch.lab.orphans import destroys_orphans
from tcpwatch.lab.wire import Wire
from tcpwatch.model.events import Point
from tcpwatch.model.witness import Observation

STAY_AT_HOME = """
import ctypes, os, sys
for kind in ("user", "net"):
    theirs = f"/proc/{sys.argv[1]}/ns/{kind}"
    if os.readlink(theirs) != os.readlink(f"/proc/self/ns/{kind}"):
        assert ctypes.CDLL(None).setns(os.open(theirs, os.O_RDONLY), 0) == 0
print(flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def kept_home(supervisor_pid: int) -> Iterator[Path]:
    """The devices of the namespace in which the hosts' veth pairs end, kept beyond the lab's end.

    A host's namespace takes its pair along when it goes; nothing else tells that it is gone.
    """
    argv = [sys.executable, "-c", STAY_AT_HOME, str(supervisor_pid)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        yield Path(f"/proc/{process.pid}/net/dev")
        process.communicate()


def wait_until(condition: Callable[[], bool]) -> None:
    """pytest's timeout ends this where the condition never holds."""
    never = threading.Event()
    while not condition():
        never.wait(0.01)


def connected(lab: Namespaces) -> tuple[Socket, Socket]:
    listener = lab.server.process("server").socket()
    listener.bind(0)
    listener.listen()
    client = lab.client.process("client").socket()
    client.connect(listener.address)
    return client, listener.accept()


def leave_established(lab: Namespaces, wire: Wire) -> None:
    client, _ = connected(lab)
    wire.drop(ANY)
    client.send(b"never arrives")


def leave_fin_wait_1(lab: Namespaces, wire: Wire) -> None:
    client, server = connected(lab)
    lost = wire.drop(ANY)
    client.process.kill()
    server.close()
    lost.wait(2)


def leave_last_ack(lab: Namespaces, wire: Wire) -> None:
    client, server = connected(lab)
    client.close()
    assert server.recv() == b""
    lost = wire.drop(ANY)
    server.close()
    lost.wait()


def leave_time_wait(lab: Namespaces, wire: Wire) -> None:
    client, server = connected(lab)
    client.close()
    assert server.recv() == b""
    server.close()
    wire.wait_for(FIN, by="server", point=Point.DELIVERED)


def leave_syn_received(lab: Namespaces, wire: Wire) -> None:
    listener = lab.server.process("server").socket()
    listener.bind(0)
    listener.listen()
    lost = wire.drop(SYN_ACK)
    lab.client.process("client").socket().start.connect(listener.address)
    lost.wait()


def leave_unaccepted(lab: Namespaces, wire: Wire) -> None:
    listener = lab.server.process("server").socket()
    listener.bind(0)
    listener.listen()
    lab.client.process("client").socket().connect(listener.address)
    wire.wait_idle()


LEAVINGS = [
    leave_established,
    leave_fin_wait_1,
    leave_last_ack,
    leave_time_wait,
    leave_syn_received,
    leave_unaccepted,
]


@contextlib.contextmanager
def left_lab(
    leave: Callable[[Namespaces, Wire], None], ip: int
) -> Iterator[tuple[Namespaces, Path]]:
    """A lab in which something was left, its wire dead, and the devices at its home."""
    seen: list[Observation] = []
    with Namespaces.open(index=202, emit=seen.append, wire="veth", ip=ip) as lab:
        for host in (lab.client, lab.server):
            host.sysctl("net.ipv4.tcp_orphan_retries", 100)  # an orphan then lives for hours
        ports = {host.name: host.port for host in (lab.client, lab.server)}
        with contextlib.closing(Wire(ports, seen.append, latency_ms=0)) as wire:
            leave(lab, wire)
        with kept_home(lab.supervisor_pid) as devices:
            assert "home1:" in devices.read_text(encoding="ascii")
            yield lab, devices


@pytest.mark.needs("lab")
@pytest.mark.parametrize("ip", [4, 6])
@pytest.mark.parametrize("leave", LEAVINGS)
def test_closing_the_lab_leaves_no_network_namespace(
    leave: Callable[[Namespaces, Wire], None], ip: int
) -> None:
    with left_lab(leave, ip) as (lab, devices):
        lab.close()
        wait_until(lambda: "home" not in devices.read_text(encoding="ascii"))


LEAVE_AND_STAY = """
import runpy, sys
tests = runpy.run_path(sys.argv[1])
with tests["left_lab"](tests["leave_fin_wait_1"], 4) as (lab, _):
    print(lab.supervisor_pid, flush=True)
    sys.stdin.read()
"""


@pytest.mark.needs("lab")
def test_killing_us_leaves_no_network_namespace() -> None:
    argv = [sys.executable, "-c", LEAVE_AND_STAY, __file__]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        argv, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        with kept_home(int(process.stdout.readline())) as devices:
            assert "home1:" in devices.read_text(encoding="ascii")
            process.kill()
            wait_until(lambda: "home" not in devices.read_text(encoding="ascii"))


def test_an_orphan_is_destroyed_only_where_that_does_not_make_it_live_for_ever() -> None:
    releases = ["5.15.0-91-generic", "6.10.14", "6.11-rc7", "6.18.44", "what?"]
    assert [destroys_orphans(release) for release in releases] == [False, False, True, True, False]
