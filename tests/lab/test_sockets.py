"""A host's socket table and counters as a play sees them, and sockets that end from outside."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tcpwatch.lab import host as host_module
from tcpwatch.lab.descriptor import Socket
from tcpwatch.lab.failures import CheckFailed, Unsupported
from tcpwatch.lab.filters import PURE_ACK, RST, SYN_ACK
from tcpwatch.lab.host import Host
from tcpwatch.lab.loopback import Loopback
from tcpwatch.lab.namespace import Namespaces
from tcpwatch.lab.sockets import Entry
from tcpwatch.lab.wire import Wire
from tcpwatch.model.events import CALLS, CallPhase, UserCall
from tcpwatch.model.identity import FourTuple
from tcpwatch.model.witness import Observation
from tcpwatch.sources import sockdiag

Command = Callable[[list[str]], list[str]]


@contextmanager
def wired(ip: int = 4) -> Iterator[tuple[Namespaces, Wire]]:
    """A lab and its wire without delay."""
    seen: list[Observation] = []
    with Namespaces.open(index=203, emit=seen.append, ip=ip) as lab:
        ports = {host.name: host.port for host in (lab.client, lab.server)}
        with closing(Wire(ports, seen.append, latency_ms=0)) as wire:
            yield lab, wire


def listening(host: Host, backlog: int = 8) -> Socket:
    listener = host.process(host.name).socket()
    listener.bind(0)
    listener.listen(backlog)
    return listener


def connected(lab: Namespaces) -> tuple[Socket, Socket]:
    listener = listening(lab.server)
    client = lab.client.process("client").socket()
    client.connect(listener.address)
    return client, listener.accept()


def inode_of(sock: Socket) -> int:
    """As the process's own descriptor has it."""
    link = Path(f"/proc/{sock.process.pid}/fd/{sock.fd}").readlink()
    return int(str(link).removeprefix("socket:[").removesuffix("]"))


# --- the table --------------------------------------------------------------------------------


@pytest.mark.needs("lab")
@pytest.mark.parametrize("ip", [4, 6])
def test_the_entry_of_a_socket_is_what_its_own_process_knows_of_it(ip: int) -> None:
    with wired(ip) as (lab, wire):
        client, server = connected(lab)
        client.send(b"four")
        wire.wait_idle()
        assert server.local is not None
        assert client.local is not None
        entry = lab.server.entry(server)
        assert (entry.state, entry.inode) == ("ESTABLISHED", inode_of(server))
        assert (entry.receive_queue, entry.send_queue, entry.timer) == (4, 0, "")
        assert entry.ends == FourTuple(server.local, client.local)
        assert entry.listed == (lab.server.ip, lab.client.ip)


@pytest.mark.needs("lab")
def test_a_host_has_the_entry_of_a_connection_by_the_peers_socket_too() -> None:
    with wired() as (lab, _):
        client, server = connected(lab)
        assert lab.server.entry(client) == lab.server.entry(server)
        assert lab.client.entry(server).inode == inode_of(client)


@pytest.mark.needs("lab")
def test_what_has_no_entry_is_closed() -> None:
    with wired() as (lab, _):
        unbound = lab.client.process("client").socket()
        assert lab.client.entry(unbound) == Entry()
        assert Entry().state == "CLOSED"
        assert Entry().listed == ()


@pytest.mark.needs("lab")
def test_a_listeners_queues_are_its_accept_queue_and_its_backlog() -> None:
    with wired() as (lab, wire):
        listener = listening(lab.server, backlog=3)
        assert lab.server.entry(listener).timer == ""
        for _ in range(2):
            lab.client.process("client").socket().connect(listener.address)
        wire.wait_idle()
        entry = lab.server.entry(listener)
        assert (entry.state, entry.inode) == ("LISTEN", inode_of(listener))
        assert (entry.receive_queue, entry.send_queue) == (2, 3)


@pytest.mark.needs("lab")
def test_sockets_can_be_asked_for_by_state_in_any_spelling() -> None:
    with wired() as (lab, _):
        client, server = connected(lab)
        client.close()
        lab.client.until(lambda: lab.client.sockets("FIN_WAIT2"), "the FIN is acknowledged")
        assert [entry.state for entry in lab.server.sockets()] == ["LISTEN", "CLOSE-WAIT"]
        assert [entry.inode for entry in lab.server.sockets("close-wait")] == [inode_of(server)]
        assert lab.server.sockets("SYN-SENT", "TIME-WAIT") == []
        (orphan,) = lab.client.sockets("FIN-WAIT-1", "FIN-WAIT-2")
        assert (orphan.inode, orphan.timer) == (0, "timewait")  # a minisocket by now


@pytest.mark.needs("lab")
def test_a_request_socket_has_no_inode_and_a_retransmission_timer() -> None:
    with wired() as (lab, wire):
        listener = listening(lab.server)
        lost = wire.drop(SYN_ACK)
        client = lab.client.process("client").socket()
        client.start.connect(listener.address)
        lost.wait()
        (entry,) = lab.server.sockets("SYN-RECEIVED")
        assert (entry.inode, entry.timer) == (0, "on")
        (calling,) = lab.client.sockets("SYN-SENT")
        assert (calling.inode, calling.timer) == (inode_of(client), "on")


@pytest.mark.needs("lab")
def test_a_v4_mapped_address_is_listed_as_it_stands_and_known_as_it_is_meant() -> None:
    with wired() as (lab, _):
        listener = lab.server.process("server").socket(ipv6=True)
        listener.bind(("::", 7000))
        listener.listen()
        client = lab.client.process("client").socket(ipv6=False)
        client.connect((lab.server.ip4, 7000))
        entry = lab.server.entry(listener.accept())
        assert entry.listed == (f"::ffff:{lab.server.ip4}", f"::ffff:{lab.client.ip4}")
        here = lab.client.entry(client)
        assert entry.ends is not None
        assert here.ends == entry.ends.flipped


@pytest.mark.needs("lab")
def test_looking_at_the_table_does_not_disturb_the_thread_that_samples_it() -> None:
    samples: list[int] = []
    enough = threading.Event()
    with wired() as (lab, _):
        connected(lab)
        sample = sockdiag.sampler(lab.server.diag)

        def watch() -> None:
            while not enough.is_set():
                samples.append(len(sample().rows))

        watching = threading.Thread(target=watch)
        watching.start()
        mine = [len(lab.server.sockets()) for _ in range(300)]
        enough.set()
        watching.join()
    assert set(mine) == {2}
    assert set(samples) == {2}


# --- waiting, counters ------------------------------------------------------------------------


@pytest.mark.needs("lab")
def test_until_waits_for_the_table_and_says_what_never_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with wired() as (lab, _):
        looks = iter([False, False, True, False])
        lab.client.until(lambda: next(looks), "the third look")
        assert next(looks) is False
        monkeypatch.setattr(host_module, "_PATIENCE_S", 0.01)
        with pytest.raises(CheckFailed, match=r"a listener: not at the client within 0.01 s"):
            lab.client.until(lambda: lab.client.sockets("LISTEN"), "a listener")


@pytest.mark.needs("lab")
def test_a_counter_counts_at_its_own_host() -> None:
    with wired() as (lab, wire):
        client, server = connected(lab)
        before = {host.name: host.counter("OutRsts") for host in (lab.client, lab.server)}
        client.linger(0)
        client.close()
        server.recv(fails=errno.ECONNRESET)
        after = {host.name: host.counter("OutRsts") for host in (lab.client, lab.server)}
        assert after == {"client": before["client"] + 1, "server": before["server"]}
        resets = [seen for seen in wire.segments() if RST(seen, "")]
        assert len(resets) == 1
        assert lab.client.counter("TCPAbortOnData") == 1  # of the other file, TcpExt


@pytest.mark.needs("lab")
def test_a_counter_that_this_kernel_has_not_is_unsupported() -> None:
    with wired() as (lab, _), pytest.raises(Unsupported, match="no TCP counter OutDatagrams"):
        lab.client.counter("OutDatagrams")  # which the file has, of UDP


# --- ends that no process asked for -----------------------------------------------------------


@pytest.mark.needs("lab")
@pytest.mark.parametrize("ip", [4, 6])
def test_a_destroyed_socket_tells_its_process_and_its_peer(ip: int) -> None:
    with wired(ip) as (lab, wire):
        client, server = connected(lab)
        another, _ = connected(lab)
        reading = server.start.recv(fails=errno.ECONNABORTED)
        lab.server.destroy(server)
        assert reading.result() == b""
        client.recv(fails=errno.ECONNRESET)
        assert lab.server.entry(server) == Entry()
        assert lab.client.entry(another).state == "ESTABLISHED"
        assert len([seen for seen in wire.segments("server") if RST(seen, "")]) == 1
        with pytest.raises(OSError, match="No such file or directory, from SOCK_DESTROY") as raised:
            lab.server.destroy(server)
        assert raised.value.errno == errno.ENOENT


@pytest.mark.needs("lab")
def test_destroying_is_recorded_as_a_call_of_the_administrators(
    namespaces: Namespaces, observations: list[Observation]
) -> None:
    _, server = connected(namespaces)
    namespaces.server.destroy(server)
    told = [
        (seen.vantage, seen.payload)
        for seen in observations
        if isinstance(seen.payload, UserCall) and seen.payload.call == "destroy"
    ]
    assert [(vantage.source, vantage.side) for vantage, _ in told] == [(CALLS, "server")] * 2
    called, returned = (call for _, call in told)
    assert (called.phase, returned.phase) == (CallPhase.CALLED, CallPhase.RETURNED)
    assert called.call_id == returned.call_id
    assert called.process == "administrator"
    assert (called.local, called.remote) == (server.local, server.remote)
    assert returned.errno is None


@pytest.mark.needs("lab")
def test_what_cannot_be_destroyed_is_recorded_with_its_errno(
    namespaces: Namespaces, observations: list[Observation]
) -> None:
    unbound = namespaces.client.process("client").socket()
    with pytest.raises(OSError, match="SOCK_DESTROY"):
        namespaces.client.destroy(unbound)
    errnos = [
        seen.payload.errno
        for seen in observations
        if isinstance(seen.payload, UserCall) and seen.payload.call == "destroy"
    ]
    assert errnos == [None, "ENOENT"]


@pytest.mark.needs("lab")
def test_a_socket_that_vanishes_tells_nobody() -> None:
    with wired() as (lab, wire):
        client, server = connected(lab)
        wire.wait_idle()
        before = len(wire.segments())
        server.vanish()
        wire.wait_idle()
        assert len(wire.segments()) == before
        assert lab.server.entry(server) == Entry()
        assert lab.client.entry(client).state == "ESTABLISHED"
        client.send(b"hello?")
        wire.wait_for(RST, by="server")


AS_A_USER = """
import errno, json, sys
from tcpwatch.lab.namespace import Namespaces
from tcpwatch.lab.wire import Wire

seen = []
with Namespaces.open(index=204, emit=seen.append) as lab:
    wire = Wire({h.name: h.port for h in (lab.client, lab.server)}, seen.append, latency_ms=0)
    listener = lab.server.process("server").socket()
    listener.bind(0)
    listener.listen()
    answer = {"privilege": lab.privilege}
    for end in ("destroy", "vanish"):
        client = lab.client.process("client").socket()
        client.connect(listener.address)
        server = listener.accept()
        lab.server.destroy(server) if end == "destroy" else server.vanish()
        answer[end] = lab.server.entry(server).state
    answer["counter"] = lab.server.counter("OutRsts")
    wire.close()
print(json.dumps(answer))
"""


@pytest.mark.needs("lab")
def test_a_user_without_privilege_may_do_all_this_in_their_own_lab(
    unprivileged_command: Command,
) -> None:
    argv = unprivileged_command([sys.executable, "-c", AS_A_USER])
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    ends = {"destroy": "CLOSED", "vanish": "CLOSED"}
    assert json.loads(done.stdout) == {"privilege": "user", **ends, "counter": 1}


# --- sockets' own small verbs -----------------------------------------------------------------


@pytest.mark.needs("lab")
def test_a_port_is_shared_only_by_those_who_all_ask_for_it() -> None:
    with wired() as (lab, wire):
        old, new = lab.server.process("old").socket(), lab.server.process("new").socket()
        old.reuse_port()
        old.bind(7000)
        new.bind(7000, fails=errno.EADDRINUSE)
        new.reuse_port()
        new.bind(7000)
        old.listen()
        client = lab.client.process("client").socket()
        client.connect(old.address)
        wire.wait_for(PURE_ACK, by="client")
        assert old.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 1


def test_on_the_loopback_there_is_no_table_to_look_at(loopback: Loopback) -> None:
    sock = loopback.client.process("client").socket()
    for look in (
        loopback.client.sockets,
        lambda: loopback.client.entry(sock),
        lambda: loopback.client.destroy(sock),
        lambda: loopback.client.counter("OutRsts"),
    ):
        with pytest.raises(Unsupported, match="on the loopback the client has no"):
            look()
