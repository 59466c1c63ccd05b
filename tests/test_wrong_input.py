"""What a user or a machine may get wrong is told in one line, with the remedy and its status."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tcpwatch.cli import main

Command = Callable[[list[str]], list[str]]

LAB_TESTS = Path(__file__).parent / "lab"
unprivileged_command: Command = runpy.run_path(str(LAB_TESTS / "conftest.py"))[
    "unprivileged_command"
]
_POORER = runpy.run_path(str(LAB_TESTS / "test_namespace.py"))


def without_tun(argv: list[str]) -> list[str]:
    """The command in a mount namespace whose /dev/net is empty. Takes root."""
    return [sys.executable, "-c", _POORER["NO_TUN"], *argv]


def without_user_namespaces(argv: list[str]) -> list[str]:
    """The command unprivileged, where max_user_namespaces is 0."""
    return [sys.executable, "-c", _POORER["NO_USER_NAMESPACES"], *unprivileged_command(argv)]


class Done(NamedTuple):
    """A command that ended."""

    status: int
    out: str
    err: str


Call = Callable[..., Done]


def tcpwatch(*arguments: str | bytes | Path, cwd: Path, command: Command = list) -> Done:
    argv = [sys.executable, "-P", "-m", "tcpwatch", *map(os.fsdecode, arguments)]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", "COLUMNS": "400"}
    done = subprocess.run(
        command(argv), cwd=cwd, env=environment, capture_output=True, timeout=60, check=False
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Call:
    """The command in this process, for what ends before anything is played: as good, and faster.

    What would be a traceback there is the test's own failure here.
    """
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Done:
        status = main(arguments)
        return Done(status, *capsys.readouterr())

    return run


def assert_refused(done: Done, status: int, *words: str) -> None:
    """One line that says what, why and the remedy, and nothing on standard output."""
    assert (done.status, done.out) == (status, ""), done.err
    (line,) = done.err.splitlines()
    assert line.startswith("tcpwatch: ")
    assert "; " in line  # the remedy
    assert line.isprintable()
    for word in words:
        assert word in line


def written(folder: Path, text: str | bytes, name: str = "mine.py") -> str:
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return name


# ---------------------------------------------------------------------- the arguments


@pytest.mark.parametrize(
    "arguments, words",
    [
        ("", ["COMMAND", "--help"]),
        ("bogus", ["bogus", "run"]),
        ("run", ["no scenario was named", "simultaneous-close"]),
        ("run simultanous-close", ["did you mean simultaneous-close?"]),
        ("run SIMULTANEUS_CLOSE", ["did you mean simultaneous-close?"]),
        ("run xyzzy", ["'xyzzy'", "tcpwatch list"]),
        ("run --topic nope", ["'nope'", "the-five"]),
        ("list nope", ["'nope'", "the-five"]),
        ("run normal-close --bogus", ["--bogus"]),
        ("run normal-close --repeat 0", ["--repeat", "'0'"]),
        ("run normal-close --repeat many", ["--repeat", "'many'"]),
        ("run normal-close --jobs 0", ["--jobs", "'0'"]),
        ("run normal-close --latency -1", ["--latency", "'-1'"]),
        ("run normal-close --latency nan", ["--latency", "'nan'"]),
        ("run normal-close --latency soon", ["--latency", "'soon'"]),
        ("run normal-close --timeout 0", ["--timeout", "'0'"]),
        ("run normal-close --timeout inf", ["--timeout", "'inf'"]),
        ("run normal-close --without foo", ["'foo'", "kernel, table, wire"]),
        ("run normal-close --without kernel,foo", ["'foo'"]),
        ("run normal-close --lab moon", ["'moon'", "namespace"]),
        ("run normal-close --sampler guess", ["'guess'", "sockdiag"]),
        ("run normal-close --json - --jsonl -", ["--json, --jsonl"]),
        ("run normal-close --json", ["--json"]),
        ("explain FOO", ["'FOO'"]),
        ("explain A>B>C", ["'A'"]),
        ("explain CLOSED>LISTEN>CLOSED", ["one at a time"]),
        ("replay", ["FILE"]),
        ("replay nothing.jsonl", ["nothing.jsonl", "No such file"]),
        ("replay .", ["Is a directory"]),
    ],
)
def test_wrong_usage_is_told_in_a_line(arguments: str, words: list[str], call: Call) -> None:
    assert_refused(call(*arguments.split()), 2, *words)


@pytest.mark.parametrize("output", ["--json", "--jsonl", "--pcap"])
def test_an_output_that_cannot_be_opened_is_told_before_anything_is_played(
    output: str, call: Call
) -> None:
    done = call("run", "normal-close", output, "nowhere/x")
    assert_refused(done, 2, "nowhere/x", "No such file or directory")
    assert_refused(call("run", "normal-close", output, "."), 2, "Is a directory")


@pytest.mark.parametrize("output", ["--json", "--jsonl", "--pcap"])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_an_output_without_room_is_told(output: str, tmp_path: Path) -> None:
    done = tcpwatch("run", "normal-close", "-q", output, "/dev/full", cwd=tmp_path)
    assert_refused(done, 2, "No space left on device")


# ---------------------------------------------------------------------- a scenario's file

PLAY = "def play(lab):\n    pass\n"


@pytest.mark.parametrize(
    "text, words",
    [
        ("hello, this isn't Python\n", ["mine.py:1: SyntaxError"]),
        ('"""X."""\n\ndef play(lab):\n    lab.connect(\n', ["mine.py:4: SyntaxError"]),
        (b"\xff\xfe\x00", ["mine.py", "not UTF-8"]),
        ("\0", ["mine.py:1: ", "null bytes"]),
        ("", ["mine.py:1: ", "no function play(lab)"]),
        ('EXPECT = {"client": "CLOSED > ..."}\n', ["mine.py:1: ", "no function play(lab)"]),
        (PLAY + "del play\n", ["mine.py:1: ", "no function play(lab)"]),
        ('\nEXPECT = {"client": "CLOSED > NOWHERE"}\n' + PLAY, ["mine.py:2: ", "'NOWHERE'", "10"]),
        ('\nEXPECT = {"client": "(CLOSED"}\n' + PLAY, ["mine.py:2: ", "EXPECT['client']"]),
        ('EXPECT = ["CLOSED"]\n' + PLAY, ["mine.py:1: EXPECT"]),
        ('EXPECT = dict(client="CLOSED")\n' + PLAY, ["mine.py:1: EXPECT must be written out"]),
        ("EXPECT = {[]: 1}\n" + PLAY, ["mine.py:1: EXPECT must be written out"]),
        ("NEEDS = 3\n" + PLAY, ["mine.py:1: NEEDS"]),
        ("SLOW = True\n" + PLAY, ["mine.py:1: SLOW"]),
        ("x = " + "-" * 200_000 + "1\n", ["mine.py:1: "]),
        ("\nraise RuntimeError('no\\nway')\n" + PLAY, ["mine.py:2: RuntimeError: no;"]),
        ("import no_such_module\n" + PLAY, ["mine.py:1: ModuleNotFoundError", "no_such_module"]),
        ("raise SystemExit(0)\n" + PLAY, ["mine.py:1: SystemExit"]),
        ("raise KeyboardInterrupt\n" + PLAY, ["mine.py:1: KeyboardInterrupt"]),
    ],
)
def test_a_file_that_cannot_be_played_is_told_with_its_line(
    text: str | bytes, words: list[str], tmp_path: Path, call: Call
) -> None:
    assert_refused(call("run", written(tmp_path, text)), 2, *words)


def test_a_file_that_does_not_end_is_told_with_its_line(tmp_path: Path) -> None:
    mine = written(tmp_path, "while True:\n    pass\n" + PLAY)
    done = tcpwatch("run", mine, "--timeout", "0.5", cwd=tmp_path)
    assert_refused(done, 2, "mine.py:", "--timeout", "cannot be loaded")


def test_a_file_that_is_none_is_told(tmp_path: Path, call: Call) -> None:
    (tmp_path / "folder.py").mkdir()
    assert_refused(call("run", "folder.py"), 2, "folder.py", "Is a directory")
    assert_refused(call("run", "./no.py"), 2, "no.py", "No such file")
    assert_refused(call("run", "."), 2, "'.'")
    assert_refused(call("run", "a" * 300), 2, "aaa")


@pytest.mark.needs("lab")
@pytest.mark.parametrize(
    "body, reason",
    [
        ("1 / 0", "mine.py:5: ZeroDivisionError: division by zero"),
        ("raise SystemExit(0)", "mine.py:5: SystemExit: 0"),
        ("lab.no_such_verb()", "mine.py:5: AttributeError"),
        ("while True: pass", "mine.py:5: the play did not end within 1 s"),
        ("client.recv()", "mine.py:5: the play did not end within 1 s"),
        ("__import__('time').sleep(3600)", "mine.py:5: the play did not end within 1 s"),
        ("[i for i in iter(int, 1)]", "mine.py:5: the play did not end within 1 s"),
    ],
)
def test_a_play_that_goes_wrong_fails_with_its_line(body: str, reason: str, tmp_path: Path) -> None:
    play = f'"""X."""\n\ndef play(lab):\n    client, server = lab.connect()\n    {body}\n'
    # That it ends at all is the bound: the command's timeout here is far below an hour.
    done = tcpwatch("run", written(tmp_path, play), "--timeout", "1", cwd=tmp_path)
    assert (done.status, done.err) == (1, "")
    assert f"  {tmp_path}/{reason}" in done.out.splitlines()[-1]


@pytest.mark.needs("lab")
def test_what_could_command_a_terminal_is_shown_and_not_obeyed(tmp_path: Path, call: Call) -> None:
    evil = "\x1b]0;owned\x07\x1b[31m\u202e"
    text = f'"""{evil}."""\n\n\ndef play(lab):\n    raise RuntimeError("{evil}")\n'
    mine = written(tmp_path, text, f"ev{evil}il.py")
    done = tcpwatch("run", mine, "--pcap", "x.pcap", "--json", "x.json", cwd=tmp_path)
    assert (done.status, done.err) == (1, "")
    assert all(line.isprintable() for line in done.out.splitlines())
    assert "\\x1b]0;owned\\x07\\x1b[31m\\u202e" in done.out
    assert b"\x1b]0;owned" not in (tmp_path / "x.pcap").read_bytes()
    assert "\x1b" not in (tmp_path / "x.json").read_text(encoding="utf-8")
    assert_refused(call("run", f"{evil}.py"), 2, "\\x1b]0;owned")
    assert_refused(call("run", evil), 2, "\\x1b]0;owned")
    assert_refused(call("list", evil), 2)
    assert_refused(call(f"--{evil}"), 2)


@pytest.mark.needs("lab")
def test_a_file_whose_name_is_no_text_is_played(tmp_path: Path) -> None:
    name = b"caf\xe9.py"
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_text(
        '"""X."""\n\n\ndef play(lab):\n    lab.connect()\n', encoding="utf-8"
    )
    outputs = ("--json", "x.json", "--jsonl", "x.jsonl", "--pcap", "x.pcap")
    done = tcpwatch("run", name, *outputs, cwd=tmp_path)
    assert (done.status, done.err) == (0, "")
    assert tcpwatch("replay", "x.jsonl", cwd=tmp_path) == done


# ---------------------------------------------------------------------- a recording


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", ["wrong.jsonl is neither a capture nor a recording: it is empty"]),
        (b"hello\n", ["wrong.jsonl is neither", "it begins with 68 65 6c 6c"]),
        (b"\n", ["line 1", "no head"]),
        (b"{}\n", ["line 1", "no schema"]),
        (b'{"schema": "tcpwatch-recording/2"}\n', ["tcpwatch-recording/2"]),
        (b"{" * 100_000, ["line 1"]),
        (b" " * ((1 << 24) + 1), ["line 1 is longer than 16777216 characters"]),
        (bytes(range(256)) * 10, ["wrong.jsonl"]),
        (b"\x0a\x0d\x0d\x0a" + bytes(100), ["wrong.jsonl"]),  # pcapng
        (b"\xd4\xc3\xb2\xa1" + bytes(100), ["wrong.jsonl"]),  # pcap
        (b'{"schema": "\x1b]0;owned\x07"}\n', ["wrong.jsonl"]),
    ],
)
def test_what_is_no_recording_is_told(
    content: bytes, words: list[str], tmp_path: Path, call: Call
) -> None:
    assert_refused(call("replay", written(tmp_path, content, "wrong.jsonl")), 2, *words)


@pytest.mark.needs("lab")
def test_a_line_that_was_tampered_with_is_told_by_its_number(tmp_path: Path) -> None:
    tcpwatch("run", "normal-close", "--jsonl", "run.jsonl", "-q", cwd=tmp_path)
    lines = (tmp_path / "run.jsonl").read_bytes().splitlines(keepends=True)
    lines[9] = lines[9].replace(b'"t_ns"', b'"x_ns"')
    name = written(tmp_path, b"".join(lines), "wrong.jsonl")
    assert_refused(tcpwatch("replay", name, cwd=tmp_path), 2, "wrong.jsonl: line 10 ")


# ---------------------------------------------------------------------- a poorer machine


@pytest.mark.needs("lab")
def test_without_privileges_it_works_all_the_same(tmp_path: Path) -> None:
    done = tcpwatch("run", "normal-close", cwd=tmp_path, command=unprivileged_command)
    assert (done.status, done.err) == (0, "")
    assert "\nwithout kernel: " in done.out


@pytest.mark.needs("lab")
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting over /dev/net takes root")
def test_without_a_tun_device_the_wire_is_a_veth_pair_unless_tun_was_asked_for(
    tmp_path: Path,
) -> None:
    done = tcpwatch("run", "normal-close", cwd=tmp_path, command=without_tun)
    assert (done.status, done.err) == (0, "")
    assert "\nlab: namespaces" in done.out
    done = tcpwatch("run", "normal-close", "--wire", "tun", cwd=tmp_path, command=without_tun)
    assert_refused(done, 3, "TUN", "modprobe tun", "--lab loopback")


@pytest.mark.needs("lab")
def test_without_user_namespaces_there_is_the_loopback_unless_namespaces_were_asked_for(
    tmp_path: Path,
) -> None:
    poorer = without_user_namespaces
    done = tcpwatch("run", "simultaneous-close", cwd=tmp_path, command=poorer)
    assert (done.status, done.err) == (3, "")
    assert "\nlab: loopback" in done.out
    assert "user.max_user_namespaces is 0" in done.out
    done = tcpwatch("run", "normal-close", "--lab", "namespace", cwd=tmp_path, command=poorer)
    assert_refused(done, 3, "sysctl -w user.max_user_namespaces", "--lab loopback")


def test_where_it_is_not_linux_there_are_no_namespaces(tmp_path: Path) -> None:
    program = (
        "import sys; sys.platform = 'darwin'; from tcpwatch.cli import main;"
        "sys.exit(main(['run', 'normal-close', '--lab', 'namespace']))"
    )
    done = tcpwatch(cwd=tmp_path, command=lambda argv: [argv[0], "-c", program])
    assert_refused(done, 3, "namespaces are Linux's", "--lab loopback")
