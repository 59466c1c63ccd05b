"""The programs of the five I/O models and of select() are plain Python: they run by themselves."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tcpwatch.lab.scenario import programs_folder

LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
PATIENCE_S = 30

Running = subprocess.Popen[str]


@contextlib.contextmanager
def running(program: str, *arguments: object) -> Iterator[Running]:
    path = programs_folder() / f"{program}.py"
    argv = [sys.executable, str(path), *map(str, arguments)]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(params=LOOPBACK, ids=lambda family: family.name)
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    family = request.param
    try:
        listener = socket.create_server((LOOPBACK[family], 0), family=family)
    except OSError as error:
        pytest.skip(f"no {family.name} on this machine's loopback: {error.strerror}")
    with listener:
        listener.settimeout(PATIENCE_S)
        yield listener


def free_port(listener: socket.socket) -> int:
    """A port that was free a moment ago, at the listener's address."""
    with socket.create_server((listener.getsockname()[0], 0), family=listener.family) as other:
        return int(other.getsockname()[1])


@pytest.mark.parametrize(
    "command",
    [
        ["io_blocking"],
        ["io_nonblocking"],
        ["io_multiplexing"],
        ["io_signal_driven"],
        ["io_async", "aio"],
        ["io_async", "thread"],
        ["select_read_timeout", "5"],
    ],
    ids=" ".join,
)
def test_each_way_of_waiting_reads_the_answer(listener: socket.socket, command: list[str]) -> None:
    program, *more = command
    host, port = listener.getsockname()[:2]
    with running(program, host, port, *more) as client:
        connection, _peer = listener.accept()
        with connection:
            assert connection.recv(4096) == b"request"
            connection.sendall(b"answer")
            printed, said = client.communicate(timeout=PATIENCE_S)
    assert said == ""
    assert printed.splitlines()[-1] == "answer"
    assert client.returncode == 0


@pytest.mark.parametrize("way", ["aio_read() of libc", "a thread of our own"])
def test_asynchronous_io_says_by_what(listener: socket.socket, way: str) -> None:
    host, port = listener.getsockname()[:2]
    how = "aio" if "aio" in way else "thread"
    with running("io_async", host, port, how) as client:
        connection, _peer = listener.accept()
        with connection:
            connection.sendall(b"answer")
            printed, _said = client.communicate(timeout=PATIENCE_S)
    assert printed == f"asynchronous by {way}\nanswer\n"


@pytest.mark.parametrize(
    "command",
    [["select_server"], ["poll_server"], ["epoll_server"], ["fd_limit_server", "9"]],
    ids=" ".join,
)
def test_a_server_of_one_process_answers_whoever_speaks(
    listener: socket.socket, command: list[str]
) -> None:
    program, *more = command
    host, port = listener.getsockname()[0], free_port(listener)
    with running(program, host, port, *more), contextlib.ExitStack() as stack:
        silent, first, second = (stack.enter_context(connected(host, port)) for _ in range(3))
        for client, line in ((second, b"one"), (first, b"two"), (second, b"three")):
            client.sendall(line)
            assert client.recv(4096) == line
        silent.shutdown(socket.SHUT_WR)
        assert silent.recv(4096) == b""


def connected(host: str, port: int) -> socket.socket:
    """A connection to a server that listens, or is about to."""
    give_up = time.monotonic() + PATIENCE_S
    while True:
        try:
            return socket.create_connection((host, port), timeout=PATIENCE_S)
        except ConnectionRefusedError:
            if time.monotonic() > give_up:
                raise


def test_every_program_says_how_it_is_used() -> None:
    for path in sorted(programs_folder().glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "__main__" in text:
            assert f"python3 {path.name}" in text, path.name
