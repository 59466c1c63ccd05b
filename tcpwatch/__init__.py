"""tcpwatch: a debugger for TCP's state machine on real kernels.

import tcpwatch

assert tcpwatch.play("simultaneous-close").passed
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tcpwatch.api import (
        End,
        Ends,
        Inconclusive,
        Match,
        NotAsExpected,
        Result,
        Seen,
        TcpwatchError,
        Verdict,
        match,
        observe,
        play,
        replay,
    )

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


_OF_A_BLOCK = frozenset({"End", "Ends", "Inconclusive", "NotAsExpected", "Seen", "observe"})


def __getattr__(name: str) -> Any:
    """What the API offers, imported when it is first asked for: the commands must start quickly."""
    if name not in __all__:
        raise AttributeError(f"module 'tcpwatch' has no attribute {name!r}")
    # Whoever observes a block needs no lab.
    module = import_module("tcpwatch.observing.seen" if name in _OF_A_BLOCK else "tcpwatch.api")
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
