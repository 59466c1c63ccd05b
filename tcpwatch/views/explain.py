"""What a state or a transition means, as text: `tcpwatch explain`.

Owns: the words on each state: what it means, what Linux does otherwise, what being stuck there
says. How one gets in and out is read from the transition table. Must not know a timeline.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.machine.stimulus import Stimulus
from tcpwatch.machine.table import TABLE, Outcome, Row, paths_between
from tcpwatch.tcp.state import TcpState

_S = TcpState
_T = Stimulus
_NARROWEST = 40  # columns; below that a table of transitions is no table


@dataclass(frozen=True, slots=True)
class About:
    """The words on one state. ``section`` is where RFC 9293 says what segments do in it."""

    meaning: str
    section: str
    linux: str
    stuck: str


ABOUT: dict[TcpState, About] = {
    _S.CLOSED: About(
        "There is no connection: either nothing has happened yet, or everything is over. Nothing "
        "is remembered, so a segment that arrives for a closed port is answered by a RST.",
        "3.10.7.1",
        "A socket that neither connects nor listens is in TCP_CLOSE (ss: UNCONN). The kernel's "
        "tracepoint also reports CLOSE when TIME-WAIT begins, and when close() leaves an orphan "
        "in FIN-WAIT-2: a minisocket goes on in its place. By itself that event does not say "
        "that the connection is gone.",
        "A connect() that fails with ECONNREFUSED met a closed port. Look at ss -tlnp on the "
        "server: is it up, on this port, on this address (127.0.0.1 is not 0.0.0.0), and in this "
        "network namespace?",
    ),
    _S.LISTEN: About(
        "Waits for a SYN from any peer. In the RFC the waiting connection itself moves on to "
        "SYN-RECEIVED; with sockets the listener stays, and each SYN begins a new connection "
        "beside it.",
        "3.10.7.2",
        "What has been admitted but not yet accept()ed waits in the accept queue: ss shows its "
        "length as the listener's Recv-Q and the backlog as Send-Q. A backlog of N admits N+1. "
        "While the queue is full, new SYNs are dropped in silence.",
        "It is meant to last. If clients hang in SYN-SENT while it is there, the accept queue may "
        "be full, because the application calls accept() too seldom: compare Recv-Q and Send-Q "
        "in ss -tln, and see whether nstat -az TcpExtListenOverflows TcpExtListenDrops rises.",
    ),
    _S.SYN_SENT: About(
        "Our SYN is out, and the peer's has not come. connect() is waiting here (or, without "
        "blocking, has returned EINPROGRESS). The SYN is sent again until it is answered or the "
        "retries are used up.",
        "3.10.7.3",
        "After tcp_syn_retries connect() fails with ETIMEDOUT, after a RST with ECONNREFUSED. "
        "With tcp_syn_linear_timeouts the first retries keep the same distance, and only then "
        "does it double.",
        "Nobody answers: the SYN or the answer is filtered (firewall, security group, route), the "
        "host is down, or the server's accept queue is full. A merely closed port would have "
        "sent a RST at once. Capture at the server: if no SYN arrives, look at the path; if it "
        "arrives and nothing leaves, look at the listener's Recv-Q and at the server's firewall.",
    ),
    _S.SYN_RECEIVED: About(
        "The peer's SYN has come and our SYN,ACK is out; only the ACK of our SYN is missing. "
        "Whoever opened passively comes here from LISTEN. In a simultaneous open, where two SYNs "
        "crossed, both ends come here from SYN-SENT.",
        "3.10.7.4",
        "A passive one is a request socket (ss: SYN-RECV, inode 0) and emits no event: when the "
        "last ACK comes, the tracepoint reports LISTEN > SYN_RECV > ESTABLISHED within "
        "microseconds. With SYN cookies there is no request socket at all. The SYN,ACK is sent "
        "again tcp_synack_retries times. Any RST in the window ends a request socket, where RFC "
        "5961 wants it exactly in sequence.",
        "Many of them from many addresses: a SYN flood (see TcpExtSyncookiesSent in nstat -az). "
        "From clients you know: our SYN,ACK or their ACK is lost, as with asymmetric routes or a "
        "firewall that saw only one direction. Look at ss -tn state syn-recv, and capture at "
        "both ends to see which segment is missing.",
    ),
    _S.ESTABLISHED: About(
        "Each end has acknowledged the other's SYN: data flows both ways. Either end may close "
        "its direction, and both may at the same time.",
        "3.10.7.4",
        "The kernel completes the handshake without the application: a connection in the accept "
        "queue is already ESTABLISHED, takes data, and has inode 0 until accept().",
        "It is meant to last. But if the peer vanished without a segment, nobody finds out before "
        "something is sent: an idle connection stays for ever unless SO_KEEPALIVE is on, and "
        "with it the first probe comes after tcp_keepalive_time (two hours). Look at ss -tnoi: "
        "the timer, Send-Q (not yet acknowledged) and lastrcv. In ss -tne, ino:0 means that "
        "nobody has accepted it.",
    ),
    _S.FIN_WAIT_1: About(
        "We have closed first: our FIN is on its way, and is not acknowledged yet. The peer may "
        "still be sending.",
        "3.10.7.4",
        "The state begins with close() or shutdown(SHUT_WR), even where unsent data must go out "
        "before the FIN. After close() the socket is an orphan: it has inode 0 and outlives its "
        "process. tcp_orphan_retries bounds its retransmissions.",
        "The FIN is not acknowledged: the peer or the path is gone, or the peer's window is zero "
        "and data in front of the FIN cannot leave. ss -tno state fin-wait-1 tells them apart: "
        "timer:(on,...) is a retransmission, timer:(persist,...) a zero window; Send-Q is what "
        "still waits.",
    ),
    _S.FIN_WAIT_2: About(
        "Our FIN is acknowledged: our direction is closed, the peer's is open. We wait for its "
        "FIN, and can receive data until then (a half-close).",
        "3.10.7.4",
        "After shutdown(SHUT_WR) it may last for ever. After close() it is an orphan, ends after "
        "tcp_fin_timeout (60 s), and answers data by a RST; the tracepoint reports CLOSE at once, "
        "while the socket table goes on showing FIN-WAIT-2 with inode 0.",
        "The peer has not closed: it is probably in CLOSE-WAIT, and the fault is there. If the "
        "peer is gone and this end only used shutdown(), nothing ends it: call close(), or set a "
        "timeout on the read. ss -tnpo state fin-wait-2 shows whether a process still holds it "
        "and how long the timer has to run.",
    ),
    _S.CLOSE_WAIT: About(
        "The peer has closed its direction: its FIN has come and is acknowledged, and read() "
        "returns end of file. We may still send. The state ends when our application closes.",
        "3.10.7.4",
        "No timer ends it. The FIN counts as one octet of Recv-Q. A write is allowed; if the peer "
        "is gone altogether it is answered by a RST, and the write after that gives EPIPE and "
        "SIGPIPE.",
        "The local application has not called close(): the bug is here, not at the peer. Look at "
        "ss -tnpe state close-wait. With ino:0 the connection was never accepted: the accept "
        "loop is stuck. With an inode it was accepted and not closed: a leaked descriptor, a "
        "process that does not read (so it misses the end of file), or a child that still holds "
        "the socket after fork(). ls -l /proc/*/fd finds every holder.",
    ),
    _S.CLOSING: About(
        "Both ends closed at the same time and the FINs crossed: the peer's FIN has come, but not "
        "yet the ACK of ours.",
        "3.10.7.4",
        "The tracepoint reports CLOSING > CLOSE when TIME-WAIT begins.",
        "It is rare, and lasts no longer than the ACK of our FIN takes. If it stays, that ACK is "
        "lost each time: the peer or the path is gone. The FIN is retransmitted, and the retries "
        "end it. Look at ss -tno state closing for the timer.",
    ),
    _S.LAST_ACK: About(
        "The peer closed first and now we have closed too: our FIN is out, and its ACK is all "
        "that is missing. Then the connection is gone; TIME-WAIT is the other end's.",
        "3.10.7.4",
        "After close() it is an orphan (inode 0), and tcp_orphan_retries bounds its "
        "retransmissions of the FIN.",
        "The last ACK does not come: the peer rebooted without TIME-WAIT and its answers are "
        "filtered, or a firewall on the way forgot the connection after the first FIN. Look at "
        "ss -tno state last-ack for the timer; a capture shows the same FIN again and again.",
    ),
    _S.TIME_WAIT: About(
        "We closed first, and both FINs are acknowledged. The state stays so that the peer's FIN, "
        "if our last ACK was lost, finds somebody to acknowledge it again, and so that old "
        "duplicates die before the same addresses and ports are used again.",
        "3.10.7.4",
        "It lasts a fixed 60 s, whatever tcp_fin_timeout says; late segments restart it. A newer "
        "SYN from the peer reopens it, tcp_tw_reuse lets connect() take it over (by default only "
        "on loopback), and a RST ends it while tcp_rfc1337 is 0. Beyond tcp_max_tw_buckets there "
        "is none at all. It is a minisocket: no process, inode 0, and no tracepoint.",
        "Healthy: it stands at the end that closed first, and holds neither descriptor nor "
        "process. It hurts in two cases. A restarted server's bind() gives EADDRINUSE: set "
        "SO_REUSEADDR. A client with many short connections to one address runs out of ports "
        "(EADDRNOTAVAIL): keep connections open, or let the server close first. ss -s counts "
        "them. SO_LINGER 0 avoids it by a RST, at the price of lost data.",
    ),
}
"""What there is to say of each state."""

_THE_RFCS: dict[tuple[TcpState, Stimulus], str] = {
    (_S.LISTEN, _T.ACTIVE_OPEN): "Only in the RFC: its user changes a listening connection into "
    "an active one, by an active OPEN or by SEND.",
}
"""What the sockets' word for a stimulus would tell wrongly."""

_STIMULI: dict[Stimulus, str] = {
    _T.PASSIVE_OPEN: "The application is ready to be called: bind() and listen().",
    _T.ACTIVE_OPEN: "The application calls: connect().",
    _T.CLOSE: "The application has no more to send: close(), or shutdown(SHUT_WR). Where a process "
    "dies, the kernel closes for it.",
    _T.ABORT: "The application throws the connection away: close() with SO_LINGER 0 or with unread "
    "data, connect() to AF_UNSPEC, or an administrator's ss -K.",
    _T.RST: "A RST arrives that counts. Once synchronised it must be exactly in sequence; another "
    "in the window draws a challenge ACK (RFC 5961), and one outside is dropped. In SYN-SENT its "
    "ACK must cover our SYN.",
    _T.SYN: "A SYN without ACK arrives.",
    _T.SYN_ACK: "The SYN,ACK arrives: the peer took our SYN and sent its own.",
    _T.ACK_OF_SYN: "A segment arrives that acknowledges our SYN: a bare ACK, or data with one.",
    _T.ACK_OF_FIN: "A segment arrives that acknowledges our FIN, and not only the data before it.",
    _T.FIN: "The peer's FIN arrives, with all the data before it: the peer has no more to send.",
    _T.USER_TIMEOUT: "A timer gives the connection up.",
    _T.TIME_WAIT_TIMEOUT: "Twice the maximum segment lifetime has passed.",
}


def explain_state(state: TcpState, width: int) -> str:
    """What ``state`` means, how one gets in and out, what being stuck there says."""
    about = ABOUT[state]
    page = _Page(width)
    page.title(state.value, f"RFC 9293 3.3.2, {about.section}")
    page.text(about.meaning)
    page.heading("How one gets in")
    page.table(_ways((row for row in _moves() if state in _ends(row)), arriving=True))
    page.heading("How one gets out")
    page.table(_ways((row for row in _moves() if row.state is state), arriving=False))
    page.heading("What changes nothing")
    page.table(_unmoved(state))
    page.heading("On Linux")
    page.text(about.linux)
    page.heading("Stuck here")
    page.text(about.stuck)
    return page.rendered()


def explain_edge(before: TcpState, after: TcpState, width: int) -> str:
    """What takes a connection from ``before`` to ``after``, and what follows.

    Raises TcpwatchError (wrong usage), naming the edges that leave ``before``, where there is none.
    """
    rows = [row for row in _moves() if row.state is before and after in _ends(row)]
    if not rows:
        raise _no_edge(before, after)
    page = _Page(width)
    page.title(f"{before} > {after}", "")
    for row in rows:
        page.heading(f"{row.stimulus.value} (RFC 9293 {row.section})")
        page.text(_THE_RFCS.get((row.state, row.stimulus), _STIMULI[row.stimulus]))
        for line in _particulars(row, after):
            page.text(line)
    page.heading(f"Then, in {after}")
    page.text(ABOUT[after].meaning)
    page.heading(f"Stuck in {before} instead")
    page.text(ABOUT[before].stuck)
    return page.rendered()


def _moves() -> Iterator[Row]:
    return (row for row in TABLE.values() if row.outcome is Outcome.MOVES)


def _ends(row: Row) -> set[TcpState]:
    """Where the row leads, either way of opening; not where it stays."""
    return {row.next_state(passive=True), row.next_state(passive=False)} - {row.state}


def _ways(rows: Iterable[Row], *, arriving: bool) -> Iterator[tuple[str, str, str]]:
    """What happens, where it leads (or comes from) with what is to remark, and the section."""
    groups: dict[tuple[str, str, str], list[TcpState]] = {}
    for row in rows:
        what = row.stimulus.value + (f", sends {row.sends}" if row.sends else "")
        note = row.note if row.linux else f"{row.note} (not by socket calls on Linux)"
        states = groups.setdefault((what, note, row.section), [])
        states += [row.state] if arriving else [end for end in TcpState if end in _ends(row)]
    for (what, note, section), states in groups.items():
        others = ", ".join(map(str, states)) if arriving else " or ".join(map(str, states))
        where = f"from {others}" if arriving else f"to {others}"
        yield what, f"{where}: {note}" if note else where, section


def _unmoved(state: TcpState) -> Iterator[tuple[str, str, str]]:
    groups: dict[tuple[str, str], list[str]] = {}
    for row in TABLE.values():
        if row.state is state and row.outcome is Outcome.IGNORED:
            groups.setdefault((row.note, row.section), []).append(row.stimulus.value)
    for (note, section), stimuli in groups.items():
        # "RST received, SYN received" reads as "RST, SYN received".
        *others, last = stimuli
        names = [*(name.removesuffix(" received") for name in others), last]
        yield " / ".join(names), note, section


def _condition(row: Row, end: TcpState) -> str:
    """Which way it must have opened for the row to lead to ``end``; nothing where both do."""
    ends = {passive: row.next_state(passive=passive) for passive in (True, False)}
    if ends[True] is ends[False]:
        return ""
    return "if it opened passively" if ends[True] is end else "if it opened actively"


def _particulars(row: Row, after: TcpState) -> Iterator[str]:
    if opened := _condition(row, after):
        yield f"It goes there {opened}."
    yield f"Sent with it: {row.sends}." if row.sends else "Nothing is sent."
    if row.note:
        yield f"Note: {row.note}."
    if not row.linux:
        yield "Socket calls on Linux cannot produce it."
    yield (
        "An arrow of RFC 9293's Figure 5." if row.in_figure else "Not drawn in RFC 9293's Figure 5."
    )


def _no_edge(before: TcpState, after: TcpState) -> TcpwatchError:
    leaving = dict.fromkeys(
        end.value
        for row in _moves()
        if row.state is before
        for end in TcpState
        if end in _ends(row)
    )
    ways = [way for way in paths_between(before, after) if way] if before is not after else []
    detour = f" ({_detour(ways)})" if ways else ""
    return TcpwatchError(
        f"there is no transition from {before} to {after}{detour}",
        f"{before} leads to {', '.join(leaving)}",
        ExitCode.USAGE,
    )


def _detour(ways: Sequence[tuple[TcpState, ...]]) -> str:
    """How to get there all the same: of several long ways one, the most usual."""
    if all(len(way) == 1 for way in ways):
        return f"only by way of {' or '.join(str(state) for (state,) in ways)}"
    way = max(ways, key=lambda way: TcpState.ESTABLISHED in way)
    return f"the shortest way is by {' > '.join(map(str, way))}"


class _Page:
    """Headings, paragraphs and tables within a width. Plain text."""

    def __init__(self, width: int) -> None:
        self._width = max(width, _NARROWEST)
        self._lines: list[str] = []

    def title(self, left: str, right: str) -> None:
        space = self._width - len(left) - len(right)
        if right and space < 2:
            self._lines += [left, right]
        else:
            self._lines.append((left + " " * space + right).rstrip())

    def heading(self, text: str) -> None:
        self._lines += ["", text]

    def text(self, text: str) -> None:
        self._lines += textwrap.wrap(
            text,
            self._width,
            initial_indent="  ",
            subsequent_indent="  ",
            break_on_hyphens=False,
        )

    def table(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Three columns; the first two are wrapped, the last one stands at the right edge."""
        listed = list(rows)
        first = min(max(len(row[0]) for row in listed), self._width // 3)
        last = max(len(row[2]) for row in listed)
        middle = self._width - first - last - 6  # the indent and two gaps of 2
        for name, what, section in listed:
            names = textwrap.wrap(name, first)
            whats = textwrap.wrap(what, middle, break_on_hyphens=False)
            lines = zip_longest(names, whats, [section], fillvalue="")
            self._lines += [
                f"  {one:<{first}}  {other:<{middle}}  {cited}".rstrip()
                for one, other, cited in lines
            ]

    def rendered(self) -> str:
        return "\n".join(self._lines)
