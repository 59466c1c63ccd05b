"""`tcpwatch watch` without a screen: moves as a log, the recording, or the table once.

Owns: what goes to standard output and what beside it, when it ends, and its exit status. Must not
know how anything is found out or put.
"""

from __future__ import annotations

import gc
import sys
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TextIO

from tcpwatch.errors import ExitCode
from tcpwatch.machine.filtering import And, Node
from tcpwatch.machine.population import HostMove
from tcpwatch.model.events import Event, Gap, KernelNoted, SocketSampled, StateReported
from tcpwatch.model.host import Holding
from tcpwatch.model.identity import FourTuple
from tcpwatch.model.recording import encode_event, encode_foot, encode_head
from tcpwatch.model.timeline import Belief
from tcpwatch.outputs.files import open_text
from tcpwatch.tcp.state import TcpState
from tcpwatch.views.sockets import (
    MoveFacts,
    foot_lines,
    head_line,
    missing_lines,
    move_line,
    printed,
    table_lines,
)
from tcpwatch.views.wording import Wording, escaped
from tcpwatch.watching.filter import Subject, read_filter_argument
from tcpwatch.watching.watch import TICK_S, Watch, WatchOptions

_MOVES_IN_THE_END = 12  # kinds of moves that the summary counts
_HELD = 16  # events kept of a socket that is not selected yet
_ORDER = {state: index for index, state in enumerate(TcpState)}


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """What the command line asks for. ``width`` None: nothing is cut."""

    filter: tuple[str, ...] = ()
    options: WatchOptions = field(default_factory=WatchOptions)
    jsonl: str | None = None
    once: bool = False
    duration_s: float | None = None
    count: int | None = None
    quiet: bool = False
    width: int | None = None
    colour: bool = False
    ascii_only: bool = False


def watch_without_screen(settings: WatchSettings) -> int:
    """Watches until it is to end. Raises KeyboardInterrupt where somebody ends it."""
    wanted = read_filter_argument(settings.filter)
    with ExitStack() as stack:
        recording = None if settings.jsonl is None else open_text(settings.jsonl, stack)
        watch = Watch(settings.options)
        stack.callback(watch.close)
        if settings.once:
            _tell_table(watch, wanted, settings)
            return ExitCode.OK
        log = _Log(watch, wanted, settings, recording)
        try:
            log.run()
        finally:
            log.end()
    return ExitCode.OK


def _tell_table(watch: Watch, wanted: Node, settings: WatchSettings) -> None:
    """The sockets as they are now, listeners first."""
    watch.look_first()
    watch.owners.search_all()
    subject = Subject(watch)
    rows = [watch.facts(one) for one in watch.population.sockets() if subject.fits(wanted, one)]
    rows.sort(
        key=lambda facts: (
            min(map(_ORDER.__getitem__, facts.belief.states)),
            facts.local,
            facts.remote,
        )
    )
    wording = Wording(settings.ascii_only)
    for line in table_lines(rows, settings.width, wording):
        _say(printed(line, colour=settings.colour, ascii_only=settings.ascii_only))
    if any(facts.holding is Holding.UNKNOWN and facts.inode for facts in rows):
        sys.stdout.flush()
        sys.stderr.write(
            "?: a process that shows nobody here its sockets; run as root of the host\n"
        )


class _Log:
    """Moves as they happen, a line each; the recording beside them."""

    def __init__(
        self, watch: Watch, wanted: Node, settings: WatchSettings, recording: TextIO | None
    ) -> None:
        self._watch = watch
        self._wanted = wanted
        self._settings = settings
        self._wording = Wording(settings.ascii_only)
        self._subject = Subject(watch)
        self._kinds: Counter[tuple[frozenset[TcpState], frozenset[TcpState]]] = Counter()
        self._told = 0
        self._began_s = time.monotonic()
        self._log = settings.jsonl != "-" and not settings.quiet
        self._recorder = Recorder(watch, wanted, recording) if recording is not None else None

    def run(self) -> None:
        if self._recorder is not None:
            self._recorder.begin()
        first = self._watch.look_first()
        gc.freeze()  # ten thousand sockets that stay need not be looked through again and again
        self._remark(head_line(self._watch.witnesses, self._watch.whole_every_s))
        for line in missing_lines(self._watch.witnesses):
            self._remark(line)
        self._tell(first)
        while not self._is_over():
            self._watch.wait(self._pause_s())
            self._tell(self._watch.step())
            if self._recorder is not None:
                self._recorder.flush()
            for fault in self._watch.faults:
                self._remark(fault)
            self._watch.faults.clear()

    def end(self) -> None:
        """The foot of the recording, and what was seen, beside the log."""
        if self._recorder is not None:
            self._recorder.end()
        if self._settings.quiet:
            return
        most = self._kinds.most_common(_MOVES_IN_THE_END)
        moves = [(Belief(before), Belief(after), count) for (before, after), count in most]
        for line in foot_lines(self._watch.counts(), moves, self._watch.lost):
            self._remark(printed(line, colour=False, ascii_only=self._settings.ascii_only))

    def _pause_s(self) -> float:
        if self._settings.duration_s is None:
            return TICK_S
        left_s = self._began_s + self._settings.duration_s - time.monotonic()
        return max(min(TICK_S, left_s), 0.0)

    def _is_over(self) -> bool:
        settings = self._settings
        if settings.count is not None and self._told >= settings.count:
            return True
        if settings.duration_s is None:
            return False
        return time.monotonic() - self._began_s >= settings.duration_s

    def _tell(self, moves: Iterable[HostMove]) -> None:
        """All of them in one write: they may be a thousand a second."""
        lines = [line for line in map(self._line, moves) if line]
        if lines:
            sys.stdout.write("".join(lines))
            sys.stdout.flush()

    def _line(self, move: HostMove) -> str:
        """The move as a line of the log; empty where it is none."""
        if self._settings.count is not None and self._told >= self._settings.count:
            return ""
        if not self._subject.fits_move(self._wanted, move):
            return ""
        self._told += 1
        self._kinds[move.before, move.after] += 1
        if not self._log:
            return ""
        facts = self._watch.facts(move.socket)
        self._watch.owners.want({facts.inode})
        told = MoveFacts(
            self._watch.unix_ns(move.t_ns),
            Belief(move.before),
            Belief(move.after),
            move.cause,
            move.basis,
            move.gap,
            facts,
        )
        settings = self._settings
        line = move_line(told, self._wording)
        return f"{printed(line, colour=settings.colour, ascii_only=settings.ascii_only)}\n"

    def _remark(self, text: str) -> None:
        """What is no part of the log: a pipe does not get it."""
        if not self._settings.quiet:
            sys.stderr.write(f"{escaped(text)}\n")
            sys.stderr.flush()


class Recorder:
    """Writes the recording: every event, or those of the sockets that the filter has selected."""

    def __init__(self, watch: Watch, wanted: Node, out: TextIO) -> None:
        self._watch = watch
        self._wanted = wanted
        self._all = wanted == And(())
        self._subject = Subject(watch)
        self._out = out
        self._numbers = 0
        self._chosen: set[FourTuple] = set()
        self._nameless: dict[int, Event] = {}
        self._held: dict[FourTuple, list[Event]] = {}

    def begin(self) -> None:
        """The head; from now on each event is written."""
        name, claim = "watch", str(self._wanted) or "every connection of this host"
        self._line(encode_head(self._watch.run_record(name, claim)))
        self._watch.record = self._take

    def end(self) -> None:
        """The foot."""
        self._watch.record = None
        self._line(encode_foot(self._watch.run_record("", "")))
        self.flush()

    def flush(self) -> None:
        """Whoever reads along has all that was told."""
        self._out.flush()

    def _take(self, event: Event) -> None:
        payload = event.payload
        if self._all or isinstance(payload, Gap):
            self._write(event)
        elif isinstance(payload, StateReported | KernelNoted | SocketSampled):
            skaddr = 0 if isinstance(payload, SocketSampled) else payload.skaddr
            if skaddr and payload.local.port == 0:
                self._nameless[skaddr] = event  # connect() has not chosen its port yet
                return
            ends = FourTuple(payload.local, payload.remote)
            earlier = self._nameless.pop(skaddr, None)
            self._choose(ends, [event] if earlier is None else [earlier, event])

    def _choose(self, ends: FourTuple, events: list[Event]) -> None:
        """Writes what has been told of a socket as soon as it is selected, and from then on."""
        sock = self._watch.population.find(ends)
        if ends not in self._chosen:
            events = [*self._held.pop(ends, ()), *events]
            if sock is None or not self._subject.fits(self._wanted, sock):
                if sock is not None:
                    self._held[ends] = events[-_HELD:]
                return
            self._chosen.add(ends)
        for event in events:
            self._write(event)
        if sock is None:
            self._chosen.discard(ends)

    def _write(self, event: Event) -> None:
        self._numbers += 1
        self._line(encode_event(replace(event, id=self._numbers)))

    def _line(self, text: str) -> None:
        self._out.write(f"{text}\n")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
