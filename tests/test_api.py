"""tcpwatch from Python: its examples run, its results are frozen, its import costs nothing."""

from __future__ import annotations

import doctest
import re
import socket
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from types import ModuleType

import pytest

import tcpwatch
from tcpwatch import api
from tcpwatch.observing import seen
from tcpwatch.playing.options import Options, SomeOptions

ROOT = Path(__file__).parents[1]
RECORDINGS = Path(__file__).parent / "data" / "recordings"
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.needs("lab", "kernel")
@pytest.mark.parametrize("module", [api, seen])
def test_the_examples_are_so(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(RECORDINGS)
    names = {"tcpwatch": tcpwatch, "socket": socket}
    result = doctest.testmod(module, extraglobs=names, optionflags=doctest.REPORT_NDIFF)
    assert result.attempted > 2
    assert result.failed == 0


@pytest.mark.needs("lab", "kernel")
def test_the_readmes_examples_are_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(RECORDINGS)
    runner = doctest.DocTestRunner()
    for block in re.findall(r"^```pycon\n(.*?)^```$", README, re.MULTILINE | re.DOTALL):
        test = doctest.DocTestParser().get_doctest(block, {}, "README", "README.md", 0)
        runner.run(test)
    assert runner.summarize().failed == 0


def test_importing_it_imports_nothing_else() -> None:
    code = "import sys, tcpwatch\nprint([name for name in sys.modules if 'tcpwatch.' in name])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_what_it_offers_is_there_and_nothing_else() -> None:
    for name in tcpwatch.__all__:
        assert getattr(tcpwatch, name).__module__.startswith("tcpwatch.")
    here = {
        name for name, one in vars(api).items() if getattr(one, "__module__", "") == api.__name__
    }
    assert {name for name in here if not name.startswith("_")} <= set(tcpwatch.__all__)
    assert set(tcpwatch.__all__) <= set(dir(tcpwatch))
    with pytest.raises(AttributeError):
        _ = tcpwatch.nothing_of_that_name


def test_a_replayed_run_is_frozen_and_drawn() -> None:
    (run,) = tcpwatch.replay(RECORDINGS / "simultaneous-close.jsonl")
    assert run.passed
    assert run.verdict is tcpwatch.Verdict.PASS
    assert run.server.path.endswith("CLOSING > TIME-WAIT")
    assert "FIN-WAIT-1 > CLOSING" in run.ladder()
    assert run.document()["verdict"] == "pass"
    with pytest.raises(FrozenInstanceError):
        run.judged = run.judged  # type: ignore[misc]


def test_a_match_that_is_not_certain_does_not_hold() -> None:
    (run,) = tcpwatch.replay(RECORDINGS / "simultaneous-close.jsonl")
    assert run.match("... > TIME-WAIT", run.server)
    failed = run.match("... > FIN-WAIT-2 > TIME-WAIT")
    assert not failed
    assert "- FIN-WAIT-2" in failed.difference
    doubtful = tcpwatch.match("FIN-WAIT-2[<1s] > TIME-WAIT", "FIN-WAIT-2 > TIME-WAIT")
    assert doubtful.verdict is tcpwatch.Verdict.INCONCLUSIVE
    assert not doubtful
    assert tcpwatch.match("... > CLOSING > TIME-WAIT", run.client)


def test_what_was_saved_is_replayed(tmp_path: Path) -> None:
    (run,) = tcpwatch.replay(RECORDINGS / "simultaneous-close.jsonl")
    names = run.save(tmp_path / "again")
    assert sorted(Path(name).suffix for name in names) == [".jsonl", ".pcapng", ".txt"]
    (again,) = tcpwatch.replay(names[0])
    assert again == run


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: tcpwatch.match("... > NOWHERE", "CLOSED"),
        lambda: tcpwatch.match("...", "CLOSED > NOWHERE"),
        lambda: tcpwatch.play("nothing-of-that-name"),
        lambda: tcpwatch.play("normal-close", latency="5"),  # type: ignore[call-arg]
        lambda: tcpwatch.replay("nothing.jsonl"),
        lambda: tcpwatch.observe(port=99999),
        lambda: tcpwatch.Seen().no_leaks(),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(wrong: object) -> None:
    assert callable(wrong)
    with pytest.raises(tcpwatch.TcpwatchError):
        wrong()


def test_every_option_of_a_play_may_be_named() -> None:
    assert set(SomeOptions.__annotations__) == {field.name for field in fields(Options)}
