"""What every witness says of itself before it is believed: availability and blind spots.

Where a witness is not available, it says why not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from tcpwatch.model.events import Payload, Vantage


@dataclass(frozen=True, slots=True)
class Availability:
    """The answer of an honest probe.

    Where not available, ``detail`` says why and ``remedy`` what to do.
    """

    name: str
    available: bool
    detail: str = ""
    remedy: str = ""
    blind_spots: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Observation:
    """An event before the session has numbered it; ``t_ns`` is CLOCK_MONOTONIC."""

    t_ns: int
    vantage: Vantage
    payload: Payload


class Source(Protocol):
    """A witness at work: a blocking iterator for one thread, with a low-water mark for others.

    The session sorts all sources into one order of time. It may pass on what happened before t
    once every source's `watermark` is past t.
    """

    name: str

    def observations(self) -> Iterator[Observation]:
        """Yields in order of time until `close`; blocks in between."""

    def watermark(self) -> int:
        """CLOCK_MONOTONIC nanoseconds before which this source will yield no more. Any thread."""

    def close(self) -> None:
        """Ends `observations`, after what was already seen, and releases everything.

        Idempotent, any thread.
        """

    @property
    def lost(self) -> int:
        """How many events it knows to have lost so far."""
