"""A connection of a capture in a few words.

Owns: the words for how it ended, what was sent again, what is missing, and how long each end was in
each state. Must not know how anything was concluded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tcpwatch.machine.rows import Ending, Row, row_of
from tcpwatch.model.durations import lasting
from tcpwatch.model.timeline import Belief, Connection, Judged
from tcpwatch.tcp.state import TcpState
from tcpwatch.views.canvas import Span, Word, words, wrap
from tcpwatch.views.palette import DIM
from tcpwatch.views.wording import Wording

_INDENT = 8
_UNOPENED = frozenset({TcpState.CLOSED, TcpState.LISTEN})
_ENDED = {
    Ending.REFUSED: "refused: a RST answered the SYN",
    Ending.UNANSWERED: "no answer to the SYN",
    Ending.TIMEOUT: "timed out",
    Ending.OPEN: "still open when the capture ended",
}


def account_lines(
    connection: Connection, judged: Judged, width: int, wording: Wording
) -> list[list[Span]]:
    """How it ended, and each end's stays, to stand under the connection's paths."""
    row = row_of(connection)
    said = "; ".join([ended(connection, row), *_counts(connection, row)])
    paragraphs = [words(wording.safe(said), DIM)]
    for end, stays in zip(
        connection.endpoints, row.durations_ns(judged.timeline.end_ns), strict=True
    ):
        told = list(_stays(stays))
        if told:
            name = words(f"{wording.safe(end.role)}:", DIM)
            paragraphs.append([*name, *told])
    indent = Span(" " * _INDENT)
    return [[indent, *line] for one in paragraphs for line in wrap(one, max(width - _INDENT, 4), 2)]


def _stays(stays: Sequence[tuple[Belief, int]]) -> Iterator[Word]:
    """``ESTABLISHED 3 ms``; nothing where it is not certain, nor before it was opened or after."""
    known = [
        (belief.certain, ns, belief is stays[-1][0])
        for place, (belief, ns) in enumerate(stays)
        if belief.certain and not (place in (0, len(stays) - 1) and belief.states <= _UNOPENED)
    ]
    for place, (state, ns, lasts) in enumerate(known):
        time = f"{lasting(ns)}{' and more' * lasts}{',' * (place + 1 < len(known))}"
        yield (Span(f"{state} {time}", DIM),)


def ended(connection: Connection, row: Row) -> str:
    """Who ended it, and how; whose RST it was where there was one."""
    ending = row.course.ending
    if ending in _ENDED:
        return _ENDED[ending]
    resets = " and ".join(f"the {role} end's RST" for role in connection.reset_by)
    first = connection.closed_by
    fins = [trace for trace in connection.segments if trace.segment.fin]
    if ending is Ending.RST and not fins:
        return f"aborted by {resets}"
    closers = {trace.sender for trace in fins}
    who = "by both ends at once" if first == "both" else f"first by the {first} end"
    said = f"closed by FIN, {who}" if len(closers) > 1 else f"a FIN of the {first} end only"
    return f"{said}; then aborted by {resets}" if ending is Ending.RST else said


def _counts(connection: Connection, row: Row) -> Iterator[str]:
    roles = [end.role for end in connection.endpoints]
    for counts, what in (
        (row.retransmissions, "retransmissions"),
        (row.missing, "octets acknowledged that are not in the capture"),
        (row.zero_windows, "windows of 0"),
    ):
        told = [
            f"{count:,} of the {role} end"
            for role, count in zip(roles, counts, strict=False)
            if count
        ]
        if told:
            yield f"{what}: {', '.join(told)}"
    cut = sum(trace.cut for trace in connection.segments)
    if cut:
        yield f"segments cut by the capture: {cut:,}"
    silent = {end.role for end in connection.endpoints} - {t.sender for t in connection.segments}
    for role in sorted(silent):
        yield f"nothing was seen of the {role} end"
    if row.course.midstream:
        yield "it had begun before the capture"
