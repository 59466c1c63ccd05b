"""One end's inference, where a ledger cannot show it: what it keeps, and what it does not know."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tcpwatch.machine.endpoint import InferredEndpoint
from tcpwatch.machine.midstream import MidstreamEndpoint
from tcpwatch.machine.stimulus import Stimulus
from tcpwatch.tcp.notation import parse_segment
from tcpwatch.tcp.segment import Segment
from tcpwatch.tcp.seq import SeqNumber
from tcpwatch.tcp.state import TcpState

S = TcpState
EVERY_STATE = frozenset(TcpState)


def after(*conversation: str, of: InferredEndpoint | None = None) -> InferredEndpoint:
    """An endpoint after what it sent (``> ...``) and got (``< ...``)."""
    endpoint = of or InferredEndpoint()
    for text in conversation:
        direction, segment = text[0], parse_segment(text[1:])
        observed = endpoint.sent(segment) if direction == ">" else endpoint.got(segment)
        endpoint = observed.endpoint
    return endpoint


def established() -> InferredEndpoint:
    return after("> S 0:0(0)", "< SA 0:0(0) ack 1", "> A 1:1(0) ack 1 win 1000")


def test_an_endpoint_is_in_closed_or_listen_before_anything_is_seen() -> None:
    assert InferredEndpoint().states == {S.CLOSED, S.LISTEN}


def test_an_observation_leaves_the_endpoint_before_it_as_it_was() -> None:
    before = established()
    copy = replace(before)
    before.got(parse_segment("FA 1:1(0) ack 1"))

    assert before == copy


def test_a_segment_is_a_word_of_stimuli() -> None:
    """RFC 9293 3.10.7.4: the ACK of our FIN counts before the FIN."""
    closing = after("> FA 1:1(0) ack 1", of=established())
    observed = closing.got(parse_segment("FA 1:1(0) ack 2"))

    assert [step.stimulus for step in observed.steps] == [Stimulus.ACK_OF_FIN, Stimulus.FIN]
    assert [step.after for step in observed.steps] == [{S.FIN_WAIT_2}, {S.TIME_WAIT}]


@pytest.mark.parametrize(
    "conversation, retransmission",
    [
        (["> S 0:0(0)"], False),
        (["> S 0:0(0)", "> S 0:0(0)"], True),
        (["< S 0:0(0)", "> SA 0:0(0) ack 1"], False),
        (["< S 0:0(0)", "> SA 0:0(0) ack 1", "> SA 0:0(0) ack 1"], True),
        (["> S 0:0(0)", "< S 0:0(0)", "> SA 0:0(0) ack 1"], False),  # a simultaneous open
        (["> S 0:0(0)", "< SA 0:0(0) ack 1", "> A 1:1(0) ack 1"], False),
        (["> S 0:0(0)", "< SA 0:0(0) ack 1", "> A 1:1(0) ack 1", "> A 1:1(0) ack 1"], False),
        (["> S 0:0(0)", "> PA 1:5(4) ack 1", "> PA 1:5(4) ack 1"], True),
        (["> S 0:0(0)", "> PA 1:5(4) ack 1", "> PA 1:9(8) ack 1"], False),  # half of it is new
    ],
)
def test_what_was_sent_before_is_a_retransmission(
    conversation: list[str], *, retransmission: bool
) -> None:
    endpoint = after(*conversation[:-1])

    assert endpoint.sent(parse_segment(conversation[-1][1:])).retransmission is retransmission


def test_a_reset_at_the_far_edge_of_a_scaled_window_counts_for_a_request_socket() -> None:
    """The window of a SYN,ACK itself is not scaled (RFC 7323 2.2)."""
    endpoint = after("< S 0:0(0)", "> SA 0:0(0) ack 1 win 500 <wscale 7>")

    assert after("< R 501:501(0)", of=endpoint).states == {S.LISTEN}
    assert after("< R 502:502(0)", of=endpoint).states == {S.SYN_RECEIVED}


def test_the_window_is_scaled_once_the_connection_stands() -> None:
    endpoint = after(
        "> S 0:0(0) <wscale 7>", "< SA 0:0(0) ack 1 <wscale 3>", "> A 1:1(0) ack 1 win 2"
    )

    assert endpoint.seq.rcv_edge == SeqNumber(1 + (2 << 7))


def test_the_windows_edge_does_not_move_back() -> None:
    endpoint = after("> A 1:1(0) ack 1 win 10", of=established())

    assert endpoint.seq.rcv_edge == SeqNumber(1001)


def test_a_fin_beyond_the_window_does_not_count() -> None:
    assert after("< FA 1002:1002(0) ack 1", of=established()).states == {S.ESTABLISHED}


def test_pieces_that_overlap_are_put_together() -> None:
    endpoint = after(
        "< PA 5:12(7) ack 1", "< FPA 8:20(12) ack 1", "< PA 1:9(8) ack 1", of=established()
    )

    assert endpoint.states == {S.CLOSE_WAIT}
    assert endpoint.seq.rcv_nxt == SeqNumber(21)


# ------------------------------------------------------------------ lost evidence


def test_one_that_was_met_midway_may_be_in_any_state() -> None:
    assert MidstreamEndpoint.unknown().states == EVERY_STATE


@pytest.mark.parametrize(
    "text",
    ["> A 1:1(0) ack 1", "> FA 1:1(0) ack 1", "> R 1:1(0)", "< FA 1:1(0) ack 1", "< R 1:1(0)"],
)
def test_after_lost_evidence_no_sequence_number_is_trusted(text: str) -> None:
    endpoint = established().widened()

    assert after(text, of=endpoint).states == EVERY_STATE


@pytest.mark.parametrize(
    "text, states",
    [("> S 90:90(0)", {S.SYN_SENT}), ("> SA 90:90(0) ack 7", {S.SYN_RECEIVED})],
)
def test_a_syn_of_its_own_shows_where_it_is_in_any_case(text: str, states: set[TcpState]) -> None:
    assert after(text, of=MidstreamEndpoint.unknown()).states == states


def test_from_a_syn_of_its_own_on_everything_is_followed_again() -> None:
    endpoint = after(
        "> SA 90:90(0) ack 7",
        "< A 7:7(0) ack 91",
        "< FA 7:7(0) ack 91",
        "> A 91:91(0) ack 8",
        of=MidstreamEndpoint.unknown(),
    )

    assert endpoint.states == {S.CLOSE_WAIT}


def test_whether_a_reset_leads_to_listen_is_not_known_where_the_opening_was_lost() -> None:
    endpoint = after("> SA 90:90(0) ack 7", "< R 7:7(0)", of=MidstreamEndpoint.unknown())

    assert endpoint.states == {S.LISTEN, S.CLOSED}


def test_no_segment_of_any_kind_breaks_an_endpoint_in_any_state() -> None:
    """What no stack would send must not be more than ignored."""
    texts = [
        "S 0:0(0)",
        "SA 5:5(0) ack 1",
        "FA 1:1(0) ack 1",
        "R 1:1(0)",
        "none 1:1(0)",
        "F 1:1(0)",
    ]
    segments: list[Segment] = [parse_segment(text) for text in texts]
    seen = {InferredEndpoint(), MidstreamEndpoint.unknown()}
    for _ in range(3):
        seen |= {
            observed.endpoint
            for endpoint in seen
            for segment in segments
            for observed in (endpoint.sent(segment), endpoint.got(segment))
        }

    assert all(endpoint.states for endpoint in seen)
