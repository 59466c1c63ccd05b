"""Observing whatever happens in a network namespace, until told to stop: the engine of `exec`.

Owns: the three witnesses at work beside a program that must not be slowed (they note, and take
apart afterwards), whose a socket is, what of it falls into a window of time, what is still open at
its end. Must not know who runs the program nor how anything is shown.
"""

from __future__ import annotations

import os
import platform
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
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
    SocketSampled,
)
from tcpwatch.model.identity import FourTuple, SocketAddress
from tcpwatch.model.recording import Recording
from tcpwatch.model.timeline import Judged, RunRecord, Timeline
from tcpwatch.model.witness import Availability, Observation
from tcpwatch.observing.logs import KernelLog, TableLog, WireLog
from tcpwatch.observing.whose import Passed, has_port, is_new, lives, newer, ours, stood
from tcpwatch.sources import kernel, sockdiag
from tcpwatch.sources.conversations import Conversations
from tcpwatch.sources.packetring import PacketRing, open_packet_socket
from tcpwatch.tcp.state import TcpState

CAPTURE_BLIND_SPOTS = (
    "calls: a close() whose FIN is still queued, a listen()",
    "timers: the end of TIME-WAIT, a connection given up",
    "data in segments above 4 kB: that it passed is told by the numbers of those that follow",
)

_PAUSE_S = 0.002


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
        self._wire: WireLog | None = None
        self._kernel: KernelLog | None = None
        self._table: TableLog | None = None
        try:
            self._open(without)
        except BaseException:
            self.close()
            raise
        left = [witness.name for witness in self.witnesses if witness.available]
        if left in ([], [KERNEL]):
            self.close()
            why = "the kernel alone does not tell whose sockets it reports"
            raise TcpwatchError(
                why if left else "no witness is left to observe with",
                "leave the table or the wire in: see `tcpwatch doctor`",
            )

    def _open(self, without: Collection[str]) -> None:
        self.witnesses.append(self._open_kernel(left_out=KERNEL in without))
        if TABLE in without:
            self.witnesses.append(_left_out(TABLE, sockdiag.BLIND_SPOTS))
        else:
            sides = ("client", "server") if len(self.network.diags) > 1 else (None,)
            samplers = [partial(self._sample, diag) for diag in self.network.diags]
            self._table = TableLog([*zip(sides, samplers, strict=True)])
            self._stack.callback(self._table.close)
            self.witnesses.append(Availability(TABLE, True, "", "", sockdiag.BLIND_SPOTS))
        self.witnesses.append(self._open_ring(left_out=WIRE in without))

    def _open_kernel(self, *, left_out: bool) -> Availability:
        if left_out:
            return _left_out(KERNEL, kernel.BLIND_SPOTS)
        try:
            self._kernel = KernelLog()
        except TcpwatchError as error:
            return Availability(KERNEL, False, error.message, error.remedy, kernel.BLIND_SPOTS)
        self._stack.callback(self._kernel.close)
        return Availability(KERNEL, True, "", "", kernel.BLIND_SPOTS)

    def _open_ring(self, *, left_out: bool) -> Availability:
        if left_out:
            return _left_out(WIRE, CAPTURE_BLIND_SPOTS)
        if self.network.wired:
            self._wire = WireLog()
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
        passed: dict[FourTuple, Passed] = defaultdict(Passed)
        if self._ring is not None:
            frames = self._ring.frames(since_ns, until_ns)
            segments += newer(conversations.observations(frames), old, passed)
            segments += self._ring.gaps(since_ns, until_ns)
        if self._wire is not None:
            segments += newer(self._wire.noted(since_ns, until_ns), old, passed)
        samples = self._table.noted(since_ns, until_ns) if self._table else []
        reports: list[Observation] = []
        if self._kernel is not None:
            if self._ring is None and self._wire is None:
                stood(samples, passed)
            reports += ours(lives(self._kernel.noted(since_ns, until_ns)), passed)
        samples = [seen for seen in samples if is_new(seen, old, passed)]
        together = [*reports, *segments, *samples]
        if ports:
            together = [seen for seen in together if has_port(seen, ports)]
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


def _events(observations: Iterable[Observation], start_ns: int) -> Iterator[Event]:
    for number, seen in enumerate(observations, 1):
        payload = seen.payload
        if isinstance(payload, SocketSampled | Gap):
            payload = replace(payload, since_ns=payload.since_ns - start_ns)
        yield Event(number, seen.t_ns - start_ns, seen.vantage, payload)


def _left_out(name: str, blind_spots: tuple[str, ...]) -> Availability:
    return Availability(name, False, "left out by --without", "", blind_spots)
