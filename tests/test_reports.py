"""`tcpwatch run` in CI: JUnit XML, what is kept of failures, GitHub's pages, a baseline."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tcpwatch.cli import main

LOST = '''"""The client expects what does not come about."""

EXPECT = {"client": "CLOSED > SYN-SENT > ESTABLISHED > TIME-WAIT"}


def play(lab):
    client, _server = lab.connect()
    client.linger(0)
    client.close()
'''
ANOTHER = LOST.replace("    client.linger(0)\n", "").replace(
    "ED > TIME-WAIT", "ED > FIN-WAIT-1 > FIN-WAIT-2"
)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "mine.py"
    path.write_text(LOST, encoding="utf-8")
    return path


@pytest.mark.needs("lab")
def test_a_failing_run_is_told_to_github_in_junit_and_kept(
    mine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = mine.parent
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(folder / "summary.md"))
    monkeypatch.setenv("GITHUB_WORKSPACE", str(folder))
    options = ["--junit", "junit.xml", "--keep-on-failure", "artifacts/kept"]
    assert main(["run", str(mine), *options]) == 1
    out, err = capsys.readouterr()
    assert err.startswith("::error file=mine.py,line=3,title=FAIL mine::client: the witnessed path")
    kept = [f"artifacts/kept/mine.{end}" for end in ("jsonl", "txt", "pcapng")]
    assert out.endswith("".join(f"kept {name}\n" for name in kept))
    assert "FAIL | mine | client" in (folder / "summary.md").read_text(encoding="utf-8")
    failure = ET.parse(folder / "junit.xml").find(".//failure")  # noqa: S314 - it is our own
    assert failure is not None
    assert "\n  - TIME-WAIT\n" in str(failure.text)
    # What was kept replays to the same verdict, and the ladder is the run's own.
    capsys.readouterr()
    assert main(["replay", kept[0], "--json", "-"]) == 1
    assert json.loads(capsys.readouterr().out)["verdict"] == "fail"
    ladder = Path(kept[1]).read_text(encoding="utf-8")
    assert "ESTABLISHED > CLOSED" in ladder
    assert ladder in str(failure.text)
    assert main(["replay", kept[2], "--quiet"]) == 0


@pytest.mark.needs("lab")
def test_what_has_changed_since_the_baseline_is_told(
    mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = mine.parent / "saved.json"
    assert main(["run", str(mine), "--json", str(saved), "--quiet"]) == 1
    assert main(["run", str(mine), "--baseline", str(saved)]) == 0  # it fails as it did
    assert "1 scenario: 1 as in the baseline, 0 changed" in capsys.readouterr().out
    mine.write_text(ANOTHER, encoding="utf-8")
    assert main(["run", str(mine), "--baseline", str(saved)]) == 1
    told = capsys.readouterr().out.split("against the baseline: ")[1]
    assert "    - CLOSED\n    + FIN-WAIT-1\n    + FIN-WAIT-2\n" in told
    assert "verdict\n    - FAIL\n    + PASS\n" in told
    assert told.endswith("1 scenario: 0 as in the baseline, 1 changed\n")


def test_what_cannot_be_played_is_an_error_in_junit(
    mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine.write_text(f"import nothing_of_that_name\n{LOST}", encoding="utf-8")
    assert main(["run", str(mine), "--junit", "-"]) == 2
    out, err = capsys.readouterr()
    (error,) = ET.fromstring(out).iter("error")  # noqa: S314 - it is our own
    assert "nothing_of_that_name" in error.attrib["message"]
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "option, value, told",
    [
        ("--baseline", "nothing.json", "cannot compare with nothing.json: No such file"),
        ("--baseline", "mine.py", "cannot compare with mine.py: it is no JSON"),
        ("--junit", "none/junit.xml", "cannot write none/junit.xml: No such file"),
        ("--keep-on-failure", "mine.py", "cannot write mine.py: File exists"),
    ],
)
def test_what_cannot_be_written_or_read_is_told_before_anything_is_played(
    mine: Path, capsys: pytest.CaptureFixture[str], option: str, value: str, told: str
) -> None:
    assert main(["run", str(mine), option, value]) == 2
    out, err = capsys.readouterr()
    assert (out, err.startswith(f"tcpwatch: {told}"), err.count("\n")) == ("", True, 1)
