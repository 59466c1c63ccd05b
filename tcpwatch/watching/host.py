"""A host as it is known at a moment: its sockets, their rows, who holds them, counts and trends.

Owns: what is told of a socket, put together from the population, the table and the owners. Read it
under `lock` while a `Watch` is at work on it. Must not know where events come from.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from tcpwatch.machine.population import HostMove, HostSocket, Population
from tcpwatch.model.events import KERNEL
from tcpwatch.model.host import SocketFacts
from tcpwatch.model.timeline import Belief, RunRecord
from tcpwatch.model.witness import Availability
from tcpwatch.sources.hosttable import HostTable
from tcpwatch.sources.sockdiag import Row
from tcpwatch.sources.sockinfo import SocketInfo
from tcpwatch.tcp.state import TcpState
from tcpwatch.watching.owners import Owners, user_name

_TIME_WAIT_MS = 60_000  # Linux: TCP_TIMEWAIT_LEN (tcp.h)
_TREND = 120
_MOVES = 2_000
_TIMERS = ("", "retransmission", "keepalive", "TIME-WAIT", "zero window probe")


class Host:
    """What is known of a host. ``tells_queues``: its table has inodes, queues and users."""

    def __init__(
        self,
        witnesses: Sequence[Availability],
        table: HostTable,
        *,
        tells_queues: bool = True,
        owners: Owners | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        began_unix_ns: int | None = None,
    ) -> None:
        self.lock = threading.RLock()
        self.witnesses = list(witnesses)
        self.table = table
        self.tells_queues = tells_queues
        self.owners = owners or Owners()
        self.population = Population(one.name for one in witnesses if one.available)
        self.moves: deque[HostMove] = deque(maxlen=_MOVES)
        self.moved = 0
        """How many moves there were in all."""
        self.trend: deque[dict[TcpState, int]] = deque(maxlen=_TREND)
        """How many sockets were certainly in which state, each second."""
        self.rates: deque[int] = deque(maxlen=_TREND)
        """How many moves there were, each second."""
        self.lost = 0
        self.faults: list[str] = []
        self.whole_every_s = 0.0
        self.began_unix_ns = time.time_ns() if began_unix_ns is None else began_unix_ns
        self._clock = clock
        self._t0_ns = clock()
        self._next_second_ns = 0
        self._moved_before = 0

    @property
    def now_ns(self) -> int:
        """Nanoseconds since the watching began."""
        return self._clock() - self._t0_ns

    def unix_ns(self, t_ns: int) -> int:
        """The wall clock's time of a moment of the watching."""
        return self.began_unix_ns + t_ns

    def note(self, moves: Sequence[HostMove]) -> None:
        """Remembers the moves, and once a second the counts."""
        self.moves.extend(moves)
        self.moved += len(moves)
        if self.now_ns >= self._next_second_ns:
            self._next_second_ns = self.now_ns + 1_000_000_000
            self.trend.append(self.counts())
            self.rates.append(self.moved - self._moved_before)
            self._moved_before = self.moved

    def look_up(self, sock: HostSocket, *, info: bool = True) -> SocketInfo | None:  # noqa: ARG002
        """That socket now, by name; None: it is gone, or there is nobody to ask."""
        return None

    def counts(self) -> dict[TcpState, int]:
        """How many sockets are certainly in which state."""
        return {
            state: count
            for states, count in self.population.counts.items()
            if len(states) == 1
            for state in states
        }

    def row(self, sock: HostSocket) -> Row | None:
        """That socket as the table has it, if it has it."""
        return None if sock.row is None else self.table.rows.get(sock.row)

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
