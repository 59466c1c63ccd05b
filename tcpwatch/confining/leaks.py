"""What a command leaves open, as its processes end and when all is over: which of it are leaks.

Owns: what is certain there, and what may have been about to be closed. Must not know how an exit
was seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tcpwatch.confining.confined import Exited
from tcpwatch.model.identity import FourTuple
from tcpwatch.model.timeline import Answer, Expectation, Finding, RunRecord, Severity, Timeline
from tcpwatch.observing.leaks import Leak, leaks
from tcpwatch.observing.observer import Held, Holder
from tcpwatch.tcp.state import TcpState
from tcpwatch.views.canvas import visible

_REACTS_NS = 1_000_000_000
"""Who was told of the peer's FIN for so long and has not closed, was not about to."""

_NEVER_CLOSED = "its process ended and had not closed it"


def find_leaks(
    held: Sequence[Held], exits: Sequence[Exited], timeline: Timeline, record: RunRecord
) -> tuple[list[Leak], list[Leak]]:
    """Those that are leaks for sure, and those that may have been about to be closed."""
    sure, unsure = [*leaks(held)], list[Leak]()
    numbers = _numbers(timeline)
    start_ns = _start_ns(record)
    for ended in exits:
        for _, row in ended.sockets:
            local, remote = row.endpoints
            if row.state is TcpState.LISTEN:
                continue  # it goes with its process
            number = numbers.get(FourTuple(local, remote))
            holder = Holder(ended.pid, ended.name)
            one = Held(local, remote, row.state, row.inode, None, (holder,), number)
            if row.state is not TcpState.CLOSE_WAIT:
                if ended.code >= 0:
                    sure.append(Leak(one, _NEVER_CLOSED))
                continue
            waited_ns = _waited_ns(timeline, one, ended.t_ns - start_ns)
            read_eof = row.receive_queue == 0 and ended.code >= 0
            certain = read_eof or (waited_ns is not None and waited_ns >= _REACTS_NS)
            how = "was killed" if ended.code < 0 else "ended"
            long = "" if waited_ns is None else f" {_long(waited_ns)}"
            why = f"the peer had closed{long} before its process {how}, and this end had not"
            (sure if certain else unsure).append(Leak(one, why))
    return sure, unsure


def _long(duration_ns: int) -> str:
    if duration_ns < _REACTS_NS:
        return f"{duration_ns / 1e6:.0f} ms"
    return f"{duration_ns / 1e9:.1f} s"


def _start_ns(record: RunRecord) -> int:
    began = record.lab["started_ns"]
    assert isinstance(began, int)
    return began


def _numbers(timeline: Timeline) -> dict[FourTuple, int]:
    found = {}
    for connection in timeline.connections:
        four_tuple = connection.id.four_tuple
        found[four_tuple] = found[four_tuple.flipped] = connection.number
    return found


def _waited_ns(timeline: Timeline, held: Held, at_ns: int) -> int | None:
    """How long it had been in CLOSE-WAIT then, as far as is known."""
    for connection in timeline.connections:
        if connection.number != held.connection:
            continue
        for endpoint in connection.endpoints:
            if endpoint.address == held.local:
                for move in endpoint.transitions:
                    if move.after.certain is TcpState.CLOSE_WAIT:
                        return at_ns - move.t_ns
    return None


def leak_findings(found: Sequence[Leak]) -> Iterator[Finding]:
    """As the timeline has them."""
    for leak in found:
        yield Finding("leak", Severity.WARNING, str(leak), leak.held.connection)


def left_running(processes: Sequence[tuple[int, str]], grace_s: float) -> Iterator[Finding]:
    """What outlived the command without a connection is no leak; but whoever waited wonders."""
    for pid, name in processes:
        told = f"{visible(name)} ({pid}) still ran {grace_s:g} s after the command had ended"
        yield Finding("left-running", Severity.INFO, told)


def leak_answer(sure: Sequence[Leak], unsure: Sequence[Leak], *, traced: bool) -> Answer:
    """To the demand that there be none; ``traced``: what processes left open was seen."""
    met: bool | None = True
    why = ""
    if sure:
        count = f"{len(sure)} leak{'' if len(sure) == 1 else 's'}"
        met, why = False, f"{count}: {sure[0]}"
    elif unsure:
        met, why = None, f"it may have been about to be closed: {unsure[0]}"
    elif not traced:
        met = None
        why = "what a process leaves open for the kernel to close could not be seen (ptrace)"
    return Answer(Expectation("all", "no leaks", met), why)
