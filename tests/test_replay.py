"""A recording shows the same run again, to the byte; what was cut off of it is never a PASS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tcpwatch.cli import main

FIVE = ("normal-close", "simultaneous-close", "half-close", "time-wait", "rst-on-write")

CHECKED = '''"""A check that fails, once the whole path has been walked."""

EXPECT = {"client": "CLOSED > SYN-SENT > ESTABLISHED"}


def play(lab):
    lab.connect()
    lab.check(False, "two and two")
'''


def tcpwatch(*arguments: str, cwd: Path, status: int = 0, given: bytes | None = None) -> bytes:
    """What the command wrote to standard output, once it ended with that status."""
    argv = [sys.executable, "-P", "-m", "tcpwatch", *arguments]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", "COLUMNS": "80"}
    done = subprocess.run(
        argv, cwd=cwd, env=environment, input=given, capture_output=True, timeout=100, check=False
    )
    assert (done.returncode, done.stderr) == (status, b"")
    return done.stdout


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one run's outputs: ladder.txt, run.json, run.jsonl and run.pcap."""
    folder = tmp_path_factory.mktemp("recorded")
    outputs = ("--json", "run.json", "--jsonl", "run.jsonl", "--pcap", "run.pcap")
    ladder = tcpwatch("run", "simultaneous-close", *outputs, cwd=folder)
    (folder / "ladder.txt").write_bytes(ladder)
    return folder


@pytest.mark.needs("lab")
def test_a_replay_gives_the_same_document_and_the_same_ladder(recorded: Path) -> None:
    ladder = tcpwatch("replay", "run.jsonl", "--json", "again.json", cwd=recorded)
    assert ladder.decode() == (recorded / "ladder.txt").read_text(encoding="utf-8")
    assert (recorded / "again.json").read_bytes() == (recorded / "run.json").read_bytes()


@pytest.mark.needs("lab")
def test_a_replay_gives_the_same_recording_and_the_same_capture(recorded: Path) -> None:
    tcpwatch("replay", "run.jsonl", "--jsonl", "2.jsonl", "--pcap", "2.pcap", "-q", cwd=recorded)
    assert (recorded / "2.jsonl").read_bytes() == (recorded / "run.jsonl").read_bytes()
    assert (recorded / "2.pcap").read_bytes() == (recorded / "run.pcap").read_bytes()


@pytest.mark.needs("lab")
def test_a_replay_reads_standard_input_and_writes_standard_output(recorded: Path) -> None:
    recording = (recorded / "run.jsonl").read_bytes()
    written = tcpwatch("replay", "-", "--json", "-", cwd=recorded, given=recording)
    assert written == (recorded / "run.json").read_bytes()


@pytest.mark.needs("lab")
def test_several_runs_in_one_recording_are_replayed_as_several(tmp_path: Path) -> None:
    outputs = ("--json", "runs.json", "--jsonl", "runs.jsonl")
    ladders = tcpwatch("run", *FIVE, *outputs, cwd=tmp_path)
    again = tcpwatch("replay", "runs.jsonl", "--json", "again.json", cwd=tmp_path)
    # Only how long it took to play them is not in the recording.
    assert ladders.decode().startswith(f"{again.decode().rstrip()}; ")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "runs.json").read_bytes()
    runs = json.loads((tmp_path / "again.json").read_bytes())["runs"]
    assert [run["scenario"] for run in runs] == list(FIVE)


@pytest.mark.needs("lab", "tshark")
def test_the_capture_opens_in_tshark_with_both_ends_states_as_comments(recorded: Path) -> None:
    fields = ("frame.comment", "tcp.flags.fin", "tcp.flags.syn", "_ws.malformed")
    argv = ["tshark", "-r", "run.pcap", "-T", "fields"]
    argv += [word for field in fields for word in ("-e", field)]
    done = subprocess.run(argv, cwd=recorded, capture_output=True, text=True, check=True)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    (connection,) = json.loads((recorded / "run.json").read_bytes())["connections"]
    assert len(rows) == len(connection["segments"])
    comments = [row[0] for row in rows]
    assert all("client " in comment and "server " in comment for comment in comments)
    assert "client CLOSED > SYN-SENT (connect())" in comments[0]
    assert sum("FIN-WAIT-1 > CLOSING (FIN received)" in comment for comment in comments) == 2
    assert [row[3] for row in rows if row[3:] and row[3]] == []
    fins = [row for row in rows if row[1] in ("1", "True")]
    assert len(fins) == sum("F" in segment["flags"] for segment in connection["segments"])


# ---------------------------------------------------------------------- cut off


@pytest.mark.needs("lab")
def test_a_recording_cut_off_after_any_line_is_inconclusive(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (recorded / "run.jsonl").read_bytes().splitlines(keepends=True)
    assert len(lines) > 20
    cut = tmp_path / "cut.jsonl"
    for count in range(1, len(lines)):
        cut.write_bytes(b"".join(lines[:count]))
        assert main(["replay", str(cut)]) == 3, f"after {count} of {len(lines)} lines"
        shown = capsys.readouterr()
        assert "INCONCLUSIVE" in shown.out
        assert "cut off" in shown.out
        assert shown.err == ""


@pytest.mark.needs("lab")
def test_a_recording_cut_off_within_its_last_line_is_replayed_as_far_as_it_goes(
    recorded: Path, tmp_path: Path
) -> None:
    recording = (recorded / "run.jsonl").read_bytes()
    (tmp_path / "cut.jsonl").write_bytes(recording[:-10])
    tcpwatch("replay", "cut.jsonl", "--json", "cut.json", "-q", cwd=tmp_path, status=3)
    whole, cut = (
        json.loads(path.read_bytes()) for path in (recorded / "run.json", tmp_path / "cut.json")
    )
    assert cut["verdict"] == "inconclusive"
    assert cut["connections"] == whole["connections"]


@pytest.mark.needs("lab")
def test_a_failure_whose_reason_was_cut_off_is_not_replayed_as_a_pass(tmp_path: Path) -> None:
    (tmp_path / "checked.py").write_text(CHECKED, encoding="utf-8")
    tcpwatch("run", "checked.py", "--jsonl", "run.jsonl", "-q", cwd=tmp_path, status=1)
    tcpwatch("replay", "run.jsonl", "-q", cwd=tmp_path, status=1)
    lines = (tmp_path / "run.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "cut.jsonl").write_bytes(b"".join(lines[:-1]))
    tcpwatch("replay", "cut.jsonl", "-q", cwd=tmp_path, status=3)
