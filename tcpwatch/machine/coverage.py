"""Which rows of the transition table a finished run exercised: where, when, seen by whom.

Owns: which row a transition was, from its states and its cause; where they leave several, it says
so and guesses none. A listener is no connection, so its rows are read from the reports on it.
Must not know how a run was played, nor how any of this is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from tcpwatch.machine.causes import Causes
from tcpwatch.machine.pattern import Pattern
from tcpwatch.machine.stimulus import Stimulus
from tcpwatch.machine.table import TABLE, Outcome, Row
from tcpwatch.machine.witnessing import SLACK_NS
from tcpwatch.model import events
from tcpwatch.model.events import Event, SocketSampled, StateReported, UserCall
from tcpwatch.model.identity import SocketAddress
from tcpwatch.model.timeline import Belief, Connection, Endpoint, Judged, Transition
from tcpwatch.tcp.state import TcpState

_S, _T = TcpState, Stimulus
_ORDER = (events.KERNEL, events.TABLE)

Edge = tuple[TcpState, TcpState]


@dataclass(frozen=True, slots=True)
class Arrow:
    """A row that moves, and where it leads: two arrows where that depends on the way of opening."""

    row: Row
    after: TcpState

    @property
    def before(self) -> TcpState:
        return self.row.state

    @property
    def edge(self) -> Edge:
        return self.row.state, self.after

    @property
    def stimulus(self) -> Stimulus:
        return self.row.stimulus


@dataclass(frozen=True, slots=True)
class Sighting:
    """One transition of a run, and the arrows that it can have been: one, where it is known.

    ``certain``: both its states are known, a witness saw it, and nothing was missed in between.
    ``connection`` is None for a listener. ``t_ns`` counts from the start of the run.
    """

    scenario: str
    role: str
    connection: int | None
    t_ns: int
    before: Belief
    after: Belief
    cause: str
    witnesses: tuple[str, ...]
    arrows: tuple[Arrow, ...]
    certain: bool


@dataclass(frozen=True, slots=True)
class Covered:
    """An arrow, the sightings that exercised it, and those that only may have."""

    arrow: Arrow
    seen: tuple[Sighting, ...] = ()
    perhaps: tuple[Sighting, ...] = ()

    @property
    def scenarios(self) -> tuple[str, ...]:
        """Those that exercised it, in the order in which they were played."""
        return tuple(dict.fromkeys(sighting.scenario for sighting in self.seen))

    @property
    def witnesses(self) -> int:
        """How many witnesses saw it, where most of them did."""
        return max((len(sighting.witnesses) for sighting in self.seen), default=0)


@dataclass(frozen=True, slots=True)
class Coverage:
    """Every arrow of the table, in its order.

    ``untold`` are the transitions that can have been more than one, and those that, though certain,
    are none.
    """

    covered: tuple[Covered, ...]
    untold: tuple[Sighting, ...]

    @property
    def reachable(self) -> tuple[Covered, ...]:
        """What socket calls on Linux can produce."""
        return tuple(one for one in self.covered if one.arrow.row.linux)

    @property
    def unreachable(self) -> tuple[Covered, ...]:
        return tuple(one for one in self.covered if not one.arrow.row.linux)

    @property
    def missing(self) -> tuple[Covered, ...]:
        """The reachable arrows that nothing is known to have exercised."""
        return tuple(one for one in self.reachable if not one.seen)


@lru_cache(maxsize=1)
def arrows() -> tuple[Arrow, ...]:
    """Every arrow of the table, also those that Linux's calls cannot produce."""
    found = []
    for row in TABLE.values():
        if row.outcome is Outcome.MOVES:
            ends = (row.next_state(passive=passive) for passive in (True, False))
            found += [Arrow(row, end) for end in dict.fromkeys(ends) if end is not row.state]
    order = [_S.CLOSED, *(state for state in TcpState if state is not _S.CLOSED)]
    return tuple(sorted(found, key=lambda arrow: order.index(arrow.before)))


def sightings(judged: Judged) -> Iterator[Sighting]:
    """Every transition of a run, of its listeners first."""
    scenario = judged.record.scenario
    yield from _Listeners(scenario, judged.record.roles).read(judged.timeline.events)
    ended: dict[tuple[SocketAddress, SocketAddress], Endpoint] = {}
    lingering = frozenset(
        event.vantage.side
        for event in judged.timeline.events
        if isinstance(event.payload, UserCall) and event.payload.arguments.startswith("SO_LINGER")
    )
    for connection in judged.timeline.connections:
        for endpoint, peer in zip(
            connection.endpoints, reversed(connection.endpoints), strict=True
        ):
            earlier = ended.get((endpoint.address, peer.address))
            for index, transition in enumerate(endpoint.transitions):
                before = transition.before
                if index == 0 and earlier is not None and _reopens(transition, earlier):
                    before = earlier.state
                yield _sighting(scenario, connection, endpoint, transition, before, lingering)
            ended[endpoint.address, peer.address] = endpoint


def survey(seen: Iterable[Sighting]) -> Coverage:
    """What all those transitions exercised."""
    certain: dict[Arrow, list[Sighting]] = {arrow: [] for arrow in arrows()}
    perhaps: dict[Arrow, list[Sighting]] = {arrow: [] for arrow in arrows()}
    untold: list[Sighting] = []
    for sighting in seen:
        known = sighting.certain and len(sighting.arrows) == 1
        if len(sighting.arrows) > 1 or (sighting.certain and not sighting.arrows):
            untold.append(sighting)
        for arrow in sighting.arrows:
            (certain if known else perhaps)[arrow].append(sighting)
    covered = (Covered(one, tuple(certain[one]), tuple(perhaps[one])) for one in arrows())
    return Coverage(tuple(covered), tuple(untold))


def declared(expect: Mapping[str, str]) -> frozenset[Edge]:
    """The edges that a scenario's patterns name. A path from LISTEN on needs one to get there."""
    found: set[Edge] = set()
    for text in expect.values():
        pattern = Pattern(text)
        found |= pattern.edges
        if _S.LISTEN in pattern.beginnings:
            found.add((_S.CLOSED, _S.LISTEN))
    return frozenset(found & {arrow.edge for arrow in arrows()})


# ---------------------------------------------------------------------- which row it was


def _sighting(
    scenario: str,
    connection: Connection,
    endpoint: Endpoint,
    transition: Transition,
    before: Belief,
    lingering: frozenset[str | None],
) -> Sighting:
    after, cause = transition.after, transition.cause
    told = before.certain is not None and after.certain is not None
    found = _arrows_of(before, after, cause)
    if cause == "close()" and before.certain is _S.SYN_SENT and endpoint.role in lingering:
        # Linux: __tcp_close() in tcp.c aborts where SO_LINGER is 0. Whose it was, nobody tells.
        found = tuple(arrow for arrow in _arrows_of(before, after, "") if _is_call(arrow))
    return Sighting(
        scenario,
        endpoint.role,
        connection.number,
        transition.t_ns,
        before,
        after,
        cause,
        transition.witnesses,
        found,
        certain=told and bool(transition.witnesses) and not transition.gap,
    )


def _is_call(arrow: Arrow) -> bool:
    return arrow.stimulus in (_T.CLOSE, _T.ABORT)


def _reopens(first: Transition, earlier: Endpoint) -> bool:
    """A SYN that ends the TIME-WAIT of the tuple's earlier life (RFC 6191).

    The kernel hands it to the listener, so the new connection begins in LISTEN.
    """
    taken = first.after == Belief.of(_S.SYN_RECEIVED) and first.cause == _T.SYN.value
    return taken and _S.TIME_WAIT in earlier.state.states


def _arrows_of(before: Belief, after: Belief, cause: str) -> tuple[Arrow, ...]:
    """The arrows between those states that the cause leaves as possible."""
    possible = [
        arrow
        for arrow in arrows()
        if arrow.row.linux and arrow.before in before.states and arrow.after in after.states
    ]
    if not cause:
        return tuple(possible)
    stimuli = _stimuli_of(cause, before, frozenset(arrow.stimulus for arrow in possible))
    return tuple(arrow for arrow in possible if arrow.stimulus in stimuli)


def _stimuli_of(cause: str, before: Belief, possible: frozenset[Stimulus]) -> frozenset[Stimulus]:
    """What the cause of a transition is in the table's words; a signal closes as a call does."""
    call, _, _ = cause.partition("(")
    match call:
        case "listen":
            return frozenset({_T.PASSIVE_OPEN})
        case "connect":
            return frozenset({_T.ACTIVE_OPEN})
        case "destroy":
            return frozenset({_T.ABORT})
        case "shutdown" if before.states <= {_S.LISTEN, _S.SYN_SENT}:
            # Linux: inet_shutdown() calls tcp_disconnect() there, "ABORT function of RFC793".
            return frozenset({_T.ABORT})
    stimulus = next((one for one in Stimulus if one.value == cause), None)
    if stimulus is not None:
        return frozenset({stimulus})
    return frozenset({_T.CLOSE if _T.CLOSE in possible else _T.ABORT})


# ---------------------------------------------------------------------- listeners


@dataclass(slots=True)
class _Change:
    """A listener that came to be, or ended."""

    local: SocketAddress
    role: str
    opens: bool
    t_ns: int
    cause: str
    witnesses: set[str]


@dataclass(slots=True)
class _Listeners:
    """The listeners of a run, from the kernel's reports and the socket table's samples on them."""

    scenario: str
    roles: Mapping[str, str]
    _causes: Causes = field(default_factory=Causes)
    _hosts: dict[int, str] = field(default_factory=dict)  # who called listen() on that port
    _listed: set[SocketAddress] = field(default_factory=set)  # in the socket table
    _changes: list[_Change] = field(default_factory=list)

    def read(self, told: Iterable[Event]) -> Iterator[Sighting]:
        for event in told:
            payload = event.payload
            match payload:
                case UserCall(call="listen", local=SocketAddress(port=port)):
                    self._hosts[port] = event.vantage.side or ""
                case StateReported(remote=SocketAddress(port=0), after=_S.LISTEN):
                    self._changed(event, payload.local, event.t_ns, opens=True)
                case StateReported(remote=SocketAddress(port=0), before=_S.LISTEN):
                    self._changed(event, payload.local, event.t_ns, opens=False)
                case SocketSampled(remote=SocketAddress(port=0), local=local, state=state):
                    opens = state is not None  # told again where its queues change
                    if opens is not (local in self._listed):
                        self._changed(event, local, payload.since_ns, opens=opens)
                    (self._listed.add if opens else self._listed.discard)(local)
            if event.vantage.source == events.CALLS:
                self._causes.note(event)
        for change in self._changes:
            yield self._sighting(change)

    def _changed(self, event: Event, local: SocketAddress, since_ns: int, *, opens: bool) -> None:
        """A change that a witness tells of: perhaps one that the other has told of already."""
        witness = event.vantage.source
        for change in self._changes:
            same = (change.local, change.opens) == (local, opens)
            if (
                same
                and witness not in change.witnesses
                and since_ns - SLACK_NS <= change.t_ns <= event.t_ns + SLACK_NS
            ):
                change.witnesses.add(witness)
                return
        role = event.vantage.side or self.roles.get(str(local)) or self.roles.get(local.ip)
        role = role or self._hosts.get(local.port, "")
        ended_by = self._causes.of_listener(role, local, since_ns, event.t_ns)
        cause = "listen()" if opens else ended_by
        self._changes.append(_Change(local, role, opens, event.t_ns, cause, {witness}))

    def _sighting(self, change: _Change) -> Sighting:
        closed, listen = Belief.of(_S.CLOSED), Belief.of(_S.LISTEN)
        before, after = (closed, listen) if change.opens else (listen, closed)
        return Sighting(
            self.scenario,
            change.role,
            None,
            change.t_ns,
            before,
            after,
            change.cause,
            tuple(witness for witness in _ORDER if witness in change.witnesses),
            _arrows_of(before, after, change.cause),
            certain=True,
        )
