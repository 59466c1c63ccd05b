"""What a command is asked for beside what to do: documents, shape and width of what is shown.

Owns: the values as the command line gives them. Must not know how they are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TextIO

from tcpwatch.playing.options import Options
from tcpwatch.replaying.sifting import Wish


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line asks for, beside what to play. ``jobs`` None: as many as are good.

    ``summary``: count a replay's connections instead of drawing them; None: where they are many.
    ``wish``: which of a replay's connections are shown, and what is expected of them. ``csv`` and
    ``parquet`` are for a row of each. ``to``: what is shown goes there, and not to standard output.
    """

    options: Options = field(default_factory=Options)
    every: bool = False
    topic: str | None = None
    repeat: int = 1
    jobs: int | None = None
    json: str | None = None
    jsonl: str | None = None
    pcap: str | None = None
    junit: str | None = None
    keep: str | None = None
    baseline: str | None = None
    quiet: bool = False
    width: int = 80
    colour: bool = False
    ascii_only: bool = False
    progress: bool = False
    summary: bool | None = None
    wish: Wish = field(default_factory=Wish)
    csv: str | None = None
    parquet: str | None = None
    to: TextIO | None = None

    @property
    def silent(self) -> bool:
        """Standard output belongs to a document, or nothing is to be said."""
        return self.quiet or (self.to is None and "-" in self.documents)

    @property
    def documents(self) -> tuple[str | None, ...]:
        """Where each document goes that could have standard output for itself."""
        return (self.json, self.jsonl, self.pcap, self.junit, self.csv, self.parquet)

    @property
    def follows_each(self) -> bool:
        """Whether a document is wanted that has every segment of every connection."""
        return any((self.json, self.jsonl, self.pcap))

    @property
    def has_tables(self) -> bool:
        """Whether a row of each connection is to be written."""
        return bool(self.csv or self.parquet)

    @property
    def told_otherwise(self) -> bool:
        """Whether what was asked is the answer, so that nobody looks for a count of the ways."""
        return bool(self.wish.top or self.wish.demands) and not self.summary
