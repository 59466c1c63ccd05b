"""The command itself: what passes through it, what it sees, what a leak is, how it ends."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tcpwatch.verbs.exec import Request
from tests.exec.executed import PROGRAMS, execute, program, runs_as_nobody

pytestmark = pytest.mark.needs("lab")

CLIENT = "CLOSED > SYN-SENT > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED"
SERVER = "LISTEN > SYN-RECEIVED > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT"


# ---------------------------------------------------------------------- what passes through


def test_what_it_reads_and_prints_is_the_commands() -> None:
    script = "cat; echo to the other >&2; exit 7"
    done = execute("-o", "/dev/null", "--", "sh", "-c", script, typed="hello\n")
    assert (done.status, done.out, done.report) == (7, "hello\n", "to the other\n")


def test_the_report_goes_to_standard_error() -> None:
    done = execute(*program("leaving.py", "all-closed"))
    assert done.out == ""
    assert "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED" in done.report


@pytest.mark.parametrize(
    "command, status",
    [
        (["sh", "-c", "kill -9 $$"], 128 + signal.SIGKILL),
        (["there-is-no-such-command"], 127),
        (["/dev/null"], 126),
        (["true"], 0),
    ],
)
def test_the_exit_status_is_what_a_shell_gives(command: list[str], status: int) -> None:
    assert execute("-q", "--", *command).status == status


def test_how_the_command_ended_is_told_beside_the_verdict() -> None:
    done = execute("--", "sh", "-c", "exit 3")
    assert done.report.endswith("; the command failed, with exit status 3\n")
    assert done.document["verdict"] == "pass"
    assert done.document["lab"]["exit_status"] == 3
    done = execute("--", "sh", "-c", "kill -9 $$")
    assert done.report.endswith("; the command was ended by SIGKILL\n")
    assert done.document["lab"]["signal"] == "SIGKILL"


@pytest.mark.parametrize(
    "command, name, claim",
    [
        (("/usr/bin/true", "-c"), "true", "/usr/bin/true -c"),
        (("bash", "--norc", "-eo", "pipefail", "-c", "make\n  test"), "make", "make; test"),
        (("sh", "make.sh"), "sh", "sh make.sh"),
    ],
)
def test_what_a_shell_is_given_is_the_command(
    command: tuple[str, ...], name: str, claim: str
) -> None:
    request = Request(command)
    assert (request.name, request.claim) == (name, claim)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--expect", "server prt:80: LISTEN", "--", "true"],
        ["--never", "CLOSE-WEIGHT", "--", "true"],
        ["--sysctl", "kernel.hostname=mine", "--", "true"],
        ["--sysctl", "net.ipv4.tcp_no_such=1", "--", "true"],
        [],
    ],
)
def test_a_wrong_argument_is_told_in_a_line(arguments: list[str]) -> None:
    done = execute(*arguments)
    assert done.status in (2, 3)
    assert done.report.startswith("tcpwatch: ")
    assert done.report.count("\n") == 1


@pytest.mark.needs("kernel")
def test_the_kernel_alone_does_not_tell_whose_sockets_it_reports() -> None:
    done = execute("--without", "table,wire", *program("short.py", "1"))
    assert done.status == 3
    assert "does not tell whose" in done.report


@pytest.mark.needs("kernel")
def test_kernel_and_table_tell_of_both_ends_and_who_closed_first() -> None:
    done = execute("--without", "wire", *program("short.py", "10"))
    assert Counter(done.paths) == {("active", CLIENT): 10, ("passive", SERVER): 10}
    closed = [(one["closed_by"], one["close_reason"]) for one in done.document["connections"]]
    assert closed == [("passive", "fin")] * 10


def test_a_signal_is_passed_on_and_the_report_still_comes() -> None:
    script = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done"
    argv = [sys.executable, "-P", "-m", "tcpwatch", "exec", "--", "sh", "-c", script]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"ready\n"
        process.terminate()
        assert b"PASS" in process.stderr.read()
    assert process.returncode == 5


def test_a_terminal_is_the_commands() -> None:
    argv = [sys.executable, "-P", "-m", "tcpwatch", "exec", "--", "sh", "-c"]
    script = "test -t 0 && test -t 1 && trap 'echo interrupted; exit 3' INT && echo ready && read x"
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [*argv, script])  # noqa: S606
    seen = _read(terminal, until=b"ready")
    os.write(terminal, b"\x03")
    seen += _read(terminal)
    _, status = os.waitpid(pid, 0)
    assert b"interrupted" in seen
    assert os.waitstatus_to_exitcode(status) == 3


def _read(terminal: int, until: bytes | None = None) -> bytes:
    seen = b""
    while until is None or until not in seen:
        try:
            octets = os.read(terminal, 4096)
        except OSError:  # EIO: nobody has it open any more
            return seen
        if not octets:
            return seen
        seen += octets
    return seen


def test_nothing_is_left_when_it_is_killed() -> None:
    argv = [
        sys.executable,
        "-P",
        "-m",
        "tcpwatch",
        "exec",
        "--",
        "sh",
        "-c",
        "echo $$ in; sleep 99",
    ]
    mark = f"tcpwatch-{os.getpid()}-{time.monotonic_ns()}"
    environment = {**os.environ, "TCPWATCH_TEST_MARK": mark}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
        # The command holds the other end of this pipe until it is gone.
        assert process.stdout.read() == b""
    while _marked(mark):
        os.sched_yield()


def _marked(mark: str) -> list[Path]:
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in path.read_bytes():
                found.append(path)
        except OSError:
            continue
    return found


# ---------------------------------------------------------------------- what it sees


@pytest.mark.needs("kernel")
def test_2000_short_connections_are_all_seen_by_kernel_and_wire() -> None:
    done = execute("--no-leaks", *program("short.py", "2000"))
    assert done.status == 0, done.report
    assert Counter(done.paths) == {("active", CLIENT): 2000, ("passive", SERVER): 2000}
    assert all(connection["complete"] for connection in done.document["connections"])
    assert done.document["findings"] == []
    assert all(source["lost"] == 0 for source in done.document["sources"])
    seen = Counter(
        step["to"]
        for connection in done.document["connections"]
        for end in connection["endpoints"]
        for step in end["transitions"]
        if "kernel" in step["witnesses"]
    )
    assert seen["ESTABLISHED"] == 4000
    assert seen["CLOSED"] == seen["CLOSE-WAIT"] == seen["FIN-WAIT-1"] == 2000


@pytest.mark.skipif(not runs_as_nobody(), reason="nobody else may run this Python")
def test_without_root_they_are_all_seen_by_the_wire() -> None:
    # The system's Python: that of a virtual environment may be where nobody else may go.
    python = shutil.which("python3", path=os.defpath) or sys.executable
    done = execute("--no-leaks", "--", python, PROGRAMS / "short.py", "2000", nobody=True)
    assert done.status == 0, done.report
    assert Counter(done.paths) == {("active", CLIENT): 2000, ("passive", SERVER): 2000}
    kernel, _, wire = done.document["sources"]
    assert not kernel["available"]
    assert wire["available"]
    assert wire["lost"] == 0


def test_a_bulk_transfer_is_one_arrow_and_its_path_is_whole() -> None:
    done = execute("--no-leaks", *program("bulk.py", "300"))
    assert done.status == 0, done.report
    (connection,) = done.document["connections"]
    assert connection["complete"]
    assert len(connection["segments"]) < 300
    sent = [one["payload_len"] for one in connection["segments"] if one["from"] == "active"]
    assert sum(sent) == 300 << 20


# ---------------------------------------------------------------------- a wire


@pytest.mark.skipif(not os.access("/dev/net/tun", os.W_OK), reason="no /dev/net/tun")
def test_the_loopback_itself_is_led_through_a_wire_that_loses() -> None:
    faults = ("--latency", "5", "--drop", "client SYN:1", "--duplicate", "client FIN")
    done = execute("--no-leaks", *faults, *program("leaving.py", "all-closed"))
    assert done.status == 0, done.report
    (connection,) = done.document["connections"]
    assert [one["fate"] for one in connection["segments"]][:2] == ["dropped", "delivered"]
    twice = [one["from"] for one in connection["segments"] if one["fate"] == "duplicated"]
    assert twice == ["active"]
    arrived = [one for one in connection["segments"] if one["fate"] == "delivered"]
    delays = [one["delivered_ns"] - one["sent_ns"] for one in arrived]
    assert min(delays) >= 5_000_000


def test_a_server_and_a_client_on_two_hosts() -> None:
    done = execute(
        *("--no-leaks", "--latency", "5", "--drop", "server FIN:1"),
        *("--expect", "server port:8080: ... > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT"),
        *("--server", f"{sys.executable} {PROGRAMS}/one_host.py server"),
        *("--client", f"{sys.executable} {PROGRAMS}/one_host.py client {{server}}"),
    )
    assert done.status == 0, done.report
    assert done.out == "hello\n"
    (connection,) = done.document["connections"]
    assert [end["role"] for end in connection["endpoints"]] == ["client", "server"]
    (lost,) = [one for one in connection["segments"] if one["fate"] == "dropped"]
    assert (lost["from"], lost["flags"]) == ("server", "FA")


@pytest.mark.parametrize("code", [0, 4])
def test_the_status_of_two_hosts_is_the_clients(code: int) -> None:
    server = f"{sys.executable} {PROGRAMS}/one_host.py server"
    done = execute("-q", "--server", server, "--client", f"sh -c 'exit {code}'")
    assert done.status == code


@pytest.mark.parametrize("code, status", [(5, 5), (0, 1)])
def test_a_server_that_ends_before_it_listens_is_not_waited_for(code: int, status: int) -> None:
    done = execute("--server", f"sh -c 'exit {code}'", "--client", "echo reached")
    assert (done.status, done.out) == (status, "")
    assert "\n  the server ended before it listened" in done.report


# ---------------------------------------------------------------------- leaks


@pytest.mark.parametrize(
    "how, leaks",
    [
        ("all-closed", []),
        ("listening", []),
        ("killed", []),
        ("never-closed", ["ESTABLISHED", "ESTABLISHED"]),
        ("close-wait", ["CLOSE-WAIT"]),
        ("listener-left", ["LISTEN"]),
        ("connection-left", ["ESTABLISHED", "ESTABLISHED", "LISTEN"]),
    ],
)
def test_what_is_left_open_is_a_leak(how: str, leaks: list[str]) -> None:
    grace = ("--grace", "0.2") if how.endswith("left") else ()
    done = execute("--no-leaks", *grace, *program("leaving.py", how))
    status = 128 + signal.SIGKILL if how == "killed" else int(bool(leaks))
    assert done.status == status, done.report
    assert sorted(leak.split()[0] for leak in done.leaks) == leaks


def test_close_wait_that_may_have_been_about_to_be_closed_is_inconclusive() -> None:
    done = execute("--no-leaks", *program("killed_in_close_wait.py"))
    (moves,) = [
        end["transitions"]
        for end in done.document["connections"][0]["endpoints"]
        if "CLOSE-WAIT" in end["path"]
    ]
    (entered,) = [move["t_ns"] for move in moves if move["to"] == "CLOSE-WAIT"]
    # On a machine so busy that the program comes to its kill a second later, it is a leak.
    in_time = moves[-1]["t_ns"] - entered < 1_000_000_000
    assert done.status == (3 if in_time else 1), done.report
    assert bool(done.leaks) is not in_time


def test_what_is_left_running_without_a_connection_is_told_and_no_leak() -> None:
    done = execute("--no-leaks", "--grace", "0.1", "--", "sh", "-c", "setsid sleep 60 & exit 0")
    assert done.status == 0, done.report
    assert "info: left-running: sleep 60 (" in done.report


def test_leaks_are_told_and_not_judged_unless_that_is_asked_for() -> None:
    done = execute(*program("leaving.py", "close-wait"))
    assert done.status == 0, done.report
    assert len(done.leaks) == 1


# ---------------------------------------------------------------------- what is demanded


def test_each_demand_is_answered_by_itself() -> None:
    demands = {
        "server port:8080: LISTEN > ... > CLOSE-WAIT > LAST-ACK > CLOSED": True,
        "port:8080 passive: LISTEN > ... > CLOSE-WAIT > LAST-ACK > CLOSED": True,
        "client: CLOSED > ... > TIME-WAIT": True,
        "client: ... > CLOSE-WAIT > ...": False,
        "server port:9: LISTEN": False,
        "client: never CLOSE-WAIT": True,
        "server: never CLOSE-WAIT": False,
        "server: never CLOSE-WAIT[>60s]": True,
    }
    asked = [word for demand in demands for word in ("--expect", demand)]
    done = execute(*asked, *program("leaving.py", "all-closed"))
    assert done.status == 1
    assert [one["met"] for one in done.document["expectations"]] == list(demands.values())


def test_never_speaks_of_both_ends_of_every_connection() -> None:
    done = execute("--never", "CLOSE-WAIT", *program("leaving.py", "all-closed"))
    assert done.status == 1
    assert [one["met"] for one in done.document["expectations"]] == [True, False]


@pytest.mark.parametrize("command", [("leaving.py", "close-wait"), ("short.py", "20"), ()])
def test_its_recording_replays_to_the_same_report_and_result(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    recording, result = tmp_path / "it.jsonl", tmp_path / "it.json"
    asked = ("--never", "client: CLOSE-WAIT", "--jsonl", recording)
    leaks = ("--no-leaks",) if command else ()  # without, nothing at all is asked of it
    done = execute(*leaks, *asked, *(program(*command) if command else ("--", "true")))
    argv = [sys.executable, "-P", "-m", "tcpwatch", "replay", str(recording), "--json", str(result)]
    replayed = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert replayed.stdout == done.report
    assert json.loads(result.read_text()) == done.document
    assert replayed.returncode == done.status == int(bool(command))


def test_a_sysctl_is_set_in_its_network_alone() -> None:
    path = Path("/proc/sys/net/ipv4/tcp_fin_timeout")
    before = path.read_text()
    done = execute("--sysctl", "net.ipv4.tcp_fin_timeout=7", "--", "cat", path)
    assert done.out == "7\n"
    assert path.read_text() == before


def test_on_this_machines_network_it_says_what_else_is_there() -> None:
    done = execute("--share-network", "--no-leaks", *program("leaving.py", "all-closed", "0"))
    assert "this machine's network, with other programs' connections" in done.report
    assert ("active", "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT") in (
        done.paths
    )
