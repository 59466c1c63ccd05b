"""From events of all witnesses to connections: whose they are, and what comes of them together."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tcpwatch.machine.tracker import Tracker
from tcpwatch.model.events import (
    CALLS,
    KERNEL,
    TABLE,
    WIRE,
    CallPhase,
    Event,
    Gap,
    KernelNote,
    KernelNoted,
    MalformedSeen,
    Payload,
    Point,
    ProcessChange,
    ProcessChanged,
    SegmentSeen,
    SocketSampled,
    StateReported,
    UserCall,
    Vantage,
)
from tcpwatch.model.identity import SocketAddress
from tcpwatch.model.timeline import Basis, Belief, Endpoint, Happening, Severity, Timeline
from tcpwatch.tcp.notation import parse_segment
from tcpwatch.tcp.state import TcpState

if TYPE_CHECKING:
    from tests.machine.conftest import Ledgers

S = TcpState
CLIENT, SERVER = SocketAddress("10.77.0.1", 40000), SocketAddress("10.77.0.2", 7000)
UNBOUND = SocketAddress("10.77.0.1", 0)
ADDRESSES = {"client": (CLIENT, SERVER), "server": (SERVER, CLIENT)}
SOCKETS = {"client": 0xC0, "server": 0x50}
MS = 1_000_000


class Bench:
    """A tracker, and the witnesses' events in short."""

    def __init__(self, *attending: str) -> None:
        roles = {"10.77.0.1": "client", "10.77.0.2": "server"}
        self.tracker = Tracker(roles=roles, attending=attending)
        self.count = 0
        self.segments = 0

    def addresses(self, role: str) -> tuple[SocketAddress, SocketAddress]:
        """That end's own address and its peer's."""
        return ADDRESSES[role]

    def feed(
        self, payload: Payload, source: str, side: str | None = None, at_ms: float | None = None
    ) -> Happening:
        self.count += 1
        t_ns = int((self.count if at_ms is None else at_ms) * MS)
        return self.tracker.feed(Event(self.count, t_ns, Vantage(source, side), payload))

    def kernel(self, role: str, *states: TcpState, skaddr: int | None = None) -> None:
        """The kernel's reports along that path."""
        local, remote = self.addresses(role)
        for before, after in pairwise(states):
            unbound = (before, after) == (S.CLOSED, S.SYN_SENT)
            said = StateReported(
                skaddr or SOCKETS[role], UNBOUND if unbound else local, remote, before, after, 1
            )
            self.feed(said, KERNEL)

    def table(self, role: str, *states: TcpState | None, at_ms: float | None = None) -> None:
        """The socket table's changes; None is gone."""
        local, remote = self.addresses(role)
        for state in states:
            since = int((self.count if at_ms is None else at_ms - 1) * MS)
            self.feed(SocketSampled(local, remote, state, since), TABLE, at_ms=at_ms)

    def wire(self, role: str, text: str, *, delivered: bool = True) -> None:
        """A segment from that role."""
        self.segments += 1
        src, dst = ADDRESSES[role]
        seen = SegmentSeen(self.segments, Point.SENT, src, dst, parse_segment(text))
        self.feed(seen, WIRE)
        if delivered:
            self.feed(replace(seen, point=Point.DELIVERED), WIRE)

    def handshake(self) -> None:
        self.wire("client", "S 0:0(0)")
        self.wire("server", "SA 0:0(0) ack 1")
        self.wire("client", "A 1:1(0) ack 1")

    @property
    def timeline(self) -> Timeline:
        return self.tracker.timeline((self.count + 100) * MS)

    def end(self, role: str, number: int = 1) -> Endpoint:
        connection = self.timeline.connections[number - 1]
        return next(end for end in connection.endpoints if end.role == role)

    def path(self, role: str, number: int = 1) -> str:
        return " > ".join(str(belief) for belief in self.end(role, number).path)

    def witnesses(self, role: str) -> list[str]:
        return [" ".join(each.witnesses) for each in self.end(role).transitions]

    def causes(self, role: str) -> list[str]:
        return [each.cause for each in self.end(role).transitions]

    def findings(self, role: str) -> list[str]:
        return [each.message for each in self.timeline.findings if each.role == role]


ESTABLISHED = (S.CLOSED, S.SYN_SENT, S.ESTABLISHED)
ACCEPTED = (S.LISTEN, S.SYN_RECEIVED, S.ESTABLISHED)
ACTIVE_CLOSE = (*ESTABLISHED, S.FIN_WAIT_1, S.FIN_WAIT_2)


# ------------------------------------------------------------------ the kernel alone


def test_an_unbound_connect_is_joined_by_its_socket() -> None:
    bench = Bench(KERNEL)
    bench.kernel("client", *ESTABLISHED)

    assert bench.path("client") == "CLOSED > SYN-SENT > ESTABLISHED"
    assert [each.t_ns for each in bench.end("client").transitions] == [1 * MS, 2 * MS]
    assert len(bench.timeline.connections) == 1


def test_both_ends_reports_make_one_connection() -> None:
    bench = Bench(KERNEL)
    bench.kernel("client", *ESTABLISHED)
    bench.kernel("server", *ACCEPTED)

    assert len(bench.timeline.connections) == 1
    assert bench.path("server") == "LISTEN > SYN-RECEIVED > ESTABLISHED"


def test_a_self_transition_is_no_part_of_a_path() -> None:
    bench = Bench(KERNEL)
    bench.kernel("client", *ESTABLISHED, S.FIN_WAIT_1, S.FIN_WAIT_1, S.FIN_WAIT_2)

    assert bench.path("client").endswith("ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2")


def test_alone_the_kernel_leaves_open_what_close_after_fin_wait_2_means() -> None:
    bench = Bench(KERNEL)
    bench.kernel("client", *ACTIVE_CLOSE, S.CLOSED)

    assert bench.path("client").endswith("FIN-WAIT-2 > FIN-WAIT-2 or TIME-WAIT or CLOSED")


def test_a_socket_address_used_again_is_another_connection() -> None:
    bench = Bench(KERNEL)
    for _ in range(2):
        bench.kernel("client", *ESTABLISHED, S.CLOSED)

    first, second = bench.timeline.connections
    assert (first.id.generation, second.id.generation) == (0, 1)
    assert bench.path("client", 1) == bench.path("client", 2)


# ------------------------------------------------------------------ the five meanings of CLOSE


def closed_in_fin_wait_2(*attending: str) -> Bench:
    """Up to the kernel's last word on the client."""
    bench = Bench(KERNEL, *attending)
    for state in ACTIVE_CLOSE[1:]:
        if TABLE in attending:
            bench.table("client", state)
    if WIRE in attending:
        bench.handshake()
        bench.wire("client", "FA 1:1(0) ack 1")
        bench.wire("server", "A 1:1(0) ack 2")
    bench.kernel("client", *ACTIVE_CLOSE, S.CLOSED)
    return bench


def test_a_fin_settles_that_it_was_time_wait() -> None:
    bench = closed_in_fin_wait_2(WIRE)
    bench.wire("server", "FA 1:1(0) ack 2")

    assert bench.path("client").endswith("FIN-WAIT-2 > TIME-WAIT")
    assert bench.end("client").transitions[-1].hidden_from == ((KERNEL, "cannot see TIME-WAIT"),)
    assert bench.findings("client") == []


def test_the_table_settles_that_it_was_time_wait() -> None:
    bench = closed_in_fin_wait_2(TABLE)
    bench.table("client", S.TIME_WAIT)

    assert bench.path("client").endswith("FIN-WAIT-2 > TIME-WAIT")


def test_a_table_that_still_shows_it_settles_that_it_was_an_orphan() -> None:
    bench = closed_in_fin_wait_2(TABLE)

    assert bench.path("client").endswith("FIN-WAIT-1 > FIN-WAIT-2")


def test_an_orphan_that_goes_from_the_table_timed_out() -> None:
    bench = closed_in_fin_wait_2(TABLE, WIRE)
    bench.table("client", None)

    assert bench.path("client").endswith("FIN-WAIT-2 > CLOSED")
    assert bench.causes("client")[-1] == "timeout"


def test_a_reset_settles_that_it_was_gone() -> None:
    bench = closed_in_fin_wait_2(WIRE)
    bench.wire("client", "R 2:2(0)")

    assert bench.path("client").endswith("FIN-WAIT-2 > CLOSED")


def test_after_closing_the_kernels_close_is_time_wait_where_the_wire_says_so() -> None:
    bench = Bench(KERNEL, WIRE)
    bench.handshake()
    bench.wire("client", "FA 1:1(0) ack 1", delivered=False)
    bench.wire("server", "FA 1:1(0) ack 1")
    bench.kernel("client", *ESTABLISHED, S.FIN_WAIT_1, S.CLOSING, S.CLOSED)
    bench.wire("server", "A 2:2(0) ack 2")

    assert bench.path("client").endswith("CLOSING > TIME-WAIT")
    assert bench.findings("client") == []


# ------------------------------------------------------------------ the table


def test_the_table_alone_assumes_the_states_it_missed() -> None:
    bench = Bench(TABLE)
    bench.table("server", S.SYN_RECEIVED, S.ESTABLISHED, S.LAST_ACK, None)

    assert bench.path("server") == (
        "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED"
    )
    assert [each.basis for each in bench.end("server").transitions][2] is Basis.ASSUMED


def test_a_syn_ack_that_finds_nobody_opens_nothing() -> None:
    """close() in SYN-SENT sends nothing: the wire alone would take the SYN,ACK as ever."""
    bench = Bench(KERNEL, WIRE)
    bench.wire("client", "S 0:0(0)")
    bench.kernel("client", S.CLOSED, S.SYN_SENT, S.CLOSED)
    bench.wire("server", "SA 0:0(0) ack 1")
    bench.wire("client", "R 1:1(0)")
    assert bench.path("client") == "CLOSED > SYN-SENT > CLOSED"
    assert bench.timeline.findings == ()


def test_what_a_reset_answers_leaves_the_doubt_that_was_before_it() -> None:
    """TCP_REPAIR closed it unseen; whether it had been open, the wire alone cannot know."""
    bench = Bench(WIRE)
    bench.handshake()
    bench.wire("client", "PA 1:5(4) ack 1")
    bench.wire("server", "R 1:1(0)")
    assert bench.path("server") == ("LISTEN > SYN-RECEIVED > SYN-RECEIVED or ESTABLISHED > CLOSED")


def test_what_is_withdrawn_is_told() -> None:
    """A RST answers the SYN,ACK that seemed to open it: it was gone, or refused."""
    bench = Bench(WIRE)
    bench.wire("client", "S 0:0(0)")
    bench.wire("server", "SA 0:0(0) ack 1")
    reset = SegmentSeen(9, Point.SENT, CLIENT, SERVER, parse_segment("R 1:1(0)"))
    (move,) = bench.feed(reset, WIRE).moves

    assert (move.role, str(move.transition.after)) == ("client", "SYN-SENT or CLOSED")
    assert bench.path("client") == "CLOSED > SYN-SENT > SYN-SENT or CLOSED"


def test_data_for_a_request_that_timed_out_opens_nothing() -> None:
    bench = Bench(TABLE, WIRE)
    bench.wire("client", "S 0:0(0)")
    bench.wire("server", "SA 0:0(0) ack 1")
    bench.table("server", S.SYN_RECEIVED, None)
    bench.wire("client", "A 1:1(0) ack 1")
    assert bench.path("server") == "LISTEN > SYN-RECEIVED > CLOSED"
    assert bench.findings("server") == []


@pytest.mark.parametrize(
    "gone_ms, cause, segment",
    [(101, "RST received", 7), (30_000, "", None), (60_000, "2 MSL timeout", None)],
)
def test_the_table_tells_whether_a_reset_ended_time_wait(
    gone_ms: int, cause: str, segment: int | None
) -> None:
    bench = Bench(TABLE, WIRE)
    bench.handshake()
    bench.wire("client", "FA 1:1(0) ack 1")
    bench.wire("server", "FA 1:1(0) ack 2")
    bench.wire("client", "A 2:2(0) ack 2")
    bench.table("client", S.TIME_WAIT)
    bench.count = 98  # the RST arrives at 100 ms
    bench.wire("server", "R 2:2(0)")
    bench.table("client", None, at_ms=gone_ms)
    last = bench.end("client").transitions[-1]
    assert (str(last.before), str(last.after)) == ("TIME-WAIT", "CLOSED")
    assert (last.cause, last.segment) == (cause, segment)


def test_what_goes_from_the_table_as_its_tuple_is_reopened_was_the_old_one() -> None:
    """A newer SYN ends TIME-WAIT (RFC 6191); the table has not shown the new connection yet."""
    bench = Bench(TABLE, WIRE)
    bench.handshake()
    bench.wire("server", "FA 1:1(0) ack 1")
    bench.wire("client", "FA 1:1(0) ack 2")
    bench.table("server", S.TIME_WAIT)
    bench.wire("server", "A 2:2(0) ack 2")
    bench.wire("client", "S 900:900(0)")
    bench.table("server", None)
    bench.wire("server", "SA 9000:9000(0) ack 901")
    assert bench.path("server").endswith("> TIME-WAIT")
    assert bench.path("server", 2) == "LISTEN > SYN-RECEIVED"


def test_a_listener_is_no_connection() -> None:
    bench = Bench(TABLE)
    bench.feed(SocketSampled(SERVER, SocketAddress("::", 0), S.LISTEN, 0), TABLE)

    assert bench.timeline.connections == ()


def test_a_request_that_is_gone_after_a_reset_went_back_to_listen() -> None:
    bench = Bench(TABLE, WIRE)
    bench.wire("client", "S 0:0(0)")
    bench.wire("server", "SA 0:0(0) ack 1", delivered=False)
    bench.table("server", S.SYN_RECEIVED)
    bench.wire("client", "R 1:1(0)")
    bench.table("server", None)

    assert bench.path("server") == "LISTEN > SYN-RECEIVED > LISTEN"
    assert bench.witnesses("server")[-1] == "table wire"


def test_a_v4_mapped_socket_is_the_other_end_of_an_ipv4_one() -> None:
    bench = Bench(TABLE)
    mapped = {
        address: SocketAddress(f"::ffff:{address.ip}", address.port) for address in (CLIENT, SERVER)
    }
    bench.table("client", S.ESTABLISHED)
    bench.feed(SocketSampled(mapped[SERVER], mapped[CLIENT], S.ESTABLISHED, 0), TABLE)

    assert len(bench.timeline.connections) == 1


def test_a_state_shorter_than_the_polling_interval_is_no_finding() -> None:
    bench = Bench(TABLE, WIRE)
    bench.handshake()
    bench.wire("client", "FA 1:1(0) ack 1")
    bench.wire("server", "FA 1:1(0) ack 2")
    bench.wire("client", "A 2:2(0) ack 2")
    bench.table("server", S.SYN_RECEIVED, S.ESTABLISHED, S.LAST_ACK, None, at_ms=12)

    hidden = dict(bench.end("server").transitions[2].hidden_from)
    assert hidden[TABLE] == "shorter than its polling interval"
    assert bench.findings("server") == []


# ------------------------------------------------------------------ together


def test_three_witnesses_of_one_close_make_one_path() -> None:
    bench = Bench(KERNEL, TABLE, WIRE)
    bench.handshake()
    bench.wire("client", "FA 1:1(0) ack 1")
    bench.wire("server", "A 1:1(0) ack 2")
    bench.wire("server", "FA 1:1(0) ack 2")
    bench.kernel("client", *ACTIVE_CLOSE, S.CLOSED)
    bench.table("client", *ACTIVE_CLOSE[1:], S.TIME_WAIT)

    assert bench.path("client") == (
        "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT"
    )
    assert bench.witnesses("client") == [*["kernel table wire"] * 4, "table wire"]


def test_witnesses_that_cannot_both_be_right_are_a_finding() -> None:
    bench = Bench(KERNEL, WIRE)
    bench.handshake()
    bench.kernel("client", *ESTABLISHED, S.CLOSE_WAIT)
    bench.wire("client", "FA 1:1(0) ack 1")
    bench.kernel("client", S.CLOSE_WAIT, S.SYN_SENT, skaddr=SOCKETS["client"])

    assert "witnesses-disagree" in {
        each.code for each in bench.timeline.findings if each.severity is Severity.ERROR
    }


def test_a_witness_that_missed_what_it_can_see_is_a_finding() -> None:
    bench = Bench(KERNEL, WIRE)
    bench.handshake()
    bench.wire("client", "FA 1:1(0) ack 1")
    bench.kernel("client", *ESTABLISHED)

    (missed,) = bench.findings("client")
    assert missed == (
        "kernel did not see FIN-WAIT-1, which wire saw, and no blind spot explains it"
    )


def test_everybody_who_can_see_the_present_state_has_seen_it_when_settled() -> None:
    bench = Bench(KERNEL, WIRE)
    bench.wire("client", "S 0:0(0)")
    waiting = bench.tracker.settled()
    bench.kernel("client", S.CLOSED, S.SYN_SENT)
    bench.kernel("client", S.SYN_SENT, S.ESTABLISHED)
    bench.wire("server", "SA 0:0(0) ack 1")

    assert not waiting
    assert bench.tracker.settled()


# ------------------------------------------------------------------ one socket at both ends

SELF_CONNECT = (
    *(S.CLOSED, S.SYN_SENT, S.SYN_RECEIVED, S.ESTABLISHED),
    *(S.FIN_WAIT_1, S.CLOSING, S.CLOSED),
)


class SelfBench(Bench):
    """A socket that calls its own port."""

    def addresses(self, role: str) -> tuple[SocketAddress, SocketAddress]:
        assert role == "client"
        return CLIENT, CLIENT


def test_a_socket_that_called_itself_is_one_end() -> None:
    bench = SelfBench(KERNEL, TABLE, WIRE)
    bench.kernel("client", *SELF_CONNECT)
    bench.table("client", S.TIME_WAIT)
    (connection,) = bench.timeline.connections

    assert [end.role for end in connection.endpoints] == ["client"]
    assert bench.path("client") == (
        "CLOSED > SYN-SENT > SYN-RECEIVED > ESTABLISHED > FIN-WAIT-1 > CLOSING > TIME-WAIT"
    )
    assert dict(bench.end("client").transitions[0].hidden_from)[WIRE] == "it never left its host"
    assert bench.tracker.state("server") is None


def test_no_wire_makes_up_for_what_the_table_missed_of_it() -> None:
    bench = SelfBench(TABLE, WIRE)
    bench.table("client", S.ESTABLISHED, S.TIME_WAIT)

    assert [each.gap for each in bench.end("client").transitions if each.witnesses] == [True, True]


def test_the_wire_alone_does_not_deny_what_it_cannot_see() -> None:
    bench = Bench(WIRE)

    assert bench.tracker.doubt("client") is not None
    assert not bench.tracker.is_hopeless("client")


@pytest.mark.parametrize("attending", [{KERNEL}, {WIRE}])
def test_only_a_segment_may_yet_settle_a_doubt(attending: set[str]) -> None:
    bench = Bench(*attending)
    if KERNEL in attending:
        bench.kernel("client", *ACTIVE_CLOSE, S.CLOSED)
    else:
        bench.handshake()
    role = "client" if KERNEL in attending else "server"

    assert bench.tracker.doubt(role) is not None
    assert bench.tracker.is_hopeless(role) is (KERNEL in attending)


def test_accept_proves_that_the_third_segment_was_heeded() -> None:
    bench = Bench(WIRE)
    bench.handshake()
    before = bench.path("server")
    given = UserCall(1, CallPhase.RETURNED, 7, "server", "accept", "", SERVER, CLIENT, 4)
    bench.feed(given, CALLS, "server")

    assert before == "LISTEN > SYN-RECEIVED > SYN-RECEIVED or ESTABLISHED"
    assert bench.path("server") == "LISTEN > SYN-RECEIVED > ESTABLISHED"
    assert bench.witnesses("server") == ["wire", "wire"]


def test_a_state_of_one_connection_of_several_is_asked_by_its_number() -> None:
    bench = Bench(KERNEL)
    bench.kernel("client", *ESTABLISHED, S.CLOSED)
    bench.kernel("client", *ESTABLISHED)

    states = [bench.tracker.state("client", number) for number in (1, 2, 3, None)]
    closed, established = Belief.of(S.CLOSED), Belief.of(S.ESTABLISHED)
    assert states == [closed, established, None, established]


def test_the_kernel_tells_when_a_request_that_ignored_its_ack_is_open() -> None:
    """A full accept queue, or TCP_DEFER_ACCEPT: what comes later opens it."""
    bench = Bench(KERNEL, TABLE, WIRE)
    bench.wire("client", "S 0:0(0)")
    bench.wire("server", "SA 0:0(0) ack 1")
    bench.table("server", S.SYN_RECEIVED)
    bench.wire("client", "A 1:1(0) ack 1")
    bench.count = 50
    bench.wire("client", "PA 1:5(4) ack 1")
    bench.kernel("server", *ACCEPTED)
    bench.table("server", S.ESTABLISHED)
    bench.wire("server", "A 1:1(0) ack 5")
    opened = bench.end("server").transitions[1]

    assert (str(opened.after), opened.t_ns, opened.segment) == ("ESTABLISHED", 52 * MS, 4)
    assert opened.witnesses == (KERNEL, TABLE, WIRE)
    assert bench.findings("server") == []


def test_a_time_wait_that_the_table_never_shows_found_no_bucket() -> None:
    bench = Bench(KERNEL, TABLE, WIRE)
    bench.handshake()
    bench.wire("client", "FA 1:1(0) ack 1")
    bench.wire("server", "A 1:1(0) ack 2")
    bench.table("client", *ACTIVE_CLOSE[1:])
    bench.kernel("client", *ACTIVE_CLOSE, S.CLOSED)
    bench.wire("server", "FA 1:1(0) ack 2")
    shown = bench.path("client")
    bench.table("client", None)

    assert shown.endswith("FIN-WAIT-2 > TIME-WAIT")
    assert bench.path("client").endswith("FIN-WAIT-2 > CLOSED")
    assert bench.findings("client") == []


def test_a_syn_cookie_leaves_no_request_for_the_table_to_see() -> None:
    bench = Bench(KERNEL, TABLE, WIRE)
    bench.wire("client", "S 0:0(0)")
    bench.wire("server", "SA 0:0(0) ack 1")
    bench.count = 50
    bench.wire("client", "A 1:1(0) ack 1")
    bench.kernel("server", *ACCEPTED)
    bench.table("server", S.ESTABLISHED)
    received = bench.end("server").transitions[0]

    assert dict(received.hidden_from)[TABLE] == "a SYN cookie leaves no request socket"
    assert bench.findings("server") == []


def test_the_table_alone_cannot_tell_where_a_request_went() -> None:
    bench = Bench(TABLE)
    bench.table("server", S.SYN_RECEIVED, None)

    assert bench.path("server").endswith("SYN-RECEIVED > LISTEN or CLOSED")


# ------------------------------------------------------------------ segments


def test_a_segment_is_followed_from_its_sender_to_its_receiver() -> None:
    bench = Bench(WIRE)
    bench.handshake()
    (connection,) = bench.timeline.connections

    assert [(each.n, each.sender, each.fate) for each in connection.segments] == [
        (1, "client", "delivered"),
        (2, "server", "delivered"),
        (3, "client", "delivered"),
    ]
    assert (connection.segments[1].sent_ns, connection.segments[1].delivered_ns) == (3 * MS, 4 * MS)


def test_a_segment_seen_midway_was_sent_and_perhaps_arrived() -> None:
    bench = Bench(WIRE)
    for number, (src, dst, text) in enumerate(
        [(CLIENT, SERVER, "S 0:0(0)"), (SERVER, CLIENT, "SA 0:0(0) ack 1")], 1
    ):
        bench.feed(SegmentSeen(number, Point.MIDWAY, src, dst, parse_segment(text)), WIRE)

    assert bench.path("client") == "CLOSED > SYN-SENT > SYN-SENT or ESTABLISHED"
    assert bench.path("server") == "LISTEN > SYN-RECEIVED"
    (connection,) = bench.timeline.connections
    assert [each.fate for each in connection.segments] == ["delivered", "unknown"]


def test_an_injected_segment_of_no_connection_begins_none() -> None:
    bench = Bench(WIRE)
    seen = SegmentSeen(1, Point.SENT, CLIENT, SERVER, parse_segment("R 0:0(0)"), injected=True)
    bench.feed(seen, WIRE)

    assert bench.timeline.connections == ()


def test_numbers_are_relative_to_the_first_syn_even_after_another() -> None:
    bench = Bench(WIRE)
    bench.wire("client", "S 100:100(0)")
    bench.wire("server", "SA 500:500(0) ack 101", delivered=False)
    bench.wire("client", "R 101:101(0)")
    bench.wire("client", "S 100:100(0)")
    bench.wire("server", "SA 900:900(0) ack 101")
    (connection,) = bench.timeline.connections

    assert [each.seq for each in connection.segments] == [0, 0, 1, 0, 400]


def test_a_new_syn_after_time_wait_is_the_next_generation() -> None:
    bench = Bench(WIRE)
    bench.handshake()
    bench.wire("server", "FA 1:1(0) ack 1")
    bench.wire("client", "FA 1:1(0) ack 2")
    bench.wire("server", "A 2:2(0) ack 2")
    bench.wire("client", "S 9000:9000(0)")
    bench.wire("server", "SA 7000:7000(0) ack 9001")

    assert bench.path("server", 1).endswith("TIME-WAIT")
    assert bench.path("server", 2) == "LISTEN > SYN-RECEIVED"
    assert [each.id.generation for each in bench.timeline.connections] == [0, 1]


def test_a_repeated_syn_is_not_the_next_generation() -> None:
    bench = Bench(WIRE)
    bench.wire("client", "S 0:0(0)", delivered=False)
    bench.wire("client", "S 0:0(0)")

    (connection,) = bench.timeline.connections
    assert [each.retransmission for each in connection.segments] == [False, True]


# ------------------------------------------------------------------ what was not seen


def test_of_a_connection_met_in_midstream_its_segments_tell() -> None:
    bench = Bench(WIRE)
    bench.wire("client", "PA 5:9(4) ack 1")
    bench.wire("server", "FA 1:1(0) ack 9")

    assert bench.path("server") == (
        "ESTABLISHED or FIN-WAIT-1 or CLOSE-WAIT or CLOSING or LAST-ACK"
        " > FIN-WAIT-1 or CLOSING or LAST-ACK"
    )
    assert bench.path("client") == "ESTABLISHED or FIN-WAIT-1 > CLOSE-WAIT or CLOSING"


def test_a_connection_met_at_its_syn_ack_was_called_by_the_other_end() -> None:
    bench = Bench(WIRE)
    bench.tracker = Tracker(attending={WIRE})
    bench.wire("server", "SA 0:0(0) ack 1")
    bench.wire("client", "A 1:1(0) ack 1")
    bench.wire("server", "PA 1:5(4) ack 1")

    assert bench.path("passive") == "SYN-RECEIVED > ESTABLISHED"
    assert bench.end("passive").address == SERVER


def test_the_last_witness_that_loses_evidence_widens_every_belief() -> None:
    bench = Bench(KERNEL, WIRE)
    bench.handshake()
    bench.feed(Gap("it overran", 3, 0), KERNEL)
    still = bench.path("client")
    bench.feed(Gap("it overran", 3, 0), WIRE)

    assert still == "CLOSED > SYN-SENT > ESTABLISHED"
    assert bench.end("client").transitions[-1].gap
    assert bench.tracker.attending == frozenset()


# ------------------------------------------------------------------ causes


def call(name: str, arguments: str = "", local: SocketAddress = CLIENT) -> UserCall:
    return UserCall(1, CallPhase.CALLED, 7, "client", name, arguments, local, SERVER)


def test_the_call_behind_a_transition_is_its_cause() -> None:
    bench = Bench(WIRE)
    bench.feed(call("connect", local=UNBOUND), CALLS, "client")
    bench.handshake()
    bench.feed(call("shutdown", "SHUT_WR"), CALLS, "client")
    bench.wire("client", "FA 1:1(0) ack 1")

    assert bench.causes("client") == ["connect()", "SYN,ACK received", "shutdown(SHUT_WR)"]
    assert bench.causes("server")[-1] == "FIN received"


def test_a_call_on_another_connection_is_not_its_cause() -> None:
    bench = Bench(WIRE)
    bench.handshake()
    bench.feed(call("close", local=SocketAddress("10.77.0.1", 40001)), CALLS, "client")
    bench.wire("client", "FA 1:1(0) ack 1")

    assert bench.causes("client")[-1] == "CLOSE"


def test_the_signal_that_ended_its_process_is_the_cause_of_a_fin() -> None:
    bench = Bench(WIRE)
    bench.handshake()
    killed = ProcessChanged(7, "server", ProcessChange.SIGNALLED, signal="SIGKILL")
    bench.feed(killed, CALLS, "server")
    bench.wire("server", "FA 1:1(0) ack 1")

    assert bench.causes("server")[-1] == "SIGKILL"


def returned(name: str) -> UserCall:
    return replace(call(name), phase=CallPhase.RETURNED)


def test_the_call_in_whose_time_the_kernel_reports_is_the_cause() -> None:
    bench = Bench(KERNEL, WIRE)
    bench.wire("client", "S 0:0(0)", delivered=False)
    bench.feed(call("close"), CALLS, "client")
    bench.kernel("client", S.CLOSED, S.SYN_SENT, S.CLOSED)
    bench.feed(returned("close"), CALLS, "client")

    assert bench.causes("client") == ["active OPEN", "close()"]


def test_a_call_that_had_come_back_is_not_the_cause() -> None:
    bench = Bench(KERNEL, WIRE)
    bench.handshake()
    bench.feed(call("close"), CALLS, "client")  # another process holds the socket too
    bench.feed(returned("close"), CALLS, "client")
    bench.kernel("client", *ESTABLISHED, S.CLOSED)

    assert bench.causes("client")[-1] == "timeout"


@pytest.mark.parametrize("told, cause", [(True, "timeout"), (False, "")])
def test_who_does_not_know_the_calls_does_not_know_why_syn_sent_ended(
    *, told: bool, cause: str
) -> None:
    bench = Bench(KERNEL, WIRE)
    if told:
        bench.feed(call("connect", local=UNBOUND), CALLS, "client")
    bench.wire("client", "S 0:0(0)", delivered=False)
    bench.kernel("client", S.CLOSED, S.SYN_SENT, S.CLOSED)

    assert bench.causes("client")[-1] == cause


def test_what_moved_a_connection_once_is_no_cause_again() -> None:
    """Data for an orphan is answered by a RST: neither close() nor the process's end did that."""
    bench = Bench(WIRE)
    bench.handshake()
    bench.feed(call("close"), CALLS, "client")
    bench.wire("client", "FA 1:1(0) ack 1")
    bench.wire("server", "A 1:1(0) ack 2")
    bench.wire("server", "PA 1:5(4) ack 2")
    bench.wire("client", "R 2:2(0)")

    assert bench.causes("client")[-3:] == ["close()", "ACK of FIN received", "ABORT"]


def test_the_reset_of_a_socket_that_is_still_held_is_a_timers() -> None:
    """As when keepalive finds nobody."""
    bench = Bench(WIRE)
    bench.feed(call("connect", local=UNBOUND), CALLS, "client")
    bench.handshake()
    bench.wire("client", "RA 1:1(0) ack 1")

    assert bench.causes("client")[-1] == "timeout"


def test_shutdown_of_the_other_direction_sends_no_fin() -> None:
    bench = Bench(WIRE)
    bench.handshake()
    bench.feed(call("shutdown", "SHUT_RD"), CALLS, "client")
    bench.wire("client", "FA 1:1(0) ack 1")

    assert bench.causes("client")[-1] == "CLOSE"


# ------------------------------------------------------------------ out


def test_a_happening_tells_who_acted_and_what_moved() -> None:
    bench = Bench(WIRE)
    seen = SegmentSeen(1, Point.SENT, CLIENT, SERVER, parse_segment("S 0:0(0)"))
    happening = bench.feed(seen, WIRE)

    assert (happening.connection, happening.role) == (1, "client")
    assert [(move.role, str(move.transition.after)) for move in happening.moves] == [
        ("client", "SYN-SENT")
    ]


@pytest.mark.parametrize(
    "payload",
    [
        KernelNoted(KernelNote.RESET_SENT, 1, CLIENT, SERVER),
        MalformedSeen("too short", b"x"),
        call("close"),
    ],
)
def test_what_claims_nothing_moves_nothing(payload: Payload) -> None:
    bench = Bench(WIRE)
    bench.handshake()

    assert bench.feed(payload, WIRE).moves == ()


def test_without_roles_the_ends_are_active_and_passive() -> None:
    tracker = Tracker(attending={WIRE})
    tracker.feed(
        Event(
            1,
            0,
            Vantage(WIRE),
            SegmentSeen(1, Point.SENT, CLIENT, SERVER, parse_segment("S 0:0(0)")),
        )
    )

    (connection,) = tracker.timeline(0).connections
    assert [end.role for end in connection.endpoints] == ["active", "passive"]


def test_a_whole_conversation_is_complete(ledgers: Ledgers) -> None:
    tracker = ledgers.tracker()
    for event in ledgers.read("normal_close").events():
        tracker.feed(event)
    (connection,) = tracker.timeline(0).connections

    assert connection.complete
    assert (connection.closed_by, connection.close_reason) == ("client", "fin")
