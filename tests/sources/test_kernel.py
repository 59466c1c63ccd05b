"""The kernel's tracepoints, as this machine's kernel gives them."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tcpwatch.model.events import Gap, KernelNote, KernelNoted, Payload, StateReported
from tcpwatch.model.identity import SocketAddress
from tcpwatch.sources import kernel
from tcpwatch.sources.tracefs import Instance, Tracefs
from tcpwatch.tcp.state import TcpState

pytestmark = pytest.mark.needs("kernel")

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def on_port(port: int) -> Callable[[SocketAddress, SocketAddress], bool]:
    return lambda local, remote: port in (local.port, remote.port)


@contextlib.contextmanager
def instances() -> Iterator[Path]:
    with contextlib.closing(Tracefs()) as tracefs:
        yield tracefs.root / "instances"


def witnessed(port: int, play: Callable[[], None], **options: int) -> list[Payload]:
    source = kernel.KernelSource(on_port(port), **options)  # type: ignore[arg-type]
    try:
        play()
    finally:
        source.close()
    return [observation.payload for observation in source.observations()]


def path(payloads: list[Payload], local_port: int) -> list[tuple[TcpState, TcpState]]:
    reports = [payload for payload in payloads if isinstance(payload, StateReported)]
    mine = {report.skaddr for report in reports if report.local.port == local_port}
    return [(report.before, report.after) for report in reports if report.skaddr in mine]


@pytest.mark.parametrize(
    "family, listen_at, connect_to",
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET6, "::1", "::1"),
        (socket.AF_INET6, "::", "127.0.0.1"),
    ],
    ids=["ipv4", "ipv6", "v4-mapped"],
)
def test_both_ends_of_a_normal_close(
    family: socket.AddressFamily, listen_at: str, connect_to: str
) -> None:
    with socket.create_server(
        (listen_at, 0), family=family, dualstack_ipv6=listen_at == "::"
    ) as listener:
        port = listener.getsockname()[1]
        client_port = 0

        def play() -> None:
            nonlocal client_port
            client = socket.create_connection((connect_to, port))
            client_port = client.getsockname()[1]
            server, _ = listener.accept()
            client.close()
            server.recv(1)
            server.close()

        payloads = witnessed(port, play)
    state = TcpState
    assert path(payloads, client_port) == [
        (state.CLOSED, state.SYN_SENT),
        (state.SYN_SENT, state.ESTABLISHED),
        (state.ESTABLISHED, state.FIN_WAIT_1),
        (state.FIN_WAIT_1, state.FIN_WAIT_2),
        (state.FIN_WAIT_2, state.CLOSED),
    ]
    server_path = [
        (report.before, report.after)
        for report in payloads
        if isinstance(report, StateReported)
        and report.local == SocketAddress(connect_to, port)
        and report.remote == SocketAddress(connect_to, client_port)
    ]
    assert server_path == [
        (state.LISTEN, state.SYN_RECEIVED),
        (state.SYN_RECEIVED, state.ESTABLISHED),
        (state.ESTABLISHED, state.CLOSE_WAIT),
        (state.CLOSE_WAIT, state.LAST_ACK),
        (state.LAST_ACK, state.CLOSED),
    ]


def test_an_abort_is_noted_from_its_reset_to_the_end_of_both_sockets() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def play() -> None:
            client = socket.create_connection(("127.0.0.1", port))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            server, _ = listener.accept()
            client.close()
            with pytest.raises(ConnectionResetError):
                server.recv(1)
            server.close()

        payloads = witnessed(port, play)
    notes = [payload for payload in payloads if isinstance(payload, KernelNoted)]
    kinds = [note.note for note in notes]
    assert KernelNote.RESET_SENT in kinds
    assert KernelNote.RESET_RECEIVED in kinds
    # The client's has lost its addresses by then, and is known by its address in memory.
    assert kinds.count(KernelNote.DESTROYED) == 2
    sent = next(note for note in notes if note.note is KernelNote.RESET_SENT)
    assert sent.remote == SocketAddress("127.0.0.1", port)


def test_a_filter_on_ports_leaves_the_others_out_in_the_kernel() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as wanted,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        port = wanted.getsockname()[1]
        asked: list[tuple[SocketAddress, SocketAddress]] = []

        def networks(local: SocketAddress, remote: SocketAddress) -> bool:
            asked.append((local, remote))
            return True

        source = kernel.KernelSource(networks, ports=[port])
        for listener in (wanted, other):
            with socket.create_connection(listener.getsockname()):
                listener.accept()[0].close()
        source.close()
    assert asked
    assert all(port in (local.port, remote.port) for local, remote in asked)


def test_what_the_buffer_had_no_room_for_is_a_gap_and_is_counted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        source = kernel.KernelSource(on_port(port), buffer_kb=8)
        for _ in range(300):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                listener.accept()[0].close()
        source.close()
        payloads = [observation.payload for observation in source.observations()]
    gaps = [payload for payload in payloads if isinstance(payload, Gap)]
    assert gaps
    assert source.lost == sum(gap.lost or 0 for gap in gaps) > 100


def test_closing_removes_the_instance() -> None:
    with instances() as directory:
        source = kernel.KernelSource(on_port(1))
        mine = [entry for entry in directory.iterdir() if f"-{os.getpid()}-" in entry.name]
        source.close()
        assert len(mine) == 1
        assert not mine[0].exists()


def test_the_next_removes_the_instance_of_a_killed_process_and_of_no_living_one() -> None:
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); from tcpwatch.sources import kernel;"
        "kernel.KernelSource(lambda a, b: True); print('ready', flush=True); sys.stdin.read()"
    )
    project = str(Path(__file__).parents[2])
    with (
        instances() as directory,
        subprocess.Popen(
            [sys.executable, "-c", code, project], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as other,
    ):
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"

        def left() -> list[Path]:
            return [entry for entry in directory.iterdir() if f"-{other.pid}-" in entry.name]

        kernel.KernelSource(on_port(1)).close()
        assert len(left()) == 1
        other.kill()
        other.wait()
        assert len(left()) == 1
        kernel.KernelSource(on_port(1)).close()
        assert left() == []


def test_a_forked_child_does_not_keep_the_instance() -> None:
    assert threading.active_count() == 1  # Python 3.12 warns of a fork beside other threads
    source = kernel.KernelSource(on_port(1))
    with instances() as directory:
        mine = [entry for entry in directory.iterdir() if f"-{os.getpid()}-" in entry.name]
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(writer)
            os.read(reader, 1)  # until the parent is done
            os._exit(0)
        try:
            source.close()
            assert not mine[0].exists()
        finally:
            os.close(writer)
            os.close(reader)
            os.waitpid(child, 0)


def test_tracefs_can_be_had_without_mounting_it() -> None:
    before = Path("/proc/self/mounts").read_text()
    with contextlib.closing(Tracefs()) as tracefs:
        instance = Instance(tracefs)
        instance.write("trace_clock", "mono")
        assert "[mono]" in instance.read("trace_clock")
        instance.remove()
        assert not instance.path.exists()
        assert Path("/proc/self/mounts").read_text() == before
