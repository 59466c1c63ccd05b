"""How time passes on the screen: a run of a tenth of a second is shown so that one can follow.

Owns: the clock of the film. Between two moments at which something happens it takes the time that
the eye needs, never more than it would be bored by. Pure. Must not know what happens.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

_SLOWER = 20.0  # than it was: 20 ms of a segment's way are 0.4 s on the screen
_SHORTEST_S, _LONGEST_S = 0.1, 0.7  # between two moments


class Mode(Enum):
    """What the screen's time does."""

    LIVE = "live"  # it is the run's own
    FILM = "film"  # it runs slowly after it
    STILL = "still"  # it stands where the person put it


@dataclass(frozen=True, slots=True)
class Pace:
    """Where the person is in time. ``tempo`` 2: twice as fast as the film usually is."""

    mode: Mode = Mode.FILM
    t_ns: int = -1
    tempo: float = 1.0

    def passed(self, seconds: float, stops: Sequence[int], end_ns: int, *, over: bool) -> Pace:
        """Where it is after so many seconds on the screen.

        ``stops`` are the moments known so far, ``end_ns`` how far one can look. A film that has
        reached the end of a run that is ``over`` stands there.
        """
        if self.mode is Mode.STILL:
            return self
        if self.mode is Mode.LIVE:
            return Pace(Mode.STILL if over else Mode.LIVE, end_ns, self.tempo)
        t_ns, left = self.t_ns, seconds * self.tempo
        while left > 0:
            at = bisect_right(stops, t_ns)
            if at >= len(stops):
                return Pace(Mode.STILL if over else Mode.FILM, end_ns if over else t_ns, self.tempo)
            start = stops[at - 1] if at else min(t_ns, 0)
            gap = max(stops[at] - start, 1)
            lasts = min(max(gap / 1e9 * _SLOWER, _SHORTEST_S), _LONGEST_S)
            rest = (stops[at] - t_ns) / gap * lasts
            if rest > left:
                return Pace(Mode.FILM, t_ns + max(round(left / lasts * gap), 1), self.tempo)
            t_ns, left = stops[at], left - rest
        return Pace(Mode.FILM, t_ns, self.tempo)

    def stepped(self, by: int, stops: Sequence[int]) -> Pace:
        """To the moment after (1) or before (-1) this one; at either end it stays."""
        if not stops:
            return Pace(Mode.STILL, self.t_ns, self.tempo)
        at = bisect_right(stops, self.t_ns)
        if by > 0:
            to = stops[min(at + by - 1, len(stops) - 1)]
        else:
            on_one = at > 0 and stops[at - 1] == self.t_ns
            before = at - (1 if on_one else 0) + by
            to = stops[before] if before >= 0 else -1
        return Pace(Mode.STILL, to, self.tempo)

    def at(self, t_ns: int) -> Pace:
        """To that time, standing."""
        return Pace(Mode.STILL, t_ns, self.tempo)

    def in_mode(self, mode: Mode) -> Pace:
        return Pace(mode, self.t_ns, self.tempo)

    def faster(self, factor: float) -> Pace:
        return Pace(self.mode, self.t_ns, min(max(self.tempo * factor, 1 / 8), 16.0))
