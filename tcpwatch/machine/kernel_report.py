"""Reads the kernel's own reports: joins a socket's events, and translates what they mean.

Owns: what kernel-side reports need before they are claims: the first event of an unbound connect
has no port yet, self-transitions are no moves, and CLOSE after FIN-WAIT-2 has five meanings.
Must not know the other witnesses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tcpwatch.model.events import Event, StateReported
from tcpwatch.model.identity import FourTuple, SocketAddress
from tcpwatch.tcp.state import TcpState

_S = TcpState

_LAST_WORDS: dict[TcpState, frozenset[TcpState]] = {
    # Linux: tcp_time_wait() replaces the socket by a minisocket and reports CLOSE (or leaves none
    # when tcp_max_tw_buckets is reached); an orphan goes on as a minisocket in FIN-WAIT-2.
    _S.FIN_WAIT_2: frozenset({_S.TIME_WAIT, _S.FIN_WAIT_2, _S.CLOSED}),
    _S.CLOSING: frozenset({_S.TIME_WAIT, _S.CLOSED}),
}


@dataclass(frozen=True, slots=True)
class Report:
    """One report, joined to its connection.

    ``opens`` marks a socket's first: it may be a new use of the tuple.
    """

    four_tuple: FourTuple
    before: TcpState
    after: frozenset[TcpState]
    t_ns: int
    event: int
    opens: bool


@dataclass(slots=True)
class KernelReports:
    """The sockets heard of so far, by ``skaddr``.

    The kernel reuses a ``skaddr``: an identity ends at CLOSED. With ``newborn_only`` a socket
    whose first report was missed does not count: in a lab it is an orphan of an earlier one, which
    had the same addresses, and the tracepoints are the whole host's.
    """

    newborn_only: bool = False
    _known: dict[int, FourTuple] = field(default_factory=dict)
    _waiting: dict[int, list[tuple[Event, StateReported]]] = field(default_factory=dict)
    _left: dict[int, SocketAddress] = field(default_factory=dict)  # where it was when it ended

    def continues(self, report: StateReported) -> bool:
        """Whether it is one more move of a socket that is known, and none that ends it."""
        return (
            report.skaddr in self._known
            and report.before is not _S.CLOSED
            and report.after is not _S.CLOSED
            and report.after is not report.before
            and report.after is not _S.LISTEN
        )

    def read(self, event: Event, report: StateReported) -> Iterator[Report]:
        """The reports this event makes known: none while the port is unknown, or several."""
        if report.after is _S.LISTEN or (report.remote.port == 0 and report.before is _S.LISTEN):
            return  # a listener is no connection
        if report.before is report.after:
            return  # close() after shutdown(): no move
        born = report.before in (_S.CLOSED, _S.LISTEN)
        heard_of = report.skaddr in self._known or report.skaddr in self._waiting
        if self.newborn_only and not (born or heard_of):
            return
        waiting = self._waiting.setdefault(report.skaddr, [])
        if report.before is _S.CLOSED:
            waiting.clear()
            self._known.pop(report.skaddr, None)
        waiting.append((event, report))
        # Linux: tcp_v4_connect() reports SYN-SENT before it chooses a port: one that was connected
        # before still has that port then.
        stale = self._left.pop(report.skaddr, None) == report.local and report.before is _S.CLOSED
        if report.local.port == 0 or stale:
            if report.after is _S.CLOSED:
                del self._waiting[report.skaddr]  # connect() failed before it had a port
            return
        four_tuple = FourTuple(report.local, report.remote)
        for earlier, said in self._waiting.pop(report.skaddr):
            opens = report.skaddr not in self._known
            self._known[report.skaddr] = four_tuple
            yield Report(
                four_tuple,
                said.before,
                _meaning(said.before, said.after),
                earlier.t_ns,
                earlier.id,
                opens,
            )
        if report.after is _S.CLOSED:
            self._known.pop(report.skaddr, None)
            self._left[report.skaddr] = report.local


def _meaning(before: TcpState, after: TcpState) -> frozenset[TcpState]:
    if after is _S.CLOSED:
        return _LAST_WORDS.get(before, frozenset({_S.CLOSED}))
    return frozenset({after})
