"""Watching a host: its witnesses, the population they tell of, and who holds its sockets.

Owns: how often each witness is asked, the order of time between them, which events are of this
network namespace, and what all of it may cost. `Watch.step` does what is due; one thread calls it,
others read under `lock`. Must not know how anything is shown.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import NamedTuple

from tcpwatch.errors import TcpwatchError
from tcpwatch.machine.population import HostMove, HostSocket
from tcpwatch.model.events import (
    KERNEL,
    TABLE,
    Event,
    Gap,
    KernelNote,
    SocketSampled,
    StateReported,
    Vantage,
)
from tcpwatch.model.identity import FourTuple
from tcpwatch.model.witness import Availability, Observation
from tcpwatch.sources import kernel, psutil_table, sockdiag
from tcpwatch.sources.hosttable import HostTable, Sighting
from tcpwatch.sources.ownnamespace import OwnNamespace
from tcpwatch.sources.sockinfo import SocketInfo, look_up
from tcpwatch.tcp.state import TcpState
from tcpwatch.watching.host import Host

TICK_S = 0.1
"""How often what moves is looked at."""

_KERNEL_NS = 100_000_000  # how often the kernel's buffers are emptied
_NAMES_NS = 3_000_000_000  # between two looks at whom the tracer remembers: that is a long list
_WHOLE_S = {True: 2.0, False: 1.0}  # between two looks at all, with the kernel's word and without
_SHARE = 0.01  # of a core that the looks at all of the table may take
_DOUBTS = 200  # sockets asked for by name in a tick
_NOTES = (KernelNote.RETRANSMITTED, KernelNote.RESET_RECEIVED)
_BY_KERNEL, _BY_TABLE = Vantage(KERNEL), Vantage(TABLE)


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


class Watch(Host):
    """A host, watched. Raises TcpwatchError where nobody can see anything. `close` it."""

    def __init__(self, options: WatchOptions) -> None:
        self.record: Callable[[Event], None] | None = None
        """Is told each event, once the population has it."""
        self._events = 0
        self._stop = threading.Event()
        self._heard: deque[Observation] = deque()
        self._pending: deque[_Look] = deque()
        self._unconfirmed: list[HostSocket] = []
        self._looked = False
        self._kernel: kernel.KernelSource | None = None
        self._diag: socket.socket | None = None
        self._asking: socket.socket | None = None
        self._since_ns = -1  # when the look before began: there was none
        self._moving_since_ns = -1
        self._next_look_s = 0.0
        self._next_names_ns = 0
        self._stack = ExitStack()
        self._faults: list[str] = []
        try:
            witnesses, table = self._open(options)
            super().__init__(witnesses, table, tells_queues=self._diag is not None)
        except BaseException:
            self.close()
            raise
        self.faults = self._faults

    # ------------------------------------------------------------------ opening, closing

    def _open(self, options: WatchOptions) -> tuple[list[Availability], HostTable]:
        self._namespace = OwnNamespace()
        if KERNEL in options.without:
            told = Availability(KERNEL, False, "left out by --without", "", kernel.BLIND_SPOTS)
        else:
            told = self._open_kernel()
        looked_at, table = self._open_table(options.sampler)
        return [told, looked_at], table

    def _open_kernel(self) -> Availability:
        try:
            source = kernel.KernelSource(self._namespace.has, interval_ns=_KERNEL_NS, notes=_NOTES)
        except TcpwatchError as error:
            return Availability(KERNEL, False, error.message, error.remedy, kernel.BLIND_SPOTS)
        self._kernel = source
        listening = threading.Thread(target=self._listen, args=(source,), daemon=True)
        self._stack.callback(listening.join, 2.0)
        self._stack.callback(source.close)
        listening.start()
        return Availability(KERNEL, True, "each move", "", kernel.BLIND_SPOTS)

    def _open_table(self, sampler: str) -> tuple[Availability, HostTable]:
        detail = "psutil"
        if sampler != "psutil":
            try:
                self._diag = self._stack.enter_context(sockdiag.open_socket())
                moving = sockdiag.sampler(self._diag, sockdiag.TRANSIENT_STATES)
                moving()
                self._asking = self._stack.enter_context(sockdiag.open_socket())
                table = HostTable(sockdiag.sampler(self._diag), moving)
                return Availability(TABLE, True, "sock_diag", "", sockdiag.BLIND_SPOTS), table
            except TcpwatchError as error:
                self._diag = self._asking = None
                if sampler:
                    raise
                detail = f"psutil, for {error.message}"
        return (
            Availability(TABLE, True, detail, "", psutil_table.BLIND_SPOTS),
            HostTable(psutil_table.sampler()),
        )

    def _listen(self, source: kernel.KernelSource) -> None:
        try:
            for observation in source.observations():
                self._heard.append(observation)
        except Exception as error:  # noqa: BLE001 - told as a fault; the table goes on
            self._faults.append(f"the kernel witness broke: {type(error).__name__}: {error}")

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
            self.note(moves)
        if self.owners.nameless and self._kernel is not None and self.now_ns >= self._next_names_ns:
            self._next_names_ns = self.now_ns + _NAMES_NS
            self.owners.named(self._kernel.names())
        self.owners.search()
        return moves

    def look_first(self) -> list[HostMove]:
        """Steps until all that was there is known."""
        moves = self.step()
        while not self._looked and not self.stopped:
            self.wait(_KERNEL_NS / 1e9)
            moves += self.step()
        self.trend.clear()  # what was counted before it was looked at is no trend
        self.rates.clear()
        self.note([])
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
