"""A scenario of a user's own, in a folder of their own: it runs by its path."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tcpwatch.lab.scenario import read
from tcpwatch.views.listing import list_scenarios

pytestmark = pytest.mark.needs("lab")

MINE = '''"""My first scenario: the server closes first."""

EXPECT = {"server": "LISTEN > ... > FIN-WAIT-2 > TIME-WAIT"}


def play(lab):
    client, server = lab.connect()
    server.close()
    lab.wait(server="FIN-WAIT-2")
    client.close()
'''


class Done(NamedTuple):
    """A command that ended."""

    status: int
    out: str
    err: str


def tcpwatch(*arguments: str | Path, cwd: Path) -> Done:
    argv = [sys.executable, "-P", "-m", "tcpwatch", *map(str, arguments)]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", "COLUMNS": "200"}
    done = subprocess.run(
        argv, cwd=cwd, env=environment, capture_output=True, timeout=60, check=False
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def play(folder: Path, *lines: str, expect: str = "{}") -> tuple[Done, dict[str, Any]]:
    """Runs mine.py with that play, whose first line is line 7 of the file; and its document."""
    text = f'"""Mine."""\n\nEXPECT = {expect}\n\n\ndef play(lab):\n'
    body = "".join(f"    {line}\n" for line in lines)
    (folder / "mine.py").write_text(text + body, encoding="utf-8")
    done = tcpwatch("run", "mine.py", "--timeout", "2", "--json", "mine.json", cwd=folder)
    return done, json.loads((folder / "mine.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("how", ["mine.py", "./mine.py", "absolute"])
def test_ten_lines_of_ones_own_run_by_their_path(how: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE, encoding="utf-8")
    path = tmp_path / "mine.py" if how == "absolute" else how
    done = tcpwatch("run", path, "--json", "mine.json", cwd=tmp_path)
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("mine   the server closes first\n")
    document = json.loads((tmp_path / "mine.json").read_text(encoding="utf-8"))
    assert (document["scenario"], document["verdict"]) == ("mine", "pass")
    (connection,) = document["connections"]
    assert connection["closed_by"] == "server"


def test_a_check_that_fails_fails_the_run_with_its_message_and_line(tmp_path: Path) -> None:
    done, document = play(
        tmp_path, "client, server = lab.connect()", 'lab.check(1 == 2, "one is not two")'
    )
    assert (done.status, done.err) == (1, "")
    assert (document["verdict"], document["reasons"]) == (
        "fail",
        [f"{tmp_path / 'mine.py'}:8: one is not two"],
    )
    assert done.out.endswith(f"  {tmp_path / 'mine.py'}:8: one is not two\n")


def test_a_call_that_fails_otherwise_than_foretold_fails_the_run(tmp_path: Path) -> None:
    done, document = play(
        tmp_path,
        "import errno",
        "client = lab.program(lab.client).socket()",
        "client.connect((lab.server.ip, 9), fails=errno.ETIMEDOUT)",
    )
    assert done.status == 1
    (reason,) = document["reasons"]
    assert reason.startswith(f"{tmp_path / 'mine.py'}:9: ")
    assert "ECONNREFUSED" in reason
    assert "ETIMEDOUT" in reason


def test_a_call_that_was_to_fail_and_did_not_fails_the_run(tmp_path: Path) -> None:
    done, document = play(
        tmp_path,
        "import errno",
        "client, server = lab.connect()",
        'client.send(b"x", fails=errno.EPIPE)',
    )
    assert done.status == 1
    (reason,) = document["reasons"]
    assert reason.startswith(f"{tmp_path / 'mine.py'}:9: ")
    assert "EPIPE" in reason


def test_a_call_that_fails_unforetold_fails_the_run(tmp_path: Path) -> None:
    done, document = play(
        tmp_path,
        "client = lab.program(lab.client).socket()",
        "client.connect((lab.server.ip, 9))",
    )
    assert done.status == 1
    (reason,) = document["reasons"]
    assert reason.startswith(f"{tmp_path / 'mine.py'}:8: ")
    assert "Connection refused, from client: connect(" in reason


def test_a_wait_that_never_comes_true_fails_the_run_with_what_was_seen(tmp_path: Path) -> None:
    done, document = play(
        tmp_path,
        "client, server = lab.connect()",
        'lab.wait(client="CLOSE-WAIT", timeout_s=0.2)',
    )
    assert done.status == 1
    (reason,) = document["reasons"]
    assert reason.startswith(f"{tmp_path / 'mine.py'}:8: ")
    assert "CLOSE-WAIT" in reason
    assert "ESTABLISHED" in reason


def test_a_path_that_is_not_as_expected_fails_the_run_with_the_difference(tmp_path: Path) -> None:
    expect = '{"client": "CLOSED > SYN-SENT > ESTABLISHED > CLOSE-WAIT"}'
    done, document = play(
        tmp_path,
        "client, server = lab.connect()",
        "client.close()",
        'lab.wait(client="FIN-WAIT-2")',
        expect=expect,
    )
    assert (done.status, document["verdict"]) == (1, "fail")
    (expectation,) = document["expectations"]
    assert expectation["met"] is False
    assert "- CLOSE-WAIT\n+ FIN-WAIT-1\n" in expectation["explanation"]
    assert "NOT as expected" in done.out


def test_an_end_of_a_connection_that_never_was_cannot_be_told(tmp_path: Path) -> None:
    done, document = play(tmp_path, "lab.listen()", expect='{"client": "... > ESTABLISHED"}')
    assert (done.status, document["verdict"]) == (3, "inconclusive")


def test_without_expectations_a_play_that_ends_passes(tmp_path: Path) -> None:
    done, document = play(tmp_path, "lab.connect()")
    assert (done.status, document["verdict"], document["expectations"]) == (0, "pass", [])


def test_one_that_fails_decides_the_exit_status_of_several(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE, encoding="utf-8")
    failing = MINE.replace("    client.close()", '    lab.check(False, "no")')
    (tmp_path / "failing.py").write_text(failing, encoding="utf-8")
    done = tcpwatch("run", "failing.py", "mine.py", cwd=tmp_path)
    assert (done.status, done.err) == (1, "")
    assert done.out.splitlines()[-1].startswith("2 runs: 1 passed, 1 failed; ")


def test_a_slow_one_says_why_and_is_marked_in_the_list(tmp_path: Path) -> None:
    slow = MINE.replace("EXPECT", 'SLOW = "it waits for a timer of 60 s"\nEXPECT', 1)
    (tmp_path / "mine.py").write_text(slow, encoding="utf-8")
    scenario = read(tmp_path / "mine.py")
    assert scenario.slow == "it waits for a timer of 60 s"
    brief = list_scenarios([scenario], {}, 80, verbose=False)
    assert "the server closes first (slow)" in brief
    told = list_scenarios([scenario], {}, 80, verbose=True)
    assert "    slow    it waits for a timer of 60 s" in told.splitlines()
