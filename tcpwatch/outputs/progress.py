"""What is being played, as one line of a terminal that is written over and over.

Owns: that line of standard error. Must not know what comes of a run.
"""

from __future__ import annotations

import sys

from tcpwatch.outputs.settings import Settings
from tcpwatch.views.canvas import shortened
from tcpwatch.views.palette import in_ascii
from tcpwatch.views.wording import escaped


class Progress:
    """One line on a terminal's standard error, written over and over: what is being played."""

    def __init__(self, settings: Settings) -> None:
        self._wanted = settings.progress and not settings.quiet
        self._settings = settings
        self._playing: dict[int, str] = {}
        self._shown = False
        self.total = 0
        self.done = 0

    def begin(self, index: int, name: str) -> None:
        self._playing[index] = name
        self.show()

    def end(self, index: int) -> None:
        self._playing.pop(index, None)
        self.done += 1

    def show(self) -> None:
        if self._wanted and self._playing and self.total > 1:
            names = ", ".join(map(escaped, self._playing.values()))
            text = f"{self.done} of {self.total} played; playing {names}"
            text = shortened(text, self._settings.width - 1)
            sys.stderr.write(f"\r{in_ascii(text) if self._settings.ascii_only else text}\x1b[K")
            sys.stderr.flush()
            self._shown = True

    def clear(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._shown = False
