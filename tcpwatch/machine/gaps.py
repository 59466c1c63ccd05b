"""Which of an end's data were seen, and what its peer acknowledges without their having been seen.

Owns: the arithmetic of pieces, in octets from the end's SYN. Must not know what a gap means.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field


@dataclass(slots=True)
class Reassembly:
    """``upto``: all before it was seen, or is known to be missing. ``early`` lies beyond it.

    ``missing`` counts the octets that are.
    """

    upto: int = 1
    early: list[tuple[int, int]] = field(default_factory=list)
    missing: int = 0

    def add(self, start: int, end: int, peer_has: int) -> None:
        """Data were seen. What the peer had already, before, is of no interest."""
        start = max(start, peer_has, self.upto)
        if start < end:
            insort(self.early, (start, end))
            self._join()

    def acknowledge(self, upto: int) -> int:
        """The peer has all before ``upto``; how many pieces of that were never seen."""
        gaps = 0
        while self.upto < upto:
            gaps += 1
            following = min(self.early[0][0], upto) if self.early else upto
            self.missing += following - self.upto
            self.upto = following
            self._join()
        return gaps

    def _join(self) -> None:
        while self.early and self.early[0][0] <= self.upto:
            self.upto = max(self.upto, self.early.pop(0)[1])
