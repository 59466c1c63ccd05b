"""A packet socket with a ring (TPACKET_V3): the headers of a namespace's TCP segments, as taken.

Owns: the kernel's filter and ring, the thread that empties it, the count of what it lost. Blocks
are only copied while a program runs, and taken apart when asked for: `Frame`s. Must not know what
a segment is beyond its flags and its length.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

from tcpwatch.errors import TcpwatchError
from tcpwatch.model.events import WIRE, Gap, Vantage
from tcpwatch.model.witness import Observation

BULK_OCTETS = 4096
"""Data in longer segments is not captured: `conversations` tells from the numbers that it passed.

A bulk transfer over the loopback has segments of 64 kB, several GB a second."""

KEPT_OCTETS = 1 << 29
"""How much is kept: some 2.5 million frames, which are 100,000 short connections."""

_SOL_PACKET = 263
_PACKET_RX_RING, _PACKET_STATISTICS, _PACKET_VERSION, _TPACKET_V3 = 5, 6, 10, 2
_SO_ATTACH_FILTER = 26  # asm-generic/socket.h
_BLOCK_OCTETS, _BLOCKS, _FRAME_OCTETS = 1 << 18, 64, 1 << 8
_RETIRE_MS = 4  # a block that is not full is handed over after so long
_SNAPLEN = 128  # an IP header and a TCP header, both with all their options
_STATUS_USER = 1
_OUTGOING = 4  # linux/if_packet.h
_BLOCK = struct.Struct("=8xIIII")  # tpacket_block_desc: status, number of frames, first, length
_FRAME = struct.Struct("=IIIII6xH24xi2xB")  # tpacket3_hdr, then sockaddr_ll
_STATISTICS = struct.Struct("=III")  # tpacket_stats_v3: packets, drops, freezes
_VANTAGE = Vantage(WIRE)


class Frame(NamedTuple):
    """A segment as it passed. ``t_ns`` is CLOCK_MONOTONIC; ``octets`` begin with the IP header."""

    t_ns: int
    outgoing: bool
    interface: int
    octets: bytes
    wire_len: int


def open_packet_socket() -> socket.socket:
    """A packet socket in the calling thread's network namespace, not yet bound.

    Raises TcpwatchError where there is none to be had.
    """
    try:
        return socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, 0)
    except (AttributeError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TcpwatchError(
            f"no packet socket here ({reason})",
            "it takes CAP_NET_RAW: run as root, or under `tcpwatch exec`",
        ) from error


_CLOCK_READINGS = 5


class PacketRing:
    """Takes all TCP segments that pass from now on, until `close`. Takes over ``sock``.

    ``interface`` 0 means all of them. Raises TcpwatchError where the ring cannot be had.
    """

    def __init__(self, sock: socket.socket, interface: str = "") -> None:
        self._socket = sock
        self._blocks: list[tuple[int, int, bytes]] = []  # when copied, clock offset, block
        self._lock = threading.Lock()
        self._lost = self._kept = 0
        self._losses: list[tuple[int, int, int]] = []  # when found, since when, how many
        self._looked_ns = time.monotonic_ns()
        self._next = 0
        self._passes = 0
        self._passed = threading.Condition(self._lock)
        self._closing = False
        try:
            _attach_filter(sock)
            sock.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V3)
            ring = struct.pack(
                "=IIIIIII",
                _BLOCK_OCTETS,
                _BLOCKS,
                _FRAME_OCTETS,
                _BLOCK_OCTETS // _FRAME_OCTETS * _BLOCKS,
                _RETIRE_MS,
                0,
                0,
            )
            sock.setsockopt(_SOL_PACKET, _PACKET_RX_RING, ring)
            self._ring = mmap.mmap(sock.fileno(), _BLOCK_OCTETS * _BLOCKS)
            _bind(sock, socket.if_nametoindex(interface) if interface else 0)
        except OSError as error:
            sock.close()
            raise TcpwatchError(f"cannot capture here ({error.strerror})") from error
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        """How many segments the ring had no room for, or no copy was kept of."""
        return self._lost

    def flush(self) -> None:
        """Returns once all that had passed when it was called is taken."""
        # The kernel hands a block over at the second look of its timer at the latest
        # (af_packet.c, prb_retire_rx_blk_timer_expired), and then wakes the thread.
        with self._passed:
            until, wanted = time.monotonic_ns() + 3 * _RETIRE_MS * 1_000_000, self._passes
            while not self._closing and (time.monotonic_ns() < until or self._passes < wanted + 2):
                self._passed.wait(_RETIRE_MS / 1e3)

    def frames(self, since_ns: int, until_ns: int) -> Iterator[Frame]:
        """What passed between these times, in the order in which it passed."""
        with self._lock:
            blocks = [block for block in self._blocks if block[0] >= since_ns]
        for _, offset_ns, block in blocks:
            for frame in _frames(block, offset_ns):
                if since_ns <= frame.t_ns <= until_ns:
                    yield frame

    def gaps(self, since_ns: int, until_ns: int) -> list[Observation]:
        """Where it lost some between these times."""
        with self._lock:
            losses = [loss for loss in self._losses if since_ns <= loss[0] <= until_ns]
        reason = "more segments passed than could be taken or kept"
        return [Observation(at, _VANTAGE, Gap(reason, lost, since)) for at, since, lost in losses]

    def forget(self, before_ns: int) -> None:
        """Lets go of the blocks that were taken before."""
        with self._lock:
            self._blocks = [block for block in self._blocks if block[0] >= before_ns]
            self._kept = sum(len(block) for _, _, block in self._blocks)

    def close(self) -> None:
        """Takes what has passed, and lets go of the socket. Idempotent; `frames` still works."""
        with self._passed:
            if self._closing:
                return
            self._closing = True
        self._thread.join()
        self._ring.close()
        self._socket.close()

    def _run(self) -> None:
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        while True:
            closing = self._closing
            poller.poll(2 * _RETIRE_MS)
            self._drain()
            with self._passed:
                self._passes += 1
                self._passed.notify_all()
            if closing:
                return

    def _drain(self) -> None:
        while True:
            at = self._next * _BLOCK_OCTETS
            status, count, _, length = _BLOCK.unpack_from(self._ring, at)
            if not status & _STATUS_USER:
                break
            if count:
                now_ns = time.monotonic_ns()
                copied = self._ring[at : at + length]
                with self._lock:
                    self._keep(now_ns, copied, count)
            struct.pack_into("=I", self._ring, at + 8, 0)
            self._next = (self._next + 1) % _BLOCKS
        found = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size)
        now_ns, lost = time.monotonic_ns(), _STATISTICS.unpack(found)[1]
        if lost:
            self._lost += lost
            with self._lock:
                self._losses.append((now_ns, self._looked_ns, lost))
        self._looked_ns = now_ns

    def _keep(self, now_ns: int, block: bytes, count: int) -> None:
        """Keeps a block, unless there are too many: then it counts as lost."""
        if self._kept + len(block) > KEPT_OCTETS:
            self._lost += count
            self._losses.append((now_ns, self._looked_ns, count))
            return
        self._kept += len(block)
        self._blocks.append((now_ns, clock_offset_ns(), block))


def clock_offset_ns() -> int:
    """From CLOCK_MONOTONIC to CLOCK_REALTIME, in which the kernel stamps.

    The two cannot be read at once, and whoever is preempted in between is wrong by that long: of
    several readings the quickest is the right one.
    """
    readings = []
    for _ in range(_CLOCK_READINGS):
        before_ns, real_ns, after_ns = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        readings.append((after_ns - before_ns, real_ns - (before_ns + after_ns) // 2))
    return min(readings)[1]


def _frames(block: bytes, offset_ns: int) -> Iterator[Frame]:
    _, count, at, _ = _BLOCK.unpack_from(block)
    for _ in range(count):
        step, sec, nsec, taken, length, network, interface, kind = _FRAME.unpack_from(block, at)
        start = at + network
        t_ns = sec * 1_000_000_000 + nsec - offset_ns
        octets = block[start : start + taken]
        yield Frame(t_ns, kind == _OUTGOING, interface, octets, length)
        at += step


# ---------------------------------------------------------------------- the kernel's filter

_LD, _LDX, _ALU, _JMP, _RET, _MISC = 0x00, 0x01, 0x04, 0x05, 0x06, 0x07  # linux/bpf_common.h
_W, _H, _B = 0x00, 0x08, 0x10
_IMM, _ABS, _IND, _LEN, _MSH = 0x00, 0x20, 0x40, 0x80, 0xA0
_SUB, _AND, _LSH, _RSH, _ADD = 0x10, 0x50, 0x60, 0x70, 0x00
_JEQ, _JGT, _JSET, _X = 0x10, 0x20, 0x40, 0x08
_TAX, _TXA = 0x00, 0x80
_PACKET_TYPE = 0xFFFFF000 + 4  # SKF_AD_OFF + SKF_AD_PKTTYPE

_SYN_FIN_RST = 0x07
_TCP = 6


_Instruction = tuple[int, str, str, int]  # code, where to if true, if false, value

_HEADER_BY_VERSION: tuple[_Instruction, ...] = (
    (_LD | _B | _ABS, "", "", 0),
    (_ALU | _AND, "", "", 0xF0),
    (_JMP | _JEQ, "", "not 4", 0x40),
    (_LD | _B | _ABS, "", "", 9),
    (_JMP | _JEQ, "", "drop", _TCP),
    (_LD | _H | _ABS, "", "", 6),
    (_JMP | _JSET, "drop", "", 0x1FFF),  # a fragment other than the first
    (_LDX | _B | _MSH, "", "", 0),
    (_JMP | _JEQ, "segment", "segment", 0),
)
_HEADER_6: tuple[_Instruction, ...] = (
    (_JMP | _JEQ, "", "drop", 0x60),
    (_LD | _B | _ABS, "", "", 6),
    (_JMP | _JEQ, "", "drop", _TCP),
    (_LDX | _W | _IMM, "", "", 40),
)
_SEGMENT: tuple[_Instruction, ...] = (
    (_LD | _B | _IND, "", "", 13),
    (_JMP | _JSET, "take", "", _SYN_FIN_RST),
    (_LD | _B | _IND, "", "", 12),
    (_ALU | _RSH, "", "", 4),
    (_ALU | _LSH, "", "", 2),
    (_ALU | _ADD | _X, "", "", 0),
    (_MISC | _TAX, "", "", 0),
    (_LD | _W | _LEN, "", "", 0),
    (_ALU | _SUB | _X, "", "", 0),
    (_JMP | _JEQ, "", "data", 0),
    (_LD | _W | _ABS, "", "", _PACKET_TYPE),
    (_JMP | _JEQ, "drop", "take", _OUTGOING),
)


def _program() -> list[tuple[int, int, int, int]]:
    """Classic BPF: the TCP headers of what opens or closes, acknowledges, or has little data.

    Each segment is offered twice, as it leaves and as it arrives; a bare ACK is taken only then.
    """
    parts: list[tuple[str, tuple[_Instruction, ...]]] = [
        ("", _HEADER_BY_VERSION),
        ("not 4", _HEADER_6),
        ("segment", _SEGMENT),
        ("data", ((_JMP | _JGT, "drop", "take", BULK_OCTETS),)),
        ("take", ((_RET, "", "", _SNAPLEN),)),
        ("drop", ((_RET, "", "", 0),)),
    ]
    places, at = {}, 0
    for name, instructions in parts:
        places[name] = at
        at += len(instructions)
    program: list[tuple[int, int, int, int]] = []
    for _, instructions in parts:
        for code, yes, no, value in instructions:
            jumps = [places[to] - len(program) - 1 if to else 0 for to in (yes, no)]
            program.append((code, jumps[0], jumps[1], value))
    return program


def _bind(sock: socket.socket, interface: int) -> None:
    """To an interface by its number; socket.bind() has no name for all of them, which is 0.

    What goes out is shown to those alone who ask for ETH_P_ALL (dev.c, dev_queue_xmit_nit).
    """
    address = struct.pack("=H2siHBB8x", socket.AF_PACKET, b"\0\3", interface, 0, 0, 0)
    if ctypes.CDLL(None, use_errno=True).bind(sock.fileno(), address, len(address)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _attach_filter(sock: socket.socket) -> None:
    program = _program()
    octets = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(octets, len(octets))
    argument = struct.pack("@HP", len(program), ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, argument)
