"""What each state and each arrow of the machine means, in words: what `explain` explains with.

Owns: the words, and nothing else. What the transition table says is read there and not repeated
here; what Linux does otherwise, and what a program or an operator sees of it, stands here.
"""

from __future__ import annotations

from dataclasses import dataclass

from tcpwatch.machine.stimulus import Stimulus
from tcpwatch.tcp.state import TcpState

_S = TcpState
_T = Stimulus


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
        "The tracepoint reports CLOSING > CLOSE when TIME-WAIT begins, and also when a timer or a "
        "RST ends it. After close() it is an orphan (inode 0), and tcp_orphan_retries bounds its "
        "retransmissions of the FIN.",
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

_RESET = (
    "A RST arrives exactly in sequence. Another in the window draws a challenge ACK (RFC 5961), "
    "and one outside is dropped. The next call fails with ECONNRESET, once."
)

STIMULI: dict[Stimulus, str] = {
    _T.PASSIVE_OPEN: "The application is ready to be called: bind() and listen().",
    _T.ACTIVE_OPEN: "The application calls: connect().",
    _T.CLOSE: (
        "The application has no more to send: shutdown(SHUT_WR), or the close() of the last "
        "process that holds the socket. Where a process dies, the kernel closes for it."
    ),
    _T.ABORT: (
        "The application throws the connection away: close() with SO_LINGER 0 or with unread data, "
        "or connect() to AF_UNSPEC. An administrator's ss -K does it from outside."
    ),
    _T.RST: _RESET,
    _T.SYN: "A SYN without ACK arrives.",
    _T.SYN_ACK: "The SYN,ACK arrives: the peer took our SYN and sent its own.",
    _T.ACK_OF_SYN: (
        "A segment arrives that acknowledges our SYN: a bare ACK, or data with one. The kernel "
        "does this alone; accept() may come much later."
    ),
    _T.ACK_OF_FIN: (
        "A segment arrives that acknowledges our FIN, and not only the data before it."
    ),
    _T.FIN: "The peer's FIN arrives, with all the data before it: the peer has no more to send.",
    _T.USER_TIMEOUT: "A timer gives the connection up.",
    _T.TIME_WAIT_TIMEOUT: (
        "Twice the maximum segment lifetime has passed since the last segment: RFC 9293 has four "
        "minutes in mind, Linux takes a fixed 60 s (TCP_TIMEWAIT_LEN), whatever tcp_fin_timeout "
        "says. tcpwatch run normal-close --wait-time-wait stays until then."
    ),
}
"""What a stimulus is, in most states."""

_FIN_GIVEN_UP = (
    "The FIN was sent again and again, and nobody acknowledged it: tcp_orphan_retries times (8 by "
    "default) where no process holds the socket any more, else tcp_retries2 (15). The peer is not "
    "told."
)
_ABORTED_AFTER_FIN = (
    "close() with SO_LINGER 0 or with unread data, after shutdown(SHUT_WR); or an administrator's "
    "ss -K. Linux also does it by itself when data comes for an orphan, since nobody will read it."
)
_ABORTED_IN_SILENCE = (
    "close() with SO_LINGER 0, after shutdown(SHUT_WR); or an administrator's ss -K. The peer has "
    "said all that it had to say, so RFC 9293 sends nothing. Linux sends a RST only where data of "
    "ours was still unsent, or where keepalive gave up."
)

ARROWS: dict[tuple[TcpState, Stimulus], str] = {
    (_S.LISTEN, _T.ACTIVE_OPEN): (
        "Only in the RFC: its user changes a listening connection into an active one, by an active "
        "OPEN or by SEND. On Linux connect() on a listening socket fails with EISCONN."
    ),
    (_S.LISTEN, _T.CLOSE): (
        "The last process that holds the listener closes it, or ends. What it accepted lives on; "
        "what waits in its accept queue is reset, and a handshake that is not over finds no "
        "listener any more."
    ),
    (_S.LISTEN, _T.ABORT): (
        "On Linux this is shutdown() with SHUT_RD or SHUT_RDWR, or an administrator's ss -K. The "
        "accept queue is reset as by close(). After shutdown() the descriptor and the port are "
        "still there, and listen() opens them again."
    ),
    (_S.SYN_SENT, _T.CLOSE): (
        "The application gives up before an answer has come: close(), or its process ends. The "
        "answer to the SYN that is out finds nobody, and a RST answers it."
    ),
    (_S.SYN_SENT, _T.ABORT): (
        "On Linux this is shutdown(), connect() to AF_UNSPEC, close() with SO_LINGER 0, or an "
        "administrator's ss -K. After the first two the same socket may connect() again."
    ),
    (_S.SYN_SENT, _T.SYN): (
        "A SYN without ACK arrives: the other end called us at the same moment, from the very port "
        "that we called. A simultaneous open: both SYNs crossed."
    ),
    (_S.SYN_SENT, _T.RST): (
        "A RST arrives whose ACK covers our SYN: nobody listens on that port, or a firewall says "
        "so. connect() fails with ECONNREFUSED."
    ),
    (_S.SYN_SENT, _T.USER_TIMEOUT): (
        "The SYN was sent again tcp_syn_retries times (6 by default), and nothing came back. "
        "connect() fails with ETIMEDOUT, by default after some two minutes."
    ),
    (_S.SYN_RECEIVED, _T.CLOSE): (
        "The application closes before the handshake is over. Only after a simultaneous open has "
        "it a descriptor to close: a listener's child gets one when it is ESTABLISHED."
    ),
    (_S.SYN_RECEIVED, _T.ABORT): (
        "close() with SO_LINGER 0, after a simultaneous open. (A request socket, which has no "
        "descriptor, ss -K ends without a RST.)"
    ),
    (_S.SYN_RECEIVED, _T.RST): (
        "A RST arrives. One that opened passively goes back to LISTEN, as if nothing had been; "
        "Linux's request socket heeds any RST in the window for that. One that opened actively "
        "ends CLOSED by a RST exactly in sequence, and its connect() fails with ECONNRESET."
    ),
    (_S.SYN_RECEIVED, _T.SYN): (
        "A SYN arrives with another number than the first, in the window: the caller has begun "
        "anew, or somebody lies. An active opener answers with a challenge ACK and stays."
    ),
    (_S.SYN_RECEIVED, _T.USER_TIMEOUT): (
        "The SYN,ACK was sent again tcp_synack_retries times (5 by default; tcp_syn_retries for an "
        "active opener), and its ACK did not come. Nobody is told: the client may well be "
        "ESTABLISHED, and learns it by a RST when it sends something."
    ),
    **{
        (state, _T.RST): _RESET
        for state in (_S.ESTABLISHED, _S.FIN_WAIT_1, _S.CLOSING, _S.LAST_ACK)
    },
    (_S.TIME_WAIT, _T.TIME_WAIT_TIMEOUT): STIMULI[_T.TIME_WAIT_TIMEOUT],
    (_S.ESTABLISHED, _T.USER_TIMEOUT): (
        "Data stayed unacknowledged (tcp_retries2: some fifteen minutes; or TCP_USER_TIMEOUT), or "
        "keepalive gave up, which also sends a RST. The next call fails with ETIMEDOUT."
    ),
    (_S.FIN_WAIT_1, _T.ABORT): _ABORTED_AFTER_FIN,
    (_S.FIN_WAIT_1, _T.USER_TIMEOUT): _FIN_GIVEN_UP,
    (_S.FIN_WAIT_2, _T.ABORT): _ABORTED_AFTER_FIN,
    (_S.FIN_WAIT_2, _T.RST): (
        "A RST arrives exactly in sequence (RFC 5961); for an orphan Linux heeds any in the "
        "window. Who still reads gets ECONNRESET, and so cannot take it for the end of the stream."
    ),
    (_S.FIN_WAIT_2, _T.USER_TIMEOUT): (
        "Not in the RFC, which waits for the peer's FIN as long as it takes. Linux ends an "
        "orphaned FIN-WAIT-2 after tcp_fin_timeout (60 s). Where a process still holds the socket, "
        "it too waits for ever."
    ),
    (_S.CLOSE_WAIT, _T.CLOSE): (
        "The application has read to the end and has no more to send: close() or "
        "shutdown(SHUT_WR), or its process ends. This is the step that is missing where "
        "connections pile up in CLOSE-WAIT."
    ),
    (_S.CLOSE_WAIT, _T.RST): (
        "A RST arrives exactly in sequence, often the answer to our own write: the peer is gone "
        "altogether. Linux gives EPIPE here (and SIGPIPE), ECONNRESET elsewhere."
    ),
    (_S.CLOSE_WAIT, _T.USER_TIMEOUT): (
        "No timer ends the state itself. But data that is sent in it wants to be acknowledged: "
        "retransmissions were given up (tcp_retries2, TCP_USER_TIMEOUT), or keepalive found "
        "nobody."
    ),
    (_S.CLOSING, _T.ABORT): _ABORTED_IN_SILENCE,
    (_S.CLOSING, _T.USER_TIMEOUT): _FIN_GIVEN_UP,
    (_S.LAST_ACK, _T.ABORT): _ABORTED_IN_SILENCE,
    (_S.LAST_ACK, _T.USER_TIMEOUT): _FIN_GIVEN_UP,
    (_S.TIME_WAIT, _T.SYN): (
        "A SYN arrives whose timestamp or sequence number is newer than all that the old "
        "connection has seen: it reopens the tuple as a new connection (RFC 6191). Linux gives it "
        "to the listener, if there is one."
    ),
    (_S.TIME_WAIT, _T.RST): (
        "A RST arrives exactly in sequence: TIME-WAIT assassination (RFC 1337). A peer that is "
        "long CLOSED sends one when TIME-WAIT acknowledges an old FIN. Linux heeds it while "
        "tcp_rfc1337 is 0, the default."
    ),
    (_S.TIME_WAIT, _T.ABORT): (
        "No process holds it, so there is nothing to close: only an administrator's ss -K ends it "
        "early."
    ),
}
"""Where a stimulus is something else in one state than in most, or is worth more words there."""

SILENT = frozenset({(_S.CLOSING, _T.ABORT), (_S.LAST_ACK, _T.ABORT)})
"""Where what the table says is sent is the exception; the words on the arrow say when."""
