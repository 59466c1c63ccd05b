"""The primitive stimuli that move a connection: calls, what segments carry, timers.

Owns: the closed list. A segment is a *word* of these in the order of RFC 9293 3.10.7.4 (RST, SYN,
ACK of our SYN, ACK of our FIN, FIN), each settled by sequence arithmetic before it gets here.
"""

from __future__ import annotations

from enum import Enum


class Kind(Enum):
    """What brings a stimulus: the local user, the peer, or time."""

    CALL = "call"
    SEGMENT = "segment"
    TIMER = "timer"


class Stimulus(Enum):
    """What can happen to an endpoint. The value is how it is shown as a cause."""

    PASSIVE_OPEN = "passive OPEN"
    ACTIVE_OPEN = "active OPEN"
    CLOSE = "CLOSE"
    ABORT = "ABORT"
    RST = "RST received"
    SYN = "SYN received"
    SYN_ACK = "SYN,ACK received"
    ACK_OF_SYN = "ACK of SYN received"
    ACK_OF_FIN = "ACK of FIN received"
    FIN = "FIN received"
    USER_TIMEOUT = "timeout"
    TIME_WAIT_TIMEOUT = "2 MSL timeout"

    @property
    def kind(self) -> Kind:
        """Whether a call, a received segment or a timer brings it."""
        if self in _CALLS:
            return Kind.CALL
        return Kind.TIMER if self in _TIMERS else Kind.SEGMENT


_CALLS = frozenset({Stimulus.PASSIVE_OPEN, Stimulus.ACTIVE_OPEN, Stimulus.CLOSE, Stimulus.ABORT})
_TIMERS = frozenset({Stimulus.USER_TIMEOUT, Stimulus.TIME_WAIT_TIMEOUT})
