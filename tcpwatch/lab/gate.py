"""The gate: where every segment stops at its receiver's door until a person lets it go on.

Owns: what is stopped, in the order in which it would go on, and a person's deeds. What a scenario
holds, drops or delays comes first; the gate stops what the wire is about to deliver. Its state
changes in the wire's thread alone. Must not know who the person is, nor how packets are written.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tcpwatch.model.events import Fate, SegmentSeen
from tcpwatch.tcp.segment import Flags

if TYPE_CHECKING:
    from tcpwatch.lab.relay import Flight, Relay

_WHAT_IT_IS = Flags.SYN | Flags.FIN | Flags.RST


@dataclass(frozen=True, slots=True)
class Stopped:
    """A segment at the gate. ``again``: so often its sender has sent it once more since."""

    seen: SegmentSeen
    by: str
    again: int = 0

    @property
    def n(self) -> int:
        return self.seen.n


class Gate:
    """The verbs may be called from any thread but the wire's; each returns once it is done.

    They raise LabClosed where the wire is closed, and give False (or 0) where that segment is not
    stopped: somebody may have let it go on in the meantime.
    """

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self.stopped: list[Flight] = []
        self._again: dict[int, int] = {}
        self.is_shut = False

    def shut(self) -> None:
        """From now on nothing is delivered that nobody lets go on."""
        self._relay.call(self._shut)

    def open(self) -> None:
        """Deliver all that is stopped, in order, and stop nothing any more."""
        self._relay.call(self._open)

    def waiting(self) -> tuple[Stopped, ...]:
        """What is stopped now, in the order in which it would go on."""
        with self._relay.changed:
            flights = tuple(self.stopped)
        return tuple(
            Stopped(flight.seen, flight.by, self._again.get(flight.n, 0))
            for flight in flights
            if flight.seen
        )

    def deliver(self, n: int) -> bool:
        """Hand segment ``n`` to its receiver."""
        return self._relay.call(lambda: self._go_on(n))

    def drop(self, n: int) -> bool:
        """Segment ``n`` never arrives."""
        return self._relay.call(lambda: self._drop(n))

    def duplicate(self, n: int) -> int:
        """A copy of segment ``n`` waits behind it; its number."""
        return self._relay.call(lambda: self._duplicate(n))

    def delay(self, n: int, ms: float) -> bool:
        """Segment ``n`` is delivered in so many milliseconds, by itself."""
        return self._relay.call(lambda: self._delay(n, ms))

    def reorder(self, n: int) -> bool:
        """Segment ``n`` lets the next one pass; False where there is none."""
        return self._relay.call(lambda: self._reorder(n))

    # ---- asked by the relay, in its thread

    def stops(self, flight: Flight) -> bool:
        """Whether it is stopped here, instead of being delivered. What is not TCP never is."""
        if not self.is_shut or flight.seen is None or flight.waved_through:
            return False
        with self._relay.changed:
            self.stopped.append(flight)
        self._relay.fate(flight.n, Fate.HELD)
        self._relay.notify()
        return True

    def has_already(self, flight: Flight, travelling: Iterable[Flight]) -> bool:
        """Whether it is one more of what is stopped, or will be: that one is counted instead.

        A retransmission differs in its timestamps and in what it acknowledges, at most.
        """
        if not self.is_shut:
            return False
        for other in (*self.stopped, *travelling):
            if not other.waved_through and _same(other, flight):
                self._again[other.n] = self._again.get(other.n, 0) + 1
                return True
        return False

    # ---- deeds, in the relay's thread

    def _shut(self) -> bool:
        self.is_shut = True
        return True

    def _open(self) -> bool:
        self.is_shut = False
        while self.stopped:
            self._go_on(self.stopped[0].n)
        return True

    def _place(self, n: int) -> int | None:
        return next((at for at, one in enumerate(self.stopped) if one.n == n), None)

    def _take(self, n: int) -> Flight | None:
        at = self._place(n)
        if at is None:
            return None
        with self._relay.changed:
            flight = self.stopped.pop(at)
        self._again.pop(n, None)
        flight.waved_through = True
        return flight

    def _go_on(self, n: int) -> bool:
        flight = self._take(n)
        if flight is not None:
            self._relay.fate(n, Fate.RELEASED)
            self._relay.deliver(flight)
        return flight is not None

    def _drop(self, n: int) -> bool:
        flight = self._take(n)
        if flight is not None:
            self._relay.fate(n, Fate.DROPPED)
            self._relay.notify()
        return flight is not None

    def _duplicate(self, n: int) -> int:
        at = self._place(n)
        if at is None:
            return 0
        copy = self._relay.copy(self.stopped[at])
        self._relay.fate(n, Fate.DUPLICATED, copy=copy.n)
        self._relay.fate(copy.n, Fate.HELD)
        with self._relay.changed:
            self.stopped.insert(at + 1, copy)
        self._relay.notify()
        return copy.n

    def _delay(self, n: int, ms: float) -> bool:
        flight = self._take(n)
        if flight is not None:
            flight.keeper = None  # what a scenario's hold does is done
            flight.due_ns = time.monotonic_ns() + round(ms * 1e6)
            self._relay.fate(n, Fate.DELAYED)
            self._relay.send(flight)
            self._relay.notify()
        return flight is not None

    def _reorder(self, n: int) -> bool:
        at = self._place(n)
        if at is None or at + 1 >= len(self.stopped):
            return False
        with self._relay.changed:
            self.stopped[at], self.stopped[at + 1] = self.stopped[at + 1], self.stopped[at]
        self._relay.fate(n, Fate.REORDERED)
        self._relay.notify()
        return True


def _same(one: Flight, other: Flight) -> bool:
    if one.seen is None or other.seen is None or one.by != other.by:
        return False
    first, second = one.seen.segment, other.seen.segment
    takes_numbers = first.seg_len > 0 or first.rst
    return (
        takes_numbers
        and (one.seen.src, one.seen.dst) == (other.seen.src, other.seen.dst)
        and first.seq == second.seq
        and first.payload_len == second.payload_len
        and first.flags & _WHAT_IT_IS == second.flags & _WHAT_IT_IS
    )
