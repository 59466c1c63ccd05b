"""The README says what is so: its ladder, its example, its options, its verbs, its diagram."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from tcpwatch.cli import main
from tcpwatch.lab import Lab, filters
from tcpwatch.lab.descriptor import Socket
from tcpwatch.lab.filters import Filter
from tcpwatch.lab.host import Host
from tcpwatch.lab.pending import Pending
from tcpwatch.lab.process import Process, Program
from tcpwatch.lab.scenario import TOPICS
from tcpwatch.lab.sockets import Entry
from tcpwatch.lab.wire import ActiveRule, Hold, Wire
from tcpwatch.machine.pattern import Pattern

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RECORDING = Path(__file__).parent / "data" / "recordings" / "simultaneous-close.jsonl"

VERBS: dict[str, tuple[type, ...]] = {
    "`lab`": (Lab,),
    "`lab.wire`": (Wire, ActiveRule),
    "a rule, by `as rule`": (Hold,),
    "segments": (Filter,),
    "a host": (Host,),
    "a process": (Process,),
    "a program": (Program,),
    "a socket": (Socket,),
    "any of those calls": (Socket, Pending),
}


def block(language: str) -> str:
    """The README's one block of that language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert isinstance(found, str)
    return found


def section(title: str) -> str:
    """The text under a heading, up to the next."""
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(title: str) -> dict[str, str]:
    """The tables under a heading: the first cell of each row, and what stands right of it."""
    lines = [line for line in section(title).splitlines() if line.startswith("| ")]
    cells = [line.strip("|").strip().partition(" | ") for line in lines]
    return {first: rest for first, _, rest in cells}


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main([*arguments]) == 0
    return capsys.readouterr().out


def test_the_ladder_is_what_the_recording_shows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To mend it, paste what `COLUMNS=80 tcpwatch replay` prints of the recording."""
    monkeypatch.setenv("COLUMNS", "80")
    assert block("text") == printed(capsys, "replay", str(RECORDING))


def test_the_json_is_what_the_recording_gives(capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(printed(capsys, "replay", str(RECORDING), "--json", "-"))
    assert json.loads(block("json")) == document["connections"][0]["endpoints"][0]["transitions"][3]


@pytest.mark.needs("lab")
def test_the_example_of_a_scenario_passes(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(block("python"), encoding="utf-8")
    played = subprocess.run(
        [sys.executable, "-m", "tcpwatch", "run", "./mine.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert played.returncode == 0, played.stdout + played.stderr


def test_every_option_of_run_is_in_the_readme_and_no_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    offered = set(re.findall(r"(?<!\S)--[a-z0-9-]+", capsys.readouterr().out)) - {"--help"}
    told = set(re.findall(r"`(?:-q`, `)?(--[a-z0-9-]+)", "\n".join(rows("Options of `run`"))))
    assert told == offered


def test_every_command_is_in_the_readme(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    commands = re.findall(r"^    ([a-z]+) ", capsys.readouterr().out, re.MULTILINE)
    assert commands
    assert [name for name in commands if f"\ntcpwatch {name}" not in section("Begin")] == []


@pytest.mark.parametrize("of", VERBS)
def test_the_verbs_are_there(of: str) -> None:
    told = rows("A scenario of your own")[of]
    owners = (*VERBS[of], filters)
    names = re.findall(r"[`.](\w+)\(", told)
    assert names
    assert [name for name in names if not any(hasattr(owner, name) for owner in owners)] == []


def test_what_an_entry_of_a_hosts_table_tells_is_there() -> None:
    told = rows("A scenario of your own")["an entry of that table"]
    assert set(re.findall(r"`(\w+)`", told)) <= {field.name for field in fields(Entry)}


def test_every_topic_is_there_and_no_other() -> None:
    assert [name for name in rows("The scenarios") if name != "topic"] == list(TOPICS)


def test_the_words_for_segments_are_there() -> None:
    (words,) = re.findall(r"^`([A-Z_ ]+)`", rows("A scenario of your own")["segments"])
    assert all(isinstance(getattr(filters, word), Filter) for word in words.split())


def test_the_patterns_can_be_read() -> None:
    indented = re.findall(r"^    (\S.*?)   ", section("A scenario of your own"), re.MULTILINE)
    patterns = [text for text in indented if "-" in text]
    assert len(patterns) >= 5
    for text in patterns:
        Pattern(text)


def test_files_that_are_named_exist() -> None:
    links = re.findall(r"\]\(([^):]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_readme_is_short_enough_to_be_read() -> None:
    assert len(README.splitlines()) <= 470
