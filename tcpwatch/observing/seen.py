"""What a block of Python did on the network: observed while it runs, asked when it has ended.

Owns: `observe`, waiting until what the block caused has come to rest, and the assertions on it. One
that evidence is missing for is Inconclusive, and never holds. Must not know a test framework.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NoReturn

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.machine.pattern import Pattern, PatternError
from tcpwatch.machine.sampled import longest_unseen_ns, sampled_match, sampled_timeline
from tcpwatch.machine.verdict import Court, judge
from tcpwatch.model.events import TABLE, Gap
from tcpwatch.model.identity import FourTuple
from tcpwatch.model.timeline import (
    Answer,
    Connection,
    Endpoint,
    Expectation,
    Judged,
    RunRecord,
    Severity,
    Timeline,
)
from tcpwatch.observing.leaks import Leak, leaks
from tcpwatch.observing.observer import Held, Network, Observed, Observer, Window
from tcpwatch.observing.ours import Ours
from tcpwatch.tcp.state import TcpState
from tcpwatch.views.cases import diffs, ladder_of

SETTLE_S = 1.0
"""What is to come comes sooner, on a busy machine too; only what stays open makes anybody wait."""

_LOOK_S = 0.002
AT_REST = frozenset({TcpState.LISTEN, TcpState.TIME_WAIT, TcpState.CLOSED})
_ROLES = {"client": "active", "server": "passive"}
_LADDERS = 3  # of connections that did not go as expected; more are only counted


class NotAsExpected(AssertionError):  # noqa: N818 - what is asserted, and no error of ours
    """What was seen is not what was expected. ``judged`` has the evidence."""

    def __init__(self, message: str, judged: Judged) -> None:
        super().__init__(message)
        self.judged = judged


class Inconclusive(NotAsExpected):
    """What was seen does not suffice to tell whether it is as expected."""


# ---------------------------------------------------------------------- the observer


class _Keeper:
    """The process's one observer, open while anybody needs it: it takes 0.1 s to open."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._observer: Observer | None = None
        self._needed = 0
        self._pid = 0
        self._held = False
        self.missing: tuple[str, ...] = ()  # the witnesses that were not to be had, and why

    def hold(self) -> None:
        """From the first block on, until `close`."""
        self._held = True

    def take(self) -> Observer:
        """Raises TcpwatchError where nothing can be observed here."""
        with self._lock:
            if self._observer is None or self._pid != os.getpid():  # a fork has no threads of ours
                self._observer = Observer(Network.here(private=private()))
                self._needed, self._pid = 0, os.getpid()
                self.missing = tuple(
                    f"{one.name}: {one.detail}"
                    for one in self._observer.witnesses
                    if not one.available
                )
            self._needed += 1
            return self._observer

    def give_back(self) -> None:
        with self._lock:
            self._needed -= 1
            if not (self._needed or self._held) and self._observer is not None:
                self._observer.close()
                self._observer = None

    def close(self) -> None:
        """At the end of all: whoever forgot to end a block leaves nothing behind."""
        with self._lock:
            self._held = False
            if self._observer is not None and self._pid == os.getpid():
                self._observer.close()
                self._observer = None


keeper = _Keeper()
atexit.register(keeper.close)


def private() -> bool:
    """Whether nobody else uses this network: `tcpwatch exec` says so."""
    return os.environ.get("TCPWATCH_EXEC") == "1"


# ---------------------------------------------------------------------- what was seen


class observe:  # noqa: N801 - reads as a verb: with observe(port=80) as seen
    """Observes the connections that a block makes, of this process and those it starts.

    ``port``: only connections with this port, or one of these, at either end, whoever makes them.
    Without it, on a network that others use too: what this process connects or listens to through
    Python's socket module, and what its children hold or listen to when the block ends. After the
    block it waits until these are closed, or ``settle_s`` pass in which nothing changes: in
    ``async with`` the event loop goes on meanwhile.

    Raises TcpwatchError where nothing can be observed.

    >>> with tcpwatch.observe() as seen, socket.create_server(("127.0.0.1", 0)) as listener:
    ...     with socket.create_connection(listener.getsockname()):
    ...         server, _ = listener.accept()
    ...     server.close()
    >>> seen.client.follows("CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > ... > TIME-WAIT")
    >>> seen.server.never("CLOSE-WAIT[>1s]")
    >>> seen.no_leaks()
    """

    def __init__(self, port: int | Collection[int] = (), *, settle_s: float = SETTLE_S) -> None:
        ports = frozenset({port} if isinstance(port, int) else port)
        for each in ports:
            if not 0 < each < 65536:
                raise TcpwatchError(f"{each} is no port", "", ExitCode.USAGE)
        self._ports, self._settle_s = ports, settle_s
        self._ours = None if ports or (private() and not _shared_with_workers()) else Ours()
        self._exempt: set[FourTuple] = set()

    def __enter__(self) -> Seen:
        self._observer = keeper.take()
        try:
            self._before = self._present()
            self._window: Window = self._observer.window(ports=self._ports)
        except BaseException:
            keeper.give_back()
            raise
        if self._ours is not None:
            self._ours.begin()
        self.seen = Seen()
        return self.seen

    def __exit__(self, *_: object) -> None:
        self._come_to_rest()
        self._end()

    async def __aenter__(self) -> Seen:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._come_to_rest)
        self._end()

    @contextmanager
    def exempting(self) -> Iterator[None]:
        """What is opened meanwhile belongs to somebody else, and is no leak of the block's."""
        before = self._present()
        yield
        self._exempt |= self._present() - before

    def _present(self) -> frozenset[FourTuple]:
        return frozenset(FourTuple(*row.endpoints) for row in self._observer.rows())

    def _come_to_rest(self) -> None:
        come_to_rest(self._moving, self._settle_s)

    def _moving(self) -> AbstractSet[object]:
        """The sockets of the block that are not yet closed."""
        found = set()
        for row in self._observer.rows():
            if row.state in AT_REST:
                continue
            mine = FourTuple(*row.endpoints)
            if mine in self._before or mine in self._exempt:
                continue
            if self._ports and not {mine.local.port, mine.remote.port} & self._ports:
                continue
            if self._ours is not None and not self._ours.may_be(mine):
                continue
            found.add((mine, row.state))
        return found

    def _end(self) -> None:
        try:
            kind = "private" if private() else "shared"
            observed = self._window.close("observed", lab={"kind": kind})
        finally:
            if self._ours is not None:
                self._ours.end()
            keeper.give_back()
        held = [
            one for one in observed.held if FourTuple(one.local, one.remote) not in self._exempt
        ]
        timeline = observed.timeline
        if self._ours is not None:
            self._ours.learn(observed.held)
        if alone(observed.recording.record):
            known = self._ours.ports if self._ours is not None else self._ports
            timeline = sampled_timeline(timeline, known)
        if self._ours is not None:
            held = [one for one in held if self._ours.holds(one)]
            connections = tuple(one for one in timeline.connections if self._ours.has(one))
            timeline = replace(timeline, connections=connections)
        self.seen.fill(observed, timeline, tuple(held))


def come_to_rest(moving: Callable[[], AbstractSet[object]], settle_s: float) -> None:
    """Until nothing is moving any more, or it has been the same for so long."""
    waiting = threading.Event()
    before, since_s = moving(), time.monotonic()
    while before and time.monotonic() - since_s <= settle_s:
        waiting.wait(_LOOK_S)
        now = moving()
        if now != before:
            before, since_s = now, time.monotonic()


@dataclass(frozen=True, slots=True)
class End:
    """One end of one connection."""

    connection: Connection
    endpoint: Endpoint

    @property
    def name(self) -> str:
        """``server of connection 2``."""
        role = next((k for k, v in _ROLES.items() if v == self.endpoint.role), self.endpoint.role)
        return f"{role} of connection {self.connection.number}"

    @property
    def path(self) -> str:
        """``CLOSED > SYN-SENT > ...``; the uncertain is ``A or B``, the unknown is left out."""
        known = [belief for belief in self.endpoint.path if len(belief.states) < len(TcpState)]
        return " > ".join(str(belief) for belief in known)

    def __str__(self) -> str:
        return f"{self.name}: {self.path}"


class Ends(Sequence[End]):
    """The ends of one role, in order of their connections' appearance."""

    def __init__(self, seen: Seen, role: str, ends: Sequence[End]) -> None:
        self._seen, self._role, self._ends = seen, role, ends

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int | slice) -> Ends:  # type: ignore[override]
        chosen = self._ends[index]
        return Ends(self._seen, self._role, [chosen] if isinstance(chosen, End) else chosen)

    def __iter__(self) -> Iterator[End]:
        return iter(self._ends)

    def follows(self, pattern: str) -> None:
        """Each went so. Raises NotAsExpected, or Inconclusive, also where there is none at all."""
        __tracebackhide__ = True
        self._check(pattern)

    def never(self, states: str) -> None:
        """None went so anywhere on its way: ``never("CLOSE-WAIT[>1s]")``. Raises as `follows`."""
        __tracebackhide__ = True
        self._check(f"never {states.strip().removeprefix('never ')}")

    def _check(self, text: str) -> None:
        __tracebackhide__ = True
        try:
            pattern = Pattern(text)
        except PatternError as error:
            raise TcpwatchError(str(error), "", ExitCode.USAGE) from None
        self._seen.check(self._role, pattern, self._ends)


class Seen:
    """What a block did, once it has ended."""

    def __init__(self) -> None:
        self._observed: Observed | None = None

    def fill(self, observed: Observed, timeline: Timeline, held: tuple[Held, ...]) -> None:
        """The block has ended. ``timeline`` and ``held``: as far as they are ours."""
        self._observed, self._timeline, self._held = observed, timeline, held

    @property
    def timeline(self) -> Timeline:
        """The block's connections, their ends' transitions, the segments between."""
        self._require_end()
        return self._timeline

    @property
    def connections(self) -> tuple[Connection, ...]:
        return self.timeline.connections

    @property
    def held(self) -> tuple[Held, ...]:
        """The sockets that were still open when the block had come to rest."""
        self._require_end()
        return self._held

    @property
    def leaks(self) -> tuple[Leak, ...]:
        """Those of them that somebody forgot to close."""
        return leaks(self.held)

    @property
    def client(self) -> Ends:
        """The ends that connected."""
        return self._ends("client")

    @property
    def server(self) -> Ends:
        """The ends that were connected to."""
        return self._ends("server")

    @property
    def missing(self) -> tuple[str, ...]:
        """The witnesses that were not there, each with the reason."""
        return tuple(
            f"{one['name']}: {one['detail']}"
            for one in self._require_end().recording.record.sources
            if not one["available"]
        )

    @property
    def judged(self) -> Judged:
        """All of it as a run, for the views: nothing is expected of it."""
        return judge(self._require_end().recording.record, self.timeline)

    def ladder(self, width: int = 80) -> str:
        """What went between the ends, drawn: a ladder for each connection."""
        return "\n".join(ladder_of(self.judged, one, width) for one in self.connections)

    def no_leaks(self) -> None:
        """No socket of the block's is left open but TIME-WAIT. Raises NotAsExpected."""
        __tracebackhide__ = True
        found = self.leaks
        if found:
            leaked = {one.held.connection for one in found}
            told = [one for one in self.connections if one.number in leaked]
            first, *more = [str(leak) for leak in found]
            lines = [f"leaked {first}", *(f"       {leak}" for leak in more)]
            self._raise(NotAsExpected, lines, [], told, failed=[f"leaked {one}" for one in found])

    def check(self, role: str, pattern: Pattern, ends: Sequence[End]) -> None:
        """Each of the ends went so. Raises as `Ends.follows`."""
        __tracebackhide__ = True
        record = self._require_end().recording.record
        pairs = [(end, self._answer(end, pattern, record)) for end in ends]
        for wanted, kind in ((False, NotAsExpected), (None, Inconclusive)):
            unmet = [(end, answer) for end, answer in pairs if answer.expectation.met is wanted]
            if unmet:
                told = "did not go" if wanted is False else "may or may not have gone"
                lines = [f"the {role} {told} as expected: {pattern.text}"]
                lines += [f"{end.name}: {answer.reason}" for end, answer in unmet[:_LADDERS]]
                if len(unmet) > _LADDERS:
                    lines.append(f"and {len(unmet) - _LADDERS} more")
                answers = [answer for _, answer in unmet]
                self._raise(kind, lines, answers, [end.connection for end, _ in unmet])
        if not pairs:
            nothing = f"no connection with a {role} was seen, so nothing tells whether it went so:"
            unseen = Answer(Expectation(role, pattern.text, None, "no connection was seen"))
            self._raise(Inconclusive, [f"{nothing} {pattern.text}"], [unseen], [])

    def _answer(self, end: End, pattern: Pattern, record: RunRecord) -> Answer:
        answer = self._as_seen(end, pattern, record)
        doubts = [*self._doubts(end, failed=answer.expectation.met is False)]
        if not doubts:
            return answer
        reason = "; ".join([*doubts, answer.reason] if answer.reason else doubts)
        return Answer(replace(answer.expectation, met=None), reason)

    def _doubts(self, end: End, *, failed: bool) -> Iterator[str]:
        """Why what the evidence says of an end may not be so."""
        for finding in self.timeline.findings:
            if finding.severity is Severity.ERROR and finding.connection == end.connection.number:
                yield finding.message
        for event in self.timeline.events if failed else ():
            if isinstance(event.payload, Gap):
                yield f"{event.vantage.source} lost evidence: {event.payload.reason}"

    def _as_seen(self, end: End, pattern: Pattern, record: RunRecord) -> Answer:
        end_ns = self.timeline.end_ns
        if not alone(record):
            return Court(record, end_ns).answer(end.name, pattern, end.endpoint)
        unseen_ns = longest_unseen_ns(self.timeline.events)
        met = sampled_match(pattern, end.endpoint, end_ns, unseen_ns)
        reason = f"the socket table alone was there to see, and sampled {end.path or 'nothing'}"
        return Answer(Expectation(end.name, pattern.text, met, reason), reason)

    def _raise(
        self,
        kind: type[NotAsExpected],
        lines: list[str],
        answers: Sequence[Answer],
        connections: Sequence[Connection],
        failed: Sequence[str] = (),
    ) -> NoReturn:
        __tracebackhide__ = True
        record = replace(self._require_end().recording.record, failed_checks=tuple(failed))
        record = replace(record, answers=tuple(answers))
        judged = judge(record, self.timeline)
        if kind is Inconclusive:
            lines += [f"without the {missing}" for missing in self.missing]
        text = ["\n".join(lines) + "\n", *diffs(judged.expectations[:_LADDERS])]
        shown = {one.number: one for one in connections}
        for number, connection in [*shown.items()][: 0 if alone(record) else _LADDERS]:
            text.append(f"connection {number}:\n{ladder_of(judged, connection)}")
        raise kind("\n".join(text), judged)

    def _ends(self, role: str) -> Ends:
        ends = [
            End(connection, endpoint)
            for connection in self.connections
            for endpoint in connection.endpoints
            if endpoint.role in (role, _ROLES[role])
        ]
        return Ends(self, role, ends)

    def _require_end(self) -> Observed:
        if self._observed is None:
            raise TcpwatchError(
                "what a block did is known when it has ended", "ask after it", ExitCode.USAGE
            )
        return self._observed


def alone(record: RunRecord) -> bool:
    """Whether the socket table was the only witness: on a fast network it sees what lasts."""
    return {str(one["name"]) for one in record.sources if one["available"]} <= {TABLE}


def _shared_with_workers() -> bool:
    """Whether pytest-xdist runs us beside others in the same network."""
    return "PYTEST_XDIST_WORKER" in os.environ
