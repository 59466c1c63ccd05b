"""In which order the tests run, and which of them pytest-xdist gives to one worker together.

Owns: that the catalogue is played once for all workers, and that what takes long begins early.
Knows nothing of what is tested, and does without pytest-xdist.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parents[1]
THE_PLAY = "tests/played.py"
FIRST = (
    "tests/test_coverage.py",  # waits a minute for TIME-WAIT's end, meanwhile the rest is played
    THE_PLAY,
    "tests/tcp/",  # what is pure runs beside the play, which has enough labs at once of its own
    "tests/model/",
    "tests/machine/",
    "tests/views/",
    "tests/test_interruption.py",  # of the rest the longest
    "tests/lab/",
)
"""What begins first; the short ones that follow level the workers' ends."""


def unit(nodeid: str) -> str:
    """What is not to be divided: a file, for its fixtures; and all files that share the play."""
    path = nodeid.partition("::")[0]
    return THE_PLAY if path in reading_the_play() else path


@cache
def reading_the_play() -> frozenset[str]:
    files = (ROOT / "tests").rglob("test_*.py")
    using = (path for path in files if "\nfrom tests.played import " in path.read_text("utf-8"))
    return frozenset(path.relative_to(ROOT).as_posix() for path in using)


def begins(nodeid: str) -> int:
    """The smaller, the earlier."""
    names = (nodeid, unit(nodeid))
    for place, beginning in enumerate(FIRST):
        if any(name.startswith(beginning) for name in names):
            return place
    return len(FIRST)


def arrange(items: list[pytest.Item]) -> None:
    """Puts what begins first at the front; else the order stays."""
    items.sort(key=lambda item: begins(item.nodeid))
