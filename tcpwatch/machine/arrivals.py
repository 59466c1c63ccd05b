"""Segments that were seen on their way: sent for sure, arrived perhaps. What proves that they did.

Owns: that proof, from what their receiver sends. Must not know what a segment does to a state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tcpwatch.machine.sequences import Sequences
from tcpwatch.tcp.segment import Segment


@dataclass(frozen=True, slots=True)
class Underway:
    """A segment that nothing has shown yet to have arrived.

    ``news``: an acknowledgement of all of it is one of this segment, and of no other.
    """

    n: int
    event: int
    t_ns: int
    segment: Segment
    news: bool


def is_news(segment: Segment, underway: Sequence[Underway], receiver: Sequences) -> bool:
    """Whether it ends beyond all that its receiver has acknowledged or that is under way to it."""
    if not segment.seg_len or segment.rst:
        return False
    acknowledged = receiver.last_ack_sent
    if acknowledged is not None and segment.seq_end <= acknowledged:
        return False
    latest = next((each.segment for each in reversed(underway) if each.news), None)
    return latest is None or segment.seq_end > latest.seq_end


def proven_by(
    answer: Segment, underway: Sequence[Underway], receiver: Sequences, *, opening: bool
) -> int:
    """How many of those under way had arrived when their receiver sent ``answer``.

    They are in the order in which they were seen. One that arrived, arrived after those before it,
    or makes up for them: what they acknowledged, it does too. ``opening``: the receiver may be one
    that sends neither data nor a FIN before its SYN is acknowledged.
    """
    if answer.ack is None:
        return _repeated_by(answer, underway) if answer.rst else 0
    proven = 0
    for count, each in enumerate(underway, 1):
        if each.news:  # each of them ends further on
            if each.segment.seq_end > answer.ack:
                break
            proven = count
    if proven:
        return proven
    if opening and not answer.syn and (answer.payload_len or answer.fin):
        for count, each in enumerate(underway, 1):
            ack, iss = each.segment.ack, receiver.iss
            if ack is not None and iss is not None and ack > iss:
                return count
    return 0


def _repeated_by(reset: Segment, underway: Sequence[Underway]) -> int:
    """A RST without ACK repeats the acknowledgement of what it answers (RFC 9293 3.10.7.1)."""
    for count in range(len(underway), 0, -1):
        if underway[count - 1].segment.ack == reset.seq:
            return count
    return 0
