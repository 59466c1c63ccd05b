"""The wire that `tcpwatch exec` puts between two ends, and what it is asked to do to segments.

Owns: the words for that on the command line, and the wire of one network: a TUN device that its
loopback's traffic is led through. Must not know what runs there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.lab.filters import ACK, DATA, FIN, PSH, PURE_ACK, RST, SYN, SYN_ACK, Filter
from tcpwatch.lab.namespace import ports_of
from tcpwatch.lab.ports import Port, TunPort
from tcpwatch.lab.protocol import Message
from tcpwatch.lab.wire import Wire
from tcpwatch.model.events import SegmentSeen
from tcpwatch.model.identity import SocketAddress
from tcpwatch.model.witness import Observation

_SEGMENTS = {
    "SYN": SYN & ~ACK,
    "SYN-ACK": SYN_ACK,
    "FIN": FIN,
    "RST": RST,
    "PSH": PSH,
    "ACK": ACK,
    "PURE-ACK": PURE_ACK,
    "DATA": DATA,
}
_FAULT = re.compile(
    r"\s*(?:(?P<role>client|server)\s+)?(?P<segment>[A-Za-z-]+)(?::(?P<count>\d+))?"
    r"(?:\s*=\s*(?P<ms>\d+(?:\.\d+)?))?\s*"
)


@dataclass(frozen=True, slots=True)
class Fault:
    """What the wire does (a verb of `Wire`) to which segments of whom, and to how many of them."""

    verb: str
    segment: str
    role: str | None = None
    count: int | None = None
    ms: float | None = None

    @classmethod
    def parse(cls, verb: str, text: str) -> Self:
        """``[ROLE] SEGMENT[:COUNT]``, for a delay ``=MS`` behind it. Raises TcpwatchError."""
        found = _FAULT.fullmatch(text)
        segment = found["segment"].upper().replace("_", "-") if found else ""
        timed = found is not None and (found["ms"] is not None) == (verb == "delay")
        if found is None or segment not in _SEGMENTS or not timed or found["count"] == "0":
            example = "client FIN:1=200" if verb == "delay" else "client SYN:1"
            raise TcpwatchError(
                f"--{verb} {text!r} is not [client|server] SEGMENT[:COUNT]"
                + ("=MS" if verb == "delay" else ""),
                f"for example --{verb} {example!r}; segments are {', '.join(_SEGMENTS)}",
                ExitCode.USAGE,
            )
        count = int(found["count"]) if found["count"] else None
        ms = float(found["ms"]) if found["ms"] else None
        return cls(verb, segment, found["role"], count, ms)

    def __str__(self) -> str:
        role = f"{self.role} " if self.role else ""
        count = f":{self.count}" if self.count else ""
        ms = f"={self.ms:g}" if self.ms is not None else ""
        return f"{self.verb} {role}{self.segment}{count}{ms}"


def open_wire(
    ready: Mapping[str, Any],
    fds: Sequence[int],
    emit: Callable[[Observation], None],
    latency_ms: float,
    faults: Sequence[Fault],
) -> Wire:
    """The wire at work: between two hosts, or, with one descriptor, of one network's loopback."""
    if len(fds) == 1:
        ports: dict[str, Port] = {"out": TunPort(fds[0]), "in": _Back(fds[0])}
    else:
        both = ports_of(Message({"ready": dict(ready)}, fds=tuple(fds)))
        ports = dict(zip(("client", "server"), both, strict=True))
    callers: set[SocketAddress] = set()

    def told(seen: Observation) -> None:
        """Before any rule is asked: a rule for one segment sees no others."""
        if isinstance(seen.payload, SegmentSeen) and seen.payload.segment.syn:
            answers = seen.payload.segment.ack is not None
            (callers.discard if answers else callers.add)(seen.payload.src)
        emit(seen)

    wire = Wire(ports, told, latency_ms=latency_ms)
    for fault in faults:
        match = _SEGMENTS[fault.segment]
        if fault.role is not None:
            match = match & _by(fault.role, callers)
        arguments = () if fault.ms is None else (fault.ms,)
        getattr(wire, fault.verb)(match, *arguments, count=fault.count)
    return wire


def _by(role: str, callers: set[SocketAddress]) -> Filter:
    """Sent by the end that called, or was called: who sends a SYN without ACK is a client."""
    client = role == "client"
    return Filter(f"BY_{role.upper()}", lambda seen, _by: (seen.src in callers) is client)


class _Back:
    """The way back into the same device; what comes out of it is read by its `TunPort`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._never = os.eventfd(0, os.EFD_CLOEXEC)

    def fileno(self) -> int:
        return self._never

    def read(self) -> bytes | None:
        return None

    def write(self, packet: bytes) -> None:
        os.write(self._fd, packet)

    def close(self) -> None:
        if self._never >= 0:
            os.close(self._never)
            self._never = -1
