"""Processes of a lab and their calls: real ones, each recorded, and none that hangs."""

from __future__ import annotations

import errno
import os
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.lab.descriptor import Socket
from tcpwatch.lab.failures import CheckFailed, DeadlinePassed, Ending, ProcessDied, Unsupported
from tcpwatch.lab.loopback import Loopback
from tcpwatch.lab.namespace import Namespaces
from tcpwatch.lab.process import Process
from tcpwatch.model.events import CallPhase, ProcessChange, ProcessChanged, UserCall
from tcpwatch.model.identity import SocketAddress
from tcpwatch.model.witness import Observation

AnyLab = Namespaces | Loopback


def wait_until(condition: Callable[[], bool]) -> None:
    """pytest's timeout ends this where the condition never holds."""
    never = threading.Event()
    while not condition():
        never.wait(0.01)


def listening(process: Process) -> Socket:
    listener = process.socket()
    listener.bind(0)
    listener.listen()
    return listener


def connected(lab: AnyLab) -> tuple[Socket, Socket]:
    listener = listening(lab.server.process("server"))
    client = lab.client.process("client").socket()
    client.connect(listener.address)
    return client, listener.accept()


def calls(observations: list[Observation], name: str) -> list[UserCall]:
    payloads = [seen.payload for seen in observations]
    return [
        payload for payload in payloads if isinstance(payload, UserCall) and payload.call == name
    ]


def changes(observations: list[Observation], process: str) -> list[ProcessChanged]:
    payloads = [seen.payload for seen in observations]
    return [
        payload
        for payload in payloads
        if isinstance(payload, ProcessChanged) and payload.process == process
    ]


# --- calls ------------------------------------------------------------------------------------


def test_a_call_is_recorded_before_and_after(lab: AnyLab, observations: list[Observation]) -> None:
    client, server = connected(lab)
    server.process.name.encode()
    client.send(b"hello")
    called, returned = calls(observations, "send")
    assert (called.phase, returned.phase) == (CallPhase.CALLED, CallPhase.RETURNED)
    assert called.call_id == returned.call_id
    assert called.arguments == "b'hello'"
    assert (called.result, returned.result) == (None, 5)
    assert (returned.local, returned.remote) == (client.local, client.remote)
    stamps = [
        seen.t_ns
        for seen in observations
        if isinstance(seen.payload, UserCall) and seen.payload.call_id == called.call_id
    ]
    assert stamps == sorted(stamps)


def test_a_call_names_its_process_as_we_see_it(
    lab: AnyLab, observations: list[Observation]
) -> None:
    client, _ = connected(lab)
    (called, _) = calls(observations, "connect")
    assert called.process == "client"
    assert called.pid == client.process.pid
    assert psutil.Process(called.pid).is_running()


def test_connect_tells_the_local_port_when_it_is_back(
    lab: AnyLab, observations: list[Observation]
) -> None:
    client, server = connected(lab)
    called, returned = calls(observations, "connect")
    assert (called.local, called.remote) == (None, None)
    assert (returned.local, returned.remote) == (server.remote, server.local)
    assert client.getsockname() == server.remote


def test_accept_tells_the_new_socket_s_addresses(
    lab: AnyLab, observations: list[Observation]
) -> None:
    client, server = connected(lab)
    returned = calls(observations, "accept")[1]
    assert (returned.local, returned.remote) == (client.remote, client.local)
    assert returned.result == server.fd


def test_close_still_tells_the_addresses(lab: AnyLab, observations: list[Observation]) -> None:
    client, _ = connected(lab)
    client.close()
    returned = calls(observations, "close")[1]
    assert (returned.local, returned.remote) == (client.local, client.remote)


def test_octets_arrive_as_they_were_sent(lab: AnyLab) -> None:
    client, server = connected(lab)
    data = bytes(range(256)) * 4000
    sending = client.start.send(data)
    assert server.recv_exactly(len(data)) == data
    assert sending.result() == len(data)
    client.shutdown(socket.SHUT_WR)
    assert server.recv_to_end() == b""


def test_an_expected_failure_is_no_error(lab: AnyLab, observations: list[Observation]) -> None:
    closed = lab.client.address(9)
    lab.client.process("client").socket().connect(closed, fails=errno.ECONNREFUSED)
    returned = calls(observations, "connect")[1]
    assert (returned.result, returned.errno) == (None, "ECONNREFUSED")


def test_an_unexpected_failure_raises_what_the_kernel_said(lab: AnyLab) -> None:
    sock = lab.client.process("client").socket()
    with pytest.raises(ConnectionRefusedError, match=r"client: connect\(.*:9\)"):
        sock.connect(lab.client.address(9))


def test_a_success_where_failure_was_expected_fails_the_check(lab: AnyLab) -> None:
    listener = lab.server.process("server").socket()
    with pytest.raises(CheckFailed, match="succeeded, expected EADDRINUSE") as caught:
        listener.bind(0, fails=errno.EADDRINUSE)
    assert caught.value.exit_code is ExitCode.FAILED


def test_another_failure_than_the_expected_fails_the_check(lab: AnyLab) -> None:
    sock = lab.client.process("client").socket()
    with pytest.raises(CheckFailed, match="failed with ENOTCONN, expected EPIPE"):
        sock.recv(fails=errno.EPIPE)


def test_a_closed_descriptor_is_a_bad_one(lab: AnyLab) -> None:
    sock = lab.client.process("client").socket()
    sock.close()
    sock.send(b"x", fails=errno.EBADF)


def test_options_are_set_and_read(lab: AnyLab, observations: list[Observation]) -> None:
    sock = lab.client.process("client").socket()
    sock.reuse_address()
    sock.linger(0)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 1
    texts = [call.arguments for call in calls(observations, "setsockopt")[::2]]
    assert texts == ["SO_REUSEADDR, 1", f"SO_LINGER, {struct.pack('@ii', 1, 0)!r}"]


def test_a_nonblocking_socket_says_so(lab: AnyLab) -> None:
    _, server = connected(lab)
    server.setblocking(blocking=False)
    server.recv(fails=errno.EWOULDBLOCK)


def test_a_socket_with_a_timeout_gives_up(lab: AnyLab) -> None:
    _, server = connected(lab)
    server.settimeout(0.01)
    server.recv(fails=errno.EAGAIN)


def test_ipv6_is_played_where_it_is_asked_for(lab: AnyLab) -> None:
    listener = lab.server.process("server").socket(ipv6=True)
    listener.bind(0)
    listener.listen()
    client = lab.client.process("client").socket(ipv6=True)
    client.connect(listener.address)
    assert listener.accept().remote == client.local
    assert listener.address == SocketAddress(lab.server.ip6, listener.address.port)


# --- waiting ------------------------------------------------------------------------------------


def test_a_call_may_be_begun_and_waited_for_later(lab: AnyLab) -> None:
    listener = listening(lab.server.process("server"))
    accepting = listener.start.accept()
    assert not accepting.done
    client = lab.client.process("client").socket()
    client.connect(listener.address)
    assert accepting.result().remote == client.local


def test_a_process_makes_one_call_at_a_time(lab: AnyLab) -> None:
    listener = listening(lab.server.process("server"))
    listener.start.accept()
    with pytest.raises(TcpwatchError, match=r"still in accept\(\)") as caught:
        listener.close()
    assert caught.value.exit_code is ExitCode.USAGE


def test_no_call_is_waited_for_beyond_the_deadline(lab: AnyLab) -> None:
    listener = listening(lab.server.process("server"))
    lab.set_deadline(1)
    with pytest.raises(DeadlinePassed, match=r"server: accept\(\) did not come back"):
        listener.accept()


def test_a_deadline_ends_a_waiting_under_way(lab: AnyLab) -> None:
    accepting = listening(lab.server.process("server")).start.accept()
    stopper = threading.Thread(target=lab.set_deadline, args=(0,))
    stopper.start()
    with pytest.raises(DeadlinePassed):
        accepting.result()
    stopper.join()


def test_nothing_is_emitted_from_before_the_watermark() -> None:
    marks: list[tuple[int, int]] = []
    promised = threading.Event()
    finished = threading.Event()
    highest = 0

    def emit(seen: Observation) -> None:
        # A return's stamp is the one thing that may be late, by an actor's being preempted.
        if not isinstance(seen.payload, UserCall) or seen.payload.phase is CallPhase.CALLED:
            marks.append((highest, seen.t_ns))

    def watch(lab: Loopback) -> None:
        nonlocal highest
        while not finished.is_set():
            highest = lab.calls_watermark()
            promised.set()

    with Loopback.open(emit=emit) as lab:
        watcher = threading.Thread(target=watch, args=(lab,))
        watcher.start()
        promised.wait()
        first = highest
        client, server = connected(lab)
        for _ in range(50):
            client.send(b"x")
            server.recv()
        finished.set()
        watcher.join()
        assert lab.calls_watermark() > first
    assert [pair for pair in marks if pair[1] < pair[0]] == []


# --- the life of processes ----------------------------------------------------------------------


def test_a_killed_process_ends_the_call_it_was_in(
    lab: AnyLab, observations: list[Observation]
) -> None:
    listener = listening(lab.server.process("server"))
    accepting = listener.start.accept()
    listener.process.kill()
    with pytest.raises(ProcessDied, match=r"server was killed by SIGKILL inside accept\(\)"):
        accepting.result()
    assert not listener.process.alive
    life = changes(observations, "server")
    assert [event.change for event in life] == [
        ProcessChange.STARTED,
        ProcessChange.SIGNALLED,
        ProcessChange.EXITED,
    ]
    assert (life[1].signal, life[2].signal) == ("SIGKILL", "SIGKILL")


def test_a_dead_process_makes_no_call(lab: AnyLab) -> None:
    process = lab.client.process("client")
    assert process.exit(3) == Ending(exit_status=3)
    with pytest.raises(ProcessDied, match="client exited with status 3"):
        process.socket()
    with pytest.raises(ProcessDied):
        process.kill()


def reset_by_peer(lab: AnyLab) -> Socket:
    """A client whose next send() meets a connection that the server has reset."""
    client, server = connected(lab)
    client.send(b"never read")
    server.recv(1, socket.MSG_PEEK)  # it is there, and stays there
    server.close()
    client.recv(fails=errno.ECONNRESET)
    return client


def test_sigpipe_is_ignored_to_begin_with(lab: AnyLab) -> None:
    client = reset_by_peer(lab)
    client.send(b"x", fails=errno.EPIPE)
    assert client.process.alive


def test_sigpipe_kills_where_its_action_is_the_default(lab: AnyLab) -> None:
    client = reset_by_peer(lab)
    client.process.sigaction(signal.SIGPIPE, "default")
    sending = client.start.send(b"x")
    assert client.process.join() == Ending(signal="SIGPIPE")
    with pytest.raises(ProcessDied, match="SIGPIPE"):
        sending.result()


def test_a_forked_child_is_a_real_one(lab: AnyLab, observations: list[Observation]) -> None:
    parent = lab.server.process("parent")
    child = parent.fork("child")
    assert psutil.Process(child.pid).ppid() == parent.pid
    assert calls(observations, "fork")[1].result == child.pid
    assert changes(observations, "child") == [
        ProcessChanged(child.pid, "child", ProcessChange.FORKED, parent="parent")
    ]


def test_a_child_is_a_zombie_until_its_parent_waits(
    lab: AnyLab, observations: list[Observation]
) -> None:
    parent = lab.server.process("parent")
    child = parent.fork("child")
    assert parent.wait(options=os.WNOHANG).process is None
    assert child.exit(4) == Ending(exit_status=4)
    assert psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE
    reaped = parent.wait(child)
    assert reaped.ending == Ending(exit_status=4)
    assert not psutil.pid_exists(child.pid)
    assert [event.change for event in changes(observations, "child")] == [
        ProcessChange.FORKED,
        ProcessChange.EXITED,
        ProcessChange.REAPED,
    ]
    parent.wait(fails=errno.ECHILD)


def test_a_waiting_parent_learns_how_its_child_was_killed(
    lab: AnyLab, observations: list[Observation]
) -> None:
    parent = lab.server.process("parent")
    child = parent.fork("child")
    waiting = parent.start_wait()
    child.kill(signal.SIGTERM)
    reaped = waiting.result()
    assert reaped.process is not None
    assert reaped.process.name == "child"
    assert reaped.ending == Ending(signal="SIGTERM")
    exited, reaped_ = changes(observations, "child")[-2:]
    assert (exited.signal, reaped_.change) == ("SIGTERM", ProcessChange.REAPED)


def test_an_orphan_s_end_is_told_too(lab: AnyLab) -> None:
    parent = lab.server.process("parent")
    child = parent.fork("child")
    parent.kill()
    assert child.alive
    assert child.exit(5) == Ending(exit_status=5)


def test_a_child_that_nobody_waits_for_ends_all_the_same(lab: AnyLab) -> None:
    parent = lab.server.process("parent")
    parent.sigaction(signal.SIGCHLD, "ignore")
    child = parent.fork("child")
    child.exit(6)
    assert not child.alive
    parent.wait(fails=errno.ECHILD)


def test_parent_and_child_share_a_connection(lab: AnyLab) -> None:
    client, server = connected(lab)
    child = server.process.fork("child")
    inherited = child.shares(server)
    server.close()  # no FIN: the child holds it
    inherited.send(b"from the child")
    assert client.recv() == b"from the child"
    inherited.close()
    assert client.recv() == b""


def sleeps(thread: threading.Thread) -> bool:
    """Whether it waits for something: proc_pid_stat(5), the third field."""
    stat = Path(f"/proc/self/task/{thread.native_id}/stat").read_text(encoding="utf-8")
    return stat.rpartition(")")[2].split()[0] == "S"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks /proc who waits")
def test_processes_that_end_while_the_lab_is_closed_disturb_nobody() -> None:
    told, go_on = threading.Event(), threading.Event()

    def emit(seen: Observation) -> None:
        # The one reader of all channels waits here, so that it finds much to read at once.
        if isinstance(seen.payload, UserCall) and seen.payload.call == "getsockname":
            told.set()
            go_on.wait()

    with Loopback.open(emit=emit) as lab:
        parent = lab.server.process("parent")
        children = [parent.fork(f"child {number}") for number in range(8)]
        sock = lab.client.process("client").socket()
        sock.start.getsockname()
        told.wait()
        for child in children:
            os.kill(child.pid, signal.SIGKILL)
        closer = threading.Thread(target=lab.close)
        closer.start()
        wait_until(lambda: sleeps(closer))
        go_on.set()
        closer.join()  # pytest fails a test in which a thread died, as the reader's must not


# --- the loopback ---------------------------------------------------------------------------------


def test_the_loopback_has_neither_wire_nor_sysctls(loopback: Loopback) -> None:
    with pytest.raises(Unsupported, match="has no wire"):
        _ = loopback.client.port
    with pytest.raises(Unsupported, match="has no sysctls"):
        loopback.client.sysctl("net.ipv4.tcp_fin_timeout")
