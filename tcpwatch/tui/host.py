"""The host's screen: counts on the figure with their trend, every socket in a table, moves, pages.

Owns: the layout, the keys, and how often what is drawn anew. What is shown comes from pure
functions of what the `Host` tells. Must not know who is asked for it.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath
from typing import ClassVar, Protocol

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.events import Key
from textual.widgets import Footer, Input

from tcpwatch.errors import TcpwatchError
from tcpwatch.machine.filtering import And, FilterError, Node
from tcpwatch.machine.population import HostMove, HostSocket
from tcpwatch.model.timeline import Belief
from tcpwatch.tui.app import BASE_SHEET, COMMON_KEYS, FRAME_S, TcpwatchApp
from tcpwatch.tui.help import Legend
from tcpwatch.tui.host_page import SocketPage, info_lines, page_lines
from tcpwatch.tui.host_rows import (
    COLUMNS,
    DESCENDING,
    column_at,
    columns_for,
    head_line,
    head_row,
    move_row,
    note,
    row_line,
    sort_key,
    strip_lines,
)
from tcpwatch.tui.host_table import RowTable
from tcpwatch.tui.pane import Pane
from tcpwatch.tui.statemap import StateFigure
from tcpwatch.views.canvas import Span, shortened, visible
from tcpwatch.views.palette import BAD, BOLD, DIM
from tcpwatch.views.sockets import MoveFacts, table_lines
from tcpwatch.views.statemap import StateMap
from tcpwatch.views.wording import Wording
from tcpwatch.watching.filter import FIELDS, Subject, read_filter
from tcpwatch.watching.host import Host

_NOTE_CELLS = 10
_FIGURE_COLUMNS = 110  # with so many there is room for the figure, too
_ORDER_S = 0.5  # between two times that all rows are put in order
_ROWS_S = 0.25  # between two times that the rows in sight are drawn anew, while they move
_BUSY, _BUSY_S = 200, 0.75  # with more moves a second than these nobody reads along: so seldom
_SHARE = 0.01  # of a core that the putting in order may take
_MOVES_SHOWN = 200


_SORT = "sort by the next column, or the one before"
_OF_THE_TABLE = frozenset({"ask", "sort", "reverse", "pause", "figure", "clear"})
_FIELD_ALONE = re.compile(r"(?:^|[\s(!-])(\w+)$")


def _is_half_written(text: str) -> bool:
    """Whether it ends in the name of a field: its term is still to come."""
    found = _FIELD_ALONE.search(text)
    return found is not None and any(name.startswith(found[1].lower()) for name in FIELDS)


class Capture(Protocol):
    """Segments of one connection, as they are captured."""

    runs: bool

    def lines(self) -> Sequence[Sequence[Span]]:
        """What was captured until now, and what cannot be."""

    def write(self, path: Path, sock: HostSocket, unix_ns: Callable[[int], int]) -> None:
        """As a pcapng."""

    def close(self) -> None:
        """Captures no more; what was captured stays."""


class HostScreen(TcpwatchApp[None], inherit_bindings=False):
    """Shows a host, until somebody quits, or it is ``over``.

    ``begin_capture`` captures a socket's segments, or raises TcpwatchError.
    """

    CSS_PATH: ClassVar[list[str | PurePath]] = [BASE_SHEET, Path(__file__).with_name("host.tcss")]
    NAME = "tcpwatch-host"
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 - Textual's own annotation
        (0, "-narrow"),
        (_FIGURE_COLUMNS, "-normal"),
        (170, "-wide"),
    ]
    VERTICAL_BREAKPOINTS = [  # noqa: RUF012
        (0, "-low"),
        (30, "-tall"),
        (46, "-high"),
    ]
    LEGEND: ClassVar[Legend] = (
        ("830 ▂▃▅▇", "so many sockets are in that state; how that went in the last seconds"),
        (">5s", "in its state for at least so long: it was found in it"),
        ("A or B", "the evidence allows both: the kernel's last word is not settled yet"),
        ("nginx[12] +3", "a process that holds the socket, and three more"),
        ("(nginx[12] listens)", "nobody has accepted it yet: it waits at that listener"),
        ("(the kernel's)", "no process has it: TIME-WAIT, an orphan, a request"),
        ("?", "somebody has it, and does not show us: be root"),
        ("Recv-Q", "octets received and not read; of a listener the connections that wait"),
        ("Send-Q", "octets not acknowledged; of a listener the backlog"),
        ("state:close-wait age>5s", "a filter: terms that all must hold, `or`, `not`, brackets"),
        ("port:443 ip:10.0.0.0/8", "also sport, dport, src, dst, process, pid, user, recvq"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "slash",
            "ask",
            "filter",
            key_display="/",
            tooltip="show only some: state:… port:… age>5s",
        ),
        Binding("s", "sort(1)", "sort", tooltip=_SORT),
        Binding("S", "sort(-1)", "sort back", show=False, tooltip=_SORT),
        Binding("r", "reverse", "reverse", tooltip="sort the other way round"),
        Binding("p", "pause", "pause", tooltip="draw no more, or again; the watching goes on"),
        Binding("v", "figure", "figure", tooltip="at 80 columns the figure, or the table"),
        Binding("escape", "clear", "clear", show=False, tooltip="no filter any more"),
        *COMMON_KEYS,
    ]

    def __init__(
        self,
        host: Host,
        *,
        filter_text: str = "",
        begin_capture: Callable[[HostSocket], Capture] | None = None,
        over: threading.Event | None = None,
    ) -> None:
        super().__init__()
        self._over = over or threading.Event()
        self.title = "tcpwatch watch"
        self._host = host
        self._begin_capture = begin_capture
        self._subject = Subject(host)
        self._filter_text = filter_text
        self._filter: Node = read_filter(filter_text)
        self._sockets: dict[int, HostSocket] = {}
        self._sort, self._descending = "state", False
        self._paused = False
        self._order_at = self._rows_at = 0.0
        self._ordered = (-1, -1)
        self._seen_moves = -1
        self._seen_second = -1
        self._capture: Capture | None = None
        self._paged: HostSocket | None = None  # whose page is shown
        self.rows_drawn = 0

    # ------------------------------------------------------------------ the parts

    def compose(self) -> ComposeResult:
        yield Pane(id="head")
        with Container(id="body"):
            with Container(id="states"):
                yield Pane(id="strip")
                yield StateFigure(id="figure", aside=_NOTE_CELLS, told=False)
            yield RowTable(self._draw_row, self._draw_head, id="table")
            yield Pane("moves", id="moves", classes="titled")
        with Vertical(id="ask"):
            yield Input(placeholder="state:close-wait port:8080 age>5s", id="asked", compact=True)
            yield Pane(id="said")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        self._table.focus()
        self._arrange()
        self.frame()
        self.set_interval(FRAME_S, self.frame)

    @property
    def _table(self) -> RowTable:
        return self.screen_stack[0].query_one(RowTable)

    def _pane(self, name: str) -> Pane:
        return self.screen_stack[0].query_one(f"#{name}", Pane)

    def on_resize(self) -> None:
        """Another room: other columns, and the moves beside or below the table."""
        self._arrange()
        self.call_after_refresh(self.draw_all)

    def draw_all(self) -> None:
        """Draws everything anew, whatever it costs."""
        self._seen_second, self._order_at, self._ordered = -1, 0.0, (-1, -1)
        self.frame()

    def _arrange(self) -> None:
        body = self.screen_stack[0].query_one("#body")
        moves, table = body.query_one("#moves"), body.query_one("#table")
        beside = _FIGURE_COLUMNS <= self.size.width < 170
        first = body.children.index(moves) < body.children.index(table)
        if beside and not first:
            body.move_child(moves, before=table)
        elif first and not beside:
            body.move_child(moves, after=table)

    # ------------------------------------------------------------------ drawing

    def frame(self) -> None:
        """Draws what is due: at most what has changed, and no more often than it may cost."""
        if self._over.is_set():
            self.exit()
        if self._paused or (len(self.screen_stack) > 1 and not self._is_help()):
            return
        now_s = time.monotonic()
        second = self._host.now_ns // 1_000_000_000
        new_second, self._seen_second = second != self._seen_second, second
        moved = self._host.moved != self._seen_moves
        if now_s >= self._order_at and (self._is_out_of_order() or (new_second and self._ages)):
            self._put_in_order()
        elif new_second or (moved and now_s >= self._rows_at):
            self._table.redraw()
        if (moved and now_s >= self._rows_at) or new_second:
            self._seen_moves = self._host.moved
            rates = self._host.rates
            self._rows_at = now_s + (_BUSY_S if rates and rates[-1] > _BUSY else _ROWS_S)
            self._show_moves()
        if new_second:
            self._show_states()
            self._show_head()

    def _is_help(self) -> bool:
        return not isinstance(self.screen, SocketPage)

    def _is_out_of_order(self) -> bool:
        """Whether sockets have moved, come or gone since they were put in order."""
        return (self._host.moved, len(self._host.population)) != self._ordered

    @property
    def _ages(self) -> bool:
        """Whether order or choice change although nothing moves: all ages grow alike."""
        return self._sort in ("recvq", "sendq", "process") or self._filter != And(())

    def _put_in_order(self) -> None:
        began_s = time.thread_time()
        self._ordered = (self._host.moved, len(self._host.population))
        host, subject, chosen = self._host, self._subject, self._filter
        with host.lock:
            sockets = host.population.sockets()
            if chosen != And(()):
                sockets = [one for one in sockets if subject.fits(chosen, one)]
            sockets.sort(key=self._key(), reverse=self._descending)
        self._sockets = {one.number: one for one in sockets}
        self._table.order([one.number for one in sockets])
        self._want_holders()
        cost_s = time.thread_time() - began_s
        self._order_at = time.monotonic() + max(_ORDER_S, cost_s / _SHARE)

    def _key(self) -> Callable[[HostSocket], tuple[object, ...]]:
        host = self._host

        def queues(sock: HostSocket) -> tuple[int, int]:
            row = host.row(sock)
            return (row.receive_queue, row.send_queue) if row is not None else (-1, -1)

        def age_ns(sock: HostSocket) -> int:
            return -1 if sock.is_listener else host.age(sock)[0]  # a listener's says nothing

        return sort_key(self._sort, host.facts, age_ns, queues)

    def _want_holders(self) -> None:
        rows = (
            self._host.row(self._sockets[key])
            for key in self._table.in_sight
            if key in self._sockets
        )
        self._host.owners.want(row.inode for row in rows if row is not None)

    def _draw_row(self, key: int, selected: bool) -> Sequence[Span]:  # noqa: FBT001 - a row has it
        self.rows_drawn += 1
        facts = self._host.facts(self._sockets[key])
        return row_line(facts, columns_for(self._table.size.width - 1), selected=selected)

    def _draw_head(self) -> Sequence[Span]:
        columns = columns_for(self._table.size.width - 1)
        return head_row(columns, self._sort, descending=self._descending)

    def _show_moves(self) -> None:
        pane, host = self._pane("moves"), self._host
        with host.lock:
            new = list(host.moves)[-_MOVES_SHOWN:]
        if self._filter != And(()):
            new = [move for move in new if self._subject.fits_move(self._filter, move)]
        height, width = max(pane.size.height, 1), pane.size.width
        lines = [move_row(self._told(move), width) for move in new[-height:]]
        pane.show(lines or [[Span("nothing has moved yet", DIM)]], follow=True)

    def _told(self, move: HostMove) -> MoveFacts:
        return MoveFacts(
            self._host.unix_ns(move.t_ns),
            Belief(move.before),
            Belief(move.after),
            move.cause,
            move.basis,
            move.gap,
            self._host.facts(move.socket),
        )

    def _show_states(self) -> None:
        trend = list(self._host.trend)
        if not trend:
            return
        strip, figure = self._pane("strip"), self.screen_stack[0].query_one(StateFigure)
        if strip.display:
            strip.show(strip_lines(trend, self.size.width - 1, 2))
        if not figure.display:
            return
        latest = trend[-1]
        notes = {state: told for state in latest if (told := note(state, trend, _NOTE_CELLS - 1))}
        figure.mark(StateMap(visited=frozenset(latest), notes=notes))

    def _show_head(self) -> None:
        host = self._host
        remarks = [one.name for one in host.witnesses if one.available]
        remarks += [f"no {one.name}" for one in host.witnesses if not one.available]
        remarks += [f"lost {host.lost}"] * bool(host.lost)
        remarks += [f"!{visible(fault)}" for fault in host.faults[:1]]
        if self._paused:
            remarks = ["no longer drawn: p goes on"]
        shown = len(self._sockets)
        line = head_line(
            "host", len(host.population), shown, list(host.rates), remarks, self.size.width
        )
        self._pane("head").show([line])
        self._pane("moves").entitle(f"moves: {self._filter_text}" if self._filter_text else "moves")

    # ------------------------------------------------------------------ what one can do

    def action_sort(self, by: int) -> None:
        """s: the next column decides the order."""
        keys = [column.key for column in COLUMNS]
        self.sort_by(keys[(keys.index(self._sort) + by) % len(keys)])

    def sort_by(self, key: str) -> None:
        """That column decides the order; once more, the other way round."""
        if key == self._sort:
            self._descending = not self._descending
        else:
            self._sort, self._descending = key, key in DESCENDING
        self._put_in_order()

    def action_reverse(self) -> None:
        self.sort_by(self._sort)

    def on_row_table_head_clicked(self, event: RowTable.HeadClicked) -> None:
        column = column_at(columns_for(self._table.size.width - 1), event.cell)
        if column is not None:
            self.sort_by(column.key)

    def on_row_table_moved(self) -> None:
        self._want_holders()

    def action_pause(self) -> None:
        """p: what is shown stands still, or goes on."""
        self._paused = not self._paused
        self._show_head()
        self._seen_second = -1
        self.say("paused: p goes on" if self._paused else "it goes on")

    def action_figure(self) -> None:
        """v: at 80 columns, the figure instead of the table."""
        self.screen_stack[0].toggle_class("-figure")
        self.call_after_refresh(self._show_states)

    def action_ask(self) -> None:
        """/: asks for a filter."""
        self.screen_stack[0].query_one("#ask").add_class("-open")
        asked = self.query_one("#asked", Input)
        asked.value = self._filter_text
        asked.cursor_position = len(self._filter_text)
        asked.focus()
        self._say_of_filter(self._filter_text)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filters while one types; what cannot be read yet is told, and changes nothing."""
        if self.screen_stack[0].query_one("#ask").has_class("-open"):
            self._say_of_filter(event.value)

    def _say_of_filter(self, text: str) -> None:
        said = self._pane("said")
        try:
            node = read_filter(text)
            if not _is_half_written(text):
                self._use_filter(node, text)
        except FilterError as error:
            at = Span(f" {' ' * error.column}^", BAD)
            problem = shortened(visible(error.problem), self.size.width - 2)
            said.show([[at], [Span(f" {problem}", BAD)]])
        else:
            count = len(self._sockets)
            hint = "enter: keep it   esc: none   terms: state: port: ip: process: age> …"
            said.show([[Span(f" {count} sockets", BOLD)], [Span(f" {hint}", DIM)]])

    def _use_filter(self, node: Node, text: str) -> None:
        self._filter, self._filter_text = node, text.strip()
        self._put_in_order()
        self._show_moves()
        self._show_head()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter: the filter stays, if it can be read."""
        try:
            self._use_filter(read_filter(event.value), event.value)
        except FilterError:
            return
        self._stop_asking()

    def action_clear(self) -> None:
        """Escape: no filter."""
        self._use_filter(read_filter(""), "")
        self._stop_asking()

    def on_key(self, event: Key) -> None:
        if event.key == "escape" and isinstance(self.focused, Input):
            event.stop()
            self.action_clear()

    def _stop_asking(self) -> None:
        self.screen_stack[0].query_one("#ask").remove_class("-open")
        self._table.focus()

    # ------------------------------------------------------------------ the page of one

    def on_row_table_opened(self, event: RowTable.Opened) -> None:
        """Enter: the selected connection's own page."""
        sock = self._sockets[event.key]
        self._capture = None

        def show(page: SocketPage) -> None:
            self._show_page(page, sock)

        def capture() -> None:
            self._toggle_capture(sock)

        def left(_result: None) -> None:
            self._end_capture()
            self._capture = self._paged = None

        self._paged = sock
        self.push_screen(SocketPage(show, capture), left)

    def _show_page(self, page: SocketPage, sock: HostSocket) -> None:
        host = self._host
        found = None if sock.ended_ns is not None or sock.is_listener else host.look_up(sock)
        facts_pane = page.query_one("#facts", Pane)
        facts = host.facts(sock)
        host.owners.want({facts.inode})
        facts_pane.show(page_lines(sock, facts, host.unix_ns, facts_pane.size.width - 1))
        page.query_one("#page").set_class(not found, "-uninformed")
        info = page.query_one("#info", Pane)
        info.show(info_lines(found.info, found.congestion) if found else info_lines({}, ""))
        name = f" {sock.local} > {sock.remote}" if not sock.is_listener else f" {sock.local}"
        page.query_one("#head", Pane).show(
            [[Span(" connection", BOLD), Span(f" {sock.number} ", DIM), Span(name)]]
        )
        page.query_one("#page").set_class(self._capture is not None, "-captures")
        if self._capture is not None:
            page.query_one("#segments", Pane).show(self._capture.lines(), follow=True)

    def _toggle_capture(self, sock: HostSocket) -> None:
        if self._capture is not None and self._capture.runs:
            self._end_capture()
            self.say("captures no more; ctrl+s saves what there is, c begins anew")
            return
        if self._begin_capture is None or sock.is_listener:
            self.say("there is nothing to capture here", failed=True)
            return
        try:
            self._capture = self._begin_capture(sock)
        except TcpwatchError as error:
            self.say(str(error), failed=True)

    def _end_capture(self) -> None:
        if self._capture is not None:
            self._capture.close()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """On a connection's own page there is no table to filter or sort."""
        if action in _OF_THE_TABLE and self.screen_stack and len(self.screen_stack) > 1:
            return False
        if action == "figure":  # elsewhere there is room for both
            return self.size.width < _FIGURE_COLUMNS
        return super().check_action(action, parameters)

    # ------------------------------------------------------------------ copy, save

    def action_copy(self) -> None:
        """y: the rows in sight, or the pane that has the focus."""
        if isinstance(self.focused, RowTable):
            self._copy(self.focused.text())
        else:
            super().action_copy()

    def saveable(self) -> Sequence[tuple[str, Callable[[Path], object]]]:
        """All rows that the filter selects; of a connection's page its text and its segments."""
        capture, sock = self._capture, self._paged
        if sock is None:
            return [("txt", self._save_table)]
        if capture is None:
            return [("txt", self._save_page)]
        unix_ns = self._host.unix_ns
        return [
            ("txt", self._save_page),
            ("pcapng", lambda path: capture.write(path, sock, unix_ns)),
        ]

    def _save_page(self, path: Path) -> None:
        pages = [one for one in self.screen_stack if isinstance(one, SocketPage)]
        panes = [pane for page in pages for pane in page.query(Pane) if pane.display]
        text = "\n\n".join(pane.text.rstrip() for pane in panes)
        path.write_text(f"{text}\n", encoding="utf-8")

    def _save_table(self, path: Path) -> None:
        rows = [self._host.facts(one) for one in self._sockets.values()]
        lines = table_lines(rows, None, Wording())
        text = "\n".join("".join(span.text for span in line).rstrip() for line in lines)
        path.write_text(f"{text}\n", encoding="utf-8")
