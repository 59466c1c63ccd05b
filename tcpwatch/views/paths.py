"""Many connections at a glance: how they ended, and which ways their two ends went, by frequency.

Owns: the words for an ending, and what stands in that table. Must not know how anything was
concluded or counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from tcpwatch.machine.census import Census, Some, Way
from tcpwatch.machine.rows import Ending
from tcpwatch.model.durations import lasting
from tcpwatch.model.timeline import Belief, RunRecord
from tcpwatch.views.canvas import Span, Word, words, wrap
from tcpwatch.views.palette import BOLD, DIM
from tcpwatch.views.summary import Lines, finding_lines, head_lines
from tcpwatch.views.wording import Wording

_MOST_WAYS: Final = 25
_ANYTHING: Final = 6  # so many states or more, and a belief says hardly anything

ENDINGS: Final = {
    Ending.FIN: "closed by FIN",
    Ending.RST: "aborted by RST",
    Ending.REFUSED: "refused: a RST answered the SYN",
    Ending.UNANSWERED: "no answer to the SYN",
    Ending.HALF_CLOSED: "a FIN of one end only",
    Ending.TIMEOUT: "timed out",
    Ending.OPEN: "still open",
}
"""In words, in the order in which they are told."""
_CLOSED_BY_SOMEBODY: Final = (Ending.FIN, Ending.RST, Ending.HALF_CLOSED)


def summary_head(record: RunRecord, width: int, wording: Wording) -> Lines:
    """What was read, before anything is concluded from it."""
    return [*head_lines(record, width, wording), []]


def summary_lines(census: Census, width: int, wording: Wording) -> Lines:
    """How the connections ended, and the ways that their ends went, the most frequent first."""
    lines = [*_endings(census, width), [], *_ways(census, width, wording)]
    if census.findings:
        lines += [[], *finding_lines(census.findings, width, wording)]
        if census.more_findings:
            lines.append([Span(f"and {census.more_findings:,} more findings", DIM)])
    return lines


def _endings(census: Census, width: int) -> Lines:
    lines = [[Span(counted(census.connections, "connection"), BOLD)]]
    room = len(f"{census.connections:,}")
    for ending, name in ENDINGS.items():
        by = Counter({who: n for (one, who), n in census.endings.items() if one is ending})
        if by:
            said = [_share(by.total(), census.connections, room), *words(name)]
            said += words(_by_whom(by), DIM) if ending in _CLOSED_BY_SOMEBODY else []
            lines += wrap(said, width, room + 12)
    midstream = (
        f"{counted(census.midstream, 'connection')} had begun before the capture"
        if census.midstream
        else ""
    )
    aged = (
        f"{counted(census.aged, 'connection')} given up open, after a long silence"
        if census.aged
        else ""
    )
    notes = (
        _some(census.retransmitted, "retransmission"),
        _some(census.missing, "octet", "acknowledged and not captured"),
        _some(census.zero_windows, "zero window"),
        midstream,
        aged,
    )
    return lines + [line for text in notes if text for line in wrap(words(text, DIM), width, 2)]


def _by_whom(by: Counter[str | None]) -> str:
    return f"({', '.join(f'{count:,} {_began(who)}' for who, count in by.most_common())})"


def _began(who: str | None) -> str:
    return "by both at once" if who == "both" else f"first by the {who} end"


def _some(some: Some, what: str, which: str = "") -> str:
    if not some.total:
        return ""
    many = " ".join(filter(None, (counted(some.total, what), which)))
    return f"{many} in {counted(some.connections, 'connection')}"


# ---------------------------------------------------------------------- ways


def _ways(census: Census, width: int, wording: Wording) -> Lines:
    ordered = census.ways
    room = len(f"{census.connections:,}")
    lines: Lines = []
    for way in ordered[:_MOST_WAYS]:
        lines += _way(way, census.connections, room, width, wording)
    rest = ordered[_MOST_WAYS:]
    if rest:
        count = sum(way.count for way in rest)
        text = f"and {counted(len(rest), 'way')} more, of {counted(count, 'connection')}"
        lines.append([Span(text, DIM)])
    return lines


def _way(way: Way, total: int, room: int, width: int, wording: Wording) -> Lines:
    indent = room + 9
    lines: Lines = []
    for index, (role, path) in enumerate(way.paths):
        said: list[Word] = [_share(way.count, total, room)] if index == 0 else []
        if index:
            said.append((Span(" " * (indent - 1)),))
        said.append((Span(wording.safe(role), BOLD), Span(" ")))
        said += path_words(path, wording)
        lines += wrap(said, width, indent + 2)
    spans = [(Span(" " * (indent - 1)),), *words(_when(way), DIM)]
    four_tuple = way.example.four_tuple
    ends = [four_tuple.local, four_tuple.remote][: len(way.paths)]
    met = " > ".join(wording.safe(str(address)) for address in ends)
    spans += words(f"e.g. #{way.example.number} {met}", DIM)
    return [*lines, *wrap(spans, width, indent + 2)]


def path_words(path: Iterable[Belief], wording: Wording) -> list[Word]:
    """``CLOSED > SYN-SENT``; where a belief says hardly anything, ``unknown``."""
    content: list[Word] = []
    for belief in path:
        vague = len(belief.states) >= _ANYTHING
        states: list[Word] = [(Span("unknown", DIM),)] if vague else wording.belief(belief)
        content += [(Span("> ", DIM), *states[0]), *states[1:]] if content else states
    return content


def _when(way: Way) -> str:
    shortest, middle, longest = way.times_ns
    if shortest == longest:
        return f"{lasting(shortest)}{' each' if way.count > 1 else ''};"
    return f"{lasting(shortest)} to {lasting(longest)}, median {lasting(middle)};"


def _share(count: int, total: int, room: int) -> Word:
    share = f"{100 * count / total:.1f} %"
    return (Span(f"{count:>{room},}", BOLD), Span(f" {share:>7}", DIM))


def counted(count: int, what: str) -> str:
    """``1 connection``, ``2,000 connections``."""
    return f"{count:,} {what}" + ("" if count == 1 else "s")
