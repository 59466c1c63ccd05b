"""`tcpwatch watch` without a screen, on this machine's own sockets: the log, the table, the rest.

Owns: the real runs. What its lines say of a made host is tested where they are made.
"""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

WATCH = (sys.executable, "-m", "tcpwatch", "watch")
PATIENCE_S = 60


def filter_of(client: socket.socket) -> str:
    """Both its ports: others have connections here too, and TIME-WAIT keeps a port for long."""
    return f"port:{client.getsockname()[1]} port:{client.getpeername()[1]}"


@contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket, int]]:
    """Two ends of a connection over loopback, and the port of the listener."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            server, _ = listener.accept()
            with server:
                yield client, server, port


@contextmanager
def watching(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A log that is being written, from the moment that it watches."""
    process = subprocess.Popen(
        (*WATCH, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("watching by"):
                break
        yield process
    finally:
        process.kill()
        process.communicate()


def watch(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (*WATCH, *arguments), capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )


def lines_until(process: subprocess.Popen[str], enough: Callable[[str], bool]) -> list[str]:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if enough(line):
            break
    return lines


@pytest.mark.needs("table")
def test_once_is_a_table_of_what_is_there() -> None:
    with pair() as (client, _server, port):
        client.sendall(b"four")
        found = watch("--once", f"sport:{port}", "not state:time-wait")
        assert found.returncode == 0, found.stderr
        head, listening, connected = found.stdout.splitlines()
        assert head.split() == ["State", "Age", "Recv-Q", "Send-Q", "Local", "Remote", "Process"]
        assert listening.split()[:5] == ["LISTEN", "0", "128", f"127.0.0.1:{port}", "*"]
        assert connected.startswith("ESTABLISHED")
        assert " 4 " in connected
        assert connected.endswith(f"[{os.getpid()}]")


@pytest.mark.needs("table")
@pytest.mark.parametrize("sampler", ["sockdiag", "psutil"])
def test_whoever_holds_a_socket_is_told_whichever_way_the_table_is_read(sampler: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port, shared = listener.getsockname()[1], listener.fileno()
        command = (sys.executable, "-c", "import sys; sys.stdin.read()")
        with subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=(shared,)) as other:
            found = watch("--once", "--sampler", sampler, f"sport:{port}")
            other.communicate()
        (line,) = found.stdout.splitlines()[1:]
        assert line.startswith("LISTEN")
        assert str(os.getpid()) in line
        assert str(other.pid) in line


@pytest.mark.needs("table")
def test_a_log_has_a_line_a_move_until_it_is_interrupted() -> None:
    with watching("--text") as process:
        with pair() as (client, server, port):
            client.close()
            server.recv(1)
        ends = f"127.0.0.1:{port}"
        lines = lines_until(process, lambda line: "TIME-WAIT" in line and ends in line)
        own = [line for line in lines if ends in line]
        assert own
        assert "\x1b" not in "".join(own)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 130
        assert "now: " in told
        assert "Traceback" not in told


@pytest.mark.needs("kernel", "table")
def test_the_kernel_tells_each_move_with_its_cause() -> None:
    with watching("--text") as process:
        with pair() as (client, server, port):
            client.close()
            server.recv(1)
        ends = f"127.0.0.1:{port} > "
        lines = lines_until(process, lambda line: "> CLOSED" in line and ends in line)
        moved = [line[12:].split(ends)[0].strip() for line in lines if ends in line]
        assert moved == [
            "LISTEN > SYN-RECEIVED",
            "SYN-RECEIVED > ESTABLISHED",
            "ESTABLISHED > CLOSE-WAIT",
            "CLOSE-WAIT > LAST-ACK",
            "LAST-ACK > CLOSED",
        ]
        assert "by FIN received" in next(line for line in lines if "> CLOSE-WAIT" in line)


@pytest.mark.needs("table")
def test_what_was_there_begins_with_the_state_found_and_is_followed() -> None:
    with (
        pair() as (client, _server, port),
        watching("--text", "--without", "kernel", f"port:{port}", "--count", "1") as process,
    ):
        client.shutdown(socket.SHUT_WR)
        (line, *_) = lines_until(process, lambda _line: True)
        assert "ESTABLISHED > " in line
        process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0


@pytest.mark.needs("table")
def test_the_recording_replays_and_begins_with_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "host.jsonl"
    with pair() as (client, server, _port):
        arguments = ("--jsonl", str(file), "--text", filter_of(client))
        with watching(*arguments) as process:
            client.shutdown(socket.SHUT_WR)
            lines_until(process, lambda line: "FIN-WAIT-2" in line or "CLOSE-WAIT" in line)
            server.close()
            lines_until(process, lambda line: "TIME-WAIT" in line)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=PATIENCE_S)
    head = json.loads(file.read_text(encoding="utf-8").splitlines()[0])
    assert head["schema"] == "tcpwatch-recording/1"
    assert head["lab"]["kind"] == "host"
    command = (sys.executable, "-m", "tcpwatch", "replay", str(file), "--json", "-")
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    (connection,) = json.loads(shown.stdout)["connections"]
    paths = sorted(end["path"] for end in connection["endpoints"])
    assert [path[0] for path in paths] == ["ESTABLISHED", "ESTABLISHED"]


@pytest.mark.needs("table")
def test_a_recording_to_standard_output_has_it_alone() -> None:
    told = watch("--jsonl", "-", "--duration", "0.3", "state:closing")
    assert told.returncode == 0
    documents = [json.loads(line) for line in told.stdout.splitlines()]
    assert documents[0]["claim"] == "state:closing"
    assert "end_ns" in documents[-1]


@pytest.mark.needs("table")
def test_whoever_reads_no_more_ends_it_quietly() -> None:
    with watching("--text", "--without", "kernel") as process:
        assert process.stdout is not None
        process.stdout.close()
        deadline = time.monotonic() + PATIENCE_S
        while process.poll() is None and time.monotonic() < deadline:
            with pair() as (client, _server, _port):
                linger = struct.pack("ii", 1, 0)  # a RST, which leaves no TIME-WAIT behind
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                client.close()
        assert process.stderr is not None
        told = process.stderr.read()
        assert "Traceback" not in told
        assert "Broken pipe" not in told


@pytest.mark.needs("table")
@pytest.mark.parametrize("way", ["its window is closed", "the server is killed"])
def test_textual_serve_gets_the_screen_in_its_packets(way: str) -> None:
    driver = {"TEXTUAL_DRIVER": "textual.drivers.web_driver:WebDriver"}
    with subprocess.Popen(
        WATCH, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | driver
    ) as one:
        assert one.stdin is not None
        assert one.stdout is not None
        assert one.stdout.readline() == b"__GANGLION__\n"
        told = b""
        while b"sockets" not in told:
            told += os.read(one.stdout.fileno(), 1 << 16)
        if way == "the server is killed":
            one.stdout.close()
            one.stdin.close()
            one.wait(PATIENCE_S)
            return
        goes = json.dumps({"type": "quit"}).encode()
        one.stdin.write(b"M" + len(goes).to_bytes(4, "big") + goes)
        one.stdin.flush()
        while os.read(one.stdout.fileno(), 1 << 16):
            pass
        assert one.wait(PATIENCE_S) == 0


@pytest.mark.needs("table")
def test_on_a_terminal_it_is_a_screen_that_leaves_it_as_it_was() -> None:
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
    with subprocess.Popen(
        WATCH, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    ) as one:
        os.close(theirs)
        told = b""
        try:
            while b"sockets" not in told:
                told += os.read(ours, 1 << 16)
            os.write(ours, b"q")
            while True:
                told += os.read(ours, 1 << 16)
        except OSError:  # EIO: nobody has the terminal any more
            pass
        os.close(ours)
        one.wait(PATIENCE_S)
        assert one.returncode == 0
    assert told.count(b"\x1b[?1049h") == told.count(b"\x1b[?1049l") == 1


@pytest.mark.parametrize(
    "arguments, told",
    [
        (("state:cl",), "bad filter at column 7: 'cl' is not a TCP state"),
        (("zeek:SF",), "a host has no zeek"),
        (("--without", "table"), "only the kernel can be left out"),
        (("--duration", "0"), "no number of seconds"),
        (("--count", "none"), "no whole number"),
        (("--jsonl", "/nowhere/x"), "cannot write /nowhere/x"),
        (("--once", "--text"), "not allowed with"),
    ],
)
def test_wrong_usage_is_one_line_that_says_what(arguments: tuple[str, ...], told: str) -> None:
    found = watch(*arguments)
    assert found.returncode == 2
    assert told in found.stderr
    assert len(found.stderr.splitlines()) == 1
