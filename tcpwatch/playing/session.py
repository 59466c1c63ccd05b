"""The session: one loop that brings the lab, the witnesses, the tracker and the sinks together.

Owns: threads, the order of time, the beginning and the end of a run. All sources feed one queue;
an event goes on when every source has passed its time. Must not know how anything is shown.
"""

from __future__ import annotations

import heapq
import platform
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.lab.player import Lab, Loading, Outcome, Performance
from tcpwatch.lab.scenario import Scenario
from tcpwatch.machine.tracker import Tracker
from tcpwatch.machine.verdict import judge
from tcpwatch.machine.witnessing import unseen_after
from tcpwatch.model.events import KERNEL, TABLE, WIRE, Event, Gap, SocketSampled
from tcpwatch.model.timeline import Judged, RunRecord, Verdict
from tcpwatch.model.witness import Availability, Observation, Source
from tcpwatch.playing.audience import Attendant, Sink
from tcpwatch.playing.options import Options
from tcpwatch.playing.staging import Stage
from tcpwatch.tcp.state import TcpState

WITNESSES = (KERNEL, TABLE, WIRE)
_TICK_S = 0.002
_QUIET_S = 1.0  # nothing has happened for so long: what is missing will not come by itself
_STRAGGLERS_S = 0.25  # how long a slow witness is waited for once all is as expected
_TIME_WAIT_S = 65  # Linux's fixed 60 s, and some
_LATE_S = 1.0


class Interrupted(Exception):  # noqa: N818 - a person's wish, not an error
    """Ctrl-C or SIGTERM: the run ends early, in order."""


@dataclass(slots=True)
class _Order:
    """Observations of several threads, given out in order of time."""

    # Not a SimpleQueue: where a signal comes as its timeout ends, CPython 3.11 waits for ever
    # (a negative rest of the time is taken for none, _queuemodule.c).
    waiting: queue.Queue[Observation] = field(default_factory=queue.Queue)
    passed_ns: int = 0
    _heap: list[tuple[int, int, Observation]] = field(default_factory=list)
    _count: int = 0

    def ready(self, marks: Sequence[Callable[[], int]], wait_s: float) -> Iterator[Observation]:
        """Waits at most so long for something new, then gives what every source has passed."""
        with suppress(queue.Empty):
            self._push(self.waiting.get(timeout=wait_s))
        # The marks come before the queue: what lies before a mark has been put into it by then.
        passed_ns = min((mark() for mark in marks), default=time.monotonic_ns())
        while True:
            try:
                self._push(self.waiting.get_nowait())
            except queue.Empty:
                break
        while self._heap and self._heap[0][0] <= passed_ns:
            yield heapq.heappop(self._heap)[2]
        self.passed_ns = passed_ns

    def _push(self, observation: Observation) -> None:
        self._count += 1
        heapq.heappush(self._heap, (observation.t_ns, self._count, observation))


class Session:
    """One run of one scenario. `run` plays it to its verdict; used once."""

    def __init__(
        self,
        scenario: Scenario,
        options: Options,
        sinks: Sequence[Sink],
        stop: threading.Event,
        attendant: Attendant | None = None,
    ) -> None:
        self._attendant = attendant
        self._scenario = scenario
        self._options = options
        self._sinks = sinks
        self._stop = stop
        self._order = _Order()
        self._changed = threading.Condition()  # guards the tracker, which the play asks
        self._tracker = Tracker(attending=())
        self._sources: list[Source] = []
        self._threads: list[threading.Thread] = []
        self._marks: list[Callable[[], int]] = []
        self._t0_ns = 0
        self._end_ns: int | None = None  # CLOCK_MONOTONIC; what is later belongs to the clearing up
        self._events = 0
        self._last_change_ns = 0
        self._faults: list[str] = []
        self._lab_fault: Callable[[], TcpwatchError | None] = lambda: None

    # ------------------------------------------------------------------ the run

    def run(self) -> Judged:
        """Plays, watches, judges. Raises TcpwatchError before it has begun, Interrupted after.

        Whatever happens, all that was opened is closed, and the sinks are finished.
        """
        play = self._load()
        with ExitStack() as stack:
            stage = Stage(self._options, self._observe)
            stack.callback(self._join)
            stack.callback(stage.close)
            if not any(witness.available for witness in stage.witnesses):
                raise TcpwatchError(
                    "no witness is left to observe with", "leave one in: see `tcpwatch doctor`"
                )
            record = self._record(stage)
            with self._changed:
                self._tracker = Tracker(
                    roles=record.roles,
                    attending=[a.name for a in stage.witnesses if a.available],
                    newborn_only=True,
                )
            self._marks = [stage.watermark]
            self._lab_fault = lambda: stage.lab.fault
            self._watch(stage)
            for sink in self._sinks:
                sink.begin(record)
            if self._attendant is not None:
                self._attendant.staged(stage)
            self._t0_ns = self._last_change_ns = time.monotonic_ns()
            lab = Lab(
                stage.client,
                stage.server,
                stage.wire,
                self,
                note=stage.lab.note,
                folder=self._scenario.path.parent,
                port=stage.port,
                patience_s=self._options.timeout_s / 3,
            )
            reached = self._reached if self._attendant is not None else None
            performance = Performance(play, lab, self._scenario.path, reached)
            try:
                record = self._follow(performance, stage, record)
            except Interrupted:
                self._end()
                self._finish(replace(record, inconclusive=(*record.inconclusive, "interrupted")))
                raise
            finally:
                stage.stop_play()
            return self._finish(record)

    def _reached(self, line: int) -> None:
        if self._attendant is not None:
            self._attendant.reached(time.monotonic_ns() - self._t0_ns, line)

    def _load(self) -> Callable[[Lab], None]:
        """The scenario's play. Raises TcpwatchError, or Interrupted, also where it never ends."""
        loading = Loading(self._scenario)
        deadline = time.monotonic() + self._options.timeout_s
        while not loading.ended.wait(_TICK_S):
            if self._stop.is_set():
                raise Interrupted
            if time.monotonic() > deadline:
                raise TcpwatchError(
                    f"{loading.where}: the file itself does not end (--timeout)",
                    "the scenario cannot be loaded",
                    ExitCode.USAGE,
                )
        return loading.result()

    def _follow(self, performance: Performance, stage: Stage, record: RunRecord) -> RunRecord:
        """Pumps events until the play is over and what it caused has come to rest."""
        deadline = time.monotonic() + self._options.timeout_s
        while not performance.ended.is_set():
            self._pump(_TICK_S)
            if time.monotonic() > deadline:
                where = performance.where
                self._end()
                return replace(
                    record,
                    problem=f"{where}: the play did not end within {self._options.timeout_s:g} s "
                    "(--timeout)",
                )
        outcome = performance.outcome
        assert outcome is not None
        fault = stage.lab.fault
        if fault is not None:  # whatever the play then missed is no news
            outcome = Outcome(problem=fault.message)
        record = replace(
            record,
            problem=outcome.problem,
            failed_checks=(outcome.failed_check,) if outcome.failed_check else (),
            inconclusive=(
                (*record.inconclusive, outcome.unsupported)
                if outcome.unsupported
                else record.inconclusive
            ),
        )
        if not (outcome.problem or outcome.unsupported or outcome.failed_check):
            self._come_to_rest(stage, record)
        self._end()
        return record

    def _come_to_rest(self, stage: Stage, record: RunRecord) -> None:
        """Until all is as expected and every witness has seen it, or nothing happens any more."""
        met_since: float | None = None
        examined_ns = -1
        give_up = time.monotonic() + (_TIME_WAIT_S if self._options.wait_time_wait else 0)
        while True:
            self._pump(_TICK_S)
            now = time.monotonic()
            if self._waits_for_time_wait() and now < give_up:
                continue
            detained = self._attendant is not None and self._attendant.detains()
            if detained or not stage.idle():
                met_since = None
                continue
            if self._last_change_ns != examined_ns:
                examined_ns = self._last_change_ns
                met = self._judged(record, time.monotonic_ns()).verdict is Verdict.PASS
                met_since = now if met else None
            if met_since is not None:
                with self._changed:
                    settled = self._tracker.settled()
                if settled or now - met_since > _STRAGGLERS_S:
                    return
            elif time.monotonic_ns() - self._last_change_ns > _QUIET_S * 1e9:
                return

    def _waits_for_time_wait(self) -> bool:
        if not self._options.wait_time_wait:
            return False
        with self._changed:
            beliefs = [self._tracker.state(role) for role in ("client", "server")]
        return any(belief and TcpState.TIME_WAIT in belief.states for belief in beliefs)

    def _end(self) -> None:
        """Ends the observation now: what happened until now is still awaited, no more."""
        self._end_ns = time.monotonic_ns()
        late = time.monotonic() + _LATE_S
        while min(mark() for mark in self._marks) <= self._end_ns:
            if time.monotonic() > late:
                self._faults.append("a witness did not report in time")
                break
            self._pump(_TICK_S)
        self._pump(0.0)

    def _finish(self, record: RunRecord) -> Judged:
        if self._end_ns is None:
            self._end_ns = time.monotonic_ns()
        judged = self._judged(
            replace(
                record,
                sources=self._with_losses(record),
                inconclusive=(*record.inconclusive, *self._faults),
            ),
            self._end_ns,
        )
        for sink in self._sinks:
            sink.finish(judged)
        return judged

    def _judged(self, record: RunRecord, end_ns: int) -> Judged:
        with self._changed:
            timeline = self._tracker.timeline(end_ns - self._t0_ns)
        return judge(replace(record, end_ns=end_ns - self._t0_ns), timeline)

    # ------------------------------------------------------------------ the witnesses

    def _watch(self, stage: Stage) -> None:
        for source in stage.sources:
            self._sources.append(source)
            self._marks.append(source.watermark)
            thread = threading.Thread(
                target=self._listen, args=(source,), name=f"tcpwatch-{source.name}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def _join(self) -> None:
        """Waits for the sources' threads, which end once their sources are closed."""
        for thread in self._threads:
            thread.join(2.0)

    def _listen(self, source: Source) -> None:
        """A source's thread. A witness that breaks is a gap in the evidence, and is told as one."""
        try:
            for observation in source.observations():
                self._observe(observation)
        except Exception as error:  # noqa: BLE001 - told as a Gap, which ends in INCONCLUSIVE
            self._faults.append(f"the {source.name} witness broke: {type(error).__name__}: {error}")

    def _observe(self, observation: Observation) -> None:
        self._order.waiting.put(observation)

    def _pump(self, wait_s: float) -> None:
        """Takes what is ready to the tracker and the sinks. Raises Interrupted."""
        if self._stop.is_set() and self._end_ns is None:
            raise Interrupted
        for observation in self._order.ready(self._marks, wait_s):
            if observation.vantage.source in self._options.without:
                continue
            if self._end_ns is not None and observation.t_ns > self._end_ns:
                continue
            if observation.t_ns < self._t0_ns:
                continue
            self._take(observation)
        for sink in self._sinks:
            sink.tick(self._order.passed_ns - self._t0_ns)

    def _take(self, observation: Observation) -> None:
        self._events += 1
        payload = observation.payload
        if isinstance(payload, SocketSampled | Gap):
            payload = replace(payload, since_ns=payload.since_ns - self._t0_ns)
        event = Event(self._events, observation.t_ns - self._t0_ns, observation.vantage, payload)
        with self._changed:
            happening = self._tracker.feed(event)
            self._changed.notify_all()
        self._last_change_ns = time.monotonic_ns()
        for sink in self._sinks:
            sink.happened(happening)

    # ------------------------------------------------------------------ what a play asks

    def wait_for_state(
        self, role: str, state: TcpState, timeout_s: float, connection: int | None
    ) -> bool:
        """`Observer`: until the connection's end of that role is certainly in the state."""
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._is_in(role, state, connection)
                    or self._tracker.is_hopeless(role, connection)
                    or self._lab_fault()
                ),
                timeout_s,
            )
            return self._is_in(role, state, connection)

    def _is_in(self, role: str, state: TcpState, connection: int | None) -> bool:
        belief = self._tracker.state(role, connection)
        return belief is not None and belief.certain is state

    def wait_until_settled(self, timeout_s: float) -> bool:
        """`Observer`: until each witness has seen the present state of both ends."""
        with self._changed:
            return self._changed.wait_for(self._tracker.settled, timeout_s)

    def belief(self, role: str, connection: int | None) -> str:
        """`Observer`: the present state of that end, in words."""
        with self._changed:
            belief = self._tracker.state(role, connection)
        return str(belief) if belief else "no state at all"

    def doubt(self, role: str, state: TcpState, connection: int | None) -> str | None:
        """`Observer`: whether the evidence is too thin to say that the end was not in the state."""
        with self._changed:
            attending = self._tracker.attending
            doubt = self._tracker.doubt(role, connection)
            belief = self._tracker.state(role, connection)
        if doubt is None and attending <= {TABLE}:
            return f"the socket table alone may have missed {state}"
        unseen = unseen_after(belief.states, attending) if belief is not None else ()
        if doubt is None and state in unseen:
            alone = " and ".join(f"the {witness}" for witness in sorted(attending))
            return f"{alone} alone cannot see how an end becomes {state}"
        return doubt

    # ------------------------------------------------------------------ what the run is

    def _record(self, stage: Stage) -> RunRecord:
        options = self._options
        return RunRecord(
            self._scenario.name,
            self._scenario.claim,
            {
                "kind": stage.kind,
                "privilege": stage.lab.privilege,
                "kernel": platform.release(),
                "ip": 6 if options.ipv6 else 4,
                "latency_ms": options.latency_ms if stage.wire is not None else 0,
                "wire": stage.lab.wire_kind,
                "started_unix_ns": time.time_ns(),
            },
            tuple(_source(availability) for availability in stage.witnesses),
            self._scenario.expect,
            stage.roles(),
        )

    def _with_losses(self, record: RunRecord) -> tuple[dict[str, object], ...]:
        lost = {source.name: source.lost for source in self._sources}
        return tuple(
            {**source, "lost": lost.get(str(source["name"]), 0)} for source in record.sources
        )


def _source(availability: Availability) -> dict[str, object]:
    return {
        "name": availability.name,
        "available": availability.available,
        "detail": availability.detail,
        "lost": 0,
        "blind_spots": list(availability.blind_spots),
    }
