"""tcpwatch: a debugger for TCP's state machine on real kernels.

import tcpwatch

assert tcpwatch.play("simultaneous-close").passed
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tcpwatch.api import Match, Result, match, play, replay
    from tcpwatch.errors import TcpwatchError
    from tcpwatch.model.timeline import Verdict
    from tcpwatch.observing.seen import End, Ends, Inconclusive, NotAsExpected, Seen, observe

__version__ = "0.1.0"

__all__ = [
    "End",
    "Ends",
    "Inconclusive",
    "Match",
    "NotAsExpected",
    "Result",
    "Seen",
    "TcpwatchError",
    "Verdict",
    "match",
    "observe",
    "play",
    "replay",
]


_FOUND_IN = {
    "tcpwatch.errors": {"TcpwatchError"},
    "tcpwatch.model.timeline": {"Verdict"},
    "tcpwatch.observing.seen": {"End", "Ends", "Inconclusive", "NotAsExpected", "Seen", "observe"},
}
"""Whoever observes a block needs no lab. All other names are in tcpwatch.api."""


def __getattr__(name: str) -> Any:
    """What the API offers, imported when it is first asked for: the commands must start quickly."""
    if name not in __all__:
        raise AttributeError(f"module 'tcpwatch' has no attribute {name!r}")
    found = (module for module, names in _FOUND_IN.items() if name in names)
    value = globals()[name] = getattr(import_module(next(found, "tcpwatch.api")), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
