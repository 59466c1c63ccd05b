"""Why a transition happened, in words: the call, the signal, the segment or the timer.

Owns: what each host did last. Must not decide whether a transition happened.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tcpwatch.machine.sides import SideTrack
from tcpwatch.machine.stimulus import Kind, Stimulus
from tcpwatch.machine.table import edges
from tcpwatch.model.events import (
    WIRE,
    CallPhase,
    Event,
    ProcessChange,
    ProcessChanged,
    UserCall,
)
from tcpwatch.model.identity import FourTuple, SocketAddress

# The names of acts that are no calls, or mean something else than their call's name says.
_DYING, _DEAD, _READING = "a process's end", "a process that has ended", "shutdown(SHUT_RD)"
# Linux: inet_shutdown() in af_inet.c calls tcp_disconnect(), "ABORT function of RFC793", in LISTEN
# and in SYN-SENT: where a socket has no peer.
_WITHDRAWING = "shutdown() of a socket without a peer"

_CALLS = {
    Stimulus.PASSIVE_OPEN: frozenset({"listen"}),
    Stimulus.ACTIVE_OPEN: frozenset({"connect"}),
    Stimulus.CLOSE: frozenset({"close", "shutdown", _DYING, _DEAD}),
    Stimulus.ABORT: frozenset({"close", "destroy", _WITHDRAWING, _DYING}),
}
_ENDING = _CALLS[Stimulus.CLOSE] | _CALLS[Stimulus.ABORT]
_HARMLESS = frozenset(
    {"SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGWINCH"}
)

_GAVE_UP = Stimulus.USER_TIMEOUT.value

_LATE_NS = 100_000_000
"""How long after a call the wire may still stamp the RST that left within it."""


@dataclass(frozen=True, slots=True)
class _Act:
    t_ns: int
    name: str
    text: str
    key: tuple[str, int]  # the call or the process, by its number
    local: SocketAddress | None = None
    remote: SocketAddress | None = None

    def concerns(self, four_tuple: FourTuple) -> bool:
        """Whether it can be about this connection. An unbound socket has no address yet."""
        if self.remote is not None and self.remote != four_tuple.remote:
            return False
        return self.local is None or self.local.port in (0, four_tuple.local.port)


@dataclass(slots=True)
class Causes:
    """The acts of each host that can move a connection, oldest first."""

    _acts: dict[str, list[_Act]] = field(default_factory=dict)
    _over_ns: dict[tuple[str, int], int] = field(default_factory=dict)  # of a call or a process
    _dying: set[tuple[str, int]] = field(default_factory=set)

    def note(self, event: Event) -> None:
        """Remembers a call that was made, or a process that was signalled or ended."""
        host, payload = event.vantage.side, event.payload
        if host is None:
            return
        if isinstance(payload, UserCall):
            if payload.phase is CallPhase.RETURNED:
                self._over_ns["call", payload.call_id] = event.t_ns
                return
            act: _Act | None = _call(event.t_ns, payload)
        elif isinstance(payload, ProcessChanged):
            if payload.change is ProcessChange.EXITED:
                self._over_ns["process", payload.pid] = event.t_ns
            act = _end_of_process(event.t_ns, payload)
        else:
            return
        acts = self._acts.setdefault(host, [])
        if act is not None and not (act.name is _DEAD and act.key in self._dying):
            acts.append(act)
            if act.name is _DYING:
                self._dying.add(act.key)

    def knows(self, role: str) -> bool:
        """Whether that end's calls are told at all."""
        return role in self._acts

    def of_stimulus(self, stimulus: Stimulus, side: SideTrack, t_ns: int) -> str:
        """The cause to show for a stimulus: the call behind it where one is known."""
        names = _CALLS.get(stimulus)
        if names is None:
            return stimulus.value
        acts = self._acts_of(side, names, t_ns)
        if stimulus is not Stimulus.ABORT:
            return next((act.text for act in acts), stimulus.value)
        for act in acts:
            if not self._is_over(act, t_ns - _LATE_NS):
                return act.text
        # The RST of a socket that its process still holds is a timer's that gave up, keepalive's
        # for one (Linux: tcp_keepalive_timer() in tcp_timer.c); an orphan's may answer data.
        let_go = any(self._acts_of(side, _ENDING, t_ns, spent_too=True))
        return stimulus.value if let_go or not self.knows(side.role) else _GAVE_UP

    def of_edge(self, side: SideTrack, index: int, attending: frozenset[str], since_ns: int) -> str:
        """The cause of a step that only a state report shows: what its edge leaves as possible.

        ``since_ns``: what made the step happened then or later.
        """
        before, step = side.history.steps[index - 1], side.history.steps[index]
        stimuli = {
            row.stimulus
            for one in before.states
            for other in step.states
            for row in edges().get((one, other), ())
        }
        if len(stimuli) > 1 and WIRE in attending:
            # What a segment brings, the wire tells by itself.
            stimuli = {s for s in stimuli if s.kind is not Kind.SEGMENT} or stimuli
        if len(stimuli) == 1:
            return self.of_stimulus(stimuli.pop(), side, step.t_ns)
        if any(stimulus.kind is Kind.SEGMENT for stimulus in stimuli):
            return ""
        names = frozenset[str]().union(*(_CALLS.get(stimulus, ()) for stimulus in stimuli))
        acts = self._acts_of(side, names, step.t_ns)
        return next((act.text for act in acts if not self._is_over(act, since_ns)), "")

    def of_listener(self, role: str, local: SocketAddress, since_ns: int, t_ns: int) -> str:
        """The call that ended a listener of that host between the two times; "" where none did."""
        alone = FourTuple(local, SocketAddress("0.0.0.0", 0))  # noqa: S104 - nobody's address
        for act in reversed(self._acts.get(role, ())):
            if act.name in _ENDING and act.t_ns <= t_ns and act.concerns(alone):
                return "" if self._is_over(act, since_ns) else act.text
        return ""

    def _acts_of(
        self, side: SideTrack, names: Iterable[str], t_ns: int, *, spent_too: bool = False
    ) -> Iterator[_Act]:
        """Those that may have moved it, newest first. Who has moved it once is spent."""
        steps = side.history.steps
        for act in reversed(self._acts.get(side.role, ())):
            if act.name in _ENDING and act.t_ns < steps[0].t_ns:
                return  # that was before this connection
            if act.t_ns > t_ns or act.name not in names or not act.concerns(side.four_tuple):
                continue
            spent = any(step.cause == act.text and step.t_ns >= act.t_ns for step in steps)
            if spent_too or not spent:
                yield act

    def _is_over(self, act: _Act, t_ns: int) -> bool:
        """Whether it had come back, or its process was gone, by then."""
        over_ns = self._over_ns.get(act.key)
        return over_ns is not None and over_ns < t_ns


def _call(t_ns: int, call: UserCall) -> _Act:
    if call.call == "exit":
        return _Act(t_ns, _DYING, "process exit", ("process", call.pid))
    shown = f"{call.call}({call.arguments if call.call == 'shutdown' else ''})"
    name = _READING if shown == _READING else call.call
    if call.call == "shutdown" and call.remote is None:
        name = _WITHDRAWING
    return _Act(t_ns, name, shown, ("call", call.call_id), call.local, call.remote)


def _end_of_process(t_ns: int, changed: ProcessChanged) -> _Act | None:
    key = ("process", changed.pid)
    lethal = changed.signal is not None and changed.signal not in _HARMLESS
    if changed.change is ProcessChange.SIGNALLED and lethal:
        return _Act(t_ns, _DYING, changed.signal or "", key)
    if changed.change is ProcessChange.EXITED and not changed.signal:
        return _Act(t_ns, _DEAD, "process exit", key)
    return None
