"""The selected connection's own page: its path with times, who holds it, what TCP knows of it.

Owns: what is told there, from what is known (pure), and the screen that shows it. Must not know how
it was found out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.screen import Screen
from textual.widgets import Footer

from tcpwatch.machine.population import HostSocket, cause_of
from tcpwatch.model.host import Holding, SocketFacts
from tcpwatch.model.timeline import Basis, Belief
from tcpwatch.tui.pane import Pane
from tcpwatch.views.canvas import Span, words, wrap
from tcpwatch.views.palette import BOLD, DIM, WARN
from tcpwatch.views.sockets import age, belief, clock, holder
from tcpwatch.views.wording import Wording

_WORDING = Wording()
Lines = Sequence[Sequence[Span]]

_HOLDING = {
    Holding.HOLDS: "held by",
    Holding.OPENED: "opened by",
    Holding.LISTENS: "not accepted yet by",
}
_INFO: tuple[tuple[str, str, str, float], ...] = (
    ("rtt", "round-trip time", " ms", 1e3),
    ("rttvar", "its variation", " ms", 1e3),
    ("min_rtt", "least", " ms", 1e3),
    ("rto", "retransmission timeout", " ms", 1e3),
    ("snd_cwnd", "congestion window", " segments", 1),
    ("snd_ssthresh", "slow start threshold", " segments", 1),
    ("snd_wnd", "peer's window", " octets", 1),
    ("rcv_space", "receive space", " octets", 1),
    ("snd_mss", "segment size", " octets", 1),
    ("pmtu", "path MTU", " octets", 1),
    ("unacked", "unacknowledged", " segments", 1),
    ("notsent_bytes", "not sent yet", " octets", 1),
    ("retransmits", "retransmissions under way", "", 1),
    ("total_retrans", "retransmitted in all", " segments", 1),
    ("lost", "thought lost", " segments", 1),
    ("bytes_acked", "sent and acknowledged", " octets", 1),
    ("bytes_received", "received", " octets", 1),
    ("segs_out", "segments out", "", 1),
    ("segs_in", "segments in", "", 1),
    ("last_data_sent", "last data sent", " ms ago", 1),
    ("last_data_recv", "last data received", " ms ago", 1),
    ("delivery_rate", "delivery rate", " kB/s", 1e3),
    ("busy_time", "busy sending", " ms", 1e3),
    ("rwnd_limited", "held up by the peer's window", " ms", 1e3),
)
_NEVER = {"snd_ssthresh": 0x7FFFFFFF, "min_rtt": 0xFFFFFFFF}
"""What the kernel says where there is no such thing yet (TCP_INFINITE_SSTHRESH, ~0U)."""


def info_lines(info: Mapping[str, int], congestion: str) -> Lines:
    """TCP_INFO in words, the parts that one looks at first."""
    if not info:
        return [[Span("the kernel has none: no full socket, or nobody to ask", DIM)]]
    lines: list[list[Span]] = []
    for key, label, unit, scale in _INFO:
        value = info.get(key)
        if value is None or value >= _NEVER.get(key, 1 << 64):
            continue
        told = _scaled(value / scale) if scale > 1 else f"{value:,}"
        lines.append(
            [Span(f"{label:28} ", DIM), Span(told.replace(",", " "), BOLD), Span(unit, DIM)]
        )
    if congestion:
        control = _WORDING.safe(congestion)
        lines.append([Span(f"{'congestion control':28} ", DIM), Span(control, BOLD)])
    return lines


def _scaled(value: float) -> str:
    """With so many places that a loopback's microseconds are seen."""
    return f"{value:,.1f}" if value >= 10 else f"{value:.3f}".rstrip("0").rstrip(".")


def page_lines(
    sock: HostSocket, facts: SocketFacts, unix_ns: Callable[[int], int], width: int
) -> Lines:
    """All that is known of one socket: ends, state, path with times, queues, holders."""
    lines: list[list[Span]] = [
        [*_labelled("state"), *belief(facts.belief, bold=True), *_age(facts)]
    ]
    if facts.receive_queue is not None:
        lines += _queue_lines(facts)
    if facts.timer:
        lines.append([*_labelled("timer"), Span(facts.timer)])
    if facts.retransmits:
        lines.append([*_labelled("sent again"), Span(f"{facts.retransmits} times", WARN)])
    if facts.user:
        lines.append([*_labelled("user"), Span(_WORDING.safe(facts.user))])
    lines += [[], [Span("path", BOLD)], *_path_lines(sock, unix_ns, width)]
    lines += [[], *_holder_lines(facts, width)]
    return lines


def _labelled(label: str) -> list[Span]:
    return [Span(f"{label:12} ", DIM)]


def _age(facts: SocketFacts) -> list[Span]:
    if facts.ended:
        return [Span("   it has ended", DIM)]
    if facts.is_listener:
        return []
    return [Span("  for ", DIM), Span(age(facts.age_ns, at_least=facts.age_is_least))]


def _queue_lines(facts: SocketFacts) -> list[list[Span]]:
    if facts.is_listener:
        waiting = f"{facts.receive_queue} of {facts.send_queue}"
        return [[*_labelled("queue"), Span(waiting), Span(" connections wait in accept()", DIM)]]
    received, sent = f"{facts.receive_queue:,}", f"{facts.send_queue or 0:,}"
    return [
        [
            *_labelled("queues"),
            Span(received.replace(",", " "), BOLD if facts.receive_queue else ""),
            Span(" octets to read, ", DIM),
            Span(sent.replace(",", " "), BOLD if facts.send_queue else ""),
            Span(" to be acknowledged", DIM),
        ]
    ]


def _path_lines(sock: HostSocket, unix_ns: Callable[[int], int], columns: int) -> list[list[Span]]:
    """Each state with when it began and how long it lasted; how it is known where not by sight."""
    steps = sock.history.steps
    lines: list[list[Span]] = []
    for index, step in enumerate(steps):
        line: list[Span] = []
        if index or sock.found:
            line.append(Span(f"{clock(unix_ns(step.t_ns))}  ", DIM))
        else:
            line.append(Span(" " * 14))
        line += belief(Belief(step.states))
        remarks = []
        if index == 0 and sock.found:
            remarks.append("found so")
        elif index:
            cause = step.cause or cause_of(steps[index - 1].states, step.states)
            remarks += [f"by {cause}"] if cause else []
            remarks += ["assumed: nobody saw it"] if step.basis is Basis.ASSUMED else []
            remarks += ["more may have happened before"] if step.gap else []
        if index + 1 < len(steps) and index:
            remarks.append(f"lasted {age(steps[index + 1].t_ns - step.t_ns)}")
        width = sum(len(span.text) for span in line)
        line.append(Span(" " * max(29 - width, 1)))
        lines += wrap([tuple(line), *words(", ".join(remarks), DIM)], columns, 30)
    if sock.doubt is not None:
        lines.append([Span(" " * 14), *belief(Belief(sock.states)), Span("  not settled", DIM)])
    return lines


def _holder_lines(facts: SocketFacts, width: int) -> list[list[Span]]:
    if not facts.holders:
        nobody = facts.holding is Holding.NOBODY
        who = "nobody holds it but the kernel" if nobody else "who holds it is not known"
        return [[Span("processes", BOLD)], [Span(who, DIM)]]
    what = _HOLDING.get(facts.holding, "of")
    lines: list[list[Span]] = [[Span(f"{what} {_many(len(facts.holders))}", BOLD)]]
    for one in facts.holders:
        command = [(Span(word, DIM),) for word in _WORDING.safe(one.command).split(" ") if word]
        lines += wrap([(Span(holder(one, _WORDING)),), *command], max(width, 20), 4)
    return lines


def _many(count: int) -> str:
    return "one process" if count == 1 else f"{count} processes"


class SocketPage(Screen[None]):
    """One socket, kept up to date; what it shows is asked of whoever pushed it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,backspace,left", "app.pop_screen", "back", key_display="esc"),
        Binding(
            "c",
            "capture",
            "capture",
            tooltip="its segments, from now on, or no longer (root); ctrl+s saves them as pcapng",
        ),
    ]

    def __init__(self, refresh: Callable[[SocketPage], None], capture: Callable[[], None]) -> None:
        super().__init__()
        self._refresh_page, self._capture = refresh, capture

    def compose(self) -> ComposeResult:
        yield Pane(id="head")
        with Container(id="page"):
            yield Pane("connection", id="facts", classes="titled")
            yield Pane("TCP_INFO", id="info", classes="titled")
            yield Pane("segments", id="segments", classes="titled")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        self.show_now()
        self.set_interval(0.5, self.show_now)

    def on_pane_resized(self) -> None:
        self.show_now()

    def show_now(self) -> None:
        """Tells what is known now."""
        self._refresh_page(self)

    def action_capture(self) -> None:
        """c: begins, or ends, to capture its segments."""
        self._capture()
        self.show_now()
