"""Ledgers: segments on the left, what the wire alone makes both ends believe on the right.

Owns: reading a ledger, replaying it through the tracker and rendering it again. The files stand in
``ledgers/``, each named for its claim:

    after handshake                          the lines of that ledger come first (optional)
    isn client=0 server=0                    the initial sequence numbers (optional)
    client > server  S 0:0(0)   SYN-SENT     LISTEN|CLOSED

The arrow is what became of the segment: ``>`` arrived, ``~>`` is in flight, ``=>`` arrived now
that was in flight, ``x>`` was dropped, ``!>`` was injected and arrived.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import pytest

from tcpwatch.machine.tracker import Tracker
from tcpwatch.model.events import (
    WIRE,
    Event,
    Fate,
    Payload,
    Point,
    SegmentFate,
    SegmentSeen,
    Vantage,
)
from tcpwatch.model.identity import SocketAddress
from tcpwatch.model.timeline import Belief, SegmentTrace
from tcpwatch.tcp.notation import format_segment, parse_segment
from tcpwatch.tcp.seq import SeqNumber
from tcpwatch.tcp.state import TcpState

FOLDER: Final = Path(__file__).parent / "ledgers"
CLIENT: Final = SocketAddress("10.77.0.1", 40000)
SERVER: Final = SocketAddress("10.77.0.2", 7000)
ADDRESSES: Final = {"client": CLIENT, "server": SERVER}
ROLES: Final = {CLIENT.ip: "client", SERVER.ip: "server"}
PEER: Final = {"client": "server", "server": "client"}
STEP_NS: Final = 1_000_000
_DEFAULT_ISNS: Final = {"client": SeqNumber(1000), "server": SeqNumber(500_000)}
_EVERY_STATE: Final = Belief(frozenset(TcpState))


@dataclass(frozen=True, slots=True)
class Line:
    """One segment of a ledger, and what both ends are believed to be in afterwards."""

    sender: str
    arrow: str
    segment: str
    beliefs: tuple[str, str]

    @classmethod
    def parse(cls, text: str) -> Line:
        words = text.split()
        sender, arrow, receiver = words[:3]
        assert receiver == PEER[sender], text
        return cls(sender, arrow, " ".join(words[3:-2]), (words[-2], words[-1]))

    def __str__(self) -> str:
        way = f"{self.sender} {self.arrow:>2} {PEER[self.sender]}"
        return f"{way}  {self.segment:<26}{self.beliefs[0]:<14} {self.beliefs[1]}"


@dataclass(frozen=True, slots=True)
class Ledger:
    """A conversation; ``name`` is its claim."""

    name: str
    lines: tuple[Line, ...]
    isns: Mapping[str, SeqNumber] = field(default_factory=lambda: dict(_DEFAULT_ISNS))

    @classmethod
    def read(cls, name: str) -> Ledger:
        lines: tuple[Line, ...] = ()
        isns: Mapping[str, SeqNumber] = _DEFAULT_ISNS
        for text in (FOLDER / f"{name}.ledger").read_text(encoding="utf-8").splitlines():
            match text.split():
                case [] | ["#", *_]:
                    pass
                case ["after", base]:
                    lines += cls.read(base).lines
                case ["isn", client, server]:
                    isns = {
                        role: SeqNumber(int(word.removeprefix(f"{role}=")))
                        for role, word in (("client", client), ("server", server))
                    }
                case _:
                    lines += (Line.parse(text),)
        return cls(name, lines, isns)

    def __str__(self) -> str:
        return "\n".join(map(str, self.lines))

    def from_isns(self, client: SeqNumber, server: SeqNumber) -> Ledger:
        """The same conversation with other initial sequence numbers."""
        return replace(self, isns={"client": client, "server": server})

    def chapters(self) -> Iterator[tuple[Line, tuple[Event, ...]]]:
        """Each line with its events. Times are a millisecond apart, numbers count from 1."""
        in_flight: list[tuple[Line, SegmentSeen]] = []
        number = 0
        events: list[Event] = []

        def happens(payload: Payload) -> Event:
            count = len(events) + 1
            event = Event(count, count * STEP_NS, Vantage(WIRE), payload)
            events.append(event)
            return event

        for line in self.lines:
            if line.arrow == "=>":
                index = next(
                    index
                    for index, (sent, _) in enumerate(in_flight)
                    if (sent.sender, sent.segment) == (line.sender, line.segment)
                )
                _, seen = in_flight.pop(index)
                yield line, (happens(replace(seen, point=Point.DELIVERED)),)
                continue
            number += 1
            seen = self._seen(line, number)
            begun = happens(seen)
            match line.arrow:
                case ">" | "!>":
                    yield line, (begun, happens(replace(seen, point=Point.DELIVERED)))
                case "~>":
                    in_flight.append((line, seen))
                    yield line, (begun,)
                case "x>":
                    yield line, (begun, happens(SegmentFate(number, Fate.DROPPED)))
                case arrow:
                    raise AssertionError(arrow)

    def events(self) -> tuple[Event, ...]:
        return tuple(event for _, events in self.chapters() for event in events)

    def _seen(self, line: Line, number: int) -> SegmentSeen:
        isn, peer_isn = self.isns[line.sender], self.isns[PEER[line.sender]]
        return SegmentSeen(
            number,
            Point.SENT,
            ADDRESSES[line.sender],
            ADDRESSES[PEER[line.sender]],
            parse_segment(line.segment, isn=isn, peer_isn=peer_isn),
            injected=line.arrow == "!>",
        )


class Ledgers:
    """What a test does with a ledger."""

    names: Final = tuple(sorted(path.stem for path in FOLDER.glob("*.ledger")))
    client: Final = CLIENT
    server: Final = SERVER

    def read(self, name: str) -> Ledger:
        return Ledger.read(name)

    def tracker(self) -> Tracker:
        """One that has the wire for its only witness."""
        return Tracker(roles=ROLES, attending={WIRE})

    def rendered(self, ledger: Ledger) -> str:
        """The ledger as it comes out of the tracker."""
        tracker, lines = self.tracker(), []
        for line, events in ledger.chapters():
            traces = [tracker.feed(event).segment for event in events]
            assert traces[-1] is not None
            segment = _rendered_segment(traces[-1], window="win" in line.segment)
            beliefs = (
                _rendered_belief(tracker.state("client")),
                _rendered_belief(tracker.state("server")),
            )
            lines.append(replace(line, segment=segment, beliefs=beliefs))
        return str(replace(ledger, lines=tuple(lines)))

    def paths(self, events: tuple[Event, ...]) -> dict[str, tuple[Belief, ...]]:
        """The two ends' paths in the first connection; none where no event shows one."""
        tracker = self.tracker()
        for event in events:
            tracker.feed(event)
        connections = tracker.timeline(len(events) * STEP_NS).connections
        return {end.role: end.path for end in connections[0].endpoints} if connections else {}


def _rendered_segment(trace: SegmentTrace, *, window: bool) -> str:
    """By the relative numbers that the tracker found."""
    segment = trace.segment
    isn = segment.seq + -trace.seq
    peer_isn = None if segment.ack is None or trace.ack is None else segment.ack + -trace.ack
    return format_segment(segment, isn=isn, peer_isn=peer_isn, window=window)


def _rendered_belief(belief: Belief | None) -> str:
    if belief is None or belief == _EVERY_STATE:
        return "?"
    return "|".join(state.value for state in TcpState if state in belief.states) or "contradiction"


@pytest.fixture(scope="session")
def ledgers() -> Ledgers:
    return Ledgers()


@pytest.fixture(scope="session", params=Ledgers.names)
def ledger(request: pytest.FixtureRequest) -> Ledger:
    """Every ledger, one after the other."""
    return Ledger.read(request.param)
