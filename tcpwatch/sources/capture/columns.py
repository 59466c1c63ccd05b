"""Frames to segments, in columns: what is plain TCP in IP is read by numpy, all else one by one.

Owns: which frames are plain, and that both ways give the same. The exact way (`Decoder`) reads
whatever has options of IP, fragments, tunnels or an unusual link. Must not know connections.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from threading import Lock
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tcpwatch.model.identity import SocketAddress, canonical_ip
from tcpwatch.sources.capture.decoder import Decoder, Held, Read
from tcpwatch.sources.capture.frames import Frames, Int64s, column, numbers
from tcpwatch.sources.capture.link import Unread, arrives_here
from tcpwatch.sources.capture.segments import Tally
from tcpwatch.tcp.header import Malformed, NotTcp, TcpPacket

Bools = NDArray[np.bool_]
Octets8 = NDArray[np.uint8]
UInt64s = NDArray[np.uint64]

FIN, SYN, RST, ACK = 1, 2, 4, 16
HERE: Final = 0x200  # above the flags: its receiver captured it
LOCAL: Final = 0x400  # both ends have one address
CUT: Final = 0x800  # the capture has not all of it
CONTROL: Final = FIN | SYN | RST | ACK | HERE | CUT
NO_SHIFT: Final = -1
"""In ``shift``: the segment offers no window scale."""

_MAPPED: Final = np.frombuffer(bytes(10) + b"\xff\xff", np.uint8)
_TCP, _UDP = 6, 17
_OTHER: Final = {1: "ICMP", 2: "IGMP", _UDP: "UDP", 58: "ICMPv6"}
_TUNNEL_PORTS: Final = np.array([4789, 8472, 6081, 2152])
_ETHERNET, _COOKED, _COOKED_2 = 1, 113, 276
_RAW: Final = (12, 14, 101, 228, 229)
_LONGEST_OPTIONS: Final = 40
_IPV4: Final = np.dtype(
    {
        "names": [
            *("first", "total", "fragment", "protocol", "source", "target"),
            *("ports", "seq", "ack", "bits", "window"),
        ],
        "formats": [
            *("u1", ">u2", ">u2", "u1", ">u4", ">u4"),
            *(">u4", ">u4", ">u4", ">u2", ">u2"),
        ],
        "offsets": [0, 2, 6, 9, 12, 16, 20, 24, 28, 32, 34],
        "itemsize": 40,
    }
)
"""IPv4 and TCP without options: copied once a frame, which costs less than to look up fields."""


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """Segments in the order of the capture, a row each.

    ``source`` and ``target`` stand for an address and a port (see `Ends`). ``flags`` has `HERE`,
    `LOCAL` and `CUT` besides; ``shift`` is the window scale of a SYN, or `NO_SHIFT`. ``t_ns`` never
    goes back.
    """

    t_ns: Int64s
    source: UInt64s
    target: UInt64s
    seq: NDArray[np.uint32]
    ack: NDArray[np.uint32]
    flags: NDArray[np.uint16]
    window: NDArray[np.uint16]
    shift: NDArray[np.int8]
    payload: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.t_ns)

    def at(self, rows: NDArray[np.generic] | slice) -> Segments:
        """Those of them."""
        return Segments(*(getattr(self, one.name)[rows] for one in fields(self)))

    @classmethod
    def joined(cls, parts: list[Segments]) -> Segments:
        """One behind the other."""
        if len(parts) == 1:
            return parts[0]
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))


class Ends:
    """Addresses with ports as numbers: exact in IPv4, in IPv6 by a hash that nobody can foresee."""

    _MOST: Final = 1 << 20

    def __init__(self) -> None:
        self._known: dict[int, SocketAddress] = {}
        self._met: set[int] = set()  # since some were let go of last, and they may be in no store
        self._lock = Lock()
        self._odd = [np.uint64(int.from_bytes(os.urandom(8)) | 1) for _ in range(3)]

    def ipv4(self, address: Int64s, port: Int64s) -> UInt64s:
        return (address << 16 | port).view(np.uint64)

    def ipv6(self, address: Octets8, port: Int64s) -> UInt64s:
        """``address`` has 16 octets a row; one that holds an IPv4 address is that one."""
        halves = np.ascontiguousarray(address).view(">u8").astype(np.uint64)
        mixed = (halves[:, 0] * self._odd[0]) ^ (halves[:, 1] * self._odd[1])
        mixed = (mixed ^ (mixed >> np.uint64(29))) + port.astype(np.uint64)
        mixed = mixed * self._odd[2]
        mixed = (mixed ^ (mixed >> np.uint64(32))) | np.uint64(1 << 63)
        within = (address[:, :12] == _MAPPED).all(axis=1)
        if within.any():
            plain = np.ascontiguousarray(address[:, 12:]).view(">u4")[:, 0]
            mixed = np.where(within, self.ipv4(column(plain), port), mixed)
        ends, first = np.unique(mixed[~within], return_index=True)
        with self._lock:
            self._met.update(ends.tolist())
            rows = np.flatnonzero(~within)[first].tolist()
            for end, row in zip(ends.tolist(), rows, strict=True):
                if end not in self._known:
                    text = socket.inet_ntop(socket.AF_INET6, address[row].tobytes())
                    self._known[end] = SocketAddress(text, int(port[row]))
        return mixed

    def of(self, address: str, port: int) -> int:
        """The number of one end."""
        at = np.array([port], np.int64)
        if ":" not in address:
            packed = int.from_bytes(socket.inet_pton(socket.AF_INET, address))
            return int(self.ipv4(np.array([packed], np.int64), at)[0])
        octets = np.frombuffer(socket.inet_pton(socket.AF_INET6, address), np.uint8)
        return int(self.ipv6(octets.reshape(1, 16), at)[0])

    def address(self, end: int) -> SocketAddress:
        """What a number stands for."""
        if end >> 63:
            return self._known[end]
        return SocketAddress(socket.inet_ntop(socket.AF_INET, (end >> 16).to_bytes(4)), end & 65535)

    def forget(self, used: Callable[[], list[UInt64s]]) -> None:
        """Lets go of all but those where they have become many, so that memory is bounded."""
        if len(self._known) <= self._MOST:
            return
        with self._lock:
            kept = self._met.union(np.unique(np.concatenate(used())).tolist())
            self._known = {end: one for end, one in self._known.items() if end in kept}
            self._met = set()

    def lasting(self) -> Ends:
        """The same, which goes on knowing what this one forgets."""
        lasting = Ends()
        lasting._known = self._known
        return lasting


class Columns:
    """Reads frames into segments, and counts what it met."""

    def __init__(self, tally: Tally, ends: Ends) -> None:
        self._tally = tally
        self._ends = ends
        self._decoder = Decoder()

    @property
    def incomplete(self) -> int:
        """How many datagrams lack fragments."""
        return self._decoder.incomplete

    def read(self, frames: Frames) -> Segments:
        """The segments in those frames."""
        t_ns = self._clock(frames)
        plain, where = _ip_of(frames)
        rows, found = self._plain(frames, plain, where, t_ns)
        left = np.ones(len(frames), dtype=np.bool_)
        left[rows] = False
        if len(rows) < len(frames):
            left[self._count_other(frames, np.where(left, plain, 0), where)] = False
        others = np.flatnonzero(left)
        if not len(others):
            return found
        places, exact = self._exactly(frames, others, t_ns)
        if not len(places):
            return found
        order = np.argsort(np.concatenate([rows, places]), kind="stable")
        return Segments.joined([found, exact]).at(order)

    def _clock(self, frames: Frames) -> Int64s:
        tally, t_ns = self._tally, frames.t_ns
        tally.frames += len(t_ns)
        if not len(t_ns):
            return t_ns
        link = frames.link
        if (link == link[0]).all():
            tally.links[int(link[0])] += len(link)
        else:
            tally.links.update(link.tolist())
        if tally.first_ns is None:
            tally.first_ns = tally.last_ns = int(t_ns[0])
        if t_ns[0] >= tally.last_ns and (t_ns[1:] >= t_ns[:-1]).all():
            tally.last_ns = int(t_ns[-1])
            return t_ns
        clock = np.maximum.accumulate(np.concatenate(([tally.last_ns], t_ns)))
        tally.backwards += int((t_ns < clock[:-1]).sum())
        tally.last_ns = int(clock[-1])
        return clock[1:]

    # ------------------------------------------------------------------ plain ones

    def _plain(
        self, frames: Frames, version: Int64s, where: Int64s, t_ns: Int64s
    ) -> tuple[Int64s, Segments]:
        """Which frames are plain TCP in IP, and their segments."""
        rows, header, end, headers = _plain_ipv4(frames, version, where)
        six = _plain_ipv6(frames, version, where)
        if len(six[0]):
            pairs = zip((rows, header, end), six, strict=True)
            rows, header, end = (np.concatenate(pair) for pair in pairs)
            order = np.argsort(rows, kind="stable")
            rows, header, end = rows[order], header[order], end[order]
            headers = _headers(frames, header - 20)
        octets = np.frombuffer(frames.octets, np.uint8)
        bits = column(headers["bits"])
        length = (bits >> 12) * 4
        sane = (length >= 20) & (header + length <= end)
        if not sane.all():
            rows, header, end, bits, length = (
                one[sane] for one in (rows, header, end, bits, length)
            )
            headers = headers[sane]
        chosen = slice(None) if len(rows) == len(frames) else rows
        at = frames.at[chosen]
        captured_end = at + frames.captured[chosen]
        self._tally.segments += len(rows)
        cut = end > captured_end
        self._tally.cut += int(cut.sum())
        flags = bits & 0x1FF
        syns = np.flatnonzero(flags & SYN)
        shift = np.full(len(rows), NO_SHIFT, np.int8)
        if len(syns):
            stop = np.minimum(header + length, captured_end)[syns]
            shift[syns] = _window_shifts(octets, header[syns] + 20, stop)
        four, where = version[chosen] == 4, where[chosen]
        source, target, local = self._ends_of(frames, where, headers, four)
        flags |= local * LOCAL
        flags |= cut * CUT
        flags |= frames.inbound[chosen] * HERE
        link = frames.link[chosen]
        cooked = (link == _COOKED) | (link == _COOKED_2)
        if cooked.any():
            kind = np.where(link == _COOKED, at + 1, at + 10)
            above = np.where(link == _COOKED, octets[at] == 0, True)
            flags = flags | np.where(cooked & above & (octets[kind] <= 2), HERE, 0)
        return rows, Segments(
            t_ns[chosen],
            source,
            target,
            headers["seq"].astype(np.uint32),
            headers["ack"].astype(np.uint32),
            flags.astype(np.uint16),
            headers["window"].astype(np.uint16),
            shift,
            (end - header - length).astype(np.uint32),
        )

    def _ends_of(
        self,
        frames: Frames,
        where: Int64s,
        headers: NDArray[np.void],
        four: Bools,
    ) -> tuple[UInt64s, UInt64s, Bools]:
        both_ports = column(headers["ports"])
        ports = both_ports >> 16, both_ports & 0xFFFF
        if four.all():
            source, target = column(headers["source"]), column(headers["target"])
            ends = self._ends.ipv4(source, ports[0]), self._ends.ipv4(target, ports[1])
            return *ends, source == target
        octets, words = np.frombuffer(frames.octets, np.uint8), numbers(frames.octets, ">u4")
        both, addresses = [], []
        for offset, offset_6, port in ((12, 8, ports[0]), (16, 24, ports[1])):
            found = np.empty(len(where), np.uint64)
            found[four] = self._ends.ipv4(column(words[where[four] + offset]), port[four])
            places = where[~four][:, None] + offset_6 + np.arange(16)
            found[~four] = self._ends.ipv6(octets[places], port[~four])
            both.append(found)
            addresses.append(octets[places])
        local = (both[0] >> np.uint64(16)) == (both[1] >> np.uint64(16))
        local[~four] |= (addresses[0] == addresses[1]).all(axis=1)
        return both[0], both[1], local

    def _count_other(self, frames: Frames, version: Int64s, where: Int64s) -> Int64s:
        """Which frames hold plain UDP or ICMP; they are counted."""
        rows = np.flatnonzero((version > 0) & (frames.captured >= 20 + 40 + 8))
        if not len(rows):
            return rows
        octets, halves = np.frombuffer(frames.octets, np.uint8), numbers(frames.octets, ">u2")
        at = where[rows]
        four = octets[at] == 0x45
        room = frames.wire_len[rows] - (at - frames.at[rows])
        total = column(halves[at + 2])
        whole = four & (total >= 28) & (total <= room) & (halves[at + 6] & 0x3FFF == 0)
        whole |= (octets[at] >> 4 == 6) & (halves[at + 4] >= 8)
        protocol = np.where(four, octets[at + 9], octets[at + 6])
        port = halves[at + np.where(four, 22, 42)]
        udp = (protocol == _UDP) & ~np.isin(port, _TUNNEL_PORTS)
        known = whole & (udp | np.isin(protocol, [one for one in _OTHER if one != _UDP]))
        for number, count in Counter(protocol[known].tolist()).items():
            self._tally.other[f"IP protocol {number} ({_OTHER[number]})"] += count
        found: Int64s = rows[known]
        return found

    # ------------------------------------------------------------------ the others

    def _exactly(self, frames: Frames, rows: Int64s, t_ns: Int64s) -> tuple[Int64s, Segments]:
        """The segments of those frames, read one by one."""
        read: list[tuple[int, TcpPacket, bool]] = []
        columns = (rows, frames.at[rows], frames.captured[rows], frames.wire_len[rows])
        clock = (t_ns[rows], frames.link[rows], frames.inbound[rows])
        for row, at, captured, wire_len, now_ns, link, inbound in zip(
            *(one.tolist() for one in (*columns, *clock)), strict=True
        ):
            frame = frames.octets[at : at + captured]
            packet = self._exact(link, frame, wire_len, now_ns)
            if packet is not None:
                read.append((row, packet, inbound or arrives_here(link, frame)))
        places = np.array([row for row, _, _ in read], np.int64)
        return places, self._made(read, t_ns[places])

    def _exact(self, link: int, frame: bytes, wire_len: int, t_ns: int) -> TcpPacket | None:
        tally = self._tally
        match self._decoder.read(link, frame, wire_len, t_ns):
            case Read(packet, _):
                tally.segments += 1
                tally.cut += packet.truncated
                return packet
            case Held():
                tally.fragments += 1
            case NotTcp(reason):
                tally.other[reason] += 1
            case Unread(reason):
                tally.unread[reason] += 1
            case Malformed(reason):
                tally.malformed[reason] += 1
        return None

    def _made(self, read: list[tuple[int, TcpPacket, bool]], t_ns: Int64s) -> Segments:
        def rows() -> Iterator[tuple[int, ...]]:
            for _, packet, here in read:
                one = packet.segment
                local = canonical_ip(packet.src_ip) == canonical_ip(packet.dst_ip)
                yield (
                    self._ends.of(packet.src_ip, packet.src_port),
                    self._ends.of(packet.dst_ip, packet.dst_port),
                    one.seq.value,
                    0 if one.ack is None else one.ack.value,
                    int(one.flags) | here * HERE | local * LOCAL | packet.truncated * CUT,
                    one.window,
                    NO_SHIFT if one.window_shift is None or not one.syn else one.window_shift,
                    min(one.payload_len, 0xFFFFFFFF),
                )

        made = list(zip(*rows(), strict=True)) or [()] * 8
        kinds = (np.uint64, np.uint64, np.uint32, np.uint32, np.uint16, np.uint16, np.int8)
        columns = [np.array(one, kind) for one, kind in zip(made, (*kinds, np.uint32), strict=True)]
        return Segments(t_ns, *columns)


def _ip_of(frames: Frames) -> tuple[Int64s, Int64s]:
    """Which version of IP a frame says to hold, 0 where it is not plain, and where that begins."""
    at, link = frames.at, frames.link
    version, where = np.zeros(len(frames), np.int64), np.zeros(len(frames), np.int64)
    octets, halves = np.frombuffer(frames.octets, np.uint8), numbers(frames.octets, ">u2")
    roomy = frames.captured >= 20 + 40  # of the longest link header and the least of TCP in IP
    for kind, ethertype_at in ((_ETHERNET, 12), (_COOKED, 14), (_COOKED_2, 0)):
        found = (link == kind) & (frames.captured >= 54)
        rows = slice(None) if found.all() else np.flatnonzero(found)
        place = at[rows] + ethertype_at
        if not len(place):
            continue
        ethertype, begins = halves[place], place + (20 if kind == _COOKED_2 else 2)
        if kind == _ETHERNET:
            tagged = np.flatnonzero((ethertype == 0x8100) & (frames.captured[rows] >= 58))
            if len(tagged):
                ethertype, begins = ethertype.copy(), begins.copy()
                ethertype[tagged] = halves[begins[tagged] + 2]
                begins[tagged] += 4
        version[rows] = (ethertype == 0x0800) * 4 + (ethertype == 0x86DD) * 6
        where[rows] = begins
    raw = np.flatnonzero(np.isin(link, _RAW) & roomy)
    if len(raw):
        version[raw], where[raw] = octets[at[raw]] >> 4, at[raw]
        version[raw[~np.isin(version[raw], (4, 6))]] = 0
    return version, where


def _headers(frames: Frames, at: Int64s) -> NDArray[np.void]:
    """The forty octets at each place; those of TCP are its last twenty, whatever the IP."""
    copied = numbers(frames.octets, "V40")[at]
    found: NDArray[np.void] = copied.view(_IPV4)
    return found


def _plain_ipv4(
    frames: Frames, version: Int64s, where: Int64s
) -> tuple[Int64s, Int64s, Int64s, NDArray[np.void]]:
    """Which frames are plain, where their TCP begins, where their packet ends, the headers."""
    found = (version == 4) & (where + 40 <= frames.at + frames.captured)
    rows, at = np.flatnonzero(found), where
    if not found.all():
        at = at[rows]
    headers = _headers(frames, at)
    end = column(headers["total"])
    if not end.all():
        end = np.where(end > 0, end, frames.wire_len[rows] - (at - frames.at[rows]))
    plain = (headers["first"] == 0x45) & (headers["fragment"] & 0x3FFF == 0)
    plain &= (headers["protocol"] == _TCP) & (end >= 40)
    if not plain.all():
        rows, at, end, headers = rows[plain], at[plain], end[plain], headers[plain]
    return rows, at + 20, at + end, headers


def _plain_ipv6(frames: Frames, version: Int64s, where: Int64s) -> tuple[Int64s, Int64s, Int64s]:
    """The same of IPv6."""
    rows = np.flatnonzero(version == 6)
    rows = rows[where[rows] + 60 <= frames.at[rows] + frames.captured[rows]]
    at = where[rows]
    octets, halves = np.frombuffer(frames.octets, np.uint8), numbers(frames.octets, ">u2")
    length = column(halves[at + 4])
    plain = (octets[at] >> 4 == 6) & (octets[at + 6] == _TCP) & (length >= 20)
    rows, at, length = rows[plain], at[plain], length[plain]
    return rows, at + 40, at + 40 + length


def _window_shifts(octets: Octets8, at: Int64s, stop: Int64s) -> NDArray[np.int8]:
    """The window scale of each SYN whose options lie between ``at`` and ``stop``."""
    shifts = np.full(len(at), NO_SHIFT, np.int8)
    rows = np.arange(len(at))
    last = len(octets) - 1
    for _ in range(_LONGEST_OPTIONS):
        going = at < stop
        rows, at, stop = rows[going], at[going], stop[going]
        kind = octets[at]
        length = np.where(kind == 1, 1, octets[np.minimum(at + 1, last)]).astype(np.int64)
        length[(kind != 1) & (at + 1 >= stop)] = 0
        sane = (kind != 0) & (length >= np.where(kind == 1, 1, 2)) & (at + length <= stop)
        rows, at, stop, kind, length = (one[sane] for one in (rows, at, stop, kind, length))
        if not len(rows):
            break
        scale = (kind == 3) & (length > 2)
        if (kind == 3).any():
            shifts[rows[scale]] = np.minimum(octets[at[scale] + 2], 14)
            other = kind != 3  # the first counts, whatever it says
            rows, at, stop, length = (one[other] for one in (rows, at, stop, length))
        at = at + length
    return shifts
