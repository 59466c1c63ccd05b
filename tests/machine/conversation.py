"""A connection from lines such as ``> S 0:0(0)`` and ``@5 < SA 0:0(0) ack 1``, for what reads one.

Owns: nothing of the machine. ``>`` is sent by the active end, ``@`` is the time in seconds.
"""

from __future__ import annotations

from tcpwatch.model.identity import ConnectionId, FourTuple, SocketAddress
from tcpwatch.model.timeline import Belief, Connection, Endpoint, SegmentTrace
from tcpwatch.tcp.notation import parse_segment
from tcpwatch.tcp.state import TcpState

ACTIVE, PASSIVE = SocketAddress("10.0.0.1", 40000), SocketAddress("10.0.0.2", 80)
_SENDERS = {">": "active", "<": "passive"}


def conversation(*lines: str) -> Connection:
    """A second passes between two lines a thousandth of it, unless a line says its time."""
    traces: list[SegmentTrace] = []
    t_ns = 0
    for line in lines:
        text = line
        t_ns += 1_000_000
        if text.startswith("@"):
            seconds, _, text = text[1:].partition(" ")
            t_ns = int(float(seconds) * 1e9)
        sender, _, text = text.partition(" ")
        segment = parse_segment(text)
        ack = None if segment.ack is None else segment.ack.value
        traces.append(
            SegmentTrace(
                len(traces) + 1,
                _SENDERS[sender],
                segment,
                segment.seq.value,
                ack,
                t_ns,
                t_ns,
                "delivered",
            )
        )
    unknown = Belief(frozenset(TcpState))
    ends = (Endpoint("active", ACTIVE, unknown, ()), Endpoint("passive", PASSIVE, unknown, ()))
    return Connection(1, ConnectionId(FourTuple(ACTIVE, PASSIVE)), ends, tuple(traces))
