"""One socket, asked for by its name: where it is now, and the kernel's TCP_INFO of it.

Owns: the lookup of sock_diag (a request without a dump) and the layout of struct tcp_info. Must
not know who wants to know.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass, field

from tcpwatch.errors import TcpwatchError
from tcpwatch.sources.sockdiag import Row

_SOCK_DIAG_BY_FAMILY = 20
_REQUEST = 0x001
_NLMSG_ERROR = 2
_HEADER = struct.Struct("=IHHII")  # nlmsghdr
_REQUEST_V2 = struct.Struct("=BBBxI48s")  # inet_diag_req_v2
_ROW = struct.Struct("=BBBB48sIIIII")  # inet_diag_msg
_ATTRIBUTE = struct.Struct("=HH")
_INFO, _CONGESTION = 2, 4  # INET_DIAG_INFO, INET_DIAG_CONG
_EXTENSIONS = 1 << (_INFO - 1) | 1 << (_CONGESTION - 1)
_ANY_STATE = 0xFFFFFFFF
_NO_COOKIE = b"\xff" * 8
_SEQUENCE = 7  # one question at a time on this socket
_REPLY_OCTETS = 1 << 13

_LAYOUT = """
B state ca_state retransmits probes backoff options wscale flags
I rto ato snd_mss rcv_mss unacked sacked lost retrans fackets
I last_data_sent last_ack_sent last_data_recv last_ack_recv pmtu rcv_ssthresh rtt rttvar
I snd_ssthresh snd_cwnd advmss reordering rcv_rtt rcv_space total_retrans
Q pacing_rate max_pacing_rate bytes_acked bytes_received
I segs_out segs_in notsent_bytes min_rtt data_segs_in data_segs_out
Q delivery_rate busy_time rwnd_limited sndbuf_limited
I delivered delivered_ce
Q bytes_sent bytes_retrans
I dsack_dups reord_seen rcv_ooopack snd_wnd rcv_wnd
"""
"""struct tcp_info (linux/tcp.h) as far as it is shown; the kernel only ever appends to it."""

_FIELDS = [
    (name, code)
    for code, *names in (line.split() for line in _LAYOUT.strip().splitlines())
    for name in names
]


@dataclass(frozen=True, slots=True)
class SocketInfo:
    """One socket now. ``info`` is TCP_INFO by its C names (rtt in us, rto in us, others there).

    It is empty of a request socket and of a TIME-WAIT minisocket.
    """

    row: Row
    info: dict[str, int] = field(default_factory=dict)
    congestion: str = ""


def look_up(
    sock: socket.socket, family: int, ident: bytes, *, info: bool = False
) -> SocketInfo | None:
    """That socket by the ``id`` of its `Row`, or by `row_id`; None: there is none.

    Raises TcpwatchError where the kernel does not answer.
    """
    body = _REQUEST_V2.pack(
        family, socket.IPPROTO_TCP, _EXTENSIONS if info else 0, _ANY_STATE, ident
    )
    header = _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _REQUEST, _SEQUENCE, 0)
    try:
        sock.sendto(header + body, (0, 0))
        reply = sock.recv(_REPLY_OCTETS)
    except OSError as error:
        raise TcpwatchError(f"cannot ask the kernel for a socket ({error})") from error
    return parse_answer(reply, ident)


def parse_answer(reply: bytes, ident: bytes) -> SocketInfo | None:
    """The socket in the kernel's answer, if it is the one asked for; survives any octets."""
    start = _HEADER.size + _ROW.size
    if len(reply) < start:
        return None
    length, kind, _, sequence, _ = _HEADER.unpack_from(reply)
    if kind == _NLMSG_ERROR or sequence != _SEQUENCE:
        return None
    row = Row._make(_ROW.unpack_from(reply, _HEADER.size))
    # Where no connection has these addresses, the kernel finds the listener (__inet_lookup()).
    same = row.id[:36] == ident[:36]
    if not same or (ident[40:48] != _NO_COOKIE and row.id[40:48] != ident[40:48]):
        return None
    attributes = _attributes(reply[start : min(length, len(reply))])
    congestion = attributes.get(_CONGESTION, b"").split(b"\0")[0].decode("ascii", "replace")
    return SocketInfo(row, parse_info(attributes.get(_INFO, b"")), congestion)


def _attributes(octets: bytes) -> dict[int, bytes]:
    found = {}
    at = 0
    while at + _ATTRIBUTE.size <= len(octets):
        length, kind = _ATTRIBUTE.unpack_from(octets, at)
        if length < _ATTRIBUTE.size or at + length > len(octets):
            break
        found[kind] = octets[at + _ATTRIBUTE.size : at + length]
        at += length + 3 & ~3
    return found


def parse_info(octets: bytes) -> dict[str, int]:
    """The fields of struct tcp_info that this kernel has."""
    found = {}
    at = 0
    for name, code in _FIELDS:
        size = struct.calcsize(f"={code}")
        if at + size > len(octets):
            break
        (found[name],) = struct.unpack_from(f"={code}", octets, at)
        at += size
    return found
