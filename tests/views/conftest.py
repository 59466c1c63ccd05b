"""Runs to draw, told by hand: what a session would hand to the views.

Owns: the stories told with `Story`. No machine takes part, so a view's test fails for the view
alone.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tcpwatch.model.events import (
    KERNEL,
    Fate,
    Gap,
    MalformedSeen,
    ProcessChange,
)
from tcpwatch.model.timeline import (
    Basis,
    Expectation,
    Finding,
    Severity,
    Verdict,
)
from tests.views.telling import BLIND, Story


def as_expected(story: Story) -> Story:
    """The story, expected to go as it went."""
    for endpoint in story.connection().endpoints:
        path = " > ".join(str(belief) for belief in endpoint.path)
        story.expectations.append(Expectation(endpoint.role, path, met=True))
    return story


def normal_close() -> Story:
    """A request and an answer, then the client closes, then the server."""
    story = Story(
        "normal-close", "One end closes, the other reads the end of the stream and closes too."
    )
    story.call(0, "server", "listen", "128", connected=False)
    story.handshake(3)
    story.call(0.2, "server", "accept", returns_ms=63.2, result="10.77.0.1:40000", connected=False)
    story.call(64.5, "client", "send", "b'ping'", result=4)
    story.segment(64.55, "client", "PA", 4, arrives_ms=84.6)
    story.segment(84.7, "server", "A", arrives_ms=104.7)
    story.call(65, "server", "recv", "65536", returns_ms=84.7, result=4)
    story.call(84.9, "server", "send", "b'pong'", result=4)
    story.segment(84.95, "server", "PA", 4, arrives_ms=105)
    story.segment(105.1, "client", "A", arrives_ms=125.1)
    story.call(65.2, "client", "recv", "65536", returns_ms=105.1, result=4)
    story.call(107.4, "client", "close")
    fin = story.segment(107.5, "client", "FA", arrives_ms=127.5)
    story.move(107.45, "client", "FIN-WAIT-1", "close()", fin)
    story.move(127.51, "server", "CLOSE-WAIT", "FIN received", fin)
    ack = story.segment(127.6, "server", "A", arrives_ms=147.6)
    story.call(85.2, "server", "recv", "65536", returns_ms=127.8, result=0)
    story.move(147.61, "client", "FIN-WAIT-2", "ACK of FIN received", ack)
    story.call(148, "server", "close", connected=False)
    story.call(150, "server", "close")
    fin = story.segment(150.1, "server", "FA", arrives_ms=170.1)
    story.move(150.05, "server", "LAST-ACK", "close()", fin)
    story.move(170.11, "client", "TIME-WAIT", "FIN received", fin, BLIND)
    ack = story.segment(170.2, "client", "A", arrives_ms=190.2)
    story.move(190.21, "server", "CLOSED", "ACK of FIN received", ack)
    return as_expected(story)


def simultaneous_close() -> Story:
    """Both FINs in flight at once, crossing."""
    story = Story(
        "simultaneous-close", "Both FINs cross on the wire, so both ends pass through CLOSING."
    )
    story.handshake()
    story.call(62.0, "client", "close")
    story.call(62.1, "server", "close")
    first = story.segment(62.2, "client", "FA", arrives_ms=82.2)
    second = story.segment(62.4, "server", "FA", arrives_ms=82.3, ack=1)
    story.move(62.15, "client", "FIN-WAIT-1", "close()", first)
    story.move(62.35, "server", "FIN-WAIT-1", "close()", second)
    story.move(82.21, "server", "CLOSING", "FIN received", first)
    story.move(82.31, "client", "CLOSING", "FIN received", second)
    third = story.segment(82.4, "server", "A", arrives_ms=102.4)
    fourth = story.segment(82.5, "client", "A", arrives_ms=102.5)
    story.move(102.41, "client", "TIME-WAIT", "ACK of FIN received", third, BLIND)
    story.move(102.51, "server", "TIME-WAIT", "ACK of FIN received", fourth, BLIND)
    return as_expected(story)


def held_close() -> Story:
    """The same with the wire holding both FINs for a while."""
    story = Story(
        "simultaneous-close", "Both FINs cross on the wire, so both ends pass through CLOSING."
    )
    story.handshake()
    story.call(62.0, "client", "close")
    first = story.segment(
        62.2,
        "client",
        "FA",
        arrives_ms=90.2,
        fates=((62.25, Fate.HELD), (90.1, Fate.RELEASED)),
    )
    story.move(62.15, "client", "FIN-WAIT-1", "close()", first)
    story.call(65.1, "server", "close")
    second = story.segment(
        65.4,
        "server",
        "FA",
        arrives_ms=90.3,
        ack=1,
        fates=((65.45, Fate.HELD), (90.15, Fate.RELEASED)),
    )
    story.move(65.35, "server", "FIN-WAIT-1", "close()", second)
    story.move(90.21, "server", "CLOSING", "FIN received", first)
    story.move(90.31, "client", "CLOSING", "FIN received", second)
    third = story.segment(90.4, "server", "A", arrives_ms=110.4)
    fourth = story.segment(90.5, "client", "A", arrives_ms=110.5)
    story.move(110.41, "client", "TIME-WAIT", "ACK of FIN received", third, BLIND)
    story.move(110.51, "server", "TIME-WAIT", "ACK of FIN received", fourth, BLIND)
    return as_expected(story)


def fin_lost() -> Story:
    """The first FIN is dropped, the retransmitted one is duplicated; the run fails its claim."""
    story = Story("fin-lost", "The first FIN is dropped; FIN-WAIT-1 sends it again.")
    story.handshake()
    story.call(62.0, "client", "close")
    first = story.segment(62.2, "client", "FA", fates=((62.25, Fate.DROPPED),))
    story.move(62.15, "client", "FIN-WAIT-1", "close()", first)
    second = story.segment(286.2, "client", "FA", arrives_ms=306.2, again=first)
    story.move(306.21, "server", "CLOSE-WAIT", "FIN received", second)
    ack = story.segment(306.3, "server", "A", arrives_ms=326.3)
    story.copy(ack, 306.35, 328.3)
    story.move(326.31, "client", "FIN-WAIT-2", "ACK of FIN received", ack)
    story.end_ms = 1400
    story.verdict = Verdict.FAIL
    story.reasons = ("server: the witnessed path ends in CLOSE-WAIT, LAST-ACK was expected",)
    story.expectations = [
        Expectation(
            "client",
            "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2",
            met=True,
        ),
        Expectation(
            "server",
            "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK",
            met=False,
            explanation="  LISTEN\n  SYN-RECEIVED\n  ESTABLISHED\n  CLOSE-WAIT\n- LAST-ACK\n"
            "  the last that was witnessed: CLOSE-WAIT\n"
            "      at 306.210 ms; reported; FIN received; segment 5; seen by kernel, table, wire",
        ),
    ]
    return story


def rst_on_write() -> Story:
    """The server's process is killed; the client writes into the void."""
    story = Story(
        "rst-on-write",
        "The first write to a dead peer succeeds, and only the second one fails.",
    )
    story.handshake()
    story.process(70.0, "server", ProcessChange.SIGNALLED, signal="SIGKILL")
    story.process(70.6, "server", ProcessChange.EXITED, signal="SIGKILL")
    fin = story.segment(70.3, "server", "FA", arrives_ms=90.3)
    story.move(70.25, "server", "FIN-WAIT-1", "SIGKILL", fin)
    story.move(90.31, "client", "CLOSE-WAIT", "FIN received", fin)
    ack = story.segment(90.4, "client", "A", arrives_ms=110.4)
    story.move(110.41, "server", "FIN-WAIT-2", "ACK of FIN received", ack)
    story.call(90.7, "client", "recv", "65536", result=0)
    story.call(113.0, "client", "send", "b'anyone?'", result=7)
    story.segment(113.1, "client", "PA", 7, arrives_ms=133.1)
    rst = story.segment(133.2, "server", "R", arrives_ms=153.2)
    story.move(133.19, "server", "CLOSED", "data after close", rst)
    story.move(153.21, "client", "CLOSED", "RST received", rst)
    story.call(155.0, "client", "send", "b'anyone?'", errno="EPIPE")
    return as_expected(story)


def odd_wire() -> Story:
    """What the wire can do beside: overtaking, delay, an injected RST without effect, loss."""
    story = Story("odd-wire", "The wire reorders, delays, injects and loses; nothing breaks.")
    story.handshake()
    story.call(62.0, "client", "send", "b'one'", result=3)
    story.segment(62.05, "client", "PA", 3, arrives_ms=95.2, fates=((62.06, Fate.DELAYED),))
    story.call(65.0, "client", "send", "b'two'", result=3)
    story.segment(65.05, "client", "PA", 3, arrives_ms=85.1)
    story.segment(85.3, "server", "A", arrives_ms=105.3, ack=1)
    story.segment(90.0, "client", "R", injected=True, arrives_ms=93.0)
    story.segment(93.1, "server", "A", arrives_ms=113.1, ack=1)
    story.call(96.0, "server", "recv", "65536", result=6)
    story.segment(96.2, "server", "A")
    story.tell(120, Gap("the ring buffer overran", 3, 118_000_000), KERNEL)
    story.tell(125, MalformedSeen("data offset beyond the segment", b"\x00"))
    story.move(
        130, "client", "FIN-WAIT-1 or FIN-WAIT-2 or CLOSED", "timeout", None, (), Basis.ASSUMED
    )
    story.verdict = Verdict.INCONCLUSIVE
    story.reasons = ("kernel lost 3 events",)
    story.findings = [
        Finding(
            "events-lost",
            Severity.WARNING,
            "the kernel witness lost 3 events",
            1,
            "client",
            "RFC 9293 3.10.7.4",
        )
    ]
    return story


def burst() -> Story:
    """A long answer: many segments at once, acknowledged in one go."""
    story = Story("burst", "A long answer leaves in many segments at once.")
    story.handshake()
    story.call(62.0, "server", "send", "b'0123456789'... 14480 octets", result=14480)
    for index in range(10):
        at_ms = 62.1 + index / 100
        story.segment(at_ms, "server", "A", 1448, arrives_ms=at_ms + 20 + (index > 6) * 5)
    story.segment(87.4, "client", "A", arrives_ms=107.4)
    return as_expected(story)


def two_connections() -> Story:
    """Two clients in turn, over IPv6, and a process whose name would spoil a terminal."""
    story = Story(
        "two-connections\x1b[2J",
        "One server, two connections \u202eover IPv6.",
        "[2001:db8:1234:5678:9abc:def0:1234:5678]:40000",
        "[2001:db8::7]:7000",
    )
    story.handshake()
    story.another_connection("[2001:db8:1234:5678:9abc:def0:1234:5678]:40001")
    story.handshake(100)
    story.call(170, "server", "send", "b'x'", errno="EPIPE\x07", process="sh\x1b[31m\u8edf\n")
    return story


def fork_server() -> Story:
    """A server that forks, a client that polls: signals, handlers, a zombie that stays."""
    story = Story(
        "fork-server", "Each connection has a child; one that ends is a zombie until it is reaped."
    )
    start, fork, end, reap = (
        ProcessChange.STARTED,
        ProcessChange.FORKED,
        ProcessChange.EXITED,
        ProcessChange.REAPED,
    )
    story.process(0, "server", start)
    story.call(0.1, "server", "run", "fork_server 10.77.0.2 7000", returns=False)
    story.call(6.0, "server", "socket", "AF_INET, SOCK_STREAM", result=3, connected=False)
    story.call(6.2, "server", "setsockopt", "SO_REUSEADDR, 1", result=0, connected=False)
    story.call(6.4, "server", "signal", "SIGCHLD, wait_for_all")
    story.call(6.6, "server", "listen", "8", connected=False)
    story.process(8, "client", start)
    story.call(8.1, "client", "run", "polling_client 10.77.0.2 7000", returns=False)
    story.handshake(10)
    story.call(7, "server", "accept", returns_ms=70.2, result=4, connected=False)
    story.call(70.4, "server", "fork", returns_ms=71.2, result=story.pid("server", "child 1"))
    story.process(71.1, "server", fork, "child 1", parent="server")
    story.call(71.3, "server", "close")
    story.call(71.4, "server", "accept", returns=False, connected=False)
    story.call(71.5, "server", "close", process="child 1", connected=False)
    story.call(71.6, "server", "recv", "4096", process="child 1", returns_ms=110.3, result=13)
    story.call(54, "client", "setblocking", "False")
    for t_ms in (55, 55.1, 55.2, 60, 66, 72):
        story.call(t_ms, "client", "recv", "4096", errno="EAGAIN")
    story.call(75, "client", "print", r"b'nothing yet\n'", result=12)
    story.call(75.2, "client", "select", "read stdin, 3; 0.01 s", returns_ms=85.4, result="timeout")
    story.call(85.6, "client", "select", "read stdin, 3", returns_ms=90, result="stdin readable")
    story.call(90.1, "client", "read", "stdin", result=r"b'is it there?\n'")
    story.call(90.3, "client", "send", r"b'is it there?\n'", result=13)
    story.segment(90.35, "client", "PA", 13, arrives_ms=110.3)
    story.segment(110.4, "server", "A", arrives_ms=130.4)
    story.call(
        110.6, "server", "print", "b'a question that'... 240 octets", result=240, process="child 1"
    )
    story.call(110.8, "server", "exit", "3", process="child 1", returns=False)
    fin = story.segment(111, "server", "FA", arrives_ms=131)
    story.move(110.9, "server", "FIN-WAIT-1", "exit()", fin)
    story.process(112.0, "server", end, "child 1", parent="server", exit_status=3)
    story.call(120.0, "server", "SIGCHLD handler", returns_ms=120.9)
    child = story.pid("server", "child 1")
    story.process(120.2, "server", reap, "child 1", parent="server")
    story.call(120.1, "server", "waitpid", "-1, WNOHANG", result=child)
    story.call(120.4, "server", "waitpid", "-1, WNOHANG", errno="ECHILD")
    story.move(131.01, "client", "CLOSE-WAIT", "FIN received", fin)
    ack = story.segment(131.1, "client", "A", arrives_ms=151.1)
    story.move(151.11, "server", "FIN-WAIT-2", "ACK of FIN received", ack)
    second = story.pid("server", "child 2")
    story.call(140, "server", "fork", returns_ms=140.6, result=second)
    story.process(140.5, "server", fork, "child 2", parent="server")
    story.process(145, "server", ProcessChange.SIGNALLED, "child 2", signal="SIGKILL")
    story.process(145.4, "server", end, "child 2", parent="server", signal="SIGKILL")
    story.measured(150, "zombies left", 1, "wait() once")
    story.measured(150.1, "zombies left", 0, "waitpid() in a loop")
    story.measured(150.2, "clients", 1)
    story.call(160, "client", "getsockopt", "SO_ERROR", result="ECONNREFUSED")
    story.call(165, "client", "exit", "0", returns=False)
    story.process(165.3, "client", end, exit_status=0)
    return as_expected(story)


STORIES: dict[str, Callable[[], Story]] = {
    story.__name__.replace("_", "-"): story
    for story in (
        burst,
        fin_lost,
        fork_server,
        held_close,
        normal_close,
        odd_wire,
        rst_on_write,
        simultaneous_close,
        two_connections,
    )
}


@pytest.fixture(scope="session")
def stories() -> dict[str, Callable[[], Story]]:
    """What tells each story, by its name."""
    return STORIES


@pytest.fixture(scope="session")
def new_story() -> type[Story]:
    """The builder itself."""
    return Story


@pytest.fixture(params=sorted(STORIES))
def story(request: pytest.FixtureRequest) -> Story:
    """Each story in turn."""
    return STORIES[request.param]()
