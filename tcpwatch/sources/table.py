"""The witness `table`: the socket tables of one or more namespaces, polled and compared.

Owns: what counts as a change between two polls, and how late it may be told. Must not know how a
table is read (`sockdiag`, `psutil_table`) nor what a change means.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from tcpwatch.errors import TcpwatchError
from tcpwatch.model.events import TABLE, Gap, Payload, SocketSampled, Vantage
from tcpwatch.model.identity import SocketAddress
from tcpwatch.model.witness import Observation
from tcpwatch.sources.absences import Absences
from tcpwatch.sources.sockdiag import Row, Rows, Sampler

Predicate = Callable[[SocketAddress, SocketAddress], bool]

INTERVAL_NS = 1_000_000
"""How long one poll begins after the other, unless told otherwise."""


class Closable(Protocol):
    """What a sampler needs kept open, such as a sock_diag socket."""

    def close(self) -> None: ...


class TableSource:
    """Yields SocketSampled for every change in the tables, and Gap for a poll that was incomplete.

    ``tables`` pairs a side with the sampler of its namespace; each is polled every
    ``interval_ns``. ``networks`` is asked with (local, remote) which sockets matter. An
    observation's time is the end of its poll. What a sampler raises (TcpwatchError) comes out of
    `observations`. `close` closes ``resources`` too.
    """

    name = TABLE

    def __init__(
        self,
        tables: Sequence[tuple[str | None, Sampler]],
        interval_ns: int,
        networks: Predicate,
        *,
        resources: Iterable[Closable] = (),
    ) -> None:
        now_ns = time.monotonic_ns()
        self._tables = [_Table(side, sampler, networks, now_ns) for side, sampler in tables]
        self._interval_ns = interval_ns
        self._resources = list(resources)
        self._polling = threading.Lock()
        self._closing = threading.Event()
        self._shut_down = threading.Event()
        self._busy_since: int | None = None
        self._last_poll_ns: int | None = None
        self._rest: list[Observation] = []
        self._lost = 0

    @property
    def lost(self) -> int:
        """How many polls were incomplete: what each of them missed cannot be counted."""
        return self._lost

    def observations(self) -> Iterator[Observation]:
        """Yields in order of time until `close`; blocks in between."""
        while not self._closing.is_set():
            began_ns = time.monotonic_ns()
            for table in self._tables:
                self._busy_since = time.monotonic_ns()
                with self._polling:
                    seen = [] if self._closing.is_set() else self._poll(table)
                yield from seen
                # Back here, the consumer has taken the last of them.
                self._busy_since = None
            left_ns = began_ns + self._interval_ns - time.monotonic_ns()
            self._closing.wait(max(left_ns, 0) / 1e9)
        self._shut_down.wait()
        rest, self._rest = self._rest, []
        yield from rest
        self._last_poll_ns = None

    def watermark(self) -> int:
        """Now, or when the poll began that is not handed over yet."""
        # In this order: a poll that begins after the first line stamps later than `now_ns`.
        now_ns = time.monotonic_ns()
        pending = [at for at in (self._busy_since, self._last_poll_ns) if at is not None]
        return min(pending, default=now_ns)

    def close(self) -> None:
        """Ends `observations` after a last poll, and closes the resources."""
        self._closing.set()
        with self._polling:
            if self._shut_down.is_set():
                return
            self._last_poll_ns = time.monotonic_ns()
            try:
                for table in self._tables:
                    # A namespace may be gone already; then the poll before was the last one.
                    with contextlib.suppress(TcpwatchError):
                        self._rest += self._poll(table)
            finally:
                for resource in self._resources:
                    resource.close()
                self._shut_down.set()

    def _poll(self, table: _Table) -> list[Observation]:
        seen = table.poll()
        self._lost += sum(isinstance(observation.payload, Gap) for observation in seen)
        return seen


class _Table:
    """One namespace's table as it was at the last poll."""

    def __init__(
        self, side: str | None, sampler: Sampler, networks: Predicate, now_ns: int
    ) -> None:
        self._sampler = sampler
        self._networks = networks
        self._vantage = Vantage(TABLE, side)
        self._since_ns = now_ns
        self._seen: dict[_Key, Row] = {}
        self._absences: Absences[_Key] = Absences()

    def poll(self) -> list[Observation]:
        """Samples the table; what has changed, all of it stamped with the end of the sampling."""
        began_ns = time.monotonic_ns()
        sample = self._sampler()
        t_ns = time.monotonic_ns()
        since_ns, self._since_ns = self._since_ns, began_ns
        now = self._admitted(sample)
        changes = [
            *(
                self._sampled(self._seen[key], None, at_ns)
                for key, at_ns in self._absences.gone(self._seen, now, sample, since_ns)
            ),
            *(
                self._sampled(row, row, since_ns)
                for key, row in now.items()
                if _differs(row, self._seen.get(key))
            ),
        ]
        gaps = [Gap(sample.problem, None, since_ns)] if sample.problem else []
        absent = {key: self._seen[key] for key in self._absences.waiting}
        self._seen = now | absent
        payloads: list[Payload] = [*gaps, *changes]
        return [Observation(t_ns, self._vantage, payload) for payload in payloads]

    def _admitted(self, sample: Rows) -> dict[_Key, Row]:
        """The rows that matter, by socket. A socket that was there twice: as it was last."""
        networks, seen = self._networks, self._seen
        return {
            key: row
            for row in sample.rows
            if (key := (row[0], row[4])) in seen or networks(*row.endpoints)
        }

    def _sampled(self, was: Row, row: Row | None, since_ns: int) -> SocketSampled:
        local, remote = was.endpoints
        if row is None:
            return SocketSampled(local, remote, None, since_ns)
        return SocketSampled(
            local,
            remote,
            row.state,
            since_ns,
            inode=row.inode,
            receive_queue=row.receive_queue,
            send_queue=row.send_queue,
            timer=row.timer,
        )


_Key = tuple[int, bytes]


def _differs(row: Row, before: Row | None) -> bool:
    return (
        before is None
        or row[1] != before[1]
        or row[6] != before[6]
        or row[7] != before[7]
        or row[9] != before[9]
    )
