"""What Zeek would log of a connection: `conn_state` and `history` (docs.zeek.org, conn.log).

Owns: Zeek's own view of TCP, which has seven states an end and knows a connection by its first
packet, and how long it waits before it forgets one. Must not know what the machine believes: it is
for cross-checking, so nothing here follows from that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from tcpwatch.machine.gaps import Reassembly
from tcpwatch.model.timeline import Connection, SegmentTrace
from tcpwatch.tcp.segment import Segment
from tcpwatch.tcp.seq import SeqNumber

_SECOND: Final = 1_000_000_000
_ATTEMPT_NS: Final = 5 * _SECOND  # tcp_attempt_delay, and tcp_SYN_timeout
_CLOSE_NS: Final = 5 * _SECOND  # tcp_close_delay
_LINGER_NS: Final = 5 * _SECOND  # tcp_connection_linger
SESSION_NS: Final = 6 * _SECOND  # tcp_session_timer
_INACTIVITY_NS: Final = 300 * _SECOND  # tcp_inactivity_timeout
_HANDSHAKE_NS: Final = 60 * _SECOND  # udp_inactivity_timeout, which counts until it is established
_ZERO: Final = SeqNumber(0)
_TOO_FAR: Final = 1 << 20  # octets: a SYN or RST that far off is not believed


@dataclass(frozen=True, slots=True)
class ZeekConnection:
    """One line of conn.log. ``originator`` is the role of the end that Zeek calls so."""

    originator: str
    conn_state: str
    history: str


Unshown = tuple[int, Sequence[tuple[str, str, int]]]
"""Before which segment others are left out, and what they count for: role, letter (T, W or G), how
often; in order."""


def zeek_connections(
    connection: Connection, unshown: Unshown | None = None
) -> tuple[ZeekConnection, ...]:
    """What Zeek logs of it: several lines where it forgets it, or takes a SYN for another's.

    Its guess at the originator by well-known ports (``likely_server_ports``) is left out: it is
    empty unless scripts of protocols fill it.
    """
    logged: list[ZeekConnection] = []
    current: _Conn | None = None
    one, other = connection.endpoints[0].role, connection.endpoints[-1].role
    traces = connection.segments if connection.by_syn is None else connection.by_syn
    for place, trace in enumerate(traces):
        if unshown is not None and place == unshown[0] and current is not None:
            current.count_unshown(unshown[1])
        t_ns = trace.sent_ns if trace.sent_ns is not None else trace.delivered_ns or 0
        if current is not None and (current.forgotten_by(t_ns) or current.reused(trace.segment)):
            logged.append(current.logged())
            current = None
        if current is None:
            receiver = other if trace.sender == one else one
            current = _Conn(_End(trace.sender), _End(receiver), t_ns, t_ns)
        current.take(trace, t_ns)
    if current is not None:
        logged.append(current.logged())
    return tuple(logged)


class _State(Enum):
    INACTIVE = "nothing seen"
    SYN_SENT = "SYN seen"
    SYN_ACK_SENT = "SYN,ACK of the originator seen"
    PARTIAL = "data seen, no SYN"
    ESTABLISHED = "established"
    CLOSED = "FIN seen"
    RESET = "RST seen"


_OPENING: Final = frozenset({_State.SYN_SENT, _State.SYN_ACK_SENT})
_SILENT: Final = frozenset({_State.INACTIVE, _State.PARTIAL})
_UNBEGUN: Final = _OPENING | {_State.INACTIVE}


@dataclass(slots=True)
class _End:
    """One end. Sequence numbers are those of its own data; ``acked`` is what its peer has."""

    role: str
    state: _State = _State.INACTIVE
    before: _State = _State.INACTIVE
    start: SeqNumber = _ZERO
    last: SeqNumber = _ZERO
    acked: SeqNumber = _ZERO
    fin_end: int | None = None
    closed: bool = False
    once: set[str] = field(default_factory=set)
    repeated: dict[str, int] = field(default_factory=dict)  # by letter: where it stood last
    counted: dict[str, int] = field(default_factory=dict)
    data: Reassembly = field(default_factory=Reassembly)

    def become(self, state: _State) -> None:
        if state is not self.state:
            self.before, self.state = self.state, state

    def begin_at(self, start: SeqNumber, last: SeqNumber) -> None:
        self.start = self.acked = start
        self.last = last

    @property
    def clean(self) -> bool:
        """Whether a gap in its data would mean anything."""
        return self.state is _State.ESTABLISHED or (
            self.state is _State.CLOSED and self.before is _State.ESTABLISHED
        )

    @property
    def size(self) -> int:
        """Payload, by its sequence numbers."""
        size = max(self.last - self.start, self.acked - self.start)
        size -= size != 0
        return size - (self.fin_end is not None and size != 0)


@dataclass(slots=True)
class _Conn:
    """A connection as long as Zeek remembers it."""

    originator: _End
    responder: _End
    began_ns: int
    last_ns: int
    history: str = ""
    delete_ns: int | None = None
    partial: bool = False
    seen: set[str] = field(default_factory=set)

    # ------------------------------------------------------------------ how long it lasts

    def forgotten_by(self, t_ns: int) -> bool:
        """Whether one of Zeek's timers has ended it before ``t_ns``."""
        if self.delete_ns is not None:
            return t_ns >= self.delete_ns
        ends = (self.originator, self.responder)
        if self.originator.state in _OPENING and self.responder.state is _State.INACTIVE:
            return t_ns >= self.began_ns + _ATTEMPT_NS
        established = any(end.state not in _UNBEGUN for end in ends)
        patience_ns = _INACTIVITY_NS if established else _HANDSHAKE_NS
        if t_ns >= self.last_ns + patience_ns:
            return True
        over = any(end.closed for end in ends) and (
            all(end.closed for end in ends)
            or any(end.state in {_State.RESET, _State.INACTIVE} for end in ends)
        )
        return over and self._looked_at_after(self.last_ns + _LINGER_NS) <= t_ns

    def _looked_at_after(self, t_ns: int) -> int:
        """When the timer that looks for connections which are over goes off next, after that."""
        first_ns = self.began_ns + _ATTEMPT_NS
        rounds = max(-(-(t_ns + 1 - first_ns) // SESSION_NS), 0)
        return first_ns + rounds * SESSION_NS

    def reused(self, segment: Segment) -> bool:
        """Whether a SYN is another connection's."""
        if not segment.syn:
            return False
        begun = self.originator
        if segment.ack is not None:
            if self.originator.state is not _State.INACTIVE:
                return False
            begun = self.responder
        if self.originator.closed and self.responder.closed:
            return True
        if segment.seq == begun.start:
            return False
        reversed_syn = (
            segment.ack is None
            and begun.state is _State.SYN_ACK_SENT
            and self.responder.state is _State.INACTIVE
            and segment.seq == self.responder.start
        )
        return not reversed_syn

    # ------------------------------------------------------------------ a packet

    def take(self, trace: SegmentTrace, t_ns: int) -> None:
        """One packet of the connection."""
        segment, end, peer = trace.segment, self.originator, self.responder
        if trace.sender != end.role:
            end, peer = peer, end
        self._note_partial(end, segment)
        length = segment.payload_len
        seg_len = (0 if segment.rst else length) + segment.syn + segment.fin
        self._locate(end, segment, segment.seq + seg_len)
        where = segment.seq - end.start
        self._record(end, segment, where)
        told = segment.rst or peer.state is _State.CLOSED or end.state is _State.RESET
        if segment.window == 0 and not told:
            self._count(end, "W")
        if not (end.closed and peer.closed):
            self.last_ns = t_ns
        if segment.fin:
            end.fin_end = where + seg_len
        acked = self._acknowledge(peer, segment)
        self._advance(end, segment, segment.seq + seg_len)
        closing = self._move(end, peer, segment)
        if acked is not None:
            self._confirm(peer, end, acked)
        if length and not segment.rst and where >= 0 and not trace.cut:  # else it is a gap
            begins = where + segment.syn
            end.data.add(begins, begins + length, peer_has=end.acked - end.start)
        if closing:
            self._close(end, peer)
        self.seen.add(end.role)

    def _note_partial(self, end: _End, segment: Segment) -> None:
        if end.role in self.seen:
            return
        if end is self.originator:
            self.partial = not segment.syn or segment.ack is not None
        elif not self.partial:
            self.partial = not segment.syn

    def _locate(self, end: _End, segment: Segment, after: SeqNumber) -> None:
        """Where its numbers begin: at its SYN, or as if there had been one."""
        if end.state is _State.INACTIVE:
            if segment.syn:
                end.begin_at(segment.seq, after)
            else:
                end.begin_at(segment.seq + -1, segment.seq)
        elif segment.syn and (
            (end.state in _OPENING and segment.seq != end.start)
            or end.state in {_State.ESTABLISHED, _State.PARTIAL}
            or (end.state is _State.RESET and end.before is _State.INACTIVE)
        ):
            end.begin_at(segment.seq, after)

    def _acknowledge(self, peer: _End, segment: Segment) -> int | None:
        """How much of the peer's data it acknowledges; None without ACK."""
        if segment.ack is None:
            return None
        if peer.state is _State.INACTIVE:
            peer.begin_at(segment.ack + -1, segment.ack + -1)
            return 1
        acked = segment.ack - peer.start
        if acked < 0:
            return 0
        ahead = segment.ack - peer.acked
        broken = segment.ack.value == 0 and ahead > _TOO_FAR
        if not segment.rst and ahead > 0 and not broken:
            peer.acked = segment.ack
        return acked

    def _advance(self, end: _End, segment: Segment, after: SeqNumber) -> None:
        ahead = after - end.last
        if (segment.syn or segment.rst) and abs(ahead) > _TOO_FAR:
            return
        if segment.fin and end.last == end.start + 1:
            end.last = after
        elif end.state is _State.RESET:
            return
        elif ahead > 0:
            end.last = after
        elif segment.payload_len:
            self._count(end, "T")

    def _confirm(self, end: _End, peer: _End, acked: int) -> None:
        """Its peer has its data up to ``acked``: what of that was never seen is a gap."""
        if end.fin_end is not None:
            acked = min(acked, end.fin_end - 1)
        if acked <= 2 and self.partial:
            return  # a first SYN that was made up, or a keep-alive before anything else
        for _ in range(end.data.acknowledge(acked)):
            if end.clean and peer.clean:
                self._count(end, "G")

    # ------------------------------------------------------------------ history

    def _record(self, end: _End, segment: Segment, where: int) -> None:
        control = segment.syn + segment.fin + segment.rst
        if control > 1:
            self._once(end, "I" if segment.fin and segment.rst else "Q")
        elif segment.syn:
            self._unless_repeated(end, "SYN", "S" if segment.ack is None else "H", where)
        elif segment.fin:
            self._unless_repeated(end, "FIN", "F", where + segment.payload_len)
        elif segment.rst:
            self._unless_repeated(end, "RST", "R", where)
        elif segment.payload_len:
            self._once(end, "D")
        elif segment.ack is not None:
            self._once(end, "A")

    def _write(self, end: _End, letter: str) -> None:
        self.history += letter if end is self.originator else letter.lower()

    def _once(self, end: _End, letter: str) -> None:
        if letter not in end.once:
            end.once.add(letter)
            self._write(end, letter)

    def _unless_repeated(self, end: _End, kind: str, letter: str, where: int) -> None:
        if end.repeated.get(kind) != where:
            self._write(end, letter)
        end.repeated[kind] = where

    def count_unshown(self, unshown: Sequence[tuple[str, str, int]]) -> None:
        """What segments count for that are not shown."""
        for role, letter, times in unshown:
            end = self.originator if role == self.originator.role else self.responder
            if letter != "G" or (self.originator.clean and self.responder.clean):
                self._count(end, letter, times)

    def _count(self, end: _End, letter: str, times: int = 1) -> None:
        """The first, the tenth, the hundredth and so on is written."""
        before = end.counted.get(letter, 0)
        end.counted[letter] = before + times
        power = 1
        while power <= before + times:
            if power > before:
                self._write(end, letter)
            power *= 10

    # ------------------------------------------------------------------ states

    def _move(self, end: _End, peer: _End, segment: Segment) -> bool:
        """What the packet does to its sender's state; whether that closes its direction."""
        match end.state:
            case _State.INACTIVE:
                self._appear(end, peer, segment)
                return segment.fin or segment.rst
            case _State.SYN_SENT | _State.SYN_ACK_SENT:
                if segment.fin or segment.rst:
                    end.become(_State.RESET if segment.rst else _State.CLOSED)
                    return True
            case _State.ESTABLISHED | _State.PARTIAL:
                return self._leave(end, peer, segment)
            case _State.CLOSED:
                # After both FINs a RST is only the last gasp of a connection that is over.
                if segment.rst and peer.state is not _State.CLOSED:
                    end.become(_State.RESET)
                    return True
            case _State.RESET:
                pass
        return False

    def _appear(self, end: _End, peer: _End, segment: Segment) -> None:
        """The first packet of an end."""
        if segment.syn and end is self.originator:
            end.become(_State.SYN_SENT if segment.ack is None else _State.SYN_ACK_SENT)
        elif segment.syn:
            if (
                segment.ack is None
                and peer.state is _State.SYN_ACK_SENT
                and segment.seq == end.start
            ):
                self._turn_round(peer)
            if peer.state is _State.SYN_SENT:
                peer.become(_State.ESTABLISHED)
            end.become(_State.ESTABLISHED)
        if segment.fin:
            end.become(_State.CLOSED)
        if segment.rst:
            end.become(_State.RESET)
        if end.state is not _State.INACTIVE:
            return
        early = (
            end is self.responder
            and not segment.payload_len
            and self.originator.state is _State.SYN_SENT
        )
        if early:
            return  # some acknowledge a SYN before they answer it
        if segment.ack is not None and peer.state is _State.ESTABLISHED:
            end.become(_State.ESTABLISHED)  # only its SYN was missed
            self.partial = False
        else:
            end.become(_State.PARTIAL)

    def _turn_round(self, peer: _End) -> None:
        """The SYN,ACK was seen before its SYN."""
        self.originator, self.responder = self.responder, self.originator
        self.history += "^"
        self.partial = False
        peer.become(_State.ESTABLISHED)

    def _leave(self, end: _End, peer: _End, segment: Segment) -> bool:
        late_syn = segment.syn and segment.ack is None
        if late_syn and end.state is _State.PARTIAL and peer.state is _State.INACTIVE:
            end.become(_State.SYN_SENT)
        if segment.fin and not segment.rst:
            end.become(_State.CLOSED)
            if peer.state is _State.RESET and peer.before is _State.CLOSED:
                peer.become(_State.CLOSED)  # a FIN, then a RST: normal enough
        if segment.rst:
            end.become(_State.RESET)
        return segment.fin or segment.rst

    def _close(self, end: _End, peer: _End) -> None:
        if end.closed:
            return
        end.closed = True
        if end.state is _State.RESET or peer.closed or peer.state is _State.INACTIVE:
            self.delete_ns = self.last_ns + _CLOSE_NS

    # ------------------------------------------------------------------ the line

    def logged(self) -> ZeekConnection:
        return ZeekConnection(self.originator.role, self._conn_state(), self.history)

    def _conn_state(self) -> str:
        end, peer = self.originator, self.responder
        silent, peer_silent = end.state in _SILENT, peer.state in _SILENT
        if peer.state is _State.RESET:
            empty = end.state is _State.RESET and end.size == 0 and peer.size == 0
            if end.state in _OPENING or empty:
                return "REJ"
            return "RSTRH" if silent else "RSTR"
        if end.state is _State.RESET:
            if not peer_silent:
                return "RSTO"
            return "RSTOS0" if re.match(r"\^?S[^HAFGIQ]*R", self.history) else "OTH"
        if end.state is _State.CLOSED and peer.state is _State.CLOSED:
            return "SF"
        if end.state is _State.CLOSED:
            return "SH" if peer_silent else "S2"
        if peer.state is _State.CLOSED:
            return "SHR" if silent else "S3"
        if end.state is _State.SYN_SENT and peer.state is _State.INACTIVE:
            return "S0"
        if end.state is _State.ESTABLISHED and peer.state is _State.ESTABLISHED:
            return "S1"
        return "OTH"
