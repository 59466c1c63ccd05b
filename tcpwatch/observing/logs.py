"""What each witness notes while a program runs, taken apart only when asked for: to cost it little.

Owns: how often one looks, and what is kept. Must not know whose a socket is nor what it means.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from itertools import chain
from operator import attrgetter

from tcpwatch.model.events import KERNEL, Gap, Payload, SocketSampled, Vantage
from tcpwatch.model.identity import FourTuple
from tcpwatch.model.witness import Observation
from tcpwatch.sources import sockdiag
from tcpwatch.sources.kernel import KernelSource
from tcpwatch.sources.packetring import KEPT_OCTETS
from tcpwatch.sources.table import TableSource
from tcpwatch.tcp.state import TcpState

_POLL_NS = 1_000_000
_POLL_SHARE = 40  # one look at the table may take this fraction of the time until the next
_DRAIN_S = 0.02
_TRACE_KB = 8192  # of each CPU: some 50,000 events until they are fetched
_KERNEL = Vantage(KERNEL)


class TableLog(TableSource):
    """The table's changes, looked at each millisecond, or more seldom where it is long."""

    def __init__(self, tables: Sequence[tuple[str | None, sockdiag.Sampler]]) -> None:
        super().__init__(tables, _POLL_NS, lambda _local, _remote: True)
        self._noted: list[Observation] = []
        self._present: dict[FourTuple, TcpState] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="table", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        wait_ns = 0
        while not self._stop.wait(wait_ns / 1e9):
            began_ns = time.thread_time_ns()
            self.look()
            wait_ns = max(_POLL_NS, _POLL_SHARE * (time.thread_time_ns() - began_ns))

    def look(self) -> None:
        """Notes what has changed by now. Any thread."""
        with self._polling:
            for seen in chain.from_iterable(map(self._poll, self._tables)):
                self._noted.append(seen)
                if isinstance(seen.payload, SocketSampled):
                    whose = FourTuple(seen.payload.local, seen.payload.remote)
                    if seen.payload.state is None:
                        self._present.pop(whose, None)
                    else:
                        self._present[whose] = seen.payload.state

    def known(self) -> frozenset[FourTuple]:
        with self._polling:
            return frozenset(self._present)

    def noted(self, since_ns: int, until_ns: int) -> list[Observation]:
        with self._polling:
            return [seen for seen in self._noted if since_ns <= seen.t_ns <= until_ns]

    def forget(self, before_ns: int) -> None:
        with self._polling:
            self._noted = [seen for seen in self._noted if seen.t_ns >= before_ns]

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


class WireLog:
    """What a wire of ours has told."""

    def __init__(self) -> None:
        self._noted: list[Observation] = []

    def emit(self, seen: Observation) -> None:
        self._noted.append(seen)

    def noted(self, since_ns: int, until_ns: int) -> list[Observation]:
        return [seen for seen in self._noted[:] if since_ns <= seen.t_ns <= until_ns]

    def forget(self, before_ns: int) -> None:
        """Nothing: it is one program's, and ends with it."""


class KernelLog(KernelSource):
    """The kernel's reports, fetched as pages; they are taken apart when asked for."""

    def __init__(self) -> None:
        self._pages: list[tuple[int, str, bytes]] = []
        self._unkept = 0
        super().__init__(lambda _local, _remote: True, buffer_kb=_TRACE_KB)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tracing", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(_DRAIN_S):
            self.fetch()

    def fetch(self) -> None:
        """Fetches all that was reported by now. Any thread."""
        with self._lock:
            self._drain()

    def _take(self, cpu: str, octets: bytes, began_ns: int) -> int:
        if len(self._pages) * len(octets) > KEPT_OCTETS:
            self._unkept += 1
            self._lost += 1
        else:
            self._pages.append((began_ns, cpu, octets))
        return int.from_bytes(octets[:8], sys.byteorder)  # when its first record was made

    def noted(self, since_ns: int, until_ns: int) -> list[Observation]:
        """All of the host's reports between these times, in order."""
        with self._lock:
            pages = [page for page in self._pages if page[0] >= since_ns]
            self._held = []
            for began_ns, cpu, octets in pages:
                super()._take(cpu, octets, began_ns)
            held, self._held = self._held, []
            if self._unkept:
                why = "more events came than could be kept"
                held.append(Observation(until_ns, _KERNEL, Gap(why, None, since_ns)))
        held.sort(key=attrgetter("t_ns"))
        return [seen for seen in held if since_ns <= seen.t_ns <= until_ns]

    def _hold(self, t_ns: int, payload: Payload) -> None:
        self._held.append(Observation(t_ns, _KERNEL, payload))

    def forget(self, before_ns: int) -> None:
        with self._lock:
            self._pages = [page for page in self._pages if page[0] >= before_ns]

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        super().close()
