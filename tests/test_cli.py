"""The command line itself: its help, its lists, and how what it prints fits where it is printed."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tcpwatch import __version__
from tcpwatch.cli import main
from tcpwatch.lab.scenario import TOPICS, catalogue
from tcpwatch.tcp.state import TcpState

ARGV = [sys.executable, "-P", "-m", "tcpwatch"]
COMMANDS = ("list", "run", "replay", "explain", "coverage", "doctor")
ESCAPE = "\x1b"
HEAVY = ("numpy", "pyroute2", "rich", "scapy", "textual")


def environment(**changes: str) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
    return clean | {"PYTHONIOENCODING": "utf-8", "TERM": "xterm"} | changes


def tcpwatch(*arguments: str | Path, **changes: str) -> str:
    """What a command that succeeds prints, with its standard output in a pipe."""
    argv = [*ARGV, *map(str, arguments)]
    done = subprocess.run(
        argv, env=environment(**changes), capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


def on_a_terminal(*arguments: str | Path, **changes: str) -> str:
    """The same, with its standard output on a terminal."""
    ours, theirs = pty.openpty()
    argv = [*ARGV, *map(str, arguments)]
    with subprocess.Popen(argv, env=environment(**changes), stdout=theirs) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # EIO: nobody has it open any more
                break
            if not piece:
                break
            shown += piece
    os.close(ours)
    assert process.returncode == 0
    return shown.decode().replace("\r\n", "\n")


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording to show again in every way: whoever draws it does not know that it is one."""
    path = tmp_path_factory.mktemp("recording") / "run.jsonl"
    tcpwatch("run", "simultaneous-close", "--jsonl", path, "--quiet")
    return path


def test_the_version_is_told() -> None:
    assert tcpwatch("--version") == f"tcpwatch {__version__}\n"


@pytest.mark.parametrize("arguments", [(), *((command,) for command in COMMANDS)])
def test_every_command_has_help(arguments: tuple[str, ...]) -> None:
    told = tcpwatch(*arguments, "--help")
    assert told.startswith("usage: tcpwatch")
    assert arguments or all(f"    {command} " in told for command in COMMANDS)


def test_the_exit_statuses_are_in_the_help() -> None:
    told = tcpwatch("run", "--help")
    assert all(status in told for status in ("0 all", "1 an", "2 wrong", "3 could", "130 int"))


def test_the_list_has_every_scenario_with_its_claim() -> None:
    told = " ".join(tcpwatch("list").split())
    assert len(catalogue()) >= 5
    for scenario in catalogue().values():
        assert f"{scenario.name} {scenario.claim}" in told


def test_a_topic_is_listed_alone_with_the_paths() -> None:
    told = tcpwatch("list", "the-five")
    assert told.startswith("the-five: ")
    assert told.count("  client  ") == told.count("  server  ") == 5
    assert "the-edges" not in told


def test_the_list_of_all_tells_the_paths_if_asked() -> None:
    assert "SYN-SENT >" not in tcpwatch("list")
    told = tcpwatch("list", "--verbose")
    for scenario in catalogue().values():
        assert all(f"    {role} " in told for role in scenario.expect)
    assert told.count("SYN-SENT >") > tcpwatch("list", "the-five").count("SYN-SENT >")


def test_topics_are_listed_in_the_order_of_the_course() -> None:
    heads = [line.split(":")[0] for line in tcpwatch("list").splitlines() if ":" in line[:22]]
    assert heads == [topic for topic in TOPICS if topic in heads]
    assert {scenario.topic for scenario in catalogue().values()} == set(heads)


@pytest.mark.parametrize("state", TcpState)
def test_every_state_is_explained(state: TcpState, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", state.value.lower().replace("-", "_")]) == 0
    told = capsys.readouterr().out
    assert told.startswith(state.value)
    assert "RFC 9293" in told


def test_a_transition_is_explained() -> None:
    told = tcpwatch("explain", "FIN-WAIT-1>CLOSING")
    assert "FIN-WAIT-1 > CLOSING" in told
    assert "RFC 9293" in told


@pytest.mark.needs("lab")
def test_the_doctor_finds_a_lab() -> None:
    told = tcpwatch("doctor")
    assert [name for name in ("lab", "kernel", "table", "wire") if f"  {name} " not in told] == []


@pytest.mark.parametrize("arguments", [["list"], ["explain", "TIME-WAIT"]])
def test_a_light_command_imports_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import json, sys; from tcpwatch.cli import main; main(sys.argv[2:]);"
        "print(json.dumps([name for name in sys.argv[1].split() if name in sys.modules]))"
    )
    argv = [sys.executable, "-c", program, " ".join(HEAVY), *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout.splitlines()[-1]) == []


# ---------------------------------------------------------------------- where it is printed


@pytest.mark.needs("lab")
def test_a_run_fits_80_columns_and_no_escape_goes_down_a_pipe() -> None:
    told = tcpwatch("run", "time-wait", COLUMNS="80")
    assert max(len(line) for line in told.splitlines()) <= 80
    assert ESCAPE not in told


@pytest.mark.needs("lab")
@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_a_ladder_is_no_wider_than_the_terminal(columns: int, recording: Path) -> None:
    told = tcpwatch("replay", recording, COLUMNS=str(columns))
    assert max(len(line) for line in told.splitlines()) <= columns


@pytest.mark.parametrize(
    "arguments", [["list"], ["explain", "TIME-WAIT"], ["explain", "CLOSING>CLOSED"]]
)
def test_a_list_is_no_wider_than_the_terminal(arguments: list[str]) -> None:
    for columns in (60, 80):
        told = tcpwatch(*arguments, COLUMNS=str(columns))
        assert max(len(line) for line in told.splitlines()) <= columns
        assert ESCAPE not in told


@pytest.mark.needs("lab")
def test_there_is_colour_on_a_terminal_and_none_with_no_color(recording: Path) -> None:
    piped = tcpwatch("replay", recording, COLUMNS="80")
    coloured = on_a_terminal("replay", recording, COLUMNS="80")
    plain = on_a_terminal("replay", recording, COLUMNS="80", NO_COLOR="1")
    assert ESCAPE in coloured
    assert ESCAPE not in plain
    assert plain == piped  # so no state is told by its colour alone
    assert ESCAPE not in on_a_terminal("replay", recording, COLUMNS="80", TERM="dumb")


@pytest.mark.needs("lab")
def test_where_only_ascii_can_be_printed_the_ladder_is_ascii(recording: Path) -> None:
    told = tcpwatch("replay", recording, COLUMNS="80", LC_ALL="C", PYTHONIOENCODING="ascii")
    assert told.isascii()
    assert "?" not in told
    assert "\\u" not in told
    drawn = tcpwatch("replay", recording, COLUMNS="80")
    assert not drawn.isascii()
    assert [len(line) for line in told.splitlines()] == [len(line) for line in drawn.splitlines()]


@pytest.mark.parametrize("arguments", [["list"], ["explain", "LISTEN>CLOSED"], ["--help"]])
def test_where_only_ascii_can_be_printed_nothing_breaks(arguments: list[str]) -> None:
    assert tcpwatch(*arguments, LC_ALL="C", PYTHONIOENCODING="ascii").isascii()


@pytest.mark.needs("lab")
def test_a_reader_that_goes_away_is_no_traceback(recording: Path) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    argv = [*ARGV, "replay", str(recording)]
    done = subprocess.run(
        argv, env=environment(), stdout=theirs, stderr=subprocess.PIPE, timeout=60, check=False
    )
    os.close(theirs)
    assert (done.returncode, done.stderr) == (130, b"")


def test_standard_output_may_be_closed() -> None:
    shell = ["sh", "-c", '"$@" >&-', "sh", *ARGV, "list"]
    done = subprocess.run(shell, env=environment(), capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
