"""Watching a host: its witnesses, the population they tell of, and who holds its sockets.

Owns: how often each witness is asked, the order of time between them, which events are of this
network namespace, and what all of it may cost. `Watch.step` does what is due; one thread calls it,
others read under `lock`. Must not know how anything is shown.
"""

from __future__ import annotations

import os
import platform
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import NamedTuple

from tcpwatch.errors import TcpwatchError
from tcpwatch.machine.population import HostMove, HostSocket, Population
from tcpwatch.model.events import KERNEL, TABLE, Event, Gap, SocketSampled, StateReported, Vantage
from tcpwatch.model.host import SocketFacts
from tcpwatch.model.identity import FourTuple
from tcpwatch.model.timeline import Belief, RunRecord
from tcpwatch.model.witness import Availability, Observation
from tcpwatch.sources import kernel, psutil_table, sockdiag
from tcpwatch.sources.hosttable import HostTable, Sighting
from tcpwatch.sources.ownnamespace import OwnNamespace
from tcpwatch.sources.sockinfo import SocketInfo, look_up
from tcpwatch.tcp.state import TcpState
from tcpwatch.watching_owners import Owners, user_name

TICK_S = 0.1
"""How often what moves is looked at."""

_KERNEL_NS = 50_000_000  # how often the kernel's buffers are emptied
_WHOLE_S = {True: 2.0, False: 1.0}  # between two looks at all, with the kernel's word and without
_SHARE = 0.02  # of a core that the looks at all of the table may take
_DOUBTS = 200  # sockets asked for by name in a tick
_TIME_WAIT_MS = 60_000  # Linux: TCP_TIMEWAIT_LEN (tcp.h)
_TREND = 120
_MOVES = 2_000
_BY_KERNEL, _BY_TABLE = Vantage(KERNEL), Vantage(TABLE)
_TIMERS = ("", "retransmission", "keepalive", "TIME-WAIT", "zero window probe")


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """``without`` leaves witnesses out; ``sampler`` is sockdiag or psutil, "" what there is."""

    without: frozenset[str] = frozenset()
    sampler: str = ""


class _Look(NamedTuple):
    """What a look at the table showed that is new; it is in order once the kernel is as far."""

    t_ns: int
    began_ns: int
    seen: list[Sighting]
    whole: bool = False


class Watch:
    """A host, watched. Raises TcpwatchError where nobody can see anything. `close` it."""

    def __init__(
        self, options: WatchOptions, *, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self.lock = threading.RLock()
        self.witnesses: list[Availability] = []
        self.moves: deque[HostMove] = deque(maxlen=_MOVES)
        self.trend: deque[dict[TcpState, int]] = deque(maxlen=_TREND)
        """How many sockets were certainly in which state, each second."""
        self.rates: deque[int] = deque(maxlen=_TREND)
        """How many moves there were, each second."""
        self.record: Callable[[Event], None] | None = None
        """Is told each event, once the population has it."""
        self.lost = 0
        self.faults: list[str] = []
        self.began_unix_ns = time.time_ns()
        self._clock = clock
        self._t0_ns = clock()
        self._events = 0
        self._stop = threading.Event()
        self._heard: deque[Observation] = deque()
        self._pending: deque[_Look] = deque()
        self._unconfirmed: list[HostSocket] = []
        self._looked = False
        self.whole_every_s = 0.0
        self.owners = Owners()
        self._kernel: kernel.KernelSource | None = None
        self._diag: socket.socket | None = None
        self._asking: socket.socket | None = None
        self._stack = ExitStack()
        try:
            self._open(options)
        except BaseException:
            self.close()
            raise
        attending = [one.name for one in self.witnesses if one.available]
        self.population = Population(attending)
        self._since_ns = -1  # when the look before began: there was none
        self._moving_since_ns = -1
        self._next_look_s = self._next_second_s = 0.0
        self._moved = 0

    # ------------------------------------------------------------------ opening, closing

    def _open(self, options: WatchOptions) -> None:
        self._namespace = OwnNamespace()
        if KERNEL in options.without:
            self.witnesses.append(_left_out(KERNEL, kernel.BLIND_SPOTS))
        else:
            self._open_kernel()
        if TABLE in options.without:
            raise TcpwatchError(
                "what a host's sockets are, only its table can tell", "leave the table in"
            )
        self._open_table(options.sampler)

    def _open_kernel(self) -> None:
        try:
            source = kernel.KernelSource(self._namespace.has, interval_ns=_KERNEL_NS)
        except TcpwatchError as error:
            self.witnesses.append(
                Availability(KERNEL, False, error.message, error.remedy, kernel.BLIND_SPOTS)
            )
            return
        self._kernel = source
        listening = threading.Thread(target=self._listen, args=(source,), daemon=True)
        self._stack.callback(listening.join, 2.0)
        self._stack.callback(source.close)
        listening.start()
        self.witnesses.append(Availability(KERNEL, True, "each move", "", kernel.BLIND_SPOTS))

    def _open_table(self, sampler: str) -> None:
        refused: TcpwatchError | None = None
        if sampler != "psutil":
            try:
                self._diag = self._stack.enter_context(sockdiag.open_socket())
                moving = sockdiag.sampler(self._diag, sockdiag.TRANSIENT_STATES)
                moving()
                self._asking = self._stack.enter_context(sockdiag.open_socket())
                self.table = HostTable(sockdiag.sampler(self._diag), moving)
            except TcpwatchError as error:
                refused, self._diag = error, None
                if sampler:
                    raise
        if self._diag is None:
            self.table = HostTable(psutil_table.sampler())
        detail = (
            f"psutil, {refused.message}" if refused else "sock_diag" if self._diag else "psutil"
        )
        spots = sockdiag.BLIND_SPOTS if self._diag else psutil_table.BLIND_SPOTS
        self.witnesses.append(Availability(TABLE, True, detail, "", spots))

    def _listen(self, source: kernel.KernelSource) -> None:
        try:
            for observation in source.observations():
                self._heard.append(observation)
        except Exception as error:  # noqa: BLE001 - told as a fault; the table goes on
            self.faults.append(f"the kernel witness broke: {type(error).__name__}: {error}")

    def close(self) -> None:
        """Ends the watching, and releases all that was opened. Idempotent."""
        self._stop.set()
        self._stack.close()

    def stop(self) -> None:
        """Has whoever waits in `wait` return at once."""
        self._stop.set()

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    def wait(self, seconds: float) -> bool:
        """Waits so long, or until it is stopped; whether it was."""
        return self._stop.wait(seconds)

    # ------------------------------------------------------------------ time

    @property
    def now_ns(self) -> int:
        """Nanoseconds since the watching began."""
        return self._clock() - self._t0_ns

    def unix_ns(self, t_ns: int) -> int:
        """The wall clock's time of a moment of the watching."""
        return self.began_unix_ns + t_ns

    # ------------------------------------------------------------------ what is due

    def step(self) -> list[HostMove]:
        """Asks whoever is due, and follows what they tell; the moves that became known.

        Raises TcpwatchError where the table can no longer be read.
        """
        self._look()
        mark_ns = self._kernel.watermark() - self._t0_ns if self._kernel else self.now_ns
        with self.lock:
            moves = self._follow(mark_ns)
            self._settle()
            self.moves.extend(moves)
            self._moved += len(moves)
            self._every_second()
        if self.owners.nameless and self._kernel is not None:
            self.owners.named(self._kernel.names())
        self.owners.search()
        return moves

    def look_first(self) -> list[HostMove]:
        """Steps until all that was there is known."""
        moves = self.step()
        while not self._looked and not self.stopped:
            self.wait(_KERNEL_NS / 1e9)
            moves += self.step()
        return moves

    def _look(self) -> None:
        """A look at the table, all of it or only what moves; its time is its end."""
        began_s, began_cpu_s, began_ns = time.monotonic(), time.thread_time(), self.now_ns
        whole = began_s >= self._next_look_s
        if whole:
            seen = self.table.look(self._since_ns)
            self._since_ns = began_ns
            self.owners.listening = self.table.listening()
            took_s = time.thread_time() - began_cpu_s
            self.whole_every_s = max(_WHOLE_S[self._kernel is not None], took_s / _SHARE)
            self._next_look_s = began_s + self.whole_every_s
        else:
            seen = self.table.glance(self._moving_since_ns)
        self._moving_since_ns = began_ns
        self._pending.append(_Look(self.now_ns, began_ns, seen, whole))

    def _follow(self, mark_ns: int) -> list[HostMove]:
        """Takes what is certain to be in order to the population: what happened before the mark."""
        moves: list[HostMove] = []
        while self._pending and self._pending[0].t_ns <= mark_ns:
            look = self._pending.popleft()
            moves += self._hear(look.t_ns)
            for sighting in look.seen:
                moves += self._take_sighting(look.t_ns, sighting)
            if look.whole:
                self._looked = True
                self.population.caught_up()
                self._unconfirmed = self.population.unconfirmed(look.began_ns)
        moves += self._hear(mark_ns)
        return moves

    def _hear(self, until_ns: int) -> list[HostMove]:
        """The kernel's word, as far as that time."""
        moves: list[HostMove] = []
        heard, limit_ns = self._heard, until_ns + self._t0_ns
        while heard and heard[0].t_ns <= limit_ns:
            observation = heard.popleft()
            t_ns, payload = observation.t_ns - self._t0_ns, observation.payload
            if t_ns < 0:
                continue
            if isinstance(payload, Gap):
                self.lost += payload.lost or 1
                payload = replace(payload, since_ns=payload.since_ns - self._t0_ns)
            elif self._namespace.is_foreign(payload, self.owners.listening):
                continue
            elif isinstance(payload, StateReported) and payload.before is TcpState.CLOSED:
                self.owners.opened(payload.pid)
            moves += self._feed(t_ns, _BY_KERNEL, payload)
        return moves

    def _feed(self, t_ns: int, vantage: Vantage, payload: object) -> list[HostMove]:
        self._events += 1
        event = Event(self._events, t_ns, vantage, payload)  # type: ignore[arg-type]
        moves = self.population.feed(event)
        if self.record is not None:
            self.record(event)
        return moves

    def _take_sighting(self, t_ns: int, sighting: Sighting) -> list[HostMove]:
        sampled = sighting.sampled
        moves = self._feed(t_ns, _BY_TABLE, sampled)
        found = (
            self.population.listener(sampled.local, sampled.inode)
            if sampled.remote.port == 0
            else self.population.find(FourTuple(sampled.local, sampled.remote))
        )
        if found is not None and sampled.state is not None:
            found.row = sighting.id
        return moves

    def _settle(self) -> None:
        """Asks the table for those by name whose last words left something open."""
        if self._asking is None:
            return
        doubtful = [*self._unconfirmed, *self.population.in_doubt(), *self._left()]
        self._unconfirmed = []
        seen: list[Sighting] = []
        began_ns = self.now_ns
        for each in doubtful[:_DOUBTS]:
            found = self.look_up(each, info=False)
            sampled = SocketSampled(each.local, each.remote, None, began_ns)
            ident = each.row or b""
            if found is not None:
                ident = found.row.id
                self.table.rows[ident] = found.row
                sampled = replace(sampled, state=found.row.state, inode=found.row.inode)
            seen.append(Sighting(ident, sampled))
        if seen:
            self._pending.append(_Look(self.now_ns, began_ns, seen))

    def _left(self) -> list[HostSocket]:
        """Those that a glance no longer shows, and whose present state nobody has told."""
        rows = [row for row in map(self.table.rows.get, self.table.left) if row is not None]
        self.table.left = []
        found = [self.population.find(FourTuple(*row.endpoints)) for row in rows]
        return [
            one
            for one, row in zip(found, rows, strict=True)
            if one is not None and one.state is row.state
        ]

    def look_up(self, sock: HostSocket, *, info: bool = True) -> SocketInfo | None:
        """That socket now, by name; None: it is gone, or there is no sock_diag to ask."""
        if self._asking is None:
            return None
        row = self.row(sock)
        if row is not None:
            family, ident = row.family, row.id
        else:
            local, remote = sock.local, sock.remote
            family = socket.AF_INET6 if ":" in local.ip else socket.AF_INET
            ident = sockdiag.row_id((local.ip, local.port), (remote.ip, remote.port), family)
        with self.lock:
            return look_up(self._asking, family, ident, info=info)

    def _every_second(self) -> None:
        now_s = time.monotonic()
        if now_s < self._next_second_s:
            return
        self._next_second_s = now_s + 1.0
        self.trend.append(self.counts())
        self.rates.append(self._moved)
        self._moved = 0

    # ------------------------------------------------------------------ what is known

    def counts(self) -> dict[TcpState, int]:
        """How many sockets are certainly in which state."""
        return {
            state: count
            for states, count in self.population.counts.items()
            if len(states) == 1
            for state in states
        }

    def row(self, sock: HostSocket) -> sockdiag.Row | None:
        """That socket as the table has it, if it has it."""
        return None if sock.row is None else self.table.rows.get(sock.row)

    @property
    def tells_queues(self) -> bool:
        """Whether the table has inodes, queues and users: psutil's has not."""
        return self._diag is not None

    def facts(self, sock: HostSocket) -> SocketFacts:
        """What is known of that socket now."""
        row = self.row(sock)
        holders, holding = self.owners.of(sock, row)
        told = row is not None and self.tells_queues
        return SocketFacts(
            sock.number,
            sock.local,
            sock.remote,
            Belief(sock.states),
            *self.age(sock),
            holders=holders,
            holding=holding,
            receive_queue=row.receive_queue if row is not None and told else None,
            send_queue=row.send_queue if row is not None and told else None,
            inode=row.inode if row is not None else sock.inode,
            user=user_name(row.uid) if row is not None and told and row.inode else "",
            timer=_TIMERS[row.timer] if row is not None and row.timer < len(_TIMERS) else "",
            retransmits=max(sock.retransmits, row.retransmissions if row is not None else 0),
            ended=sock.ended_ns is not None,
        )

    def age(self, sock: HostSocket) -> tuple[int, bool]:
        """How long it has been in its state, and whether that is only the least."""
        if sock.age_is_least:
            row = self.row(sock)
            # A TIME-WAIT minisocket's timer tells when it began.
            if row is not None and row.timer == 3 and row.expires_ms <= _TIME_WAIT_MS:
                return (_TIME_WAIT_MS - row.expires_ms) * 1_000_000, False
        return max(self.now_ns - sock.since_ns, 0), sock.age_is_least

    def run_record(self, scenario: str, claim: str) -> RunRecord:
        """What stands in the head of a recording."""
        return RunRecord(
            scenario,
            claim,
            {
                "kind": "host",
                "privilege": "root" if os.geteuid() == 0 else "user",
                "kernel": platform.release(),
                "started_unix_ns": self.began_unix_ns,
            },
            tuple(
                {
                    "name": one.name,
                    "available": one.available,
                    "detail": one.detail,
                    "lost": self.lost if one.name == KERNEL else 0,
                    "blind_spots": list(one.blind_spots),
                }
                for one in self.witnesses
            ),
            {},
            {},
            end_ns=self.now_ns,
        )


def _left_out(name: str, blind_spots: tuple[str, ...]) -> Availability:
    return Availability(name, False, "left out by --without", "", blind_spots)
