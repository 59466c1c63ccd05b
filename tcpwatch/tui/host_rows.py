"""The host screen's rows: columns and their widths, what stands in them, in which order.

Owns: what of a socket is shown at which width, the sort keys, and the words of the screen's other
lines. Pure. Must not know widgets.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address

from tcpwatch.machine.population import HostSocket
from tcpwatch.model.host import SocketFacts
from tcpwatch.model.identity import SocketAddress
from tcpwatch.model.timeline import Belief
from tcpwatch.tcp.state import TcpState
from tcpwatch.views.canvas import Span, shortened, width_of
from tcpwatch.views.palette import BAD, BOLD, DIM, GOOD, WARN, state_style
from tcpwatch.views.sockets import MoveFacts, address, belief, holders
from tcpwatch.views.wording import Wording

_WORDING = Wording()
_ORDER = {state: index for index, state in enumerate(TcpState)}
_BARS = "▁▂▃▄▅▆▇█"
_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Column:
    """``name`` heads it; ``least`` and ``most`` cells; ``right``: figures stand at the right."""

    key: str
    name: str
    width: int
    right: bool = False


STATE = Column("state", "State", 12)
AGE = Column("age", "Age", 6, right=True)
RECV = Column("recvq", "Recv-Q", 7, right=True)
SEND = Column("sendq", "Send-Q", 7, right=True)
LOCAL = Column("local", "Local", 21)
REMOTE = Column("remote", "Remote", 21)
PROCESS = Column("process", "Process", 12)
COLUMNS = (STATE, AGE, RECV, SEND, LOCAL, REMOTE, PROCESS)


@lru_cache(maxsize=64)
def columns_for(width: int) -> tuple[Column, ...]:
    """The columns that so much room has; what is left is for addresses and the process."""
    shown = [STATE, AGE, RECV, SEND, LOCAL, REMOTE, PROCESS]
    if width < 100:
        shown = [STATE, AGE, LOCAL, REMOTE, PROCESS]
    spare = width - sum(one.width for one in shown) - len(shown)
    if spare < 0:
        shown = [one for one in shown if one is not LOCAL]
        spare = width - sum(one.width for one in shown) - len(shown)
    spare = max(spare, 0)
    for_address = min(spare // 4, 26)
    more = {"local": for_address, "remote": for_address}
    more["process"] = spare - sum(more[one.key] for one in shown if one.key in more)
    return tuple(
        Column(one.key, one.name, one.width + more.get(one.key, 0), one.right) for one in shown
    )


def short_age(age_ns: int, *, at_least: bool = False) -> str:
    """As coarse as one reads it, so that little changes: ``0s``, ``45s``, ``3m``, ``2h05``."""
    seconds = age_ns // _SECOND_NS
    if seconds < 60:
        text = f"{seconds}s"
    elif seconds < 3_600:
        text = f"{seconds // 60}m"
    elif seconds < 86_400:
        text = f"{seconds // 3_600}h{seconds % 3_600 // 60:02d}"
    else:
        text = f"{seconds // 86_400}d{seconds % 86_400 // 3_600:02d}h"
    return f">{text}" if at_least else text


def head_row(columns: Sequence[Column], sorted_by: str, *, descending: bool) -> list[Span]:
    """The names of the columns, the one that decides the order with its direction."""
    spans = [Span(" ")]
    for column in columns:
        name = column.name
        if column.key == sorted_by:
            name += "▾" if descending else "▴"
        text = name.rjust(column.width) if column.right else name.ljust(column.width)
        spans.append(Span(f"{text[: column.width]} ", BOLD if column.key == sorted_by else DIM))
    return spans


def column_at(columns: Sequence[Column], cell: int) -> Column | None:
    """The column that a click on the head means."""
    at = 1
    for column in columns:
        if at <= cell < at + column.width + 1:
            return column
        at += column.width + 1
    return None


def row_line(facts: SocketFacts, columns: Sequence[Column], *, selected: bool) -> list[Span]:
    """One socket. The selected one has a sign, since colour alone says nothing."""
    spans = [Span("▸" if selected else " ", BOLD)]
    for column in columns:
        cell, style = _cell(facts, column)
        if column.key == "state" and isinstance(cell, list):
            spans += _fitted(cell, column.width)
        else:
            text = shortened(str(cell), column.width)
            pad = " " * (column.width - width_of(text))
            spans.append(Span(f"{pad}{text} " if column.right else f"{text}{pad} ", style))
    return spans


def _cell(facts: SocketFacts, column: Column) -> tuple[str | list[Span], str]:
    match column.key:
        case "state":
            return _state(facts.belief), ""
        case "age":
            if facts.is_listener:
                return "", DIM
            return short_age(facts.age_ns, at_least=facts.age_is_least), ""
        case "recvq":
            return _queue(facts.receive_queue)
        case "sendq":
            if facts.is_listener:
                return _queue(facts.send_queue, DIM)  # the backlog, no queue
            return _queue(facts.send_queue)
        case "local":
            return _address(facts.local, column.width), ""
        case "remote":
            return _address(facts.remote, column.width), DIM if facts.is_listener else ""
        case _:
            text = holders(facts, _WORDING, most=2 if column.width >= 24 else 1)
            return text, DIM if text.startswith(("(", "?")) else ""


def _state(of: Belief) -> list[Span]:
    """The state; where there may be others too, the one it was seen in with a ``?``."""
    if of.certain is not None or not of.states:
        return belief(of)
    likely = min(of.states, key=_ORDER.__getitem__)
    return [Span(f"{likely.value}?", state_style(likely))]


def _queue(octets: int | None, style: str = BOLD) -> tuple[str, str]:
    if octets is None:
        return "-", DIM
    text = str(octets) if octets < 1_000_000 else f"{octets // 1_000}k"
    return text, style if octets else DIM


def _address(of: SocketAddress, width: int) -> str:
    """Where it is too long, its middle is left out: the port is what one looks for."""
    text = address(of)
    if len(text) <= width:
        return text
    port = f"]:{of.port}" if ":" in of.ip else f":{of.port}"
    return f"{text[: width - len(port) - 1]}…{port}"


def _fitted(spans: list[Span], width: int) -> list[Span]:
    """Within that many cells and a blank: ``A or B`` may be longer."""
    text = "".join(span.text for span in spans)
    if len(text) > width:
        return [Span(f"{shortened(text, width):<{width}} ", spans[0].style)]
    return [*spans, Span(" " * (width - len(text) + 1))]


# ---------------------------------------------------------------------- order


@lru_cache(maxsize=65_536)
def _place(ip: str) -> tuple[int, int]:
    parsed = ip_address(ip)
    return parsed.version, int(parsed)


@lru_cache(maxsize=1_024)
def _state_key(states: frozenset[TcpState]) -> int:
    return min(map(_ORDER.__getitem__, states))


def sort_key(
    by: str,
    facts: Callable[[HostSocket], SocketFacts],
    age_ns: Callable[[HostSocket], int],
    queues: Callable[[HostSocket], tuple[int, int]],
) -> Callable[[HostSocket], tuple[object, ...]]:
    """What sockets are put in order by; those that are equal by their number."""
    match by:
        case "age":
            return lambda sock: (age_ns(sock), sock.number)
        case "local":
            return lambda sock: (*_place(sock.local.ip), sock.local.port, sock.number)
        case "remote":
            return lambda sock: (*_place(sock.remote.ip), sock.remote.port, sock.number)
        case "recvq":
            return lambda sock: (queues(sock)[0], sock.number)
        case "sendq":
            return lambda sock: (queues(sock)[1], sock.number)
        case "process":
            return lambda sock: (
                tuple(one.name.lower() for one in facts(sock).holders) or ("\U0010ffff",),
                sock.number,
            )
        case _:
            return lambda sock: (_state_key(sock.states), sock.number)


DESCENDING = frozenset({"recvq", "sendq", "age"})
"""Where the largest come first, unless asked otherwise."""


# ---------------------------------------------------------------------- the other lines


def bars(values: Sequence[int], cells: int, *, step: int = 1) -> str:
    """The last values as so many bars, each the mean of ``step``; blanks where there are none.

    Drawn between their own least and most, so that a change shows however large they are.
    """
    wanted = values[-cells * step :]
    grouped = [wanted[at : at + step] for at in range(0, len(wanted), step)]
    means = [sum(group) / len(group) for group in grouped]
    if not means:
        return " " * cells
    low, high = min(means), max(means)
    span = high - low
    if not span:
        return " " * cells  # a count that stands still has no trend
    last = len(_BARS) - 1
    return "".join(_BARS[round((mean - low) / span * last)] for mean in means).rjust(cells)


def note(state: TcpState, trend: Sequence[Mapping[TcpState, int]], cells: int) -> tuple[Span, ...]:
    """A state's count and how it went, for the figure."""
    values = [counts.get(state, 0) for counts in trend]
    if not any(values):
        return ()
    count = f"{values[-1]:,}".replace(",", " ")
    left = cells - len(count) - 1
    style = state_style(state, bold=True) if values[-1] else DIM
    spans = (Span(count, style),)
    return (*spans, Span(" "), Span(bars(values, left), DIM)) if left >= 3 else spans


def strip_lines(
    trend: Sequence[Mapping[TcpState, int]], width: int, lines: int
) -> list[list[Span]]:
    """All states that there are or were, with counts and trends: where no figure has room."""
    found: list[list[Span]] = [[Span(" ")]]
    used = 1
    for state in TcpState:
        values = [counts.get(state, 0) for counts in trend]
        if not any(values):
            continue
        style = state_style(state, bold=True) if values[-1] else DIM
        spans = [Span(f"{values[-1]} ", style), Span(state.value, style)]
        if any(value != values[0] for value in values):
            spans += [Span(" "), Span(bars(values, min(8, len(values))), DIM)]
        length = sum(len(span.text) for span in spans)
        if used + length + 3 > width and used > 1:
            found.append([Span(" ")])
            used = 1
        found[-1] += [*spans, Span("   ")]
        used += length + 3
    return found[:lines]


def move_row(move: MoveFacts, width: int) -> list[Span]:
    """One move in the list of moves: when, from > to, whose, why; cut by its pane."""
    clock = time.strftime("%H:%M:%S", time.localtime(move.unix_ns // _SECOND_NS))
    spans = [Span(f"{clock} ", DIM)]
    moved = [*belief(move.before), Span(" > ", DIM), *belief(move.after, bold=True)]
    length = sum(len(span.text) for span in moved)
    spans += [*moved, Span(" " * max(27 - length, 1))]
    who = holders(move.of, _WORDING, most=1)
    room = width - sum(width_of(span.text) for span in spans)
    spans.append(Span(_ends(move.of, room, len(who))))
    rest = [who] if who and who != "?" else []
    if width > 90 and move.cause:
        rest.append(f"by {move.cause}")
    if move.gap:
        rest.append("(more may have happened)")
    return [*spans, Span("  "), Span("  ".join(rest), DIM)]


def _ends(of: SocketFacts, room: int, more: int) -> str:
    """Both ends where there is room for them; else of the local one its port, or only the peer."""
    local, remote = address(of.local), address(of.remote)
    if len(local) + 3 + len(remote) + 2 + more <= room:
        return f"{local} > {remote}"
    short = f":{of.local.port} > {remote}"
    return short if len(short) <= room else _address(of.remote, max(room, 8))


def head_line(
    name: str, sockets: int, shown: int, rates: Sequence[int], remarks: Iterable[str], width: int
) -> list[Span]:
    """How many sockets there are, how fast they move, and whose word it is."""
    rate = rates[-1] if rates else 0
    left = [Span(f" {name}", BOLD), Span("  "), Span(f"{sockets}", BOLD), Span(" sockets")]
    if shown != sockets:
        left += [Span(", ", DIM), Span(f"{shown}", BOLD), Span(" selected", DIM)]
    left += [Span("   "), Span(f"{rate}", BOLD), Span(f" moves/s {bars(rates, 12)}", DIM)]
    right: list[Span] = []
    for remark in remarks:
        style = WARN if remark.startswith(("no ", "lost ")) else BAD if "!" in remark else GOOD
        right += [Span("  "), Span(remark, "" if style is GOOD else style)]
    used = sum(width_of(span.text) for span in left)
    room = width - used - 1
    taken = sum(width_of(span.text) for span in right)
    if taken > room:
        text = "".join(span.text for span in right)
        right, taken = [Span(shortened(text, max(room, 1)), WARN)], max(room, 1)
    return [*left, Span(" " * max(room - taken, 0)), *right]
