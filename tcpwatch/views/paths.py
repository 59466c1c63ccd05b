"""Many connections at a glance: how they ended, and which ways their two ends went, by frequency.

Owns: the words for an ending, and what stands in that table. Must not know how anything was
concluded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from tcpwatch.model.timeline import Belief, Connection, Judged, RunRecord, SegmentTrace
from tcpwatch.tcp.state import TcpState
from tcpwatch.views.canvas import Span, Word, words, wrap
from tcpwatch.views.palette import BOLD, DIM
from tcpwatch.views.summary import (
    Lines,
    expectation_lines,
    finding_lines,
    head_lines,
    verdict_lines,
)
from tcpwatch.views.wording import Wording

_MOST_FINDINGS = 20
_MOST_WAYS = 25
_ANYTHING = 6  # so many states or more, and a belief says hardly anything

REFUSED = "refused: a RST answered the SYN"
UNANSWERED = "no answer to the SYN"
BY_RST = "aborted by RST"
BY_FIN = "closed by FIN"
HALF_CLOSED = "a FIN of one end only"
TIMED_OUT = "timed out"
OPEN = "still open"
_ORDER = (BY_FIN, BY_RST, REFUSED, UNANSWERED, HALF_CLOSED, TIMED_OUT, OPEN)


def summary_head(record: RunRecord, width: int, wording: Wording) -> Lines:
    """What was read, before anything is concluded from it."""
    return [*head_lines(record, width, wording), []]


def summary_lines(judged: Judged, width: int, wording: Wording) -> Lines:
    """How the connections ended, and the ways that their ends went, the most frequent first."""
    connections = judged.timeline.connections
    lines = _endings(connections, width)
    lines += [[], *_ways(connections, width, wording)] if connections else []
    findings = judged.timeline.findings
    if findings:
        lines += [[], *finding_lines(findings[:_MOST_FINDINGS], width, wording)]
        if len(findings) > _MOST_FINDINGS:
            lines.append([Span(f"and {len(findings) - _MOST_FINDINGS:,} more findings", DIM)])
    asked = expectation_lines(judged.expectations, width, wording)
    lines += [[], *asked] if asked else []
    verdict = verdict_lines(judged, width, wording)
    return [*lines, [], *verdict] if verdict else lines


def ending(connection: Connection) -> str:
    """How it ended, as far as was seen."""
    senders = {trace.sender for trace in connection.segments}
    first = connection.segments[0] if connection.segments else None
    opened = first is not None and first.segment.syn and first.segment.ack is None
    if opened and first is not None:
        answers = [trace for trace in connection.segments if trace.sender != first.sender]
        if not answers and all(trace.segment.syn for trace in connection.segments):
            return UNANSWERED
        if answers and all(trace.segment.rst for trace in answers):
            return REFUSED
    match connection.close_reason:
        case "rst":
            return BY_RST
        case "fin":
            closed = {trace.sender for trace in connection.segments if trace.segment.fin}
            return BY_FIN if closed == senders else HALF_CLOSED
        case "timeout":
            return TIMED_OUT
        case _:
            return OPEN


def _endings(connections: Sequence[Connection], width: int) -> Lines:
    endings: dict[str, list[Connection]] = {}
    for connection in connections:
        endings.setdefault(ending(connection), []).append(connection)
    lines = [[Span(_counted(len(connections), "connection"), BOLD)]]
    room = len(f"{len(connections):,}")
    for name in _ORDER:
        group = endings.get(name)
        if group:
            said = [_count(len(group), len(connections), room), *words(name)]
            said += words(_by_whom(name, group), DIM)
            lines += wrap(said, width, room + 12)
    lines += [
        wrap(words(text, DIM), width, 2)[0]
        for text in (_retransmitted(connections), _midstream(connections))
        if text
    ]
    return lines


def _by_whom(name: str, group: Iterable[Connection]) -> str:
    if name not in (BY_FIN, BY_RST, HALF_CLOSED):
        return ""
    first = Counter(connection.closed_by for connection in group)
    parts = [f"{count:,} {_began(who)}" for who, count in first.most_common()]
    return f"({', '.join(parts)})"


def _began(who: str | None) -> str:
    return "by both at once" if who == "both" else f"first by the {who} end"


def _retransmitted(connections: Sequence[Connection]) -> str:
    counts = [sum(trace.retransmission for trace in one.segments) for one in connections]
    total, of = sum(counts), sum(count > 0 for count in counts)
    if not total:
        return ""
    return f"{_counted(total, 'retransmission')} in {_counted(of, 'connection')}"


def _midstream(connections: Sequence[Connection]) -> str:
    begun = {TcpState.CLOSED, TcpState.LISTEN}
    count = sum(
        not all(end.initial.states <= begun for end in one.endpoints) for one in connections
    )
    return f"{_counted(count, 'connection')} had begun before the capture" if count else ""


# ---------------------------------------------------------------------- ways


@dataclass(frozen=True, slots=True)
class _Way:
    """What connections have in common: the path of each end."""

    paths: tuple[tuple[Belief, ...], ...]


def _ways(connections: Sequence[Connection], width: int, wording: Wording) -> Lines:
    groups: dict[_Way, list[Connection]] = {}
    for connection in connections:
        way = _Way(tuple(endpoint.path for endpoint in connection.endpoints))
        groups.setdefault(way, []).append(connection)
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    room = len(f"{len(connections):,}")
    lines: Lines = []
    for way, group in ordered[:_MOST_WAYS]:
        lines += _way(way, group, len(connections), room, width, wording)
    rest = ordered[_MOST_WAYS:]
    if rest:
        count = sum(len(group) for _, group in rest)
        text = f"and {_counted(len(rest), 'way')} more, of {_counted(count, 'connection')}"
        lines.append([Span(text, DIM)])
    return lines


def _way(
    way: _Way, group: Sequence[Connection], total: int, room: int, width: int, wording: Wording
) -> Lines:
    indent = room + 9
    lines: Lines = []
    for index, (path, endpoint) in enumerate(zip(way.paths, group[0].endpoints, strict=True)):
        said: list[Word] = [_count(len(group), total, room)] if index == 0 else []
        if index:
            said.append((Span(" " * (indent - 1)),))
        said.append((Span(wording.safe(endpoint.role), BOLD), Span(" ")))
        said += _path(path, wording)
        lines += wrap(said, width, indent + 2)
    spans = [(Span(" " * (indent - 1)),), *words(_when(group), DIM)]
    first = group[0]
    ends = " > ".join(wording.safe(str(endpoint.address)) for endpoint in first.endpoints)
    spans += words(f"e.g. #{first.number} {ends}", DIM)
    return [*lines, *wrap(spans, width, indent + 2)]


def _path(path: Iterable[Belief], wording: Wording) -> list[Word]:
    content: list[Word] = []
    for belief in path:
        vague = len(belief.states) >= _ANYTHING
        states: list[Word] = [(Span("unknown", DIM),)] if vague else wording.belief(belief)
        content += [(Span("> ", DIM), *states[0]), *states[1:]] if content else states
    return content


def _when(group: Sequence[Connection]) -> str:
    lasted = sorted(_duration_ns(connection.segments) for connection in group)
    if len(lasted) == 1:
        return f"{_time(lasted[0])};"
    middle = median(lasted)
    return f"{_time(lasted[0])} to {_time(lasted[-1])}, median {_time(middle)};"


def _duration_ns(segments: Sequence[SegmentTrace]) -> int:
    times = [trace.sent_ns for trace in segments if trace.sent_ns is not None]
    return max(times) - min(times) if times else 0


def _time(t_ns: float) -> str:
    if t_ns < 1e9:
        return f"{t_ns / 1e6:.3g} ms"
    return f"{t_ns / 1e9:.4g} s"


def _count(count: int, total: int, room: int) -> Word:
    share = f"{100 * count / total:.1f} %"
    return (Span(f"{count:>{room},}", BOLD), Span(f" {share:>7}", DIM))


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}" + ("" if count == 1 else "s")
