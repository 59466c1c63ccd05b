"""A run as pcapng, for Wireshark: every segment once, with both ends' states as its comment.

Owns: the blocks (draft-ietf-opsawg-pcapng) with the options that scapy's writer lacks: a section's
comment, nanoseconds, interface names. A segment stands there once, when and where it was sent:
seen a second time, at its receiver, Wireshark would take it for a retransmission.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from tcpwatch.model.timeline import Connection, Endpoint, Judged, SegmentTrace, Transition
from tcpwatch.tcp.segment import Flags
from tcpwatch.views.canvas import visible

_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6  # block types
_END, _COMMENT = 0, 1  # options of any block
_APPLICATION = 4  # option of a section
_IF_NAME, _IF_TSRESOL = 2, 9  # options of an interface
_LINKTYPE_RAW = 101  # a packet begins with its IP header
_SNAPLEN = 262_144
_NANOSECONDS = b"\x09"  # 10**-9
_MS = 1_000_000
_OPTION_AT_MOST = 65_532  # octets; the length has 16 bits and is padded to 4


@dataclass(frozen=True, slots=True)
class Packet:
    """One of a file: ``t_ns`` since 1970, ``interface`` a place among the names."""

    t_ns: int
    interface: int
    octets: bytes
    original_len: int
    comment: str


def write_pcapng(judged: Judged, file: BinaryIO) -> None:
    """Writes the run's segments in order of time, dropped and lost ones too.

    Times are absolute where the lab's record has ``started_unix_ns``, else they count from 1970.
    A segment whose octets were not recorded is written as headers only.
    """
    verdict = f"{judged.record.scenario}: {judged.verdict.value.upper()}"
    claim = "; ".join([verdict, judged.record.claim, *judged.reasons])
    names = _interfaces(judged.timeline.connections)
    start_ns = judged.record.lab.get("started_unix_ns")
    base_ns = start_ns if isinstance(start_ns, int) else 0
    packets = [p for c in judged.timeline.connections for p in _packets(c, names, base_ns)]
    write_packets(file, claim, names, sorted(packets, key=lambda packet: packet.t_ns))


def write_packets(
    file: BinaryIO, said: str, names: Sequence[str], packets: Iterable[Packet]
) -> None:
    """Writes packets in that order; ``said`` is the file's comment, ``names`` its interfaces'."""
    options = [(_COMMENT, _plain(said).encode()), (_APPLICATION, b"tcpwatch")]
    # Byte order magic, version 1.0, length of the section not given.
    file.write(_block(_SECTION, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1), options))
    for name in names:
        described = [(_IF_NAME, _plain(name).encode()), (_IF_TSRESOL, _NANOSECONDS)]
        file.write(_block(_INTERFACE, struct.pack("<HHI", _LINKTYPE_RAW, 0, _SNAPLEN), described))
    for packet in packets:
        t_ns = max(packet.t_ns, 0)
        head = (packet.interface, t_ns >> 32, t_ns & 0xFFFFFFFF, len(packet.octets))
        body = struct.pack("<IIIII", *head, packet.original_len) + _padded(packet.octets)
        file.write(_block(_PACKET, body, [(_COMMENT, _plain(packet.comment).encode())]))


def _interfaces(connections: Sequence[Connection]) -> list[str]:
    """One a host, named for its role: where its segments leave it."""
    roles = [end.role for connection in connections for end in connection.endpoints]
    return list(dict.fromkeys(roles)) or ["wire"]


def _packets(connection: Connection, names: Sequence[str], base_ns: int) -> Iterator[Packet]:
    for trace in connection.segments:
        # What no stack sent (a crafted segment, a copy) was first seen where it arrived.
        t_ns = trace.sent_ns if trace.sent_ns is not None else trace.delivered_ns
        if t_ns is None or trace.sender not in names:
            continue
        octets, original_len = _octets(trace, connection)
        comment = _comment(trace, connection)
        yield Packet(base_ns + t_ns, names.index(trace.sender), octets, original_len, comment)


def _comment(trace: SegmentTrace, connection: Connection) -> str:
    """``sent at 20.1 ms, delivered at 40.2 ms; client ESTABLISHED > FIN-WAIT-1 (close()); ...``."""
    way = "injected by the wire" if trace.injected else _time("sent", trace.sent_ns)
    parts = [", ".join(text for text in (way, _arrival(trace)) if text)]
    parts += [f"{fate.value} at {t_ns / _MS:.3f} ms" for t_ns, fate in trace.marks]
    if trace.retransmission:
        parts.append("retransmission")
    for endpoint in connection.endpoints:
        moved = [t for t in endpoint.transitions if t.segment == trace.n]
        parts.append(f"{endpoint.role} {_states(endpoint, trace, moved)}")
    return "; ".join(parts)


def _arrival(trace: SegmentTrace) -> str:
    if trace.delivered_ns is not None:
        return _time("delivered", trace.delivered_ns)
    fates = {"dropped": "dropped by the wire", "unknown": ""}
    return fates.get(trace.fate, "never delivered")


def _time(what: str, t_ns: int | None) -> str:
    return "" if t_ns is None else f"{what} at {t_ns / _MS:.3f} ms"


def _states(endpoint: Endpoint, trace: SegmentTrace, moved: Sequence[Transition]) -> str:
    """The moves that this segment did or shows; where there are none, the state it left alone."""
    if moved:
        return ", ".join(
            f"{t.before} > {t.after}" + (f" ({t.cause})" if t.cause else "") for t in moved
        )
    sent = endpoint.role == trace.sender
    t_ns = trace.sent_ns if sent else trace.delivered_ns
    if t_ns is None:
        t_ns = trace.delivered_ns if sent else trace.sent_ns
    state = endpoint.initial
    for transition in endpoint.transitions:
        if t_ns is not None and transition.t_ns <= t_ns:
            state = transition.after
    return str(state)


def _octets(trace: SegmentTrace, connection: Connection) -> tuple[bytes, int]:
    """The IP packet and its length on the wire; rebuilt from the segment if not recorded."""
    if trace.raw:
        return trace.raw, len(trace.raw)
    from scapy.layers.inet import IP, TCP
    from scapy.layers.inet6 import IPv6

    source, target = connection.endpoints[0], connection.endpoints[-1]
    if trace.sender != source.role:
        source, target = target, source
    segment = trace.segment
    options = b"".join(
        bytes([option.kind]) + (bytes([len(option.data) + 2]) + option.data)
        for option in segment.options
        if option.kind > 1  # end and padding have no length (RFC 9293 3.1)
    )
    header = TCP(
        sport=source.address.port,
        dport=target.address.port,
        seq=segment.seq.value,
        ack=segment.ack.value if segment.ack is not None else 0,
        flags=int(segment.flags & ~Flags.AE),
        window=segment.window,
        dataofs=5 + (len(options) + 3) // 4,
    )
    payload = bytes(segment.payload_len)
    layer = IPv6 if ":" in source.address.ip else IP
    # Options go in as octets after the fixed header, so that scapy need not understand them.
    packet = bytes(
        layer(src=source.address.ip, dst=target.address.ip) / header / (_padded(options) + payload)
    )
    return packet[: len(packet) - len(payload)] if payload else packet, len(packet)


def _plain(text: str) -> str:
    """Text without control characters, short enough for an option."""
    shown = visible(text)
    while len(shown.encode()) > _OPTION_AT_MOST:
        shown = shown[: len(shown) // 2]
    return shown


def _padded(octets: bytes) -> bytes:
    return octets + bytes(-len(octets) % 4)


def _block(kind: int, body: bytes, options: Sequence[tuple[int, bytes]]) -> bytes:
    """A block with its options: type, length, body, options, length again."""
    told = b"".join(
        struct.pack("<HH", code, len(value)) + _padded(value) for code, value in options
    )
    inside = body + told + struct.pack("<HH", _END, 0)
    length = struct.pack("<I", len(inside) + 12)
    return struct.pack("<I", kind) + length + inside + length
