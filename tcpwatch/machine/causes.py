"""Why a transition happened, in words: the call, the signal, the segment or the timer.

Owns: what each host did last. Must not decide whether a transition happened.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tcpwatch.machine.stimulus import Kind, Stimulus
from tcpwatch.machine.table import edges
from tcpwatch.machine.tracks import SideTrack
from tcpwatch.model.events import (
    WIRE,
    CallPhase,
    Event,
    ProcessChange,
    ProcessChanged,
    UserCall,
)
from tcpwatch.model.identity import FourTuple, SocketAddress

_CALLS = {
    Stimulus.ACTIVE_OPEN: frozenset({"connect"}),
    Stimulus.CLOSE: frozenset({"close", "shutdown"}),
    Stimulus.ABORT: frozenset({"close"}),
}
_ENDING = frozenset({Stimulus.CLOSE, Stimulus.ABORT})


@dataclass(frozen=True, slots=True)
class _Act:
    t_ns: int
    name: str
    text: str
    local: SocketAddress | None = None
    remote: SocketAddress | None = None


@dataclass(slots=True)
class Causes:
    """The acts of each host that can move a connection, oldest first."""

    _acts: dict[str, list[_Act]] = field(default_factory=dict)

    def note(self, event: Event) -> None:
        """Remembers a call that was made, or a process that was signalled or ended."""
        act = _act(event)
        if act is not None and event.vantage.side is not None:
            self._acts.setdefault(event.vantage.side, []).append(act)

    def of_stimulus(self, stimulus: Stimulus, side: SideTrack, t_ns: int) -> str:
        """The cause to show for a stimulus: the call behind it where one is known."""
        names = _CALLS.get(stimulus)
        if names is None:
            return stimulus.value
        for act in reversed(self._acts.get(side.role, ())):
            if act.t_ns > t_ns:
                continue
            if act.name in names and _concerns(act, side.four_tuple):
                return act.text
            if stimulus in _ENDING and act.name == "process":
                return act.text
        return stimulus.value

    def of_edge(self, side: SideTrack, index: int, attending: frozenset[str]) -> str:
        """The cause of a step that only a state report shows: what its edge leaves as possible."""
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
        if len(stimuli) != 1:
            return ""
        return self.of_stimulus(stimuli.pop(), side, step.t_ns)


def _concerns(act: _Act, four_tuple: FourTuple) -> bool:
    """Whether a call on that socket can be about this connection.

    An unbound socket has no address yet.
    """
    if act.remote is not None and act.remote != four_tuple.remote:
        return False
    return act.local is None or act.local.port in (0, four_tuple.local.port)


def _act(event: Event) -> _Act | None:
    payload = event.payload
    if isinstance(payload, UserCall):
        if payload.phase is not CallPhase.CALLED:
            return None
        arguments = payload.arguments if payload.call == "shutdown" else ""
        return _Act(
            event.t_ns, payload.call, f"{payload.call}({arguments})", payload.local, payload.remote
        )
    if isinstance(payload, ProcessChanged):
        if payload.change is ProcessChange.SIGNALLED and payload.signal:
            return _Act(event.t_ns, "process", payload.signal)
        if payload.change is ProcessChange.EXITED and not payload.signal:
            return _Act(event.t_ns, "process", "process exit")
    return None
