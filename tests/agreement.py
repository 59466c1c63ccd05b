"""Whether a path that an end went is one that another view of it allows.

Owns: what "allows" means where that view leaves several states open.
"""

from __future__ import annotations

from collections.abc import Sequence

from tcpwatch.machine.table import silent_moves
from tcpwatch.model.timeline import Belief
from tcpwatch.tcp.state import TcpState

_UNSEEN = 2  # moves without a segment, one after another: FIN-WAIT-2 > TIME-WAIT > CLOSED


def agrees(beliefs: Sequence[Belief], path: Sequence[TcpState]) -> bool:
    """Each state on the way is believed possible there; of those left open some may be passed."""
    places = {0} if path[0] in beliefs[0].states else set()
    for before, belief in zip([beliefs[0], *beliefs], beliefs, strict=False):
        if belief is not beliefs[0]:
            open_here = len(before.states) > 1 or len(belief.states) > 1
            places = {
                place + step
                for place in places
                for step in ((0, 1) if open_here else (1,))
                if place + step < len(path) and path[place + step] in belief.states
            }
        if len(belief.states) > 1:
            places |= {
                further
                for place in places
                for further in range(place, len(path))
                if all(state in belief.states for state in path[place : further + 1])
            }
    return len(path) - 1 in places


def agrees_as_far_as_seen(beliefs: Sequence[Belief], path: Sequence[TcpState]) -> bool:
    """The same, where the last states may have come by a timer, or a call that sends nothing."""
    for count in range(_UNSEEN + 1):
        known, unseen = path[: len(path) - count], path[len(path) - count :]
        silent = all(
            after in silent_moves(frozenset({before}))
            for before, after in zip([*known[-1:], *unseen], unseen, strict=False)
        )
        if known and silent and agrees(beliefs, known):
            return True
    return False
