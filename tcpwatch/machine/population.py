"""The sockets of a whole host: what each is believed to be now, and the path it went.

Owns: births, ends and successors of sockets, and the counts by state; bounded in memory. What
witnesses claim is reconciled as the `Tracker` does it (the same `History`), and from the same
events follow the same paths; but there are no segments, calls or pairs of ends here, and what has
ended is forgotten. Times are those of the events. No clock and no I/O.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from tcpwatch.machine.kernel_report import KernelReports, Report
from tcpwatch.machine.reconcile import Claim, History, PathStep
from tcpwatch.machine.stimulus import Stimulus
from tcpwatch.machine.table import edges
from tcpwatch.model.events import (
    KERNEL,
    TABLE,
    Event,
    Gap,
    KernelNote,
    KernelNoted,
    SocketSampled,
    StateReported,
)
from tcpwatch.model.identity import FourTuple, SocketAddress
from tcpwatch.model.timeline import Basis
from tcpwatch.tcp.state import TcpState

_S = TcpState
_UNBORN = frozenset({_S.CLOSED, _S.LISTEN})
_OPENING = frozenset({_S.SYN_SENT, _S.SYN_RECEIVED})
_OVER = (frozenset({_S.CLOSED}), frozenset({_S.LISTEN}), _UNBORN)
_ONLY = {state: frozenset({state}) for state in TcpState}
_BY_KERNEL = frozenset({KERNEL})

ENDED_AT_MOST = 1_000
"""So many sockets that have ended are remembered, the latest."""


class HostSocket:
    """One socket of the host: a connection's end, or a listener (remote port 0).

    ``number`` counts from 1 in order of appearance. ``found``: it was there before anybody looked,
    so that its path begins with the state it was found in. ``opener`` is the process that called
    connect(), where the kernel told (else 0). ``row`` is its name in the socket table, for whoever
    keeps that. ``retransmits`` counts what was seen of it.
    """

    __slots__ = (
        "ended_ns",
        "found",
        "generation",
        "gone",
        "history",
        "inode",
        "number",
        "opener",
        "reset",
        "retransmits",
        "row",
        "settled",
        "tuple",
    )

    def __init__(
        self, number: int, four_tuple: FourTuple, history: History, *, found: bool
    ) -> None:
        self.number = number
        self.tuple = four_tuple
        self.history = history
        self.found = found
        self.generation = 0
        self.inode = 0
        self.opener = 0
        self.retransmits = 0
        self.reset = False
        self.gone = False
        self.settled = False
        self.ended_ns: int | None = None
        self.row: bytes | None = None

    @property
    def local(self) -> SocketAddress:
        return self.tuple.local

    @property
    def remote(self) -> SocketAddress:
        return self.tuple.remote

    @property
    def doubt(self) -> Claim | None:
        """Last words that leave several states open, as long as nobody has settled them."""
        history = self.history
        if not history.bounds or self.settled:
            return None
        return next((each for each in history.bounds.values() if history.is_open(each)), None)

    @property
    def states(self) -> frozenset[TcpState]:
        """Every state that it may be in."""
        doubt = self.doubt
        return self.history.last.states if doubt is None else doubt.states

    @property
    def state(self) -> TcpState | None:
        """The state it is in; None where several are possible."""
        states = self.states
        return next(iter(states)) if len(states) == 1 else None

    @property
    def since_ns(self) -> int:
        """When it came into its state; where `age_is_least`, when it was found in it."""
        doubt = self.doubt
        return self.history.last.t_ns if doubt is None else doubt.t_ns

    @property
    def age_is_least(self) -> bool:
        """Whether it may have been in its state for longer than since `since_ns`."""
        return self.found and len(self.history.steps) == 1

    @property
    def is_listener(self) -> bool:
        return self.tuple.remote.port == 0


class HostMove(NamedTuple):
    """A socket left the states ``before`` for ``after``, as it became known."""

    socket: HostSocket
    before: frozenset[TcpState]
    after: frozenset[TcpState]
    t_ns: int
    cause: str
    basis: Basis
    gap: bool


class Population:
    """Takes events in order of time; gives the moves that each brought.

    ``attending`` are the witnesses that are there, of kernel and table. What the table shows with
    a ``since_ns`` below 0 (it had not looked before) was there already.
    """

    def __init__(self, attending: Iterable[str]) -> None:
        self.counts: Counter[frozenset[TcpState]] = Counter()
        """How many sockets may be in which states: {ESTABLISHED} certainly, or several."""
        self.moved = 0
        self._attending = frozenset(attending)
        self._kernel = KernelReports()
        self._live: dict[FourTuple, HostSocket] = {}
        self._listeners: dict[tuple[SocketAddress, int], HostSocket] = {}
        self._ended: OrderedDict[FourTuple, HostSocket] = OrderedDict()
        self._by_skaddr: dict[int, HostSocket] = {}
        self._doubtful: dict[int, HostSocket] = {}
        self._numbers = 0
        self._lossy = False

    def __len__(self) -> int:
        return len(self._live) + len(self._listeners)

    def sockets(self) -> list[HostSocket]:
        """All that live, listeners too, in order of appearance within each kind."""
        return [*self._listeners.values(), *self._live.values()]

    def ended(self) -> list[HostSocket]:
        """Those of the ends that are remembered, the latest last."""
        return list(self._ended.values())

    def find(self, four_tuple: FourTuple) -> HostSocket | None:
        """The connection's end with that tuple, if it lives."""
        return self._live.get(four_tuple)

    def listener(self, local: SocketAddress, inode: int) -> HostSocket | None:
        return self._listeners.get((local, inode))

    def in_doubt(self) -> list[HostSocket]:
        """Those whose last words left several states open, which a look at the table settles."""
        return list(self._doubtful.values())

    def unconfirmed(self, before_ns: int) -> list[HostSocket]:
        """Those that the table has never shown although they have stood still since then."""
        return [
            each
            for each in self._live.values()
            if each.history.last.t_ns < before_ns and each.history.cursor(TABLE) < 0
        ]

    def caught_up(self) -> None:
        """The whole table has been looked at since evidence was lost."""
        self._lossy = False

    def feed(self, event: Event) -> list[HostMove]:
        """Takes one event; what a host's witnesses do not tell is none of its business."""
        payload = event.payload
        if isinstance(payload, StateReported):
            return self._reported(event, payload)
        if isinstance(payload, SocketSampled):
            return self._sampled(event, payload)
        if isinstance(payload, KernelNoted):
            self._noted(payload)
        elif isinstance(payload, Gap) and event.vantage.source == KERNEL:
            self._lossy = True
        return []

    # ------------------------------------------------------------------ the kernel

    def _reported(self, event: Event, reported: StateReported) -> list[HostMove]:
        if self._kernel.continues(reported):
            socket = self._by_skaddr.get(reported.skaddr)
            if socket is not None and socket.ended_ns is None:
                before, after = reported.before, reported.after
                move = self._grown(socket, before, after, event.t_ns, event.id)
                if move is not None:
                    return [move]
        moves: list[HostMove] = []
        for report in self._kernel.read(event, reported):
            moves += self._told(reported, report)
        if reported.after is _S.CLOSED:
            self._by_skaddr.pop(reported.skaddr, None)
        return moves

    def _told(self, reported: StateReported, report: Report) -> list[HostMove]:
        socket = self._of_report(report)
        if reported.skaddr:
            self._by_skaddr[reported.skaddr] = socket
        if report.before is _S.CLOSED:
            socket.opener = reported.pid
        if len(report.after) == 1 and socket.ended_ns is None:
            (after,) = report.after
            move = self._grown(socket, report.before, after, report.t_ns, report.event)
            if move is not None:
                return [move]
        claim = Claim(
            KERNEL,
            report.after,
            report.t_ns,
            report.event,
            Basis.REPORTED,
            before=_ONLY[report.before] if report.opens else None,
        )
        return self._now(socket, self._admitted(socket, claim), settled=False)

    def _grown(
        self, socket: HostSocket, left: TcpState, state: TcpState, t_ns: int, event: int
    ) -> HostMove | None:
        """What `History.admit` makes of a report that continues what the kernel told last.

        Most reports of a busy host do, and it takes a tenth of the time. None: this one does not.
        """
        history = socket.history
        steps = history.steps
        before, after = _ONLY[left], _ONLY[state]
        known = steps[-1].states
        if history.bounds or (before, after) not in _edges():
            return None
        if known is _UNBORN and not history.cursors and left in _UNBORN:
            steps = (PathStep(before, steps[0].t_ns),)
        elif known != before or history.cursor(KERNEL) != len(steps) - 1:
            return None
        step = PathStep(after, t_ns, "", Basis.REPORTED, _BY_KERNEL, (event,))
        cursors = {**history.cursors, KERNEL: len(steps)}
        socket.history = History((*steps, step), cursors, {}, history.contradictions)
        socket.settled = False
        self._count(known, -1)
        self.counts[after] += 1
        self.moved += 1
        over = after in _OVER
        cause = Stimulus.RST.value if over and socket.reset else cause_of(before, after)
        if over:
            self._end(socket, t_ns)
        return HostMove(socket, before, after, t_ns, cause, Basis.REPORTED, gap=False)

    def _of_report(self, report: Report) -> HostSocket:
        socket = self._live.get(report.four_tuple)
        reopened = report.opens and report.after <= _OPENING
        if socket is None:
            socket = self._ended.get(report.four_tuple)
            reopened = report.opens
        spoken = socket is not None and socket.history.cursor(KERNEL) >= 0
        if socket is not None and not socket.gone and not (reopened and spoken):
            return socket
        if report.before in _UNBORN:
            return self._begin(report.four_tuple, _UNBORN, report.t_ns)
        return self._begin(report.four_tuple, _ONLY[report.before], report.t_ns, found=True)

    def _noted(self, noted: KernelNoted) -> None:
        socket = self._by_skaddr.get(noted.skaddr)
        if socket is None:
            return
        if noted.note is KernelNote.RETRANSMITTED:
            socket.retransmits += 1
        elif noted.note is KernelNote.RESET_RECEIVED:
            socket.reset = True

    # ------------------------------------------------------------------ the table

    def _sampled(self, event: Event, sample: SocketSampled) -> list[HostMove]:
        if sample.remote.port == 0:
            self._listens(event, sample)
            return []
        four_tuple = FourTuple(sample.local, sample.remote)
        socket = self._of_sample(four_tuple, sample, event.t_ns)
        if socket is None:
            return []
        socket.inode = sample.inode or socket.inode
        states = socket.history.left_by(TABLE) if sample.state is None else _ONLY[sample.state]
        claim = Claim(TABLE, states, event.t_ns, event.id, Basis.REPORTED, since_ns=sample.since_ns)
        history = self._admitted(socket, claim)
        socket.gone |= sample.state is None
        doubt, settled = socket.doubt, socket.settled
        if doubt is not None:
            # What the table had already shown when the kernel spoke settles nothing.
            passed_on = sample.state in (None, _S.TIME_WAIT)
            settled = passed_on or sample.since_ns >= doubt.t_ns
        return self._now(socket, history, settled=settled)

    def _of_sample(
        self, four_tuple: FourTuple, sample: SocketSampled, t_ns: int
    ) -> HostSocket | None:
        socket = self._live.get(four_tuple)
        if sample.state is None:
            if socket is None or socket.generation == 0:
                return socket
            # What the table never showed cannot go: it was the tuple's earlier life (RFC 6191).
            return socket if socket.history.cursor(TABLE) >= 0 else None
        if socket is None:
            ended = self._ended.get(four_tuple)
            if ended is not None and not ended.gone and (ended.ended_ns or 0) >= sample.since_ns:
                return ended  # the look at the table was older than the end
            if sample.since_ns < 0:
                return self._begin(four_tuple, _ONLY[sample.state], t_ns, found=True)
            return self._begin(four_tuple, _UNBORN, t_ns)
        history, states = socket.history, _ONLY[sample.state]
        cursor = history.cursor(TABLE)
        if states <= _OPENING and cursor > 0 and not history.steps[cursor].states <= _OPENING:
            return self._begin(four_tuple, _UNBORN, t_ns)
        return socket

    def _listens(self, event: Event, sample: SocketSampled) -> None:
        """A listener is no connection: it is there, or not."""
        key = (sample.local, sample.inode)
        if sample.state is None:
            socket = self._listeners.pop(key, None)
            if socket is not None:
                self._end(socket, event.t_ns)
        elif key not in self._listeners:
            found = sample.since_ns < 0
            socket = self._new(
                FourTuple(sample.local, sample.remote), _ONLY[sample.state], event.t_ns, found=found
            )
            socket.inode = sample.inode
            self._listeners[key] = socket

    # ------------------------------------------------------------------ a socket's life

    def _begin(
        self,
        four_tuple: FourTuple,
        states: frozenset[TcpState],
        t_ns: int,
        *,
        found: bool = False,
    ) -> HostSocket:
        """A connection's end that was not there before, or that was ``found`` in those states."""
        earlier = self._live.get(four_tuple)
        if earlier is not None:
            self._end(earlier, t_ns)
        earlier = self._ended.get(four_tuple)
        socket = self._new(four_tuple, states, t_ns, found=found)
        socket.generation = 0 if earlier is None else earlier.generation + 1
        self._live[four_tuple] = socket
        return socket

    def _new(
        self, four_tuple: FourTuple, states: frozenset[TcpState], t_ns: int, *, found: bool
    ) -> HostSocket:
        self._numbers += 1
        self.counts[states] += 1
        return HostSocket(self._numbers, four_tuple, History.begin(states, t_ns), found=found)

    def _end(self, socket: HostSocket, t_ns: int) -> None:
        self._count(socket.states, -1)
        self._doubtful.pop(socket.number, None)
        socket.ended_ns = t_ns
        if socket.is_listener:
            return
        del self._live[socket.tuple]
        self._ended[socket.tuple] = socket
        self._ended.move_to_end(socket.tuple)
        if len(self._ended) > ENDED_AT_MOST:
            self._ended.popitem(last=False)

    def _admitted(self, socket: HostSocket, claim: Claim) -> History:
        lone = self._attending <= {TABLE} or (self._lossy and claim.witness == TABLE)
        local = socket.local.ip == socket.remote.ip
        return socket.history.admit(claim, alone=lone, fast=local)

    def _now(self, socket: HostSocket, history: History, *, settled: bool) -> list[HostMove]:
        """Gives the socket its new history; the moves that are in it and were not before."""
        was, before = socket.history, socket.states
        socket.history = history
        socket.settled = settled
        if socket.ended_ns is None:
            after = socket.states
            if len(after) > 1:
                self._doubtful[socket.number] = socket
            elif len(before) > 1:
                self._doubtful.pop(socket.number, None)
            if after != before:
                self._count(before, -1)
                self.counts[after] += 1
            if after in _OVER and (len(history.steps) > 1 or socket.gone):
                self._end(socket, history.last.t_ns)
        moves = []
        for index in range(1, len(history.steps)):
            step = history.steps[index]
            if index < len(was.steps) and was.steps[index].states == step.states:
                continue
            left = history.steps[index - 1].states
            reset = socket.reset and step.states in _OVER
            cause = Stimulus.RST.value if reset else cause_of(left, step.states)
            moves.append(
                HostMove(socket, left, step.states, step.t_ns, cause, step.basis, step.gap)
            )
        self.moved += len(moves)
        return moves

    def _count(self, states: frozenset[TcpState], change: int) -> None:
        self.counts[states] += change
        if not self.counts[states]:
            del self.counts[states]


@cache
def _edges() -> frozenset[tuple[frozenset[TcpState], frozenset[TcpState]]]:
    return frozenset((_ONLY[before], _ONLY[after]) for before, after in edges())


@cache
def cause_of(before: frozenset[TcpState], after: frozenset[TcpState]) -> str:
    """What alone makes that move; empty where several things do."""
    causes = {
        row.stimulus.value
        for one in before
        for other in after
        for row in edges().get((one, other), ())
    }
    return causes.pop() if len(causes) == 1 else ""
