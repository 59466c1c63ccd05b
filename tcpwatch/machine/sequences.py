"""One endpoint's place in the sequence space: what it sent and was acknowledged, what it has.

Owns: the arithmetic of RFC 9293 3.4 and 3.10.7.4, windows and reassembly. Immutable: each segment
gives a new value. Must not know a state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tcpwatch.tcp.segment import Segment
from tcpwatch.tcp.seq import SeqNumber

_UNKNOWN_WINDOW = 65535
_MOST_HOLES = 256  # a peer that leaves more is hostile: Linux would have run out of memory for it
_MOST_LATE = 16  # holes that are remembered: who is late is so by little
_LEAST_MSS = 536  # RFC 9293 3.7.1: what every end takes


@dataclass(frozen=True, slots=True)
class Sequences:
    """``received`` are the octets beyond ``rcv_nxt`` that came early, as (start, end).

    ``skipped`` are those before ``snd_nxt`` that were not seen when later ones were.

    ``own_shift`` and ``peer_shift`` are the window scales that each offered: windows are scaled
    only where both did (RFC 7323 2.2).
    """

    iss: SeqNumber | None = None
    snd_una: SeqNumber | None = None
    snd_nxt: SeqNumber | None = None
    snd_edge: SeqNumber | None = None
    fin_seq: SeqNumber | None = None
    skipped: tuple[tuple[SeqNumber, SeqNumber], ...] = ()
    own_shift: int | None = None
    irs: SeqNumber | None = None
    rcv_nxt: SeqNumber | None = None
    rcv_edge: SeqNumber | None = None
    peer_shift: int | None = None
    last_ack_sent: SeqNumber | None = None
    received: tuple[tuple[SeqNumber, SeqNumber], ...] = ()
    rcv_fin: SeqNumber | None = None
    fin_received: bool = False

    # ------------------------------------------------------------------ what it sends

    def is_repeated(self, segment: Segment) -> bool:
        """Whether it has sent all of this before."""
        if segment.syn:
            # In a simultaneous open the SYN,ACK repeats the SYN's number, and is no repetition.
            answered = segment.ack is None or self.last_ack_sent is not None
            return self.iss == segment.seq and answered
        sent = self.snd_nxt is not None and segment.seq_end <= self.snd_nxt
        late = any(begins <= segment.seq < ends for begins, ends in self.skipped)
        return sent and segment.seg_len > 0 and not late

    def sent(self, segment: Segment) -> Sequences:
        """After sending it; what it acknowledges it has (see `acknowledged`)."""
        book = self
        if segment.syn and self.iss != segment.seq:
            book = replace(
                self,
                iss=segment.seq,
                snd_una=segment.seq,
                snd_nxt=segment.seq,
                own_shift=segment.window_shift,
            )
        if segment.fin and book.fin_seq is None:
            book = replace(book, fin_seq=segment.fin_seq)
        if book.snd_nxt is None or segment.seq_end > book.snd_nxt:
            skipped = self.skipped
            if book.snd_nxt is not None and segment.seq > book.snd_nxt:
                skipped = (*skipped[1 - _MOST_LATE :], (book.snd_nxt, segment.seq))
            book = replace(book, snd_nxt=segment.seq_end, skipped=skipped)
        elif self.skipped and segment.seg_len:
            book = replace(book, skipped=_without(self.skipped, segment))
        return book if segment.ack is None else book._advertised(segment, segment.ack)

    def _advertised(self, segment: Segment, ack: SeqNumber) -> Sequences:
        irs, rcv_nxt, peer_shift = self.irs, self.rcv_nxt, self.peer_shift
        if rcv_nxt is None:  # the peer's SYN was not seen, but here it is acknowledged
            rcv_nxt, irs = ack, ack + -1 if segment.syn else None
            if segment.syn and segment.window_shift is not None:
                peer_shift = 0  # who answers with the option was offered it
        scaled = not segment.syn and self.own_shift is not None and peer_shift is not None
        edge = ack + (segment.window << (self.own_shift or 0 if scaled else 0))
        if self.rcv_edge is not None and self.rcv_edge > edge:
            edge = self.rcv_edge
        return replace(
            self,
            irs=irs,
            rcv_nxt=rcv_nxt,
            rcv_edge=edge,
            peer_shift=peer_shift,
            last_ack_sent=ack,
        )

    def acknowledged(self, ack: SeqNumber) -> Sequences:
        """What it acknowledges it has, be it data in a SYN (RFC 7413) or what nobody saw arrive."""
        if self.rcv_nxt is None or ack <= self.rcv_nxt:
            return self
        covers_fin = self.rcv_fin is not None and ack > self.rcv_fin
        return replace(self, rcv_nxt=ack, fin_received=self.fin_received or covers_fin)

    def has_acknowledged_fin(self, segment: Segment) -> bool:
        """Whether it sends this once it has taken the peer's FIN."""
        if not self.fin_received or segment.ack is None or self.rcv_fin is None:
            return False
        return segment.ack > self.rcv_fin

    @property
    def may_hold_fin(self) -> bool:
        """Whether a FIN may wait behind data: the window is used up, or a segment is in flight.

        However small its congestion window, it lets one segment pass.
        """
        if self.snd_una is None or self.snd_nxt is None:
            return False
        full = self.snd_edge is not None and self.snd_nxt >= self.snd_edge
        return full or self.snd_nxt - self.snd_una >= _LEAST_MSS

    # ------------------------------------------------------------------ what it receives

    def met(self, segment: Segment) -> Sequences:
        """After the peer's SYN: where the peer's octets begin."""
        return replace(
            self,
            irs=segment.seq,
            rcv_nxt=segment.seq + 1,
            peer_shift=segment.window_shift,
            received=(),
            rcv_fin=None,
            fin_received=False,
        )

    def was_acknowledged(self, segment: Segment) -> Sequences:
        """After an acceptable acknowledgement arrived: what is out no more, how far it may send."""
        assert segment.ack is not None
        scaled = not segment.syn and self.own_shift is not None and self.peer_shift is not None
        edge = segment.ack + (segment.window << (self.peer_shift or 0 if scaled else 0))
        if self.snd_una is not None and segment.ack < self.snd_una:
            return self  # an old one
        return replace(self, snd_una=segment.ack, snd_edge=edge)

    @property
    def window(self) -> tuple[SeqNumber, SeqNumber]:
        """What it takes: from the last acknowledgement sent on, to the edge, both included.

        Linux: tcp_sequence() in tcp_input.c.
        """
        assert self.rcv_nxt is not None
        floor = self.last_ack_sent if self.last_ack_sent is not None else self.rcv_nxt
        edge = self.rcv_edge if self.rcv_edge is not None else self.rcv_nxt + _UNKNOWN_WINDOW
        return floor, edge

    def take(self, segment: Segment) -> tuple[Sequences, bool]:
        """Reassembles; and whether the FIN counts now, because all before it is there."""
        if self.fin_received or self.rcv_nxt is None or not segment.seg_len:
            return self, False
        start, end = segment.seq + segment.syn, segment.fin_seq
        rcv_fin = end if segment.fin else self.rcv_fin
        rcv_nxt: SeqNumber = self.rcv_nxt
        early = sorted([*self.received, (start, end)], key=lambda piece: piece[0] - start)
        kept: list[tuple[SeqNumber, SeqNumber]] = []
        for begins, ends in early:
            if begins <= rcv_nxt:
                rcv_nxt = max(rcv_nxt, ends)
            elif kept and begins <= kept[-1][1]:
                kept[-1] = (kept[-1][0], max(kept[-1][1], ends))
            else:
                kept.append((begins, ends))
        del kept[_MOST_HOLES:]
        book = replace(self, rcv_nxt=rcv_nxt, received=tuple(kept), rcv_fin=rcv_fin)
        if rcv_fin is None or rcv_nxt != rcv_fin:
            return book, False
        return replace(book, rcv_nxt=rcv_fin + 1, fin_received=True), True

    def taken_back(self) -> Sequences:
        """Where nothing but the peer's SYN counts: what came with its ACK was ignored with it."""
        if self.irs is None:
            return self
        rcv_nxt = self.irs + 1
        return replace(self, rcv_nxt=rcv_nxt, received=(), rcv_fin=None, fin_received=False)


def _without(
    holes: tuple[tuple[SeqNumber, SeqNumber], ...], segment: Segment
) -> tuple[tuple[SeqNumber, SeqNumber], ...]:
    """What of the holes is left once ``segment`` was seen; where it lies amid one, the rest."""
    left = []
    for begins, ends in holes:
        if segment.seq_end <= begins or segment.seq >= ends:
            left.append((begins, ends))
            continue
        if begins < segment.seq:
            left.append((begins, segment.seq))
        if segment.seq_end < ends:
            left.append((segment.seq_end, ends))
    return tuple(left[-_MOST_LATE:])
