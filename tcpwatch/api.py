"""tcpwatch from Python: play a scenario, observe a block, replay a file, match a pattern.

Owns: the names that `import tcpwatch` offers, and small frozen results over what the machine
concluded. Must not conclude anything itself. It is imported when one of its names is first used.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from os import PathLike
from typing import Any, Unpack

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.interruption import signals
from tcpwatch.lab.scenario import find
from tcpwatch.machine.pattern import PathElement, Pattern, PatternError
from tcpwatch.machine.verdict import Court
from tcpwatch.model.recording import Recording
from tcpwatch.model.timeline import Connection, Endpoint, Judged, Timeline, Verdict
from tcpwatch.observing.seen import End
from tcpwatch.outputs.reports import keep_run
from tcpwatch.playing.options import Options, SomeOptions
from tcpwatch.playing.session import Interrupted, Session
from tcpwatch.replaying.files import read_file
from tcpwatch.replaying.replayed import concluded
from tcpwatch.tcp.state import TcpState
from tcpwatch.views import json as json_view
from tcpwatch.views.cases import ladder_text

_LEFT, _RIGHT = ("client", "active"), ("server", "passive")


@dataclass(frozen=True, slots=True)
class Match:
    """Whether a path fits a pattern. True in a condition only where that is certain: PASS."""

    pattern: str
    path: str
    verdict: Verdict
    difference: str = ""
    """Expected (-) against witnessed (+), as lines; empty where it fits."""

    def __bool__(self) -> bool:
        return self.verdict is Verdict.PASS


@dataclass(frozen=True, slots=True)
class Result:
    """A run and the judgement on it. Times in the timeline are nanoseconds from its start."""

    judged: Judged

    @property
    def verdict(self) -> Verdict:
        return self.judged.verdict

    @property
    def passed(self) -> bool:
        return self.judged.verdict is Verdict.PASS

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it did not pass, the weightiest first."""
        return self.judged.reasons

    @property
    def timeline(self) -> Timeline:
        return self.judged.timeline

    @property
    def connections(self) -> tuple[Connection, ...]:
        return self.judged.timeline.connections

    @property
    def client(self) -> End:
        """The first connection's client, or active end. Raises LookupError where there is none."""
        return self._end(_LEFT)

    @property
    def server(self) -> End:
        """The first connection's server, or passive end. Raises LookupError."""
        return self._end(_RIGHT)

    def match(self, pattern: str, end: End | None = None) -> Match:
        """Whether an end (the first client) went so, its blind spots considered."""
        end = end or self.client
        court = Court(self.judged.record, self.timeline.end_ns)
        told = court.answer(end.name, _compiled(pattern), end.endpoint).expectation
        return Match(pattern, end.path, _VERDICTS[told.met], told.explanation)

    def ladder(self, width: int = 80) -> str:
        """The ladder, as `tcpwatch run` prints it."""
        return ladder_text(self.judged, width)

    def document(self) -> dict[str, Any]:
        """The object of `--json`."""
        return json_view.run_document(self.judged)

    def save(self, path: str | PathLike[str]) -> list[str]:
        """Writes ``path.jsonl``, ``path.txt`` and, if there are segments, ``path.pcapng``."""
        return keep_run(self.judged, path)

    def _end(self, roles: Collection[str]) -> End:
        for connection in self.connections:
            for endpoint in connection.endpoints:
                if endpoint.role in roles:
                    return End(connection, endpoint)
        raise LookupError(f"no {roles[0]} was seen")  # type: ignore[index]


_VERDICTS = {True: Verdict.PASS, False: Verdict.FAIL, None: Verdict.INCONCLUSIVE}


def play(scenario: str | PathLike[str], **options: Unpack[SomeOptions]) -> Result:
    """Plays a scenario, by its name or from a file, as `tcpwatch run` does.

    ``options`` are those of `playing.staging.Options`: latency_ms, ipv6, lab, wire, sampler,
    without, timeout_s, wait_time_wait. Raises TcpwatchError where it cannot be played, and
    KeyboardInterrupt, once all is cleared up.

    >>> run = tcpwatch.play("simultaneous-close", latency_ms=5)
    >>> run.passed
    True
    >>> print(run.client)
    client of connection 1: CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > CLOSING > TIME-WAIT
    """
    try:
        chosen = Options(**options)
    except TypeError as error:
        raise TcpwatchError(str(error), "see tcpwatch.playing.staging", ExitCode.USAGE) from None
    with ExitStack() as stack:
        stop = threading.Event()
        if threading.current_thread() is threading.main_thread():
            stop = stack.enter_context(signals())
        try:
            return Result(Session(find(str(scenario)), chosen, [], stop).run())
        except Interrupted:
            raise KeyboardInterrupt from None


def replay(path: str | PathLike[str]) -> tuple[Result, ...]:
    """The runs in a recording, or the one in a capture. Raises TcpwatchError.

    >>> (run,) = tcpwatch.replay("simultaneous-close.jsonl")
    >>> run.match("... > CLOSING > TIME-WAIT").verdict
    <Verdict.PASS: 'pass'>
    """
    return tuple(_result(recording) for recording in read_file(str(path)))


def match(pattern: str, path: str | Iterable[str | TcpState] | End | Endpoint) -> Match:
    """Whether a path, such as ``"CLOSED > SYN-SENT > CLOSED"`` or an end's, fits a pattern.

    In a path of text ``A or B`` is a state that is uncertain. Nothing is known there of the time
    spent in a state, so a pattern that asks for it is INCONCLUSIVE. Raises TcpwatchError where
    either cannot be read.

    >>> bool(tcpwatch.match("CLOSED > ... > TIME-WAIT", "CLOSED > SYN-SENT > TIME-WAIT"))
    True
    >>> tcpwatch.match("... > CLOSED", "ESTABLISHED > TIME-WAIT or CLOSED").verdict
    <Verdict.INCONCLUSIVE: 'inconclusive'>
    """
    compiled = _compiled(pattern)
    if isinstance(path, End):
        path = path.endpoint
    if isinstance(path, Endpoint):
        path = [str(belief) for belief in path.path]
    names = path.split(">") if isinstance(path, str) else [str(state) for state in path]
    try:
        elements = [
            PathElement(frozenset(map(TcpState.parse, name.split(" or "))), ended=False)
            for name in names
        ]
    except ValueError as error:
        raise TcpwatchError(str(error), "write a path as 'A > B > C'", ExitCode.USAGE) from None
    told = " > ".join(name.strip() for name in names)
    verdict = _VERDICTS[compiled.match(elements)]
    difference = "" if verdict is Verdict.PASS else f"- {pattern}\n+ {told}"
    return Match(pattern, told, verdict, difference)


def _compiled(text: str) -> Pattern:
    try:
        return Pattern(text)
    except PatternError as error:
        raise TcpwatchError(str(error), "see the README's patterns", ExitCode.USAGE) from None


def _result(recording: Recording) -> Result:
    return Result(concluded(recording))
