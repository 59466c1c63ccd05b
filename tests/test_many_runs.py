"""Many runs in one command: what is shown of them, in which order, and what one does to others."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.lab.scenario import Scenario, read
from tcpwatch.model.recording import Recording
from tcpwatch.playing import fleet
from tcpwatch.playing.fleet import Played, play_many
from tcpwatch.playing.options import Options
from tcpwatch.playing.session import Interrupted

pytestmark = pytest.mark.needs("lab")

ARGV = [sys.executable, "-P", "-m", "tcpwatch"]
SHORT = '''"""{name} is short."""


def play(lab):
    lab.connect()
'''
FAILING = '''"""A check fails."""


def play(lab):
    lab.connect()
    lab.check(False, "two and two")
'''
MISSING = '''"""What it imports is not there."""

import no_such_module


def play(lab):
    lab.connect()
'''
DYING = '''"""Its own process is killed."""

import os
import signal


def play(lab):
    client, _server = lab.connect()
    client.close()
    lab.wait(client="FIN-WAIT-2")
    os.kill(os.getpid(), signal.SIGKILL)
'''
LEFT_RUNNING = '''"""Its play never ends."""


def play(lab):
    lab.connect()
    while True:
        pass
'''
HOLDING = '''"""It keeps the interpreter for ever: re does not let go of it."""

import re
from pathlib import Path


def play(lab):
    lab.connect()
    Path(__file__).with_suffix(".held").touch()
    re.match("(a+)+b", "a" * 99)
'''
PRINTING = '''"""It prints."""


def play(lab):
    print("hello")
    lab.connect()
'''
MEASURING = '''"""It measures."""


def play(lab):
    lab.connect()
    lab.measured("answer", {value})
'''


class Done(NamedTuple):
    """A command that ended."""

    status: int
    out: str
    err: str


def environment() -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
    return clean | {"PYTHONIOENCODING": "utf-8", "TERM": "xterm"}


def tcpwatch(*arguments: str, cwd: Path) -> Done:
    done = subprocess.run(
        [*ARGV, *arguments],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        timeout=100,
        check=False,
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text.replace("{name}", name), encoding="utf-8")


def scenarios(folder: Path, **files: str) -> list[Scenario]:
    write(folder, **files)
    return [read(folder / f"{name}.py") for name in files]


def documents(path: Path) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["runs"]
    return runs


# ---------------------------------------------------------------------- what is shown


def test_named_ones_are_shown_in_the_order_given_however_they_end(tmp_path: Path) -> None:
    names = ("syn-ack-lost", "linger-zero", "simultaneous-close", "close-with-unread")
    outputs = ("--json", "runs.json", "--jsonl", "runs.jsonl")
    done = tcpwatch("run", *names, *outputs, "--jobs", "4", cwd=tmp_path)
    assert (done.status, done.err) == (0, "")
    # A second in SYN-SENT makes the first the last to end.
    heads = [line.split("   ")[0] for line in done.out.splitlines()]
    assert [head for head in heads if head in names] == [*names]
    assert done.out.count("PASS in ") == 4
    assert [run["scenario"] for run in documents(tmp_path / "runs.json")] == [*names]
    again = tcpwatch("replay", "runs.jsonl", "--json", "again.json", cwd=tmp_path)
    assert done.out.startswith(f"{again.out.rstrip()}; ")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "runs.json").read_bytes()


def test_one_after_another_gives_what_side_by_side_gives(tmp_path: Path) -> None:
    def shape(*jobs: str) -> tuple[list[str], list[tuple[str, str, list[Any]]]]:
        done = tcpwatch("run", "--topic", "the-five", *jobs, "--json", "runs.json", cwd=tmp_path)
        assert (done.status, done.err) == (0, "")
        table = done.out.split("\n\n")[1]
        runs = documents(tmp_path / "runs.json")
        ends = [[end["path"] for c in run["connections"] for end in c["endpoints"]] for run in runs]
        found = zip(runs, ends, strict=True)
        return re.sub(r"[0-9.]+ s", "", table).splitlines(), [
            (run["scenario"], run["verdict"], paths) for run, paths in found
        ]

    assert shape("--jobs", "1") == shape("--jobs", "3")


def test_of_a_topic_each_run_is_a_line_and_then_there_is_a_table(tmp_path: Path) -> None:
    done = tcpwatch("run", "--topic", "the-five", cwd=tmp_path)
    lines, table = done.out.split("\n\n")
    told = [line.split() for line in lines.splitlines()]
    assert [words[:2] for words in told] == [[f"{n}/5", "PASS"] for n in range(1, 6)]
    assert sorted(words[-1] for words in told) == [row.split()[3] for row in table.splitlines()[:5]]
    assert re.fullmatch(r"5 runs: 5 passed; [\d.]+ s of play in [\d.]+ s", table.splitlines()[5])
    assert max(map(len, done.out.splitlines())) <= 80
    assert "\x1b" not in done.out
    assert "\r" not in done.out + done.err


def test_the_ladder_of_one_that_does_not_pass_is_shown(tmp_path: Path) -> None:
    write(tmp_path, short=SHORT, failing=FAILING)
    options = ("--repeat", "2", "--json", "runs.json")
    done = tcpwatch("run", "short.py", "failing.py", *options, cwd=tmp_path)
    assert (done.status, done.err) == (1, "")
    # In the ladder, alone on its line where the SYN was seen at another moment; not in the paths.
    assert len(re.findall("CLOSED > SYN-SENT(?! >)", done.out)) == 2
    assert done.out.count("FAIL in ") == 2
    assert "\n2 of 2 passed   short " in done.out
    assert "\n0 of 2 passed   failing " in done.out
    assert done.out.count("two and two") == 3  # under each ladder, and once in the table
    names = ["short", "short", "failing", "failing"]
    assert [run["scenario"] for run in documents(tmp_path / "runs.json")] == names


def test_what_several_measured_alike_stands_side_by_side(tmp_path: Path) -> None:
    write(tmp_path, one=MEASURING.format(value=41), other=MEASURING.format(value=42))
    done = tcpwatch("run", "one.py", "other.py", cwd=tmp_path)
    assert "\n\n        one  other\nanswer  41   42\n\n2 runs: " in done.out


def test_what_a_play_prints_does_not_spoil_a_document(tmp_path: Path) -> None:
    write(tmp_path, printing=PRINTING)
    done = tcpwatch("run", "printing.py", "--repeat", "3", "--json", "-", cwd=tmp_path)
    assert [run["verdict"] for run in json.loads(done.out)["runs"]] == ["pass"] * 3
    assert (done.status, done.err) == (0, "hello\n" * 3)


def test_on_a_terminal_a_line_says_what_is_being_played(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    argv = [*ARGV, "run", "--topic", "the-five"]
    with subprocess.Popen(
        argv, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=theirs
    ) as process:
        os.close(theirs)
        shown = "".join(read_all(ours))
        assert process.stdout is not None
        out = process.stdout.read().decode()
    os.close(ours)
    assert process.returncode == 0
    lines = [line for line in shown.split("\r") if line != "\x1b[K"]
    assert "0 of 5 played; playing half-close, normal-close, rst-on-write\x1b[K" in lines
    assert shown.endswith("\r\x1b[K")  # nothing of it stays
    assert "playing" not in out


def read_all(descriptor: int) -> Iterator[str]:
    while True:
        try:
            piece = os.read(descriptor, 65536)
        except OSError:  # EIO: nobody has it open any more
            return
        if not piece:
            return
        yield piece.decode()


# ---------------------------------------------------------------------- what one may do to others


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_one_that_cannot_be_loaded_is_told_and_the_others_are_played(
    jobs: str, tmp_path: Path
) -> None:
    write(tmp_path, one=SHORT, missing=MISSING, other=SHORT)
    names = ("one.py", "missing.py", "other.py")
    done = tcpwatch("run", *names, "--jobs", jobs, "--json", "runs.json", cwd=tmp_path)
    assert done.status == 2
    (line,) = done.err.splitlines()
    assert line.startswith(f"tcpwatch: {tmp_path / 'missing.py'}:3: ModuleNotFoundError: ")
    assert "\nERROR " in done.out
    assert "\n3 runs: 2 passed, 1 could not be played; " in done.out
    runs = [(run["scenario"], run["verdict"]) for run in documents(tmp_path / "runs.json")]
    assert runs == [("one", "pass"), ("other", "pass")]


def test_where_none_can_be_loaded_there_is_no_table(tmp_path: Path) -> None:
    write(tmp_path, missing=MISSING)
    done = tcpwatch("run", "missing.py", "missing.py", "missing.py", cwd=tmp_path)
    assert done.status == 2
    assert len(done.err.splitlines()) == 1
    assert "runs:" not in done.out


def test_one_whose_process_dies_is_inconclusive_and_the_others_are_played(tmp_path: Path) -> None:
    write(tmp_path, dying=DYING, one=SHORT, other=SHORT)
    names = ("dying.py", "one.py", "dying.py", "other.py")
    done = tcpwatch("run", *names, "--jobs", "2", "--json", "runs.json", cwd=tmp_path)
    assert (done.status, done.err) == (3, "")
    runs = documents(tmp_path / "runs.json")
    found = [(run["verdict"], run["reasons"]) for run in runs]
    died = ("inconclusive", ["the run's process died: killed by SIGKILL"])
    assert found == [died, ("pass", []), died, ("pass", [])]
    # What was recorded until then is not lost, but for the last moment.
    ends = [end["path"] for c in runs[0]["connections"] for end in c["endpoints"]]
    assert ends[0][:3] == ["CLOSED", "SYN-SENT", "ESTABLISHED"]


def test_a_play_that_never_ends_disturbs_none_that_follow(tmp_path: Path) -> None:
    played = scenarios(tmp_path, left=LEFT_RUNNING, one=SHORT, other=SHORT)
    found = dict(play_many(played, Options(timeout_s=2), 1, threading.Event()))
    assert sorted(found) == [0, 1, 2]
    problems = [one.record.problem for one in found.values() if isinstance(one, Recording)]
    assert problems[1:] == [None, None]
    assert "did not end within 2 s" in str(problems[0])


# ---------------------------------------------------------------------- the fleet itself


def test_slow_ones_begin_first(tmp_path: Path) -> None:
    slow = SHORT.replace("\n\ndef", '\nSLOW = "it pretends to be"\n\n\ndef')
    played = scenarios(tmp_path, one=SHORT, two=SHORT, slow=slow)
    begun: list[int] = []
    found = dict(play_many(played, Options(), 1, threading.Event(), begun.append))
    assert begun == [2, 0, 1]
    assert all(isinstance(one, Recording) and one.complete for one in found.values())


def test_an_interpreter_that_hangs_is_killed_and_the_others_are_played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "silence_s", lambda _options: 3.0)
    played = scenarios(tmp_path, holding=HOLDING, one=SHORT)
    found = dict(play_many(played, Options(), 1, threading.Event()))
    held, other = found[0], found[1]
    assert isinstance(held, Recording)
    assert held.record.inconclusive == ("the run's process hung: nothing was heard of it for 3 s",)
    assert isinstance(other, Recording)
    assert other.complete


def test_an_interpreter_that_hangs_does_not_outlast_a_wish_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "_END_S", 1.0)
    stop, never = threading.Event(), threading.Event()
    found: list[tuple[int, Played]] = []

    def stop_when_held() -> None:
        while not (tmp_path / "holding.held").exists():
            never.wait(0.01)
        stop.set()

    threading.Thread(target=stop_when_held, daemon=True).start()
    with pytest.raises(Interrupted):
        found.extend(play_many(scenarios(tmp_path, holding=HOLDING), Options(), 1, stop))
    ((_, held),) = found
    assert isinstance(held, Recording)
    assert held.record.inconclusive == ("the run's process died: killed by SIGKILL",)
    assert fleet_threads() == []


def test_whoever_stops_listening_leaves_no_worker(tmp_path: Path) -> None:
    played = scenarios(tmp_path, **{f"s{number}": SHORT for number in range(9)})
    with closing(play_many(played, Options(), 2, threading.Event())) as runs:
        next(runs)
        assert fleet_threads() != []
    assert fleet_threads() == []


def test_what_keeps_a_scenario_from_being_loaded_is_given_as_the_error(tmp_path: Path) -> None:
    played = scenarios(tmp_path, missing=MISSING)
    ((index, error),) = play_many(played, Options(), 1, threading.Event())
    assert index == 0
    assert isinstance(error, TcpwatchError)
    assert error.exit_code is ExitCode.USAGE
    assert error.remedy == "the scenario cannot be loaded"


def fleet_threads() -> list[str]:
    """Each drives a worker for as long as that lives."""
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith("tcpwatch-fleet")]
