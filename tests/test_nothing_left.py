"""What a run opened is closed when it is over: processes, zombies, descriptors, threads.

A network namespace lives no longer than they do. In one process, as a test suite or a screen that
plays one scenario after another would do it.
"""

from __future__ import annotations

import threading
import uuid
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from tcpwatch.lab.scenario import catalogue
from tcpwatch.model.timeline import Verdict
from tcpwatch.playing.options import Options
from tcpwatch.playing.session import Session

pytestmark = [pytest.mark.needs("lab", "kernel", "table"), pytest.mark.timeout(120)]

PLAYED = (
    "simultaneous-close",
    "echo",
    "fork-server",
    "zombie-ignored",
    "p2p-chat",
    "sigpipe-default",
    "fd-limit",
    "zero-window-close",
    "half-open",
)
"""Those that leave most to clear up: children, zombies, orphans, many descriptors."""


class Held(NamedTuple):
    """What this process holds."""

    descriptors: dict[int, str]
    threads: int
    children: list[int]
    descendants: list[int]  # also those that are nobody's children any more


def held(mark: str) -> Held:
    descriptors = {}
    for path in Path("/proc/self/fd").iterdir():
        try:
            descriptors[int(path.name)] = str(path.readlink())
        except OSError:  # the one that lists the folder
            continue
    return Held(
        descriptors,
        threading.active_count(),
        [child.pid for child in psutil.Process().children(recursive=True)],
        [pid for pid in psutil.pids() if carries(pid, mark)],
    )


def carries(pid: int, mark: str) -> bool:
    try:
        return mark.encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # it has just ended, or is a zombie and so among the children
        return False


@pytest.mark.parametrize("name", PLAYED)
def test_a_run_leaves_this_process_as_it_was(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = f"TCPWATCH_TEST_MARK={uuid.uuid4()}"
    monkeypatch.setenv(*mark.split("="))  # for whatever we start, not for ourselves

    def play() -> None:
        judged = Session(catalogue()[name], Options(), [], threading.Event()).run()
        assert (judged.verdict, judged.reasons) == (Verdict.PASS, ())

    play()  # what is imported, or kept for the next run, is there from now on
    before = held(mark)
    play()
    after = held(mark)
    assert after.descriptors == before.descriptors
    assert after.threads == before.threads
    assert after.children == before.children
    assert after.descendants == before.descendants == []
