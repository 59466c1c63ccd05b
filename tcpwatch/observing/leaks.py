"""What is left open once nobody should need it: which of the sockets that are held are leaks.

Owns: the judgement, and its words. TIME-WAIT is healthy, and what no process holds any more is the
kernel's to end. Must not know when somebody looked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tcpwatch.observing.observer import Held
from tcpwatch.tcp.state import TcpState
from tcpwatch.views.canvas import visible

_OPEN = frozenset({TcpState.SYN_SENT, TcpState.ESTABLISHED, TcpState.FIN_WAIT_1})
_OPEN |= {TcpState.FIN_WAIT_2, TcpState.CLOSING}


@dataclass(frozen=True, slots=True)
class Leak:
    """A socket that nobody closed, and what is wrong about it."""

    held: Held
    why: str

    def __str__(self) -> str:
        held = self.held
        ends = str(held.local)
        if held.state is not TcpState.LISTEN:
            ends += f" > {held.remote}"
        holders = ", ".join(f"{visible(one.name)} ({one.pid})" for one in held.holders)
        by = f", held by {holders}" if holders else ""
        return f"{held.state} {ends}{by}: {self.why}"


def leaks(held: Iterable[Held]) -> tuple[Leak, ...]:
    """Those of them that are leaks, in the same order."""
    found = ((one, _why(one)) for one in held)
    return tuple(Leak(one, why) for one, why in found if why is not None)


def _why(held: Held) -> str | None:
    """None: it is none."""
    if held.state is TcpState.LISTEN:
        return "it still listens"
    if held.state is TcpState.CLOSE_WAIT:
        if not held.inode:
            return "the peer has closed, and nobody ever accepted it"
        return "the peer has closed, and this end has not"
    if held.state is TcpState.ESTABLISHED and not held.inode:
        return "nobody ever accepted it"
    if held.inode and held.state in _OPEN:
        return "its descriptor was never closed"
    return None
