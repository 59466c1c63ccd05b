"""How the ladder puts things: calls, processes, transitions, segments, as words in a column.

Owns: which calls are worth a line, and that every text from outside passes through `visible`.
Must not know where on the page the words stand.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

from tcpwatch.model.events import ProcessChange, ProcessChanged, UserCall
from tcpwatch.model.timeline import Basis, Belief, SegmentTrace, Transition
from tcpwatch.tcp.segment import Flags
from tcpwatch.tcp.state import TcpState
from tcpwatch.views.canvas import Span, Word, visible, words
from tcpwatch.views.palette import BAD, DIM, WARN, state_style

_UNTOLD = frozenset(
    {"socket", "bind", "setsockopt", "getsockopt", "setblocking", "settimeout", "fileno"}
    | {"getsockname", "getpeername", "fcntl", "detach"}
)
_PREPARING = frozenset({"bind", "setsockopt"})
"""Calls that move no state and that nobody waits in: told only where they fail."""

_RECEIVING = frozenset({"recv", "recvfrom", "recvmsg", "recv_into", "read", "readn", "readline"})
SENDING = frozenset({"send", "sendto", "sendall", "sendmsg", "write", "writen"})
_WITH_ARGUMENTS = SENDING | {"shutdown", "kill", "select", "poll", "epoll_wait", "ioctl"}
_ENDING = frozenset({"close", "shutdown"})
_SHOWN_BY_STATES = frozenset({"connect", "listen", "accept", "close", "shutdown"})
_WAITING = frozenset({"accept", "select", "poll", "epoll_wait", "wait", "waitpid", "sigwait"})
_EMPTY = frozenset({"", "0", "b''", 'b""', "EOF"})
_ARGUMENTS_AT_MOST = 24


@dataclass(frozen=True, slots=True)
class Wording:
    """Words for one output: ``ascii_only`` where it cannot take UTF-8."""

    ascii_only: bool = False

    def safe(self, text: str) -> str:
        """Text from outside, as it may be printed."""
        return visible(text, ascii_only=self.ascii_only)

    def made(
        self, call: UserCall, role: str | None, *, waits: bool = False, listener: bool = False
    ) -> list[Word]:
        """A call as it is made; no words where it is not worth a line.

        ``waits``: it does not come back in the same moment. ``listener``: its socket listens.
        """
        if call.call in _UNTOLD:
            return []
        arguments = self.safe(call.arguments) if call.call in _WITH_ARGUMENTS else ""
        if len(arguments) > _ARGUMENTS_AT_MOST:
            octets = sent_length(call.arguments)
            arguments = f"{octets} octets" if octets else arguments[: _ARGUMENTS_AT_MOST - 1] + "…"
        who, name = self._who(call.process, role), f"{self.safe(call.call)}({arguments})"
        if waits and call.call in _WAITING | _RECEIVING:
            return [*who, *words(f"waits in {name}", DIM)]
        whose = words("of the listener") if listener and call.call in _ENDING else []
        return [*who, (Span(name),), *whose]

    def returned(self, call: UserCall, role: str | None) -> list[Word]:
        """What a call came back with; no words where what follows shows that it succeeded."""
        option = self.safe(call.arguments.partition(",")[0]) if call.call == "setsockopt" else ""
        who, name = self._who(call.process, role), (Span(f"{self.safe(call.call)}({option})"),)
        if call.errno is not None:
            return [*who, name, *words(self.safe(call.errno), BAD)]
        result = "" if call.result is None else str(call.result)
        if call.call in _RECEIVING and call.result is not None:
            return [*who, name, *words("= EOF" if result in _EMPTY else f"= {self.safe(result)}")]
        if call.call in _UNTOLD:
            # The two ends' own preparations are noise; another process is there to show its calls.
            told = call.process != role and call.call in _PREPARING
            if not told:
                return []
            return [*who, name, *(words("= 0") if call.call == "bind" else [])]
        if call.result is None or call.call in _SHOWN_BY_STATES:
            return []
        if call.call in SENDING and sent_length(call.arguments) in (None, call.result):
            return []  # it took all
        return [*who, name, *words(f"= {self.safe(result)}")]

    def process(self, change: ProcessChanged, role: str | None) -> list[Word]:
        """A process's end, fork or signal; no words where it only began."""
        who = self._who(change.process, role)
        signal = self.safe(change.signal or "a signal")
        match change.change:
            case ProcessChange.STARTED:
                return []
            case ProcessChange.FORKED:
                return [*who, *words("begins")]
            case ProcessChange.REAPED:
                return [*who, *words("is reaped")]
            case ProcessChange.SIGNALLED:
                return [*who, *words(f"gets {signal}", WARN)]
            case ProcessChange.EXITED if change.signal is not None:
                return [*who, *words(f"killed by {signal}", BAD)]
            case ProcessChange.EXITED:
                style = WARN if change.exit_status else ""
                status = f", status {change.exit_status}" if change.exit_status else ""
                return [*who, *words(f"process exits{status}", style)]

    def transition(self, transition: Transition, was: Belief | None = None) -> list[Word]:
        """``ESTABLISHED > FIN-WAIT-1``; an uncertain end is ``A or B``, an assumed move says so.

        ``was``: what was told of this move before it was known better: ``A or B: it is A``.
        """
        before, after = self.belief(transition.before), self.belief(transition.after, bold=True)
        if was is not None:
            *others, last = self.belief(was)
            known = (Span("it is ", DIM), *after[0])
            return [*others, (*last, Span(":", DIM)), known, *after[1:]]
        moved = [*before, (Span("> ", DIM), *after[0]), *after[1:]]
        if transition.basis is Basis.ASSUMED:
            moved += words("(assumed)", DIM)
        return moved

    def belief(self, belief: Belief, *, bold: bool = False) -> list[Word]:
        """The states a belief holds, each in its colour."""
        if not belief.states:
            return words("contradiction", BAD)
        states = [state for state in TcpState if state in belief.states]
        content: list[Word] = []
        for index, state in enumerate(states):
            spans = (Span(state.value, state_style(state, bold=bold)),)
            content.append((Span("or ", DIM), *spans) if index else spans)
        return content

    def _who(self, process: str, role: str | None) -> list[Word]:
        return [] if process in ("", role) else words(f"{self.safe(process)}:", DIM)


def title(claim: str) -> str:
    """A claim as it stands beside a name: no sentence of a text, so without its full stop."""
    return claim if claim.endswith("..") else claim.removesuffix(".")


def escaped(text: str) -> str:
    """A message that may hold text from outside, safe to print anywhere."""
    return visible(text)


def sent_length(arguments: str) -> int | None:
    """How many octets a sending call was given, by its arguments; None where they do not tell."""
    counted = re.search(r"(?:^|\s)(\d+)(?: octets)?$", arguments)
    if counted:
        return int(counted[1])
    try:
        value = ast.literal_eval(arguments)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return len(value) if isinstance(value, bytes) else None


def labels(trace: SegmentTrace, prefix: str = "") -> tuple[str, ...]:
    """What to call a segment, the fullest first: ``SA 0:0(0) ack 1``, ..., ``SA``."""
    flags = trace.segment.flags.letters
    if trace.injected:
        flags = f"injected {flags}"
    length = trace.segment.payload_len
    numbers = f"{trace.seq}:{trace.seq + length}({length})"
    ack = f" ack {trace.ack}" if trace.ack is not None else ""
    brief = f" ({length})" if length else ""
    rests = (f" {numbers}{ack}", f" {numbers}", brief, "")
    return tuple(f"{prefix}{flags}{rest}" for rest in rests)


def segment_style(trace: SegmentTrace) -> str:
    """Segments that open, close or reset stand out from those that carry or acknowledge data."""
    if trace.segment.rst:
        return BAD
    return "1" if trace.segment.flags & (Flags.SYN | Flags.FIN) else ""
