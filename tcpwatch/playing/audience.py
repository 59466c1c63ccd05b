"""Who is told of a run while it is played.

Owns: what they are told, and in which thread. Must not know how a run is played.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tcpwatch.model.timeline import Happening, Judged, RunRecord

if TYPE_CHECKING:
    from tcpwatch.playing.staging import Stage


class Sink(Protocol):
    """Whoever is told what happens, in order of time, in the session's thread."""

    def begin(self, record: RunRecord) -> None:
        """The run is about to start."""

    def happened(self, happening: Happening) -> None:
        """One event, and what came of it."""

    def tick(self, t_ns: int) -> None:
        """All that happened before ``t_ns`` has been told."""

    def finish(self, judged: Judged) -> None:
        """The run is over. Called once, also when it ended early."""


class Attendant(Protocol):
    """Whoever looks on more closely than a sink: a screen from which the wire is worked."""

    def staged(self, stage: Stage) -> None:
        """The lab is open, and the play has not begun. In the session's thread."""

    def reached(self, t_ns: int, line: int) -> None:
        """The play is at that line of its file. In the play's thread."""

    def detains(self) -> bool:
        """Whether a run whose play is over, and where nothing happens, is to be left open."""
