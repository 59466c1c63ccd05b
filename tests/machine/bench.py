"""A tracker, and the witnesses' events in short."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from tcpwatch.machine.tracker import Tracker
from tcpwatch.model.events import (
    KERNEL,
    TABLE,
    WIRE,
    CallPhase,
    Event,
    Payload,
    Point,
    SegmentSeen,
    SocketSampled,
    StateReported,
    UserCall,
    Vantage,
)
from tcpwatch.model.identity import SocketAddress
from tcpwatch.model.timeline import Endpoint, Happening, Timeline
from tcpwatch.tcp.notation import parse_segment
from tcpwatch.tcp.state import TcpState

if TYPE_CHECKING:
    pass

S = TcpState
CLIENT, SERVER = SocketAddress("10.77.0.1", 40000), SocketAddress("10.77.0.2", 7000)
UNBOUND = SocketAddress("10.77.0.1", 0)
ADDRESSES = {"client": (CLIENT, SERVER), "server": (SERVER, CLIENT)}
SOCKETS = {"client": 0xC0, "server": 0x50}
MS = 1_000_000


class Bench:
    """A tracker, and the witnesses' events in short."""

    def __init__(self, *attending: str) -> None:
        roles = {"10.77.0.1": "client", "10.77.0.2": "server"}
        self.tracker = Tracker(roles=roles, attending=attending)
        self.count = 0
        self.segments = 0

    def addresses(self, role: str) -> tuple[SocketAddress, SocketAddress]:
        """That end's own address and its peer's."""
        return ADDRESSES[role]

    def feed(
        self, payload: Payload, source: str, side: str | None = None, at_ms: float | None = None
    ) -> Happening:
        self.count += 1
        t_ns = int((self.count if at_ms is None else at_ms) * MS)
        return self.tracker.feed(Event(self.count, t_ns, Vantage(source, side), payload))

    def kernel(self, role: str, *states: TcpState, skaddr: int | None = None) -> None:
        """The kernel's reports along that path."""
        local, remote = self.addresses(role)
        for before, after in pairwise(states):
            unbound = (before, after) == (S.CLOSED, S.SYN_SENT)
            said = StateReported(
                skaddr or SOCKETS[role], UNBOUND if unbound else local, remote, before, after, 1
            )
            self.feed(said, KERNEL)

    def table(self, role: str, *states: TcpState | None, at_ms: float | None = None) -> None:
        """The socket table's changes; None is gone."""
        local, remote = self.addresses(role)
        for state in states:
            since = int((self.count if at_ms is None else at_ms - 1) * MS)
            self.feed(SocketSampled(local, remote, state, since), TABLE, at_ms=at_ms)

    def wire(self, role: str, text: str, *, delivered: bool = True) -> None:
        """A segment from that role."""
        self.segments += 1
        src, dst = ADDRESSES[role]
        seen = SegmentSeen(self.segments, Point.SENT, src, dst, parse_segment(text))
        self.feed(seen, WIRE)
        if delivered:
            self.feed(replace(seen, point=Point.DELIVERED), WIRE)

    def handshake(self) -> None:
        self.wire("client", "S 0:0(0)")
        self.wire("server", "SA 0:0(0) ack 1")
        self.wire("client", "A 1:1(0) ack 1")

    @property
    def timeline(self) -> Timeline:
        return self.tracker.timeline((self.count + 100) * MS)

    def end(self, role: str, number: int = 1) -> Endpoint:
        connection = self.timeline.connections[number - 1]
        return next(end for end in connection.endpoints if end.role == role)

    def path(self, role: str, number: int = 1) -> str:
        return " > ".join(str(belief) for belief in self.end(role, number).path)

    def witnesses(self, role: str) -> list[str]:
        return [" ".join(each.witnesses) for each in self.end(role).transitions]

    def causes(self, role: str) -> list[str]:
        return [each.cause for each in self.end(role).transitions]

    def findings(self, role: str) -> list[str]:
        return [each.message for each in self.timeline.findings if each.role == role]


ESTABLISHED = (S.CLOSED, S.SYN_SENT, S.ESTABLISHED)
ACCEPTED = (S.LISTEN, S.SYN_RECEIVED, S.ESTABLISHED)
ACTIVE_CLOSE = (*ESTABLISHED, S.FIN_WAIT_1, S.FIN_WAIT_2)


def call(name: str, arguments: str = "", local: SocketAddress = CLIENT) -> UserCall:
    return UserCall(1, CallPhase.CALLED, 7, "client", name, arguments, local, SERVER)
