"""The wire's thread: reads each packet, decides, and delivers it to the other host in its time.

Owns: both ports, what is on its way, what is kept at a receiver's door, the record of what passed,
the stamps. All of it changes in this one thread; others ask through `Relay.call`.
Must not know what a scenario wants: it has rules, and obeys commands.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import itertools
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, assert_never

from tcpwatch.lab.failures import LabClosed
from tcpwatch.lab.filters import Pick
from tcpwatch.lab.gate import Gate
from tcpwatch.lab.ports import Port
from tcpwatch.model.events import (
    WIRE,
    Fate,
    Gap,
    MalformedSeen,
    Payload,
    Point,
    SegmentFate,
    SegmentSeen,
    Vantage,
)
from tcpwatch.model.identity import SocketAddress
from tcpwatch.model.witness import Observation
from tcpwatch.tcp.header import Malformed, NotTcp, TcpPacket, parse_ip

T = TypeVar("T")

_BATCH = 64  # packets read from one port before the other's turn and the deliveries
_DRAIN = 10_000  # a stack that sends faster than we read must not keep a command waiting for ever
_HISTORY = 20_000  # passages (sent or delivered) that are remembered
_FD_SETSIZE = 1024


@dataclass(eq=False)
class Rule:
    """What is done to the segments that ``pick`` takes: one of the fates of `Fate`.

    ``acted`` holds their numbers, in order of sending. ``behind`` is how many later segments of
    the same direction a REORDERED one lets pass.
    """

    fate: Fate
    pick: Pick
    delay_ns: int = 0
    copies: int = 1
    behind: int = 1
    acted: list[int] = field(default_factory=list)


@dataclass(eq=False)
class Flight:
    """A packet between its sender and its receiver. ``seen`` is None where it is not TCP."""

    packet: bytes
    by: str
    due_ns: int
    seen: SegmentSeen | None = None
    keeper: Rule | None = None  # the rule that will stop it at the receiver's door
    behind: int = 0
    waved_through: bool = False  # a person has looked at it: the gate stops it no more

    @property
    def n(self) -> int:
        """The segment's number; 0 where it is not TCP."""
        return self.seen.n if self.seen else 0


@dataclass(frozen=True, slots=True)
class Passage:
    """A segment at one point of its way. ``order`` counts passages from 1."""

    order: int
    by: str
    seen: SegmentSeen


class Relay:
    """Runs from its construction until `close`. Does not close the ports: who opened them does.

    ``ports`` maps the two hosts' names to their ports; ``emit`` takes each observation, in order
    of time, in the relay's thread. A failure of that thread is raised by the next `call`,
    `until` or `close`.
    """

    def __init__(
        self, ports: Mapping[str, Port], emit: Callable[[Observation], None], latency_ns: int
    ) -> None:
        first, second = ports
        self.peer = {first: second, second: first}
        self.changed = threading.Condition()  # notified after every change that one may wait for
        self.passages: deque[Passage] = deque(maxlen=_HISTORY)
        self.kept: list[Flight] = []  # at the receiver's door
        self._ports = dict(ports)
        self._reading = dict(ports)
        self._sink = emit
        self._latency_ns = latency_ns
        self._vantages = {side: Vantage(WIRE, side) for side in (first, second, None)}
        self._travelling: list[tuple[int, int, Flight]] = []  # a heap: due, then order
        self._order = itertools.count()
        self._passed = itertools.count(1)
        self._n = itertools.count(1)
        self._rules: list[Rule] = []
        self._commands: deque[tuple[Callable[[], object], Future[Any]]] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._busy_since: int | None = None
        self.gate = Gate(self)
        self._closing = False
        self._ended = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="wire", daemon=True)
        self._thread.start()

    # ---- asked from other threads

    def call(self, attempt: Callable[[], T | None], patience_s: float | None = None) -> T:
        """Have ``attempt`` run in the thread, again after each of its steps until it is not None.

        Returns what it gave. Raises TimeoutError after ``patience_s`` seconds, LabClosed where the
        wire closes before, or the thread's own failure.
        """
        answer: Future[T] = Future()
        with self.changed:
            self.check()
            self._commands.append((attempt, answer))
            os.eventfd_write(self._wake, 1)
        try:
            return answer.result(patience_s)
        except TimeoutError:
            if answer.cancel():
                raise
            return answer.result()  # it came just then

    def until(self, true: Callable[[], bool], patience_s: float) -> bool:
        """Wait until ``true()``, evaluated after each change; False after ``patience_s`` seconds.

        Raises LabClosed where the wire closes before, or its own failure.
        """
        with self.changed:
            self.changed.wait_for(lambda: true() or self._closing or self._ended, patience_s)
            if true():
                return True
            self.check()
            return False

    def check(self) -> None:
        """Raise what ended the thread, or LabClosed where it was asked to end."""
        if self._failure is not None:
            raise self._failure
        if self._closing or self._ended:
            raise LabClosed("the wire is closed")

    def watermark(self) -> int:
        """CLOCK_MONOTONIC nanoseconds before which nothing more will be emitted. Any thread."""
        # The order is what makes this raceless: if nobody is busy after `now` was taken, whatever
        # is stamped later is stamped after `now`.
        now_ns = time.monotonic_ns()
        busy_since = self._busy_since
        return now_ns if busy_since is None else min(now_ns, busy_since)

    def close(self) -> None:
        """End the thread; what is still on the wire is LOST. Idempotent, any other thread."""
        with self.changed:
            first = not self._closing
            self._closing = True
            if not self._ended:
                os.eventfd_write(self._wake, 1)
        self._thread.join()
        if first and self._failure is not None:
            raise self._failure

    # ---- commands: attempts for `call`, run in the thread

    def begin(self, rule: Rule) -> bool:
        """The rule holds for all that is sent from now on: what was sent before is read before."""
        self._read_ports(_DRAIN)
        self._rules.append(rule)
        return True

    def end(self, rule: Rule) -> bool | None:
        """End the rule and deliver all that it keeps, once all of that has travelled.

        What the stacks sent before now is read first, so that the rule still applies to it. The
        delivery is in order of sending and in one go: what it provokes waits in the ports.
        """
        if rule in self._rules:
            self._read_ports(_DRAIN)
            self._rules.remove(rule)
        if any(flight.keeper is rule for _, _, flight in self._travelling):
            return None
        for flight in self.kept_by(rule):
            self._release(flight)
        return True

    def release_one(self, rule: Rule, n: int | None) -> int:
        """Deliver segment ``n`` (None: the first sent) of those that the rule keeps; 0: no such."""
        for flight in self.kept_by(rule):
            if n in (None, flight.n):
                self._release(flight)
                return flight.n
        return 0

    def drop_kept(self, rule: Rule) -> list[int]:
        """Drop all that the rule keeps or will keep of what was sent before now; their numbers."""
        self._read_ports(_DRAIN)
        doomed = [flight for _, _, flight in self._travelling if flight.keeper is rule]
        self._travelling = [entry for entry in self._travelling if entry[2].keeper is not rule]
        heapq.heapify(self._travelling)
        doomed += self.kept_by(rule)
        with self.changed:
            self.kept = [flight for flight in self.kept if flight.keeper is not rule]
        for flight in sorted(doomed, key=lambda flight: flight.n):
            self.fate(flight.n, Fate.DROPPED)
        self.notify()
        return sorted(flight.n for flight in doomed)

    def inject(self, to: str, packet: bytes) -> int:
        """Hand a packet to a host at once, as if the other had sent it; its number, 0: not TCP."""
        flight = Flight(packet, self.peer[to], 0)
        t_ns = self._stamp()
        match parse_ip(packet):
            case TcpPacket() as parsed:
                flight.seen = self._seen(parsed, packet, injected=True)
                self._emit(t_ns, None, flight.seen)  # midway: no host sent it
                self._pass(flight.by, flight.seen)
            case Malformed(reason=reason):
                self._emit(t_ns, None, MalformedSeen(reason, packet))
            case NotTcp():
                pass
        self._busy_since = None
        flight.waved_through = True
        self.deliver(flight)
        return flight.n

    def is_idle(self) -> bool:
        """Whether no segment is on its way or kept, or waits in a port to be read."""
        self._read_ports(_DRAIN)
        kept = self.kept or self.gate.stopped
        return not kept and not any(flight.seen for _, _, flight in self._travelling)

    def kept_by(self, rule: Rule) -> list[Flight]:
        """What the rule keeps at the door, in order of sending."""
        return sorted((f for f in self.kept if f.keeper is rule), key=lambda flight: flight.n)

    # ---- the thread

    def _run(self) -> None:
        try:
            while not self._closing:
                self._sleep()
                self._read_ports(_BATCH)
                self._deliver_due()
                self._obey()
        except BaseException as failure:  # noqa: BLE001 - kept, and raised in the play by `check`
            self._failure = failure
        finally:
            self._finish()

    def _sleep(self) -> None:
        """Until a port has a packet, a command came, or the next delivery is due."""
        timeout_s: float | None = None
        if self._travelling:
            timeout_s = max(0, self._travelling[0][0] - time.monotonic_ns()) / 1e9
        files = [self._wake, *(port.fileno() for port in self._reading.values())]
        # select() is late by 0.1 ms at 5 ms, where poll and epoll round up to whole milliseconds.
        if max(files) < _FD_SETSIZE:
            select.select(files, (), (), timeout_s)
            return
        poll = select.poll()
        for file in files:
            poll.register(file, select.POLLIN)
        poll.poll(None if timeout_s is None else timeout_s * 1e3)

    def _obey(self) -> None:
        with contextlib.suppress(BlockingIOError):  # nobody woke us
            os.eventfd_read(self._wake)
        acted = True
        while acted:  # one that succeeds may be what another waits for
            acted = False
            for _ in range(len(self._commands)):
                attempt, answer = self._commands[0]
                given = None if answer.cancelled() else attempt()
                self._commands.popleft()
                if given is not None and answer.set_running_or_notify_cancel():
                    answer.set_result(given)
                    acted = True
                elif not answer.cancelled():
                    self._commands.append((attempt, answer))

    def _read_ports(self, most: int) -> None:
        for host, port in tuple(self._reading.items()):
            for _ in range(most):
                try:
                    packet = port.read()
                except OSError as error:
                    self._unreadable(host, error)
                    break
                if packet is None:
                    break
                self._take(host, packet)

    def _unreadable(self, host: str, error: OSError) -> None:
        t_ns = self._stamp()
        self._emit(t_ns, host, Gap(f"reading from {host}: {error.strerror}", None, t_ns))
        self._busy_since = None
        # A link that is down says so once and may come up; any other error would come for ever.
        if error.errno != errno.ENETDOWN:
            del self._reading[host]

    def _take(self, by: str, packet: bytes) -> None:
        t_ns = self._stamp()
        flight = Flight(packet, by, t_ns + self._latency_ns)
        match parse_ip(packet):
            case TcpPacket() as parsed:
                flight.seen = self._seen(parsed, packet)
                self._emit(t_ns, by, flight.seen)
                self._pass(by, flight.seen)
                self._apply_rules(flight, flight.seen)
            case Malformed(reason=reason):
                self._emit(t_ns, by, MalformedSeen(reason, packet))
                self.send(flight)
            case NotTcp():
                self.send(flight)
            case unreachable:
                assert_never(unreachable)
        self._busy_since = None

    def _apply_rules(self, flight: Flight, seen: SegmentSeen) -> None:
        """All rules that take the segment act, in order of making; a drop forestalls the rest."""
        acting = [rule for rule in self._rules if rule.pick.takes(seen, flight.by)]
        dropping = [rule for rule in acting if rule.fate is Fate.DROPPED]
        copies = 0
        for rule in dropping or acting:
            rule.acted.append(seen.n)
            if rule.fate is Fate.DELAYED:
                flight.due_ns += rule.delay_ns
                self.fate(seen.n, Fate.DELAYED)
            elif rule.fate is Fate.DUPLICATED:
                copies += rule.copies
            elif rule.fate in (Fate.HELD, Fate.REORDERED) and flight.keeper is None:
                flight.keeper, flight.behind = rule, rule.behind
        if dropping or self.gate.has_already(flight, (f for _, _, f in self._travelling)):
            self.fate(seen.n, Fate.DROPPED)
        else:
            self.send(flight)
        for _ in range(copies):
            other = self.copy(flight)
            self.fate(seen.n, Fate.DUPLICATED, copy=other.n)
            self.send(other)
        if acting:
            self.notify()

    def send(self, flight: Flight) -> None:
        """Let it travel until it is due."""
        heapq.heappush(self._travelling, (flight.due_ns, next(self._order), flight))

    def _deliver_due(self) -> None:
        now_ns = time.monotonic_ns()
        while self._travelling and self._travelling[0][0] <= now_ns:
            flight = heapq.heappop(self._travelling)[2]
            if flight.keeper is None:
                self.deliver(flight)
                continue
            if flight.keeper.fate is Fate.HELD:
                self.fate(flight.n, Fate.HELD)
            with self.changed:
                self.kept.append(flight)
                self.changed.notify_all()

    def _release(self, flight: Flight, why: Fate = Fate.RELEASED) -> None:
        with self.changed:
            self.kept.remove(flight)
        self.fate(flight.n, why)
        self.deliver(flight)

    def deliver(self, flight: Flight) -> None:
        """Hand it to its receiver; where the gate is shut, stop it there first."""
        if self.gate.stops(flight):
            return
        to = self.peer[flight.by]
        t_ns = self._stamp()
        try:
            self._ports[to].write(flight.packet)
        except OSError as error:
            if flight.seen:  # what is not TCP is no evidence, so nothing is lost with it
                self._emit(t_ns, to, Gap(f"delivering to {to}: {error.strerror}", 1, t_ns))
                self._emit(t_ns, None, SegmentFate(flight.n, Fate.LOST))
        else:
            if flight.seen:
                delivered = replace(flight.seen, point=Point.DELIVERED, raw=b"")
                self._emit(t_ns, to, delivered)
                self._pass(flight.by, delivered)
        self._busy_since = None
        if flight.seen:
            self._let_overtaken_go(flight)
        self.notify()

    def _let_overtaken_go(self, overtaker: Flight) -> None:
        for flight in sorted(self.kept, key=lambda flight: flight.n):
            keeper = flight.keeper
            if keeper is None or keeper.fate is not Fate.REORDERED:
                continue
            if flight.by == overtaker.by and flight.n < overtaker.n and flight in self.kept:
                flight.behind -= 1
                if flight.behind == 0:
                    self._release(flight, Fate.REORDERED)

    def _finish(self) -> None:
        """What is still on the wire is lost; who waits is told that nothing will come."""
        if self._failure is None:
            left = [*self.kept, *self.gate.stopped, *(flight for _, _, flight in self._travelling)]
            for flight in sorted(left, key=lambda flight: flight.n):
                if flight.seen:
                    self.fate(flight.n, Fate.LOST)
        self._busy_since = None
        with self.changed:
            self._ended = True
            commands, self._commands = self._commands, deque()
            os.close(self._wake)
            self.changed.notify_all()
        for _, answer in commands:  # one whose attempt failed is still among them
            if answer.set_running_or_notify_cancel():
                answer.set_exception(self._failure or LabClosed("the wire was closed"))

    # ---- facts

    def _stamp(self) -> int:
        """The time. From here until `_busy_since` is None again, `watermark` stays before it."""
        if self._busy_since is None:
            self._busy_since = time.monotonic_ns()
        return time.monotonic_ns()

    def _emit(self, t_ns: int, side: str | None, payload: Payload) -> None:
        self._sink(Observation(t_ns, self._vantages[side], payload))

    def copy(self, flight: Flight) -> Flight:
        """Another of the same, with a number of its own."""
        assert flight.seen is not None
        return replace(flight, seen=replace(flight.seen, n=next(self._n)))

    def fate(self, n: int, fate: Fate, copy: int | None = None) -> None:
        """Tell what was done to segment ``n``. In the thread, as all that follows."""
        already_busy = self._busy_since is not None
        self._emit(self._stamp(), None, SegmentFate(n, fate, copy))
        if not already_busy:
            self._busy_since = None

    def _seen(self, parsed: TcpPacket, packet: bytes, *, injected: bool = False) -> SegmentSeen:
        src = SocketAddress(parsed.src_ip, parsed.src_port)
        dst = SocketAddress(parsed.dst_ip, parsed.dst_port)
        n = next(self._n)
        return SegmentSeen(n, Point.SENT, src, dst, parsed.segment, injected, packet)

    def _pass(self, by: str, seen: SegmentSeen) -> None:
        with self.changed:
            self.passages.append(Passage(next(self._passed), by, seen))
            self.changed.notify_all()

    def notify(self) -> None:
        """Whoever waits may look again."""
        with self.changed:
            self.changed.notify_all()
