"""How the ladder puts things: states, transitions and segments, as words in a column.

Owns: that every text from outside passes through `visible`. What processes do is `acts.py`'s.
Must not know where on the page the words stand.
"""

from __future__ import annotations

from dataclasses import dataclass

from tcpwatch.model.timeline import Basis, Belief, SegmentTrace, Transition
from tcpwatch.tcp.segment import Flags
from tcpwatch.tcp.state import TcpState
from tcpwatch.views.canvas import Span, Word, visible, words
from tcpwatch.views.palette import BAD, DIM, state_style


@dataclass(frozen=True, slots=True)
class Wording:
    """Words for one output: ``ascii_only`` where it cannot take UTF-8."""

    ascii_only: bool = False

    def safe(self, text: str) -> str:
        """Text from outside, as it may be printed."""
        return visible(text, ascii_only=self.ascii_only)

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


def title(claim: str) -> str:
    """A claim as it stands beside a name: no sentence of a text, so without its full stop."""
    return claim if claim.endswith("..") else claim.removesuffix(".")


def escaped(text: str) -> str:
    """A message that may hold text from outside, safe to print anywhere."""
    return visible(text)


def labels(trace: SegmentTrace, prefix: str = "") -> tuple[str, ...]:
    """What to call a segment, the fullest first: ``SA 0:0(0) ack 1``, ..., ``SA``."""
    flags = trace.segment.flags.letters
    if trace.injected:
        flags = f"injected {flags}"
    length = trace.segment.payload_len
    numbers = f"{trace.seq}:{trace.seq + length}({length})"
    ack = f" ack {trace.ack}" if trace.ack is not None else ""
    brief = f" ({length})" if length else ""
    takes_none = trace.segment.window == 0 and not trace.segment.flags & (Flags.SYN | Flags.RST)
    window = " win 0" if takes_none else ""
    rests = (f" {numbers}{ack}{window}", f" {numbers}{window}", f"{brief}{window}", "")
    return tuple(f"{prefix}{flags}{rest}" for rest in rests)


def segment_style(trace: SegmentTrace) -> str:
    """Segments that open, close or reset stand out from those that carry or acknowledge data."""
    if trace.segment.rst:
        return BAD
    return "1" if trace.segment.flags & (Flags.SYN | Flags.FIN) else ""
