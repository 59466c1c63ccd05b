"""From events of all witnesses to connections: whose they are, and what comes of them together."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tcpwatch.machine.rows import Ending, ending
from tcpwatch.machine.tracker import Tracker
from tcpwatch.model.events import (
    CALLS,
    KERNEL,
    TABLE,
    WIRE,
    CallPhase,
    Event,
    Fate,
    Gap,
    KernelNote,
    KernelNoted,
    MalformedSeen,
    Payload,
    Point,
    SegmentFate,
    SegmentSeen,
    SocketSampled,
    UserCall,
    Vantage,
)
from tcpwatch.model.identity import FourTuple, SocketAddress
from tcpwatch.model.timeline import Basis, Belief, Severity
from tcpwatch.tcp.notation import parse_segment
from tests.machine.bench import (
    ACCEPTED,
    ACTIVE_CLOSE,
    CLIENT,
    ESTABLISHED,
    MS,
    SERVER,
    SOCKETS,
    Bench,
    S,
    call,
)

if TYPE_CHECKING:
    from tests.machine.conftest import Ledgers


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


def test_a_copy_of_a_fin_that_arrives_once_the_kernel_is_further_moves_nothing() -> None:
    bench = Bench(KERNEL, WIRE)
    bench.handshake()
    bench.kernel("server", *ACCEPTED)
    fin = SegmentSeen(9, Point.SENT, CLIENT, SERVER, parse_segment("FA 1:1(0) ack 1"))
    bench.feed(fin, WIRE)
    bench.feed(SegmentFate(9, Fate.DUPLICATED, 10), WIRE)
    bench.feed(replace(fin, point=Point.DELIVERED), WIRE)
    bench.kernel("server", S.ESTABLISHED, S.CLOSE_WAIT, S.LAST_ACK)
    bench.feed(replace(fin, point=Point.DELIVERED, n=10), WIRE)
    bench.wire("server", "FA 1:1(0) ack 2")
    bench.wire("client", "A 2:2(0) ack 2")
    bench.kernel("server", S.LAST_ACK, S.CLOSED)

    path = "LISTEN > SYN-RECEIVED > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED"
    assert bench.path("server") == path
    assert bench.findings("server") == []


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


def _short_life(bench: Bench, number: int) -> None:
    first, then = number + 1, number + 2
    bench.wire("client", f"S {number}:{number}(0)")
    bench.wire("server", f"SA {number}:{number}(0) ack {first}")
    bench.wire("client", f"A {first}:{first}(0) ack {first}")
    bench.wire("server", f"FA {first}:{first}(0) ack {first}")
    bench.wire("client", f"FA {first}:{first}(0) ack {then}")
    bench.wire("server", f"A {then}:{then}(0) ack {then}")


def test_a_life_that_the_table_passed_over_was_shorter_than_its_interval() -> None:
    bench = Bench(TABLE, WIRE)
    _short_life(bench, 0)
    bench.count += 100  # in TIME-WAIT
    _short_life(bench, 9000)
    bench.feed(SocketSampled(SERVER, CLIENT, S.TIME_WAIT, 0), TABLE)

    assert len(bench.timeline.connections) == 2
    assert bench.findings("server") == []


def test_who_goes_from_the_table_after_a_new_life_began_went_from_the_old_one() -> None:
    bench = Bench(TABLE, WIRE)
    bench.table("client", S.ESTABLISHED)
    _short_life(bench, 0)
    _short_life(bench, 9000)
    bench.table("client", None)

    (*_, closed) = bench.end("client", 1).transitions
    assert (str(closed.after), closed.witnesses) == ("CLOSED", (TABLE, WIRE))
    assert TABLE not in bench.end("client", 2).transitions[-1].witnesses


def test_who_has_the_port_of_a_listener_was_called() -> None:
    bench = Bench(TABLE)
    bench.feed(SocketSampled(SERVER, SocketAddress("::", 0), S.LISTEN, 0), TABLE)
    bench.table("server", S.TIME_WAIT)

    (connection,) = bench.timeline.connections
    assert connection.id.four_tuple == FourTuple(CLIENT, SERVER)
    assert bench.path("server").startswith("LISTEN > SYN-RECEIVED")


def test_the_table_alone_guesses_no_way_where_no_segment_takes_time() -> None:
    bench = Bench(TABLE)
    bench.feed(SocketSampled(SERVER, SERVER, S.FIN_WAIT_1, 0), TABLE)
    (end,) = bench.timeline.connections[0].endpoints

    assert " > ".join(map(str, end.path)) == "LISTEN or CLOSED > FIN-WAIT-1"
    assert end.transitions[0].gap


def test_without_segments_who_closed_first_is_known_by_the_states() -> None:
    bench = Bench(KERNEL)
    bench.kernel("client", *ESTABLISHED, S.CLOSE_WAIT, S.LAST_ACK, S.CLOSED)
    bench.kernel("server", *ACCEPTED, S.FIN_WAIT_1, S.FIN_WAIT_2, S.CLOSED)
    (connection,) = bench.timeline.connections
    assert (connection.closed_by, connection.close_reason) == ("server", "fin")

    bench = Bench(KERNEL)
    bench.kernel("client", *ESTABLISHED, S.CLOSE_WAIT)
    (connection,) = bench.timeline.connections
    assert (connection.closed_by, connection.close_reason) == ("server", "fin")
    assert ending(connection) is Ending.HALF_CLOSED

    bench = Bench(KERNEL)
    bench.kernel("client", *ESTABLISHED)
    (connection,) = bench.timeline.connections
    assert (connection.closed_by, connection.close_reason) == (None, None)


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
