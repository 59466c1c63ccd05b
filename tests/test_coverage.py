"""What the catalogue exercises: every arrow that Linux's calls can produce, as the README says."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import uuid
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from tcpwatch.cli import main
from tcpwatch.lab.scenario import catalogue
from tcpwatch.machine.coverage import declared, sightings, survey
from tcpwatch.machine.pattern import Pattern
from tcpwatch.model.recording import read_recordings
from tcpwatch.replaying.replayed import concluded
from tcpwatch.tcp.state import TcpState
from tcpwatch.verbs.coverage import TO_THE_END
from tcpwatch.views.coverage import coverage_markdown, name_of
from tests.played import played
from tests.test_interruption import marked, start, wait_until

if TYPE_CHECKING:
    from tcpwatch.machine.coverage import Coverage, Edge, Sighting

ROOT = Path(__file__).parents[1]
RECORDING = Path(__file__).parent / "data" / "recordings" / "simultaneous-close.jsonl"
README = (ROOT / "README.md").read_text(encoding="utf-8")

plays = pytest.mark.needs("lab", "kernel", "table")
for_long = pytest.mark.timeout(400)


@cache
def seen() -> tuple[Sighting, ...]:
    """Every transition of the catalogue, and of one run that waits a minute for TIME-WAIT's end."""
    with TemporaryDirectory() as name:
        to_the_end = Path(name) / "to-the-end.jsonl"
        argv = ("run", TO_THE_END, "--wait-time-wait", "--quiet", "--jsonl", to_the_end)
        with start(*argv, mark=uuid.uuid4().hex) as waiting:
            recordings = [one.recording for one in played().values()]
            assert waiting.communicate() == ("", "")
        with to_the_end.open(encoding="utf-8") as lines:
            recordings += read_recordings(lines)
    return tuple(sighting for one in recordings for sighting in sightings(concluded(one)))


@cache
def coverage() -> Coverage:
    return survey(seen())


def block() -> str:
    """The README's generated table."""
    return README.split("<!-- coverage:begin -->\n")[1].split("<!-- coverage:end -->")[0]


def plainly_declared(expect: dict[str, str]) -> set[Edge]:
    """The edges of patterns without a choice: the path must have gone there."""
    plain = [text for text in expect.values() if not re.search(r"[(?|]", text)]
    return {edge for text in plain for edge in Pattern(text).edges}


# ------------------------------------------------------------------ played


@plays
@for_long
def test_every_arrow_that_calls_on_linux_can_produce_is_exercised() -> None:
    assert [name_of(one.arrow) for one in coverage().missing] == []


@plays
@for_long
def test_every_arrow_is_exercised_where_two_witnesses_saw_it_or_only_one_can() -> None:
    """Only the table sees what a timer, or an administrator, does to a minisocket or a request."""
    alone = {name_of(one.arrow) for one in coverage().reachable if one.witnesses < 2}

    assert alone <= {
        "CLOSING > CLOSED by abort",
        "CLOSING > CLOSED by timeout",
        "FIN-WAIT-2 > CLOSED by timeout",
        "SYN-RECEIVED > CLOSED by timeout",
        "TIME-WAIT > CLOSED by 2 MSL",
        "TIME-WAIT > CLOSED by RST",
        "TIME-WAIT > CLOSED by abort",
    }


@plays
@for_long
@pytest.mark.parametrize("name", catalogue())
def test_what_a_scenario_declares_was_observed(name: str) -> None:
    observed = {
        (sighting.before.certain, sighting.after.certain)
        for sighting in seen()
        if sighting.scenario == name
    }

    assert plainly_declared(catalogue()[name].expect) <= observed


@plays
@for_long
def test_the_table_in_the_readme_is_what_was_observed() -> None:
    """To mend it: `make readme`."""
    patterns = {name: declared(one.expect) for name, one in catalogue().items()}

    assert block() == coverage_markdown(coverage(), patterns)


@pytest.mark.needs("lab")
def test_ctrl_c_ends_it_in_order_and_nothing_stays() -> None:
    mark = uuid.uuid4().hex
    with start("coverage", mark=mark) as process:
        wait_until(lambda: len(marked(mark)) > 12)  # several labs are being played in
        process.send_signal(signal.SIGINT)

        assert process.communicate() == ("", "tcpwatch: interrupted\n")
    assert process.returncode == 130
    assert marked(mark) == []


# ------------------------------------------------------------------ on any machine


def test_the_table_in_the_readme_has_every_arrow_shown_by_scenarios_that_there_are() -> None:
    markdown = coverage_markdown(survey([]), {})
    shown = re.sub(r": (`[a-z0-9-]+`(, )?)+", ": nothing yet", block())

    assert shown == markdown
    assert set(re.findall(r"`([a-z0-9-]+)`", block())) <= catalogue().keys()


def test_a_recording_is_reported_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["coverage", str(RECORDING)]) == 1
    out = capsys.readouterr().out

    assert "as exercised in 1 run\n" in out
    assert "├──── FIN / ACK ✓ ─────╮" in out
    assert "exercised: 8 of the 48 arrows" in out
    assert "LAST-ACK > CLOSED by RST" in " ".join(out.split())


def test_several_recordings_are_one_report(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    both = tmp_path / "both.jsonl"
    both.write_text(RECORDING.read_text(encoding="utf-8") * 2, encoding="utf-8")

    assert main(["coverage", str(both), str(RECORDING), "--json", "-"]) == 1
    document = json.loads(capsys.readouterr().out)

    assert document["runs"] == ["simultaneous-close"] * 3
    (closing,) = (arrow for arrow in document["arrows"] if arrow["to"] == "CLOSING")
    assert len(closing["seen"]) == 6
    assert {sighting["role"] for sighting in closing["seen"]} == {"client", "server"}


def test_a_recording_comes_from_standard_input() -> None:
    argv = [sys.executable, "-m", "tcpwatch", "coverage", "-", "--markdown", "-"]
    with RECORDING.open(encoding="utf-8") as lines:
        done = subprocess.run(argv, stdin=lines, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (1, "")
    assert "CLOSING by FIN: `simultaneous-close`<br>" in done.stdout


def test_what_was_cut_off_might_have_shown_more(tmp_path: Path) -> None:
    cut = tmp_path / "cut.jsonl"
    lines = RECORDING.read_text(encoding="utf-8").splitlines()
    cut.write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")

    assert main(["coverage", str(cut), "--quiet"]) == 3


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["nowhere.jsonl"], "cannot read nowhere.jsonl: No such file or directory"),
        ([str(ROOT / "LICENSE")], "LICENSE"),
        ([str(RECORDING), "--json", "/nowhere/x"], "cannot write /nowhere/x"),
        ([str(RECORDING), "--json", "-", "--markdown", "-"], "can take only one of"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["coverage", *arguments]) == 2
    error = capsys.readouterr().err

    assert said in error
    assert error.count("\n") == 1


def test_a_page_that_is_too_narrow_has_no_figure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    main(["coverage", str(RECORDING)])
    out = capsys.readouterr().out

    assert "▶" not in out
    assert all(f"from {state}" in out for state in TcpState)
