"""The lives of the lab's processes, put together from the events that told of them.

Owns: what is a zombie. Must not know how it is shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tcpwatch.model.events import Event, ProcessChange, ProcessChanged


@dataclass(slots=True)
class Life:
    """One process, from what made it to who reaped it; times in ns from the start of the run.

    None where it was not told. ``parent`` is the name of the process that forked it, at the same
    host; empty where the lab started it.
    """

    pid: int
    process: str
    role: str | None
    parent: str
    started_ns: int
    exited_ns: int | None = None
    exit_status: int | None = None
    signal: str | None = None
    reaped_ns: int | None = None
    zombie: bool = False
    """It had ended, and its parent, which lived on, has not waited for it."""


def lives(events: Iterable[Event]) -> list[Life]:
    """All that were told of, in the order in which they began."""
    found: dict[tuple[str | None, int], Life] = {}
    for event in events:
        change, role = event.payload, event.vantage.side
        if not isinstance(change, ProcessChanged):
            continue
        new = Life(change.pid, change.process, role, change.parent, event.t_ns)
        life = found.setdefault((role, change.pid), new)
        match change.change:
            case ProcessChange.EXITED:
                life.exited_ns = event.t_ns
                life.exit_status, life.signal = change.exit_status, change.signal
            case ProcessChange.REAPED:
                life.reaped_ns = event.t_ns
            case _:
                pass
    all_of_them = list(found.values())
    for life in all_of_them:
        life.zombie = _was_left(life, all_of_them)
    return all_of_them


def _was_left(life: Life, others: Iterable[Life]) -> bool:
    """Whoever inherits a zombie reaps it when its parent ends: that comes too late to count."""
    if not life.parent or life.exited_ns is None:
        return False
    ends = (o.exited_ns for o in others if (o.role, o.process) == (life.role, life.parent))
    parent_ended_ns = next((end for end in ends if end is not None), None)
    if parent_ended_ns is None:
        return life.reaped_ns is None
    reaped_ns = parent_ended_ns if life.reaped_ns is None else life.reaped_ns
    return life.exited_ns < parent_ended_ns <= reaped_ns
