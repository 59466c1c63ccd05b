"""`tcpwatch exec` as a user runs it: in a process of its own, its result read from --json."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

PROGRAMS = Path(__file__).parent / "programs"
AS_NOBODY = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]


@dataclass(frozen=True, slots=True)
class Executed:
    """What came of it. ``document`` is empty where there was no result."""

    status: int
    document: dict[str, Any]
    out: str
    report: str

    @property
    def paths(self) -> list[tuple[str, str]]:
        return [
            (end["role"], " > ".join(map(str, end["path"])))
            for connection in self.document["connections"]
            for end in connection["endpoints"]
        ]

    @property
    def leaks(self) -> list[str]:
        return [one["message"] for one in self.document["findings"] if one["code"] == "leak"]


def execute(*arguments: str | Path, nobody: bool = False, typed: str = "") -> Executed:
    """``nobody``: as a user without any rights. ``typed`` is its standard input."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        document = Path(folder) / "result.json"
        argv = [sys.executable, "-P", "-m", "tcpwatch", "exec", "--json", str(document)]
        done = subprocess.run(
            [*(AS_NOBODY if nobody else ()), *argv, *map(str, arguments)],
            input=typed,
            capture_output=True,
            text=True,
            check=False,
        )
        text = document.read_text() if document.exists() else ""
    return Executed(done.returncode, json.loads(text) if text else {}, done.stdout, done.stderr)


@cache
def runs_as_nobody() -> bool:
    """Whether root can have this Python run by a user without any rights."""
    argv = [*AS_NOBODY, sys.executable, "-P", "-c", "import tcpwatch.verbs.exec"]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


def program(name: str, *arguments: str) -> list[str]:
    """A program of this folder, as a command."""
    return ["--", sys.executable, str(PROGRAMS / name), *arguments]
