"""The screen in a real terminal: tmux draws it, types into it, and sees what stays behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.needs("lab", "table", "tmux")

TCPWATCH = Path(sys.executable).with_name("tcpwatch")
PATIENCE_S = 60.0
LOOK_S = 0.05
_SIZES = ("COLUMNS", "LINES")


class Terminal:
    """A terminal of 120 columns in a tmux server of its own, with a command in it."""

    def __init__(self, folder: Path) -> None:
        self._socket = str(folder / "tmux")
        self._settings = folder / "tmux.conf"
        self._settings.write_text("set -g default-size 120x40\n", encoding="ascii")

    def tmux(self, *arguments: str) -> str:
        command = ["tmux", "-S", self._socket, "-f", str(self._settings), *arguments]
        # A size told in the environment would be believed before the terminal's own.
        told = {name: value for name, value in os.environ.items() if name not in _SIZES}
        ran = subprocess.run(command, check=True, capture_output=True, text=True, env=told)
        return ran.stdout

    def start(self, command: str) -> None:
        # A shell waits for it: tmux has been seen to leave what had ended a zombie.
        command = f"{command}; echo ended with $?; exec sleep infinity"
        self.tmux("new-session", "-d", "-x", "120", "-y", "40", command)

    @property
    def screen(self) -> str:
        return self.tmux("capture-pane", "-p")

    @property
    def pid(self) -> int:
        return int(self.tmux("display-message", "-p", "#{pane_pid}"))

    @property
    def status(self) -> str:
        """The command's exit status; empty while it runs."""
        found = re.search(r"^ended with (\d+)$", self.screen, re.MULTILINE)
        return found[1] if found else ""

    def press(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    def until(self, true: Callable[[str], object]) -> str:
        """Looks again and again until that is so of the screen; gives the screen."""
        never, give_up = threading.Event(), time.monotonic() + PATIENCE_S
        while not true(shown := self.screen):
            if time.monotonic() > give_up:
                pytest.fail(f"it never came to that:\n{shown}")
            never.wait(LOOK_S)
        return shown

    def close(self) -> None:
        with suppress(subprocess.CalledProcessError):  # nobody is in it any more
            self.tmux("kill-server")


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path)
    yield terminal
    terminal.close()


def held(shown: str) -> list[str]:
    """The lines of the wire on which a segment waits, in the order in which Enter delivers them.

    How often a segment was sent meanwhile is left out.
    """
    lines = (line[42:78] for line in shown.splitlines())
    waiting = [re.sub(r" ×\d+", "", line).strip() for line in lines if "║" in line]
    return sorted(line for line in waiting if "held" in line and line[:1].isdecimal())


def is_fin(line: str) -> bool:
    return " FA " in line


def both_fins(shown: str) -> bool:
    """Whether the next two that Enter delivers are the FINs."""
    return len(held(shown)) > 1 and all(map(is_fin, held(shown)[:2]))


def another(shown: str) -> bool:
    """Whether the next is no FIN: behind one FIN alone the other is still to come."""
    return bool(held(shown)) and not is_fin(held(shown)[0])


def in_closing(shown: str) -> int:
    """How many ends the screen says are in CLOSING."""
    return shown.count("FIN-WAIT-1 > CLOSING  FIN received")


def test_simultaneous_close_is_stepped_to_closing_at_both_ends(terminal: Terminal) -> None:
    terminal.start(f"{TCPWATCH} run simultaneous-close --step")
    shown = terminal.until(held)
    while not both_fins(shown):
        before = held(shown)
        terminal.press("Enter")
        shown = terminal.until(
            lambda now, was=before: held(now) != was and (both_fins(now) or another(now))  # type: ignore[misc]
        )
    terminal.press("Enter", "Enter")
    terminal.until(lambda now: in_closing(now) == 2)
    terminal.press("g")
    terminal.until(lambda now: now.splitlines()[0].endswith("PASS"))
    terminal.press("q")
    terminal.until(lambda _: terminal.status)
    assert terminal.status == "0"


@pytest.mark.parametrize("way", ["C-c", "q"])
def test_whoever_leaves_in_the_middle_leaves_nothing_behind(terminal: Terminal, way: str) -> None:
    terminal.start(f"{TCPWATCH} run simultaneous-close --step")
    terminal.until(held)
    made = psutil.Process(terminal.pid).children(recursive=True)
    assert made
    terminal.press(way)
    terminal.until(lambda _: terminal.status)
    assert terminal.status == "130"
    assert not [process for process in made if process.is_running()]


def test_when_the_terminal_goes_nothing_stays_behind(terminal: Terminal) -> None:
    terminal.start(f"{TCPWATCH} run simultaneous-close --step")
    terminal.until(held)
    command = psutil.Process(terminal.pid)
    made = [command, *command.children(recursive=True)]
    terminal.close()
    _, left = psutil.wait_procs(made, timeout=PATIENCE_S)
    assert not left


def test_without_a_terminal_it_says_what_to_do_instead() -> None:
    for command in (["run", "simultaneous-close", "--step"], ["run", "x", "--tui"]):
        ran = subprocess.run([str(TCPWATCH), *command], check=False, capture_output=True, text=True)
        assert ran.returncode == 2
        assert ran.stdout == ""
        assert ran.stderr == (
            "tcpwatch: --tui needs a terminal, and there is none here; "
            "leave it out: text, --json and --jsonl need none\n"
        )
