"""Where the events of one run go as they happen: its recording, its ladder, whoever waits.

Owns: when each of them is told. Must not know that there are other runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TextIO

from tcpwatch.model.recording import encode_event, encode_foot, encode_head
from tcpwatch.model.timeline import Happening, Judged, RunRecord
from tcpwatch.outputs.settings import Settings
from tcpwatch.playing.audience import Attendant, Sink


class Screen(Sink, Attendant, Protocol):
    """A screen: it is told everything."""


class RecordingSink:
    """Writes the recording as it happens: what was recorded is not lost, whatever comes."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def begin(self, record: RunRecord) -> None:
        self._line(encode_head(record))

    def happened(self, happening: Happening) -> None:
        self._line(encode_event(happening.event))

    def tick(self, t_ns: int) -> None:
        """Nothing is held back."""

    def finish(self, judged: Judged) -> None:
        self._line(encode_foot(judged.record))

    def _line(self, text: str) -> None:
        self._out.write(text + "\n")
        self._out.flush()


class LadderSink:
    """Prints the ladder as it happens."""

    def __init__(self, write: Callable[[str], object], settings: Settings) -> None:
        from tcpwatch.views.ladder import LONGEST_MOMENT_NS, Ladder

        def say(text: str) -> None:
            write(text)

        self._ladder = Ladder(
            say,
            width=settings.width,
            colour=settings.colour,
            ascii_only=settings.ascii_only,
        )

        self._longest_ns = LONGEST_MOMENT_NS
        self._last_ns = 0

    def begin(self, record: RunRecord) -> None:
        self._ladder.begin(record)

    def happened(self, happening: Happening) -> None:
        self._last_ns = happening.event.t_ns
        self._ladder.feed(happening)

    def tick(self, t_ns: int) -> None:
        # What comes after such a pause is another moment in any case, so a replay draws the same.
        if t_ns - self._last_ns > self._longest_ns:
            self._ladder.tick()

    def finish(self, judged: Judged) -> None:
        self._ladder.finish(judged)


class Keeper:
    """Keeps what was judged, also of a run that ended early."""

    def __init__(self) -> None:
        self.judged: Judged | None = None

    def begin(self, record: RunRecord) -> None:
        """Nothing yet."""

    def happened(self, happening: Happening) -> None:
        """The timeline has it."""

    def tick(self, t_ns: int) -> None:
        """Nothing is shown."""

    def finish(self, judged: Judged) -> None:
        self.judged = judged
