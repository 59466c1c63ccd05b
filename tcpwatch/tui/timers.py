"""What the kernel will do by itself, and when: the timers of both ends while a person thinks.

Owns: which timer of a socket is told, in which words. Must not know widgets.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tcpwatch.lab.sockets import Entry
from tcpwatch.tcp.state import TcpState

_SOON_MS = 1_500


@dataclass(frozen=True, slots=True)
class Timer:
    """A kernel timer: ``what`` happens in ``ms``, the ``times``-th time (0: only once)."""

    what: str
    ms: int
    times: int = 0

    @property
    def is_soon(self) -> bool:
        """Whether one who thinks should know."""
        return self.ms <= _SOON_MS

    @property
    def brief(self) -> str:
        return f"{self.what} in {self.ms / 1000:.1f} s"

    def __str__(self) -> str:
        return f"{self.brief} ({_ordinal(self.times)} time)" if self.times else self.brief


def timers_of(entries: Iterable[Entry]) -> tuple[Timer, ...]:
    """The timers that run in a host's socket table, the next to fire first.

    From inet_diag's fields timer, expires and retrans (Linux: inet_sk_diag_fill()).
    """
    found = [timer for entry in entries if (timer := _timer(entry)) is not None]
    return tuple(sorted(found, key=lambda timer: timer.ms))


def _timer(entry: Entry) -> Timer | None:
    row = entry.row
    if row is None or not entry.timer:
        return None
    match entry.timer:
        case "on":
            return Timer("resends", row.expires_ms, row.retransmissions + 1)
        case "persist":
            return Timer("probes the window", row.expires_ms, row.retransmissions)
        case "timewait":
            return Timer("leaves TIME-WAIT", row.expires_ms)
        case "keepalive":
            if entry.state == str(TcpState.SYN_RECEIVED):
                return Timer("resends SYN,ACK", row.expires_ms, row.retransmissions + 1)
            return Timer("keepalive, or gives up", row.expires_ms)
        case _:
            return None


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number if number < 20 else number % 10, "th")
    return f"{number}{ending}"
