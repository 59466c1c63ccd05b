"""Segments that no stack sent: crafted with scapy, with the numbers that their receiver expects.

Owns: how such a segment is built, and what may be concluded of sequence numbers from the segments
that passed. Must not know how it comes to its receiver.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tcpwatch.model.events import Point, SegmentSeen
from tcpwatch.model.identity import SocketAddress
from tcpwatch.tcp.segment import Flags
from tcpwatch.tcp.seq import SeqNumber


def craft(
    src: SocketAddress,
    dst: SocketAddress,
    flags: str | Flags,
    seq: int,
    ack: int | None = None,
    window: int = 65535,
    payload: bytes = b"",
    options: Sequence[tuple[str, object]] = (),
) -> bytes:
    """An IP packet (version 4 or 6, as the addresses are) with one segment and right checksums.

    ``flags`` are letters as `Flags.letters` gives them, ``options`` as scapy writes them. Numbers
    wrap at 2**32. Raises ValueError at a flag that there is not, or at addresses of two families.
    """
    from scapy.layers.inet import IP, TCP
    from scapy.layers.inet6 import IPv6

    if (":" in src.ip) != (":" in dst.ip):
        raise ValueError(f"{src} and {dst} are of different address families")
    bits = Flags.from_letters(flags) if isinstance(flags, str) else flags
    network = (IPv6 if ":" in src.ip else IP)(src=src.ip, dst=dst.ip)
    segment = TCP(
        sport=src.port,
        dport=dst.port,
        flags=int(bits),
        seq=seq % 2**32,
        ack=(ack or 0) % 2**32,
        window=window,
        options=list(options),
    )
    return bytes(network / segment / payload)


@dataclass(frozen=True, slots=True)
class Numbers:
    """What a host is known to expect next. ``None`` where no segment has told.

    ``rcv_nxt`` is what it has acknowledged, or will for what was delivered in order (RFC 9293
    3.3.1 RCV.NXT); ``snd_nxt`` the end of what it has sent.
    """

    local: SocketAddress
    remote: SocketAddress
    rcv_nxt: SeqNumber | None = None
    snd_nxt: SeqNumber | None = None


def numbers_of(
    passed: Iterable[tuple[str, SegmentSeen]],
    host: str,
    local: SocketAddress | None = None,
    remote: SocketAddress | None = None,
) -> Numbers | None:
    """What ``host`` expects, from the segments that ``passed`` (with their senders' names).

    Of the connection between ``local`` and ``remote`` where these are given, else of the one
    that was last seen. None where there is no such connection. Injected segments are left out:
    whether the receiver took one, only the segments after it tell.
    """
    mine: list[tuple[bool, SegmentSeen]] = []
    for sender, seen in passed:
        ours = sender == host
        here, there = (seen.src, seen.dst) if ours else (seen.dst, seen.src)
        if not seen.injected and local in (None, here) and remote in (None, there):
            mine.append((ours, seen))
    if not mine:
        return None
    ours, last = mine[-1]
    ends = (last.src, last.dst) if ours else (last.dst, last.src)
    iss: SeqNumber | None = None
    rcv_nxt: SeqNumber | None = None
    snd_nxt: SeqNumber | None = None
    for ours, seen in mine:
        if {seen.src, seen.dst} != set(ends):
            continue
        if ours and seen.point is Point.SENT:
            if seen.segment.syn and seen.segment.seq != iss:  # the tuple's next life
                iss, rcv_nxt, snd_nxt = seen.segment.seq, None, None
            snd_nxt = _further(snd_nxt, seen.segment.seq_end)
            rcv_nxt = _further(rcv_nxt, seen.segment.ack)
        elif not ours and seen.point is Point.DELIVERED:
            rcv_nxt = _received(rcv_nxt, seen)
    return Numbers(*ends, rcv_nxt, snd_nxt)


def _received(rcv_nxt: SeqNumber | None, seen: SegmentSeen) -> SeqNumber | None:
    segment = seen.segment
    if segment.rst:
        return rcv_nxt
    if rcv_nxt is None:
        return segment.seq_end if segment.syn else None
    return segment.seq_end if segment.seq <= rcv_nxt <= segment.seq_end else rcv_nxt


def _further(known: SeqNumber | None, new: SeqNumber | None) -> SeqNumber | None:
    return new if known is None or (new is not None and new > known) else known
