"""One moment of a run as entries: what each end did, said or received, in order.

Owns: what belongs together. The witnesses stamp one deed a few microseconds apart (the socket's
state, then the segment that shows it), and a state change stands on the line of its segment.
Must not know on which line an entry comes to stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import groupby

from tcpwatch.model.events import (
    Fate,
    Gap,
    MalformedSeen,
    Measured,
    Point,
    ProcessChanged,
    SegmentFate,
    SegmentSeen,
    UserCall,
)
from tcpwatch.model.timeline import Belief, Happening, Move, SegmentTrace, Transition
from tcpwatch.tcp.segment import Flags
from tcpwatch.views.acts import SENDING, Acts, Memory
from tcpwatch.views.canvas import Span, Word, words
from tcpwatch.views.contrast import NONE
from tcpwatch.views.lanes import Arrow, Mark
from tcpwatch.views.palette import DIM, WARN
from tcpwatch.views.wording import Wording, labels, segment_style

_MARKS = {
    Fate.HELD: Mark.HELD,
    Fate.RELEASED: Mark.RELEASED,
    Fate.DROPPED: Mark.DROPPED,
    Fate.DUPLICATED: Mark.DUPLICATED,
    Fate.DELAYED: Mark.DELAYED,
    Fate.REORDERED: Mark.REORDERED,
    Fate.LOST: Mark.LOST,
}
_BURST = 4  # as many data segments of one moment are drawn as one arrow
_LATE_NS = 1_000_000
"""A move known so much later than it was made is told with its own time."""


class Deed(Enum):
    """What an entry's arrow does on its line."""

    LAUNCH = "launch"
    LAND = "land"
    WHOLE = "whole"
    MARK = "mark"


@dataclass(slots=True)
class Entry:
    """What one end did, said or received: words in its column, an arrow beside them, or both.

    ``side`` is 0 for the left end and 1 for the right one, None for a note across the line.
    """

    side: int | None
    words: list[Word] = field(default_factory=list)
    deed: Deed | None = None
    arrow: Arrow | None = None
    mark: Mark | None = None
    trace: SegmentTrace | None = None
    sends: bool = False  # a call that gives data to be sent

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers of its arrow's segments."""
        return self.arrow.numbers if self.arrow else ()

    def join(self, other: Entry) -> None:
        """Takes another segment of the same burst into its arrow."""
        assert self.arrow is not None
        assert self.trace is not None
        assert other.trace is not None
        numbers = self.numbers + other.numbers
        end = other.trace.seq + other.trace.segment.payload_len
        flags = other.trace.segment.flags.letters
        length = end - self.trace.seq
        counted = f"{len(numbers)} segments"
        self.arrow = replace(
            self.arrow,
            numbers=numbers,
            labels=(
                f"{flags} {self.trace.seq}:{end}({length}) in {counted}",
                f"{counted} ({length})",
                counted,
                f"{len(numbers)}×",
            ),
        )


@dataclass(slots=True)
class _Said:
    """What was last told of a process, how often, and where it stands."""

    words: list[Word]
    entry: Entry
    times: int = 1  # in the moment of the entry
    later: int = 0  # after it, and not told yet


@dataclass(slots=True)
class Before:
    """What the telling of a moment needs to know of those before it."""

    bursts: dict[int, int] = field(default_factory=dict)  # see `_with_bursts`
    acts: Memory = field(default_factory=Memory)
    latest: dict[tuple[str | None, str], _Said] = field(default_factory=dict)  # by each process
    moves: dict[tuple[int, str], Transition] = field(default_factory=dict)  # each end's latest


@dataclass(slots=True)
class _Moved:
    """A move to tell. ``was``: what an earlier moment told, and this one knows better."""

    move: Move
    was: Belief | None = None


def side_of(role: str | None) -> int | None:
    """Client and active end stand on the left, server and passive end on the right."""
    match role:
        case "client" | "active":
            return 0
        case "server" | "passive":
            return 1
        case _:
            return None


class Telling:
    """Turns the happenings of one moment into entries, in their order."""

    def __init__(
        self,
        happenings: Sequence[Happening],
        wording: Wording,
        before: Before,
        *,
        many: bool,
    ) -> None:
        self._happenings = happenings
        self._before = before
        self._wording = wording
        self._many = many
        self._told: list[Entry | _Moved] = []
        self._calls: set[str] = set()
        self._start_ns = happenings[0].event.t_ns if happenings else 0
        self._acts = Acts(happenings, wording, before.acts)
        self._landing = {
            h.event.payload.n
            for h in happenings
            if isinstance(h.event.payload, SegmentSeen) and h.event.payload.point is Point.DELIVERED
        }

    def entries(self) -> list[Entry]:
        """What is told of the moment."""
        for happening in self._happenings:
            self._fact(happening)
            for move in happening.moves:
                self._move(move)
        entries: list[Entry] = []
        for index, told in enumerate(self._told):
            entry = self._place(told, index) if isinstance(told, _Moved) else told
            if entry is not None:
                entries.append(entry)
        return _with_bursts(entries, self._before.bursts)

    @staticmethod
    def rest(before: Before) -> list[Entry]:
        """What was counted and is still to be told, at the end of the run."""
        return [entry for latest in before.latest.values() for entry in _untold(latest)]

    def _move(self, move: Move) -> None:
        """One from the same state as the last is that one known better: replaces it, or says so."""
        told, end, new = _Moved(move), (move.connection, move.role), move.transition
        old = self._before.moves.get(end)
        self._before.moves[end] = new
        if old is not None and old.before == new.before and new.after != old.after:
            same = (t for t in self._told if isinstance(t, _Moved) and t.move.transition is old)
            replaced = next(same, None)
            if replaced is not None:
                self._told.remove(replaced)
            told.was = old.after if replaced is None else replaced.was
        self._told.append(told)

    def _fact(self, happening: Happening) -> None:
        payload, trace = happening.event.payload, happening.segment
        match payload:
            case SegmentSeen() if trace is not None:
                self._segment(payload, trace, happening)
            case SegmentFate() if trace is not None:
                if payload.fate is not Fate.RELEASED or payload.n not in self._landing:
                    arrow = self._arrow(trace, happening.connection, payload.copy)
                    self._told.append(
                        Entry(None, deed=Deed.MARK, arrow=arrow, mark=_MARKS[payload.fate])
                    )
            case UserCall():
                self._calls.add(payload.call)
                self._say(happening, payload)
            case ProcessChanged():
                self._say(happening, payload)
            case Measured():
                case = f" ({payload.case})" if payload.case else ""
                value = NONE if payload.value == "" else payload.value
                said = f"{payload.what}: {value}{case}"
                self._told.append(Entry(None, words(self._wording.safe(said), DIM)))
            case Gap():
                source = self._wording.safe(happening.event.vantage.source)
                lost = "events" if payload.lost is None else f"{payload.lost} events"
                reason = self._wording.safe(payload.reason)
                self._note(f"gap: the {source} witness lost {lost}: {reason}")
            case MalformedSeen():
                self._note(f"malformed segment: {self._wording.safe(payload.reason)}")
            case _:
                pass  # a report or a sample is told by the moves it brings

    def _note(self, text: str) -> None:
        self._told.append(Entry(None, words(text, WARN)))

    def _say(self, happening: Happening, did: UserCall | ProcessChanged) -> None:
        said = self._acts.of(happening)
        if not said:
            return
        role = happening.role
        side = side_of(role)
        if side is None and role is not None:
            said = [*words(f"{self._wording.safe(role)}:", DIM), *said]
        said = [*self._prefix(happening.connection), *said]
        latest = self._before.latest.get((role, did.process))
        entry = Entry(side, said, sends=isinstance(did, UserCall) and did.call in SENDING)
        if latest is None or entry.sends or not self._repeats(latest, said, did):
            self._told += [*(_untold(latest) if latest else ()), entry]
            self._before.latest[role, did.process] = _Said(said, entry)

    def _repeats(self, latest: _Said, said: list[Word], did: UserCall | ProcessChanged) -> bool:
        """The same again is counted: in its moment any, in later ones a call that found nothing."""
        if latest.words != said:
            return False
        if any(told is latest.entry for told in self._told):
            latest.times += 1
            latest.entry.words = [*said, (Span(f"×{latest.times}"),)]
            return True
        polls = isinstance(did, UserCall) and did.errno == "EAGAIN"
        latest.later += polls
        return polls

    def _segment(self, seen: SegmentSeen, trace: SegmentTrace, happening: Happening) -> None:
        sender = side_of(trace.sender) or 0
        entry = Entry(sender, arrow=self._arrow(trace, happening.connection), trace=trace)
        match seen.point:
            case Point.SENT:
                entry.deed = Deed.LAUNCH
            case Point.MIDWAY:
                entry.deed = Deed.WHOLE
            case Point.DELIVERED:
                entry.deed, entry.side = Deed.LAND, 1 - sender
        if seen.point is not Point.DELIVERED and trace.retransmission:
            entry.words = [*self._prefix(happening.connection), *words("retransmits", WARN)]
        elif seen.copy_of is not None:  # a capture shows it at another place
            entry.words = [*self._prefix(happening.connection), *words("seen again", DIM)]
        self._told.append(entry)

    def _place(self, moved: _Moved, index: int) -> Entry | None:
        """Puts a move beside its segment; gives it a line of its own where there is none."""
        move, transition = moved.move, moved.move.transition
        side = side_of(move.role)
        said = [*self._prefix(move.connection), *self._wording.transition(transition, moved.was)]
        beside = self._beside(move, side, index)
        if beside is not None:
            beside.words = said
            return None
        cause = self._wording.safe(transition.cause)
        # What a segment did, its arrow has just told.
        told = transition.segment is not None or cause.partition("(")[0] in self._calls
        if cause and not told:
            said.append((Span(f"({cause})", DIM),))
        if transition.t_ns < self._start_ns - _LATE_NS:
            said.append((Span(f"(at {transition.t_ns // 1_000_000} ms)", DIM),))
        return Entry(side, said)

    def _beside(self, move: Move, side: int | None, index: int) -> Entry | None:
        """The arrow that did this move or shows it: named by number, else by the kind of its cause.

        A deed's segment (SYN, FIN or RST) follows the state change; a received segment precedes it.
        """
        free = [
            (place, told)
            for place, told in enumerate(self._told)
            if isinstance(told, Entry) and told.arrow and told.side == side and not told.words
        ]
        number = move.transition.segment
        for _, entry in free:
            if entry.arrow is not None and number in entry.arrow.numbers:
                return entry
        cause = move.transition.cause
        if not cause.endswith("received"):
            for place, entry in free:
                if place > index and entry.deed is Deed.LAUNCH and _is_control(entry):
                    return entry
        before = [e for place, e in free if place < index and e.deed is Deed.LAND]
        received = cause.endswith("received") or not cause
        return before[-1] if before and number is None and received else None

    def _arrow(self, trace: SegmentTrace, connection: int | None, copy: int | None = None) -> Arrow:
        prefix = f"#{connection} " if self._many and connection is not None else ""
        return Arrow(
            (trace.n,),
            side_of(trace.sender) != 1,
            labels(trace, prefix),
            segment_style(trace),
            trace.injected,
            copy,
        )

    def _prefix(self, connection: int | None) -> list[Word]:
        return words(f"#{connection}", DIM) if self._many and connection is not None else []


def _untold(latest: _Said) -> list[Entry]:
    """How often more it was so, in moments that are past."""
    later, latest.later = latest.later, 0
    more = [*latest.words, (Span(f"+{later}"),)]
    return [Entry(latest.entry.side, more)] if later else []


def _is_control(entry: Entry) -> bool:
    """A segment that can be the sign of its sender's state change."""
    control = Flags.SYN | Flags.FIN | Flags.RST
    return entry.trace is not None and bool(entry.trace.segment.flags & control)


def _is_plain(entry: Entry) -> bool:
    """A segment that carries data, and nothing else is to be said of it."""
    trace = entry.trace
    return (
        trace is not None
        and not entry.words
        and not trace.marks
        and not trace.injected
        and not trace.retransmission
        and 0 < trace.segment.payload_len == trace.segment.seg_len
        and not trace.segment.rst
    )


def _with_bursts(entries: Sequence[Entry], bursts: dict[int, int]) -> list[Entry]:
    """Plain data segments in a row from one end become one arrow that counts them.

    ``bursts`` remembers which segments left as one, by the first one's number: they arrive as one
    where they arrive in one moment.
    """
    result: list[Entry] = []
    for side in (0, 1):
        launches = [e for e in entries if e.side == side and e.deed is Deed.LAUNCH]
        for plain, run in groupby(launches, _is_plain):
            burst = list(run)
            if plain and len(burst) >= _BURST:
                bursts.update((n, burst[0].numbers[0]) for entry in burst for n in entry.numbers)
    last: dict[tuple[int | None, Deed | None, int], Entry] = {}
    for entry in entries:
        first = bursts.get(entry.numbers[0]) if entry.arrow and not entry.words else None
        if first is None or entry.deed not in (Deed.LAUNCH, Deed.LAND):
            result.append(entry)
            continue
        joined = last.get((entry.side, entry.deed, first))
        if joined is None:
            last[entry.side, entry.deed, first] = entry
            result.append(entry)
        else:
            joined.join(entry)
    return result
