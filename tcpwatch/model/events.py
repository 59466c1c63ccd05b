"""Events: the facts that witnesses report. Everything else in tcpwatch is concluded from these.

Owns: the closed union `Payload`. Must not know what an event means for a state.
Times are integer nanoseconds; until the session has rebased them they are CLOCK_MONOTONIC,
afterwards they count from the start of the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tcpwatch.model.identity import SocketAddress
from tcpwatch.tcp.segment import Segment
from tcpwatch.tcp.state import TcpState

KERNEL, TABLE, WIRE, CALLS = "kernel", "table", "wire", "calls"
"""The four witnesses, by the names that `--without` and the JSON use."""

PLAY = "play"
"""Whose vantage is the play's own, which looks and counts."""


@dataclass(frozen=True, slots=True)
class Vantage:
    """Where an event was seen: by which witness, at which host.

    ``side`` is ``client`` or ``server``; None: midway.
    """

    source: str
    side: str | None = None
    namespace: str | None = None


class Point(Enum):
    """Where on its way a segment was seen."""

    SENT = "sent"  # left its sender's stack
    DELIVERED = "delivered"  # was handed to its receiver's stack
    MIDWAY = "midway"  # was seen somewhere between: sent for sure, arrived perhaps


class Fate(Enum):
    """What became of a segment on the wire, beside being delivered."""

    HELD = "held"
    RELEASED = "released"
    DROPPED = "dropped"
    DUPLICATED = "duplicated"  # ``copy`` is the number of the copy
    DELAYED = "delayed"
    REORDERED = "reordered"
    LOST = "lost"  # still on the wire when observation ended


@dataclass(frozen=True, slots=True)
class SegmentSeen:
    """A segment at one point of its way. ``n`` numbers segments from 1 in order of sending."""

    n: int
    point: Point
    src: SocketAddress
    dst: SocketAddress
    segment: Segment
    injected: bool = False  # crafted by the wire: no stack sent it
    raw: bytes = b""  # the IP packet; only with SENT and MIDWAY
    cut: bool = False  # a capture has not all of its octets
    copy_of: int | None = None  # which segment a capture shows once more, at another place


@dataclass(frozen=True, slots=True)
class SegmentFate:
    """The wire did something to segment ``n``."""

    n: int
    fate: Fate
    copy: int | None = None


@dataclass(frozen=True, slots=True)
class StateReported:
    """The kernel's `sock:inet_sock_set_state`, as it said it (kernel-facts apply)."""

    skaddr: int
    local: SocketAddress  # port 0 in the first event of an unbound connect
    remote: SocketAddress
    before: TcpState
    after: TcpState
    pid: int  # whoever was on the CPU: trustworthy only for CLOSED > SYN-SENT


class KernelNote(Enum):
    """The other tracepoints."""

    RESET_SENT = "tcp_send_reset"
    RESET_RECEIVED = "tcp_receive_reset"
    RETRANSMITTED = "tcp_retransmit_skb"
    DESTROYED = "tcp_destroy_sock"


@dataclass(frozen=True, slots=True)
class KernelNoted:
    """One of the kernel's other TCP tracepoints.

    ``reason`` is the kernel's number where it gives one.
    """

    note: KernelNote
    skaddr: int
    local: SocketAddress
    remote: SocketAddress
    state: TcpState | None = None
    reason: int | None = None


@dataclass(frozen=True, slots=True)
class SocketSampled:
    """A change in the socket table: a socket first seen, in another state, or (state None) gone.

    ``since_ns`` is when the poll before began: what lived and died between then and now, this
    witness could not see. A listener has remote port 0. ``inode`` 0 is not dead: it is a request
    socket, a TIME-WAIT minisocket, an orphan, or a connection that was never accepted.
    """

    local: SocketAddress
    remote: SocketAddress
    state: TcpState | None
    since_ns: int
    inode: int = 0
    receive_queue: int = 0  # octets; on LISTEN the accept queue's length
    send_queue: int = 0  # octets; on LISTEN the backlog
    timer: int = 0  # 0 none, 1 retransmit, 2 keepalive or other, 3 TIME-WAIT, 4 zero window probe


class CallPhase(Enum):
    """Whether a call was seen to begin or to end; a blocking one has time in between."""

    CALLED = "called"
    RETURNED = "returned"


@dataclass(frozen=True, slots=True)
class UserCall:
    """A socket call of a process in the lab: made, or come back. ``call_id`` pairs the two.

    ``result`` is the call's own (an int, or a short text for what it gave), ``errno`` the
    symbolic name of its error. ``local`` and ``remote`` are the socket's at that moment.
    """

    call_id: int
    phase: CallPhase
    pid: int
    process: str  # the name the scenario knows it by
    call: str
    arguments: str = ""
    local: SocketAddress | None = None
    remote: SocketAddress | None = None
    result: int | str | None = None
    errno: str | None = None


class ProcessChange(Enum):
    """What befell a process of the lab."""

    STARTED = "started"
    FORKED = "forked"
    SIGNALLED = "signalled"  # a signal was sent to it
    EXITED = "exited"  # from then on a zombie, until it is reaped
    REAPED = "reaped"  # its parent has waited for it, or whoever inherited it


@dataclass(frozen=True, slots=True)
class ProcessChanged:
    """A process of the lab began, was signalled, ended or was reaped.

    ``exit_status`` or ``signal`` says how. ``parent`` is the name of the process that forked it;
    empty where the lab started it.
    """

    pid: int
    process: str
    change: ProcessChange
    exit_status: int | None = None
    signal: str | None = None
    parent: str = ""


@dataclass(frozen=True, slots=True)
class Measured:
    """What the play looked at or counted: ``value`` of ``what``, in one ``case`` of several.

    Values of the same thing in different cases are a contrast.
    """

    what: str
    value: int | str
    case: str = ""


@dataclass(frozen=True, slots=True)
class Gap:
    """A witness lost evidence: ``lost`` events (None: unknown how many) since ``since_ns``."""

    reason: str
    lost: int | None
    since_ns: int


@dataclass(frozen=True, slots=True)
class MalformedSeen:
    """Bytes that were meant to be a TCP segment and are not."""

    reason: str
    raw: bytes


Payload = (
    SegmentSeen
    | SegmentFate
    | StateReported
    | KernelNoted
    | SocketSampled
    | UserCall
    | ProcessChanged
    | Measured
    | Gap
    | MalformedSeen
)


@dataclass(frozen=True, slots=True)
class Event:
    """One fact: when, seen from where, what. ``id`` is its place in the recording, from 1."""

    id: int
    t_ns: int
    vantage: Vantage
    payload: Payload
