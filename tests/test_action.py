"""The GitHub Action: its script runs as a runner runs it, and no input is part of the script."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ACTION = ROOT / ".github" / "actions" / "tcpwatch" / "action.yml"
TEXT = ACTION.read_text(encoding="utf-8") if ACTION.is_file() else ""  # not in an sdist

pytestmark = pytest.mark.skipif(not TEXT, reason="the action is in a checkout only")


def scripts() -> list[str]:
    found = re.findall(r"^      run: \|\n((?:        .*\n|\n)+)", TEXT, re.MULTILINE)
    return [textwrap.dedent(script) for script in found]


def run(folder: Path, **inputs: str) -> subprocess.CompletedProcess[str]:
    """Its last script, with inputs as the runner hands them over."""
    defaults = dict(
        re.findall(
            r'^  ([a-z-]+):\n    description: .*\n    default: "?([^"\n]*)', TEXT, re.MULTILINE
        )
    )
    names = {name.upper().replace("-", "_"): value for name, value in defaults.items()}
    environment = os.environ | names | {name.upper(): value for name, value in inputs.items()}
    environment |= {
        "GITHUB_ACTIONS": "true",
        "GITHUB_WORKSPACE": str(folder),
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", scripts()[-1]],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_no_script_has_an_input_within() -> None:
    assert len(scripts()) == 3
    assert [script for script in scripts() if "${{" in script] == []


LEAK = """
import os, socket, sys
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
server, _ = listener.accept()
client.close()
assert server.recv(1) == b""
if "close" in sys.argv:
    server.close()
    listener.close()
else:
    os._exit(0)  # at an orderly end Python would close it
"""


@pytest.mark.needs("lab")
def test_a_command_that_leaks_fails_and_is_kept(tmp_path: Path) -> None:
    (tmp_path / "leak.py").write_text(LEAK, encoding="utf-8")
    done = run(tmp_path, command="python3 leak.py")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "\n::error title=FAIL " in done.stderr
    assert "CLOSE-WAIT" in (tmp_path / "summary.md").read_text(encoding="utf-8")
    kept = {path.suffix for path in (tmp_path / "tcpwatch-kept").iterdir()}
    assert kept == {".xml", ".jsonl", ".txt", ".pcapng"}


@pytest.mark.needs("lab")
def test_a_command_that_closes_passes(tmp_path: Path) -> None:
    (tmp_path / "leak.py").write_text(LEAK, encoding="utf-8")
    expect = "server: ... > CLOSE-WAIT > LAST-ACK > CLOSED\n\nclient: ... > TIME-WAIT\n"
    done = run(tmp_path, command="python3 leak.py close", expect=expect, never="CLOSE-WAIT[>9s]\n")
    assert done.returncode == 0, done.stdout + done.stderr
