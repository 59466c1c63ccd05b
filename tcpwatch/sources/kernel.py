"""The witness `kernel`: what the kernel's own TCP tracepoints report, from a private instance.

Owns: which events are watched, the order of time across CPUs, what was lost. Must not know what
an event means for a connection (kernel-facts: FIN_WAIT2 > CLOSE has five meanings).
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from operator import attrgetter

from tcpwatch.errors import TcpwatchError
from tcpwatch.model.events import (
    KERNEL,
    Gap,
    KernelNote,
    KernelNoted,
    Payload,
    StateReported,
    Vantage,
)
from tcpwatch.model.identity import SocketAddress
from tcpwatch.model.witness import Availability, Observation
from tcpwatch.sources.ringbuffer import Decoder, EventFormat, PageLayout, event_id, parse_page
from tcpwatch.sources.tracefs import Instance, Tracefs, own, release

BLIND_SPOTS = (
    "TIME-WAIT: the minisocket that holds it has no tracepoint",
    "FIN-WAIT-2 once its process has closed the socket, for the same reason",
    "the true start of SYN-RECEIVED: request sockets have no tracepoint",
)

_STATE_EVENT = "sock/inet_sock_set_state"
_NOTES = {f"tcp/{note.value}": note for note in KernelNote}
_VANTAGE = Vantage(KERNEL)
_INTERVAL_NS = 2_000_000
# An event is stamped before it is committed. Only an interrupt comes in between, so that after
# this long everything that was stamped can be read.
_COMMIT_NS = 200_000

Predicate = Callable[[SocketAddress, SocketAddress], bool]


def probe() -> Availability:
    """Whether the kernel can be asked: reads the event's format, makes an instance."""
    try:
        with contextlib.closing(Tracefs()) as tracefs:
            EventFormat.parse(tracefs.read(f"events/{_STATE_EVENT}/format"))
            Instance(tracefs).remove()
    except TcpwatchError as error:
        return Availability(KERNEL, False, error.message, error.remedy, BLIND_SPOTS)
    except ValueError as error:
        return Availability(KERNEL, False, str(error), "", BLIND_SPOTS)
    return Availability(KERNEL, True, "tracepoints in tracefs", "", BLIND_SPOTS)


class KernelSource:
    """Yields StateReported, KernelNoted and Gap for the sockets that ``networks`` lets pass.

    ``networks`` is asked with (local, remote); tracefs shows the sockets of the whole host.
    ``ports`` has the kernel itself leave out whatever has none of them at either end. The pages
    are read every ``interval_ns``. ``buffer_kb`` is the room a CPU has (the kernel's default is
    1.4 MB). Most of the time that making and closing one takes is the kernel's waiting for its
    RCU grace periods: do it beside other work. ``notes`` are the other events that are watched.
    Raises TcpwatchError where `probe` says no.
    """

    name = KERNEL

    def __init__(
        self,
        networks: Predicate,
        *,
        ports: Sequence[int] = (),
        interval_ns: int = _INTERVAL_NS,
        buffer_kb: int | None = None,
        notes: Collection[KernelNote] = tuple(KernelNote),
    ) -> None:
        self._networks = networks
        self._notes = notes
        self._interval_ms = max(1, interval_ns // 1_000_000)
        self._lock = threading.Lock()
        self._removal = threading.Lock()
        self._shut_down = threading.Event()
        self._closing = self._removed = False
        self._held: list[Observation] = []
        self._rest: list[Observation] = []
        self._known: set[int] = set()
        self._lost = 0
        with contextlib.ExitStack() as undo:
            self._tracefs = Tracefs()
            undo.callback(self._tracefs.close)
            self._tracefs.remove_stale()
            self._instance = Instance(self._tracefs)
            undo.callback(self._instance.remove)
            self._decoders = self._prepare(ports, buffer_kb)
            self._layout = self._read_layout()
            self._cpus = self._instance.open_cpus()
            for descriptor in self._cpus.values():
                undo.callback(release, descriptor)
            self._wake = own(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
            undo.pop_all()
        self._drained_ns = self._mark = time.monotonic_ns() - _COMMIT_NS
        self._overruns = dict.fromkeys(self._cpus, 0)

    @property
    def lost(self) -> int:
        """How many events the kernel's buffers had no room for."""
        return self._lost

    def observations(self) -> Iterator[Observation]:
        """Yields in order of time until `close`; blocks in between."""
        while True:
            batch, mark, ended = self._next()
            yield from batch
            # Only now has the consumer taken the last of them.
            self._mark = max(self._mark, mark)
            if ended:
                return

    def names(self) -> dict[int, str]:
        """What the tracer remembers of processes, also of some that have ended: pid to name."""
        with contextlib.suppress(TcpwatchError, ValueError):
            lines = self._tracefs.read("saved_cmdlines").splitlines()
            return {int(pid): name for pid, _, name in (line.partition(" ") for line in lines)}
        return {}

    def watermark(self) -> int:
        """Nothing from before this time is still to come; it lags by about the interval."""
        return self._mark

    def close(self) -> None:
        """Ends `observations` after what has happened by now, and removes the instance."""
        self._closing = True
        with self._removal:
            if self._removed:
                return
            os.eventfd_write(self._wake, 1)
            with self._lock:  # whoever waits on the wake descriptor lets go of it at once
                self._shut()
            self._instance.remove()
            self._tracefs.close()
            self._removed = True

    def _shut(self) -> None:
        """The last drain: takes all there is and lets go of every pipe."""
        try:
            self._drain()
            for cpu in self._cpus:
                self._check_overruns(cpu, time.monotonic_ns(), None)
        finally:
            self._rest = self._ordered(time.monotonic_ns() + _COMMIT_NS)
            for descriptor in (*self._cpus.values(), self._wake):
                release(descriptor)
            self._shut_down.set()

    def _next(self) -> tuple[list[Observation], int, bool]:
        """What can be handed over now, the watermark once that is done, and whether it was all."""
        with self._lock:
            if not self._closing:
                wake = select.poll()
                wake.register(self._wake, select.POLLIN)
                # Not the pipes: with a look at each of them every two milliseconds anyway, being
                # woken for every event would only cost both sides time.
                wake.poll(self._interval_ms)
                cutoff_ns = self._drain() - _COMMIT_NS
                return self._ordered(cutoff_ns), cutoff_ns, False
        self._shut_down.wait()  # `close` is at its last drain
        rest, self._rest = self._rest, []
        return rest, time.monotonic_ns(), True

    def _ordered(self, cutoff_ns: int) -> list[Observation]:
        """Takes out of what is held all that happened before the cutoff, in order."""
        ready = [seen for seen in self._held if seen.t_ns < cutoff_ns]
        self._held = [seen for seen in self._held if seen.t_ns >= cutoff_ns]
        ready.sort(key=attrgetter("t_ns"))
        return ready

    def _drain(self) -> int:
        """Reads all CPUs as far as the present; returns when it began, in nanoseconds."""
        began_ns = time.monotonic_ns()
        for cpu, descriptor in self._cpus.items():
            reached_ns = 0
            # A page's end beyond the beginning: the rest can wait, or a busy CPU would keep us.
            while reached_ns < began_ns:
                try:
                    page = os.read(descriptor, self._layout.page_octets)
                except BlockingIOError:
                    break
                if not page:
                    break
                reached_ns = self._take(cpu, page, began_ns)
        self._drained_ns = began_ns
        return began_ns

    def _take(self, cpu: str, octets: bytes, began_ns: int) -> int:
        """Takes one page; returns the time of its last record, or 0."""
        page = parse_page(octets, self._layout)
        first_ns = page.records[0][0] if page.records else began_ns
        if page.lost != 0:
            self._check_overruns(cpu, first_ns, page.lost)
        if page.problem:
            self._hold(first_ns, Gap(page.problem, None, self._drained_ns))
        for t_ns, record in page.records:
            decoder = self._decoders.get(event_id(record))
            payload = decoder.decode(record) if decoder else None
            if payload is not None and self._admits(payload):
                self._hold(t_ns, payload)
        return page.records[-1][0] if page.records else 0

    def _admits(self, payload: StateReported | KernelNoted) -> bool:
        # The kernel has wiped an aborted socket's addresses by the time it destroys it
        # (inet_reset_saddr): whoever was let in before is let in by its address in memory.
        known = payload.skaddr in self._known
        admitted = known or self._networks(payload.local, payload.remote)
        if isinstance(payload, KernelNoted) and payload.note is KernelNote.DESTROYED:
            self._known.discard(payload.skaddr)
        elif admitted and payload.skaddr:
            self._known.add(payload.skaddr)
        return admitted

    def _hold(self, t_ns: int, payload: Payload) -> None:
        # Never before what was handed over: a writer that the host stopped for longer than
        # _COMMIT_NS is late, and its time then says "not after this".
        self._held.append(Observation(max(t_ns, self._mark, self._handed_ns()), _VANTAGE, payload))

    def _handed_ns(self) -> int:
        return self._drained_ns - _COMMIT_NS

    def _check_overruns(self, cpu: str, t_ns: int, lost: int | None) -> None:
        """Holds a Gap for what the buffer lost, by the page's own count or by the statistics'."""
        if lost is None:
            lost = self._instance.overruns(cpu) - self._overruns[cpu]
        if lost > 0:
            self._overruns[cpu] += lost
            self._lost += lost
            reason = f"the trace buffer of {cpu} was full: events were overwritten"
            self._hold(t_ns, Gap(reason, lost, self._drained_ns))

    def _read_layout(self) -> PageLayout:
        # Newer kernels have it in the instance too, since its page size may differ.
        own_file = self._instance.has("events/header_page")
        text = (self._instance if own_file else self._tracefs).read("events/header_page")
        try:
            return PageLayout.parse(text)
        except ValueError as error:
            raise TcpwatchError(f"this kernel's tracing is not understood ({error})") from error

    def _prepare(self, ports: Sequence[int], buffer_kb: int | None) -> dict[int, Decoder]:
        instance = self._instance
        if buffer_kb is not None:
            instance.write("buffer_size_kb", str(buffer_kb))
        instance.write("trace_clock", "mono")
        either = " || ".join(f"sport == {port} || dport == {port}" for port in ports)
        decoders = {}
        for event, note in ((_STATE_EVENT, None), *_NOTES.items()):
            if note is not None and note not in self._notes:
                continue
            if note is not None and not instance.has(f"events/{event}"):
                continue  # an older kernel
            try:
                layout = EventFormat.parse(instance.read(f"events/{event}/format"))
                decoders[layout.id] = Decoder(layout, note)
            except ValueError as error:
                if note is None:
                    raise TcpwatchError(
                        f"this kernel's {event} is not understood ({error})"
                    ) from error
                continue
            parts = [] if note is not None else ["protocol == 6"] * ("protocol" in layout.fields)
            if either and {"sport", "dport"} <= layout.fields.keys():
                parts.append(f"({either})")
            if parts:
                instance.write(f"events/{event}/filter", " && ".join(parts))
            instance.write(f"events/{event}/enable", "1")
        return decoders
