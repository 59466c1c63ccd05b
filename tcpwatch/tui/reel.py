"""A run as far as it was told, frozen: what the screens draw from, live and from a recording.

Owns: `Reel`, and `Recorder`, a sink that the session's thread tells and that the screen asks for
reels. Must not know how anything is drawn, nor where in time the person is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property

from tcpwatch.machine.tracker import Tracker
from tcpwatch.model.events import CallPhase, Gap, ProcessChanged, SegmentFate, SegmentSeen, UserCall
from tcpwatch.model.timeline import Connection, Happening, Judged, RunRecord, Timeline

_NOTHING = RunRecord("", "", {}, (), {}, {})


@dataclass(frozen=True)
class Reel:
    """All that was told of a run until ``told_ns`` (from its start).

    ``lines`` are the lines of the scenario's file that the play reached, each with its time.
    ``judged`` is None while it plays.
    """

    record: RunRecord = _NOTHING
    happenings: tuple[Happening, ...] = ()
    timeline: Timeline = field(default_factory=lambda: Timeline((), (), ()))
    told_ns: int = 0
    judged: Judged | None = None
    lines: tuple[tuple[int, int], ...] = ()
    begun: bool = False

    @property
    def end_ns(self) -> int:
        """The last moment there is to look at."""
        last = self.happenings[-1].event.t_ns if self.happenings else 0
        return max(last, self.judged.record.end_ns) if self.judged else max(last, self.told_ns)

    @property
    def connections(self) -> tuple[Connection, ...]:
        return self.timeline.connections

    def connection(self, number: int | None) -> Connection | None:
        """The connection of that number; None: the first."""
        of = self.timeline.connections
        if number is None:
            return of[0] if of else None
        return next((one for one in of if one.number == number), None)

    @cached_property
    def _stops(self) -> dict[int | None, tuple[int, ...]]:
        found: dict[int | None, set[int]] = {}
        for happening in self.happenings:
            if _is_seen(happening):
                found.setdefault(happening.connection, set()).add(happening.event.t_ns)
        for connection in self.timeline.connections:
            for end in connection.endpoints:
                moved = {transition.t_ns for transition in end.transitions}
                found.setdefault(connection.number, set()).update(moved)
        return {number: tuple(sorted(times)) for number, times in found.items()}

    def stops(self, number: int | None = None) -> tuple[int, ...]:
        """The moments at which something of that connection happened, or something of none.

        None: of any.
        """
        if number is None:
            return self._all_stops
        own, common = self._stops.get(number, ()), self._stops.get(None, ())
        return tuple(sorted({*own, *common}))

    @cached_property
    def _all_stops(self) -> tuple[int, ...]:
        return tuple(sorted({t_ns for times in self._stops.values() for t_ns in times}))

    @cached_property
    def _busy(self) -> tuple[tuple[int, int], ...]:
        """When which connection did something: only where that is another than before."""
        found: list[tuple[int, int]] = []
        for happening in self.happenings:
            number = happening.connection
            if number is not None and (not found or found[-1][1] != number):
                found.append((happening.event.t_ns, number))
        return tuple(found)

    def busy_at(self, t_ns: int) -> int | None:
        """The connection that did something last, by then; before all of them, the first."""
        if not self._busy:
            return None
        at = bisect_right(self._busy, (t_ns, 1 << 30))
        return self._busy[max(at - 1, 0)][1]

    def line_at(self, t_ns: int) -> int | None:
        """The line of the play that had been reached; None before its first."""
        at = bisect_right(self.lines, (t_ns, 1 << 30))
        return self.lines[at - 1][1] if at else None


def _is_seen(happening: Happening) -> bool:
    """Whether it can be seen: the witnesses of a state that is known already change nothing."""
    match happening.event.payload:
        case SegmentSeen() | SegmentFate() | ProcessChanged() | Gap():
            return True
        case UserCall(phase=phase, call=call):
            return phase is CallPhase.CALLED or call in _LONG
        case _:
            return False


_LONG = frozenset({"accept", "connect", "recv", "read", "select", "poll", "epoll_wait", "wait"})


class Recorder:
    """A sink: takes what a session tells in its thread, gives reels in the screen's."""

    def __init__(self) -> None:
        self._told: deque[Happening] = deque()  # appended by the one thread, popped by the other
        self._lines: deque[tuple[int, int]] = deque()
        self._record: RunRecord | None = None
        self._judged: Judged | None = None
        self._told_ns = 0
        self._tracker: Tracker | None = None
        self._reel = Reel()

    # ------------------------------------------------------------------ the session's thread

    def begin(self, record: RunRecord) -> None:
        """A run is about to start."""
        self._record = record

    def happened(self, happening: Happening) -> None:
        """One event."""
        self._told.append(happening)

    def tick(self, t_ns: int) -> None:
        """All that happened before ``t_ns`` has been told."""
        self._told_ns = t_ns

    def finish(self, judged: Judged) -> None:
        """The run is over."""
        self._judged = judged

    def reached(self, t_ns: int, line: int) -> None:
        """The play has reached a line of its file. In the play's thread."""
        self._lines.append((t_ns, line))

    # ------------------------------------------------------------------ the screen's thread

    def reel(self) -> Reel:
        """What was told until now. The same reel as before where nothing was."""
        reel, record, judged = self._reel, self._record, self._judged
        if record is None:
            return reel
        fresh = [self._told.popleft() for _ in range(len(self._told))]
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        if fresh or not reel.begun or (judged and not reel.judged):
            timeline = judged.timeline if judged else self._concluded(record, fresh)
            reel = replace(
                reel,
                record=judged.record if judged else record,
                happenings=(*reel.happenings, *fresh),
                timeline=timeline,
                judged=judged,
                begun=True,
            )
        if lines or self._told_ns != reel.told_ns:
            reel = replace(reel, told_ns=self._told_ns, lines=(*reel.lines, *lines))
        self._reel = reel
        return reel

    def _concluded(self, record: RunRecord, fresh: Iterable[Happening]) -> Timeline:
        """What is concluded so far: the session's own tracker is its thread's."""
        if self._tracker is None:
            attending = [str(one["name"]) for one in record.sources if one.get("available")]
            self._tracker = Tracker(roles=record.roles, attending=attending, newborn_only=True)
        for happening in fresh:
            self._tracker.feed(happening.event)
        return self._tracker.timeline(self._told_ns)


def transitions_of(connection: Connection | None) -> Iterable[tuple[int, str]]:
    """When each end moved: the time and the role, in order of time."""
    ends = connection.endpoints if connection else ()
    return sorted((moved.t_ns, end.role) for end in ends for moved in end.transitions)
