"""Observing whatever happens in a network namespace, until told to stop: the engine of `exec`.

Owns: the three witnesses at work beside a program that must not be slowed (they note, and take
apart afterwards), whose a socket is, what of it falls into a window of time, what is still open at
its end. Must not know who runs the program nor how anything is shown.
"""

from __future__ import annotations

import os
import platform
import socket
import sys
import threading
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Self

from tcpwatch.errors import TcpwatchError
from tcpwatch.lab.failures import Unsupported
from tcpwatch.lab.proc import sockets_of
from tcpwatch.machine.tracker import Tracker
from tcpwatch.machine.verdict import judge
from tcpwatch.model.events import (
    KERNEL,
    TABLE,
    WIRE,
    Event,
    Gap,
    Payload,
    Point,
    SegmentSeen,
    SocketSampled,
    StateReported,
    Vantage,
)
from tcpwatch.model.identity import FourTuple, SocketAddress
from tcpwatch.model.recording import Recording
from tcpwatch.model.timeline import Judged, RunRecord, Timeline
from tcpwatch.model.witness import Availability, Observation
from tcpwatch.sources import kernel, sockdiag
from tcpwatch.sources.conversations import Conversations
from tcpwatch.sources.kernel import KernelSource
from tcpwatch.sources.packetring import KEPT_OCTETS, PacketRing, open_packet_socket
from tcpwatch.sources.table import TableSource
from tcpwatch.tcp.state import TcpState

CAPTURE_BLIND_SPOTS = (
    "calls: a close() whose FIN is still queued, a listen()",
    "timers: the end of TIME-WAIT, a connection given up",
    "data in segments above 4 kB: that it passed is told by the numbers of those that follow",
)

_POLL_NS = 1_000_000
_POLL_SHARE = 20  # one look at the table may take this fraction of the time until the next
_DRAIN_S = 0.02
_PAUSE_S = 0.002
_TRACE_KB = 8192  # of each CPU: some 50,000 events until they are fetched
_KERNEL = Vantage(KERNEL)
_APART_NS = 1_000_000
"""How far the clocks of capture and tracing may lie apart."""

_HANDSHAKE_NS = 130_000_000_000
"""How long after the SYN the kernel may report who was called: with the third ACK (tcp(7))."""


@dataclass(slots=True)
class Network:
    """Descriptors into the namespace that is to be observed; they work from any other.

    ``packets`` None: why not stands in ``no_packets``. ``private``: nobody else uses it. ``wired``:
    a wire of ours tells of the segments, by `Observer.emit`; ``loopback``: all of them pass there.
    ``roles`` as in `RunRecord`; two hosts have two ``diags``, the client's first.
    """

    diags: tuple[socket.socket, ...]
    packets: socket.socket | None = None
    no_packets: TcpwatchError | None = None
    private: bool = False
    wired: bool = False
    loopback: bool = True
    roles: dict[str, str] = field(default_factory=dict)

    @classmethod
    def here(cls, *, private: bool = False) -> Self:
        """The calling thread's own. Raises TcpwatchError where not even the table is readable."""
        diag = sockdiag.open_socket()
        try:
            return cls((diag,), open_packet_socket(), None, private)
        except TcpwatchError as error:
            return cls((diag,), None, error, private)


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that has the socket open."""

    pid: int
    name: str


@dataclass(frozen=True, slots=True)
class Held:
    """A socket that was open when observation ended; ``remote`` has port 0 on a listener.

    ``since_ns``: in that state since then, as the table saw it. ``inode`` 0: no process has it, or
    it was never accepted. ``connection`` is its number in the timeline, where it has one.
    """

    local: SocketAddress
    remote: SocketAddress
    state: TcpState
    inode: int = 0
    since_ns: int | None = None
    holders: tuple[Holder, ...] = ()
    connection: int | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen in a window: the recording, what is concluded from it, what is still open."""

    recording: Recording
    timeline: Timeline
    held: tuple[Held, ...]

    def judge(self, expect: Mapping[str, str]) -> Judged:
        """The verdict on the paths in ``expect``, as a scenario's EXPECT."""
        record = replace(self.recording.record, expect=dict(expect))
        return judge(record, self.timeline)


class Observer:
    """Observes from its construction until `close`. One a process: tracing takes 0.1 s to set up.

    ``without`` names witnesses to do without. Raises TcpwatchError where none is to be had. Takes
    over the network's descriptors.
    """

    def __init__(self, network: Network, *, without: Collection[str] = frozenset()) -> None:
        self.network = network
        self.witnesses: list[Availability] = []
        self._windows: list[Window] = []
        self._asking = threading.Lock()
        self._pause = threading.Event()  # which nobody sets
        self._stack = ExitStack()
        self._ring: PacketRing | None = None
        self._wire: _WireLog | None = None
        self._kernel: _KernelLog | None = None
        self._table: _TableLog | None = None
        try:
            self._open(without)
        except BaseException:
            self.close()
            raise
        if not any(witness.available for witness in self.witnesses):
            self.close()
            raise TcpwatchError(
                "no witness is left to observe with", "leave one in: see `tcpwatch doctor`"
            )

    def _open(self, without: Collection[str]) -> None:
        self.witnesses.append(self._open_kernel(left_out=KERNEL in without))
        if TABLE in without:
            self.witnesses.append(_left_out(TABLE, sockdiag.BLIND_SPOTS))
        else:
            sides = ("client", "server") if len(self.network.diags) > 1 else (None,)
            samplers = [partial(self._sample, diag) for diag in self.network.diags]
            self._table = _TableLog([*zip(sides, samplers, strict=True)])
            self._stack.callback(self._table.close)
            self.witnesses.append(Availability(TABLE, True, "", "", sockdiag.BLIND_SPOTS))
        self.witnesses.append(self._open_ring(left_out=WIRE in without))

    def _open_kernel(self, *, left_out: bool) -> Availability:
        if left_out:
            return _left_out(KERNEL, kernel.BLIND_SPOTS)
        try:
            self._kernel = _KernelLog()
        except TcpwatchError as error:
            return Availability(KERNEL, False, error.message, error.remedy, kernel.BLIND_SPOTS)
        self._stack.callback(self._kernel.close)
        return Availability(KERNEL, True, "", "", kernel.BLIND_SPOTS)

    def _open_ring(self, *, left_out: bool) -> Availability:
        if left_out:
            return _left_out(WIRE, CAPTURE_BLIND_SPOTS)
        if self.network.wired:
            self._wire = _WireLog()
            return Availability(WIRE, True, "", "", CAPTURE_BLIND_SPOTS[:2])
        try:
            if self.network.packets is None:
                assert self.network.no_packets is not None
                raise self.network.no_packets
            self._ring = PacketRing(self.network.packets, "lo" if self.network.private else "")
        except TcpwatchError as error:
            return Availability(WIRE, False, error.message, error.remedy, CAPTURE_BLIND_SPOTS)
        self._stack.callback(self._ring.close)
        return Availability(WIRE, True, "", "", CAPTURE_BLIND_SPOTS)

    def window(self, *, ports: Collection[int] = frozenset()) -> Window:
        """What begins from now on; with ``ports``, only where one of them is at either end."""
        window = Window(self, frozenset(ports))
        self._windows.append(window)
        return window

    def rows(self) -> list[sockdiag.Row]:
        """The socket table now, of all hosts."""
        return [row for diag in self.network.diags for row in self._sample(diag).rows]

    def emit(self, seen: Observation) -> None:
        """What the wire tells. Any thread."""
        if self._wire is not None:
            self._wire.emit(seen)

    def until(self, condition: Callable[[list[sockdiag.Row]], bool], timeout_s: float) -> bool:
        """Looks at the table until it is as wanted; whether that came about in time."""
        deadline = time.monotonic() + timeout_s
        while not condition(self.rows()):
            if time.monotonic() > deadline:
                return False
            self._pause.wait(_PAUSE_S)
        return True

    def _sample(self, diag: socket.socket) -> sockdiag.Rows:
        with self._asking:  # one netlink socket: one question at a time
            return sockdiag.dump(diag)

    def close(self) -> None:
        """Ends every thread and gives back all that was opened. Idempotent."""
        self._stack.close()
        for diag in self.network.diags:
            diag.close()
        if self.network.packets is not None:
            self.network.packets.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------ for windows

    def look(self) -> None:
        """Notes what is in the table now."""
        if self._table is not None:
            self._table.look()

    def sync(self) -> None:
        """Returns once all is noted that had passed or was reported when it was called."""
        if self._ring is not None:
            self._ring.flush()
        if self._kernel is not None:
            self._kernel.fetch()

    def known(self) -> frozenset[FourTuple]:
        """The sockets in the table now, as their own end sees them; a listener's remote port is 0.

        Where the table was left out: none.
        """
        return self._table.known() if self._table else frozenset()

    def noted(
        self, since_ns: int, until_ns: int, old: Collection[FourTuple], ports: Collection[int]
    ) -> _Noted:
        """All that was noted of connections that began between these times."""
        conversations = Conversations()
        segments: list[Observation] = []
        began: dict[FourTuple, list[int]] = defaultdict(list)
        if self._ring is not None:
            frames = self._ring.frames(since_ns, until_ns)
            segments += _newer(conversations.observations(frames), old, began)
            segments += self._ring.gaps(since_ns, until_ns)
        if self._wire is not None:
            segments += _newer(self._wire.noted(since_ns, until_ns), old, began)
        samples = self._table.noted(since_ns, until_ns) if self._table else []
        reports: list[Observation] = []
        if self._kernel is not None:
            if (
                self._ring is None and self._wire is None
            ):  # then whoever stands in our table is ours
                for seen in samples:
                    if isinstance(seen.payload, SocketSampled):
                        whose = FourTuple(seen.payload.local, seen.payload.remote)
                        began[whose].append(seen.payload.since_ns)
            reports += _ours(_lives(self._kernel.noted(since_ns, until_ns)), began)
        samples = [seen for seen in samples if _is_new(seen, old, began)]
        together = [*reports, *segments, *samples]
        if ports:
            together = [seen for seen in together if _has_port(seen, ports)]
        together.sort(key=lambda seen: seen.t_ns)
        return _Noted(together, conversations.condensed)

    def lost(self) -> dict[str, int]:
        """How much each witness has lost so far."""
        found: dict[str, int] = {}
        for name, source in ((KERNEL, self._kernel), (TABLE, self._table), (WIRE, self._ring)):
            found[name] = source.lost if source is not None else 0
        return found

    def ended(self, window: Window) -> None:
        """What no window needs any more is let go of."""
        self._windows.remove(window)
        oldest = min((each.since_ns for each in self._windows), default=time.monotonic_ns())
        for log in (self._ring, self._wire, self._kernel, self._table):
            if log is not None:
                log.forget(oldest)


@dataclass(frozen=True, slots=True)
class _Noted:
    observations: list[Observation]
    condensed: int


class Window:
    """From its construction to `close`: what began in it. Windows may overlap."""

    def __init__(self, observer: Observer, ports: frozenset[int]) -> None:
        self._observer = observer
        self._ports = ports
        observer.look()
        self._old = observer.known()
        self.since_ns = time.monotonic_ns()
        self._started_unix_ns = time.time_ns()
        self._before = observer.lost()

    def close(
        self, name: str = "", claim: str = "", lab: Mapping[str, object] | None = None
    ) -> Observed:
        """What was seen until now; ``lab`` is for the recording's head, as is the rest."""
        observer = self._observer
        held = self._held()
        for _ in range(2):  # a long table comes in pieces: who is gone was missing twice
            observer.look()
        end_ns = time.monotonic_ns()
        observer.sync()
        noted = observer.noted(self.since_ns, end_ns, self._old, self._ports)
        observer.ended(self)
        events = tuple(_events(noted.observations, self.since_ns))
        record = self._record(name, claim, {**(lab or {})}, noted.condensed, end_ns)
        tracker = Tracker(
            attending=[one.name for one in observer.witnesses if one.available],
            newborn_only=True,
            loopback=observer.network.loopback,
            roles=observer.network.roles,
        )
        for event in events:
            tracker.feed(event)
        timeline = tracker.timeline(end_ns - self.since_ns)
        return Observed(
            Recording(record, events, complete=True), timeline, _numbered(held, timeline)
        )

    def _record(
        self, name: str, claim: str, lab: dict[str, object], condensed: int, end_ns: int
    ) -> RunRecord:
        lost = self._observer.lost()
        return RunRecord(
            name,
            claim,
            {
                "kind": "host",
                "privilege": "root" if os.geteuid() == 0 else "user",
                "kernel": platform.release(),
                "started_unix_ns": self._started_unix_ns,
                "started_ns": self.since_ns,
                "loopback": self._observer.network.loopback,
                "condensed": condensed,
                **lab,
            },
            tuple(
                {
                    "name": one.name,
                    "available": one.available,
                    "detail": one.detail,
                    "lost": lost[one.name] - self._before[one.name],
                    "blind_spots": list(one.blind_spots),
                }
                for one in self._observer.witnesses
            ),
            expect={},
            roles=dict(self._observer.network.roles),
            end_ns=end_ns - self.since_ns,
        )

    def mine(self, rows: Iterable[sockdiag.Row]) -> Iterator[sockdiag.Row]:
        """Those of the sockets that were not there before it."""
        for row in rows:
            local, remote = row.endpoints
            ports = {local.port, remote.port}
            if FourTuple(local, remote) not in self._old and ports & (self._ports or ports):
                yield row

    def _held(self) -> list[Held]:
        found = [
            Held(*row.endpoints, row.state, row.inode)
            for row in self.mine(self._observer.rows())
            if row.state is not TcpState.TIME_WAIT
        ]
        holders = holders_of({held.inode for held in found} - {0})
        return [replace(held, holders=holders.get(held.inode, ())) for held in found]


def holders_of(inodes: Collection[int]) -> dict[int, tuple[Holder, ...]]:
    """Which processes have these sockets open, as far as this user may see."""
    found: dict[int, list[Holder]] = defaultdict(list)
    if not inodes:
        return {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        pid = int(entry.name)
        with suppress(ProcessLookupError, Unsupported):
            for inode in sockets_of(pid) & set(inodes):
                found[inode].append(Holder(pid, _name_of(pid)))
    return {inode: tuple(holders) for inode, holders in found.items()}


def _name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _numbered(held: Iterable[Held], timeline: Timeline) -> tuple[Held, ...]:
    """Each with its connection's number, and with when it came into its state."""
    numbers: dict[FourTuple, tuple[int, int | None]] = {}
    for connection in timeline.connections:
        four_tuple = connection.id.four_tuple
        for endpoint in connection.endpoints:
            mine = four_tuple if endpoint.address == four_tuple.local else four_tuple.flipped
            last = endpoint.transitions[-1].t_ns if endpoint.transitions else None
            numbers[mine] = connection.number, last
    return tuple(
        replace(one, connection=found[0] if found else None, since_ns=found[1] if found else None)
        for one in held
        for found in [numbers.get(FourTuple(one.local, one.remote))]
    )


# ---------------------------------------------------------------------- what is noted


class _TableLog(TableSource):
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


class _WireLog:
    """What a wire of ours has told."""

    def __init__(self) -> None:
        self._noted: list[Observation] = []

    def emit(self, seen: Observation) -> None:
        self._noted.append(seen)

    def noted(self, since_ns: int, until_ns: int) -> list[Observation]:
        return [seen for seen in self._noted[:] if since_ns <= seen.t_ns <= until_ns]

    def forget(self, before_ns: int) -> None:
        """Nothing: it is one program's, and ends with it."""


class _KernelLog(KernelSource):
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


# ---------------------------------------------------------------------- whose is it?


def _events(observations: Iterable[Observation], start_ns: int) -> Iterator[Event]:
    for number, seen in enumerate(observations, 1):
        payload = seen.payload
        if isinstance(payload, SocketSampled | Gap):
            payload = replace(payload, since_ns=payload.since_ns - start_ns)
        yield Event(number, seen.t_ns - start_ns, seen.vantage, payload)


def _newer(
    segments: Iterable[Observation], old: Collection[FourTuple], began: dict[FourTuple, list[int]]
) -> Iterator[Observation]:
    """The segments of connections that are not ``old``, or begin anew; notes when each began."""
    for seen in segments:
        if not isinstance(seen.payload, SegmentSeen):
            yield seen
            continue
        way = FourTuple(seen.payload.src, seen.payload.dst)
        segment = seen.payload.segment
        if segment.syn and segment.ack is None and seen.payload.point is not Point.DELIVERED:
            began[way].append(seen.t_ns)
            if way.flipped != way:
                began[way.flipped].append(seen.t_ns)
        if began.get(way) or not (way in old or way.flipped in old):
            yield seen


def _is_new(
    seen: Observation, old: Collection[FourTuple], began: Mapping[FourTuple, list[int]]
) -> bool:
    """Whether a sample is of a socket that was not there before, or has begun anew since."""
    payload = seen.payload
    if not isinstance(payload, SocketSampled):
        return True
    whose = FourTuple(payload.local, payload.remote)
    if whose not in old:
        return True
    times = began.get(whose, [])
    return bool(times) and payload.since_ns >= times[0]


def _has_port(seen: Observation, ports: Collection[int]) -> bool:
    match seen.payload:
        case SegmentSeen(src=one, dst=other):
            return one.port in ports or other.port in ports
        case SocketSampled(local=one, remote=other) | StateReported(local=one, remote=other):
            return one.port in ports or other.port in ports
    return True


def _lives(reports: Iterable[Observation]) -> Iterator[list[Observation]]:
    """The reports of one socket each, from its first on: the kernel reuses an address in memory."""
    living: dict[int, list[Observation]] = {}
    for seen in reports:
        if isinstance(seen.payload, Gap):
            yield [seen]
            continue
        if not isinstance(seen.payload, StateReported):
            continue
        skaddr, before = seen.payload.skaddr, seen.payload.before
        if before in (TcpState.CLOSED, TcpState.LISTEN) and before is not seen.payload.after:
            ended = living.pop(skaddr, None)
            if ended is not None:
                yield ended
            living[skaddr] = []
        if skaddr in living:
            living[skaddr].append(seen)
    yield from living.values()


def _ours(
    lives: Iterable[list[Observation]], began: Mapping[FourTuple, list[int]]
) -> Iterator[Observation]:
    """The reports of those sockets whose SYN was seen here.

    Tracing shows the whole machine's sockets, and another namespace may use the same addresses.
    """
    for life in lives:
        last = life[-1].payload
        if isinstance(last, Gap):
            yield from life
            continue
        whose = next(
            (
                FourTuple(seen.payload.local, seen.payload.remote)
                for seen in reversed(life)
                if isinstance(seen.payload, StateReported) and seen.payload.local.port
            ),
            None,
        )
        times = began.get(whose, []) if whose else []
        first = life[0].payload
        called = isinstance(first, StateReported) and first.before is TcpState.LISTEN
        early_ns = _HANDSHAKE_NS if called else _APART_NS
        place = bisect_left(times, life[0].t_ns - early_ns)
        if place < len(times) and times[place] <= life[-1].t_ns:
            yield from life


def _left_out(name: str, blind_spots: tuple[str, ...]) -> Availability:
    return Availability(name, False, "left out by --without", "", blind_spots)
