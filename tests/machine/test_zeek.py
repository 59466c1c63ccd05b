"""What Zeek and Wireshark would say of a connection, by what their documentation promises."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpwatch.machine.completeness import completeness
from tcpwatch.machine.gaps import Reassembly
from tcpwatch.machine.zeek import zeek_connections
from tests.machine.conversation import conversation

OPEN = ("> S 0:0(0)", "< SA 0:0(0) ack 1", "> A 1:1(0) ack 1")
CLOSE = ("> FA 1:1(0) ack 1", "< A 1:1(0) ack 2", "< FA 1:1(0) ack 2", "> A 2:2(0) ack 2")

CASES = {
    "S0": (["> S 0:0(0)"], "S", 1),
    "S1": ([*OPEN], "ShA", 7),
    "SF": ([*OPEN, *CLOSE], "ShAFaf", 23),
    "REJ": (["> S 0:0(0)", "< RA 0:0(0) ack 1"], "Sr", 37),
    "S2": ([*OPEN, *CLOSE[:2]], "ShAFa", 23),
    "S3": ([*OPEN, "< FA 1:1(0) ack 1", "> A 1:1(0) ack 2"], "ShAf", 23),
    "RSTO": ([*OPEN, "> R 1:1(0)"], "ShAR", 39),
    "RSTR": ([*OPEN, "> PA 1:4(3) ack 1", "< RA 1:1(0) ack 4"], "ShADr", 47),
    "RSTOS0": (["> S 0:0(0)", "> R 1:1(0)"], "SR", 33),
    "RSTRH": (["> A 1:1(0) ack 1", "< R 1:1(0)"], "Ar", 36),
    "SH": (["> S 0:0(0)", "> FA 1:1(0) ack 1"], "SF", 21),
    "SHR": (["> PA 1:4(3) ack 1", "< FA 1:1(0) ack 4"], "Df", 28),
    "OTH": (["> PA 1:4(3) ack 1", "< A 1:1(0) ack 4"], "Da", 12),
}


@pytest.mark.parametrize("conn_state", sorted(CASES))
def test_each_conn_state_is_reached(conn_state: str) -> None:
    lines, history, bits = CASES[conn_state]
    connection = conversation(*lines)
    (logged,) = zeek_connections(connection)
    assert (logged.conn_state, logged.history) == (conn_state, history)
    assert completeness(connection) == (bits,)


@pytest.mark.parametrize(
    "more, history",
    [
        (["> PA 1:4(3) ack 1", "< A 1:1(0) ack 4", "> PA 1:4(3) ack 1"], "ShADaT"),
        (["> PA 1:4(3) ack 1"] * 10, "ShADT"),
        (["> PA 1:4(3) ack 1"] * 11, "ShADTT"),
        (["< A 1:1(0) ack 1 win 0"], "ShAaw"),
        (["< A 1:1(0) ack 9"], "ShAaG"),
        (["> PA 5:9(4) ack 1", "< A 1:1(0) ack 9"], "ShADaG"),
        (["> PA 5:9(4) ack 1", "> PA 1:5(4) ack 1", "< A 1:1(0) ack 9"], "ShADTa"),
        (["> FRA 1:1(0) ack 1"], "ShAI"),
        (["> SRA 1:1(0) ack 1"], "ShAQ"),
        (["> R 1:1(0)", "> R 1:1(0)", "> R 2:2(0)"], "ShARR"),
        (["> FA 1:1(0) ack 1", "> FA 1:1(0) ack 1"], "ShAF"),
    ],
)
def test_the_history_tells_what_was_odd(more: list[str], history: str) -> None:
    (logged,) = zeek_connections(conversation(*OPEN, *more))
    assert logged.history == history


def test_the_first_to_send_is_the_originator() -> None:
    (logged,) = zeek_connections(conversation("< PA 1:4(3) ack 1", "> A 1:1(0) ack 4"))
    assert (logged.originator, logged.history) == ("passive", "Da")


def test_a_syn_behind_its_answer_turns_the_connection_round() -> None:
    (logged,) = zeek_connections(
        conversation("< SA 0:0(0) ack 1", "> S 0:0(0)", "> A 1:1(0) ack 1")
    )
    assert (logged.originator, logged.conn_state, logged.history) == ("active", "S1", "Hs^A")


@pytest.mark.parametrize(
    "lines, logged",
    [
        (["> S 0:0(0)", "@4 > S 0:0(0)"], ["S"]),
        (["> S 0:0(0)", "@6 > S 0:0(0)"], ["S", "S"]),
        ([*OPEN, *CLOSE, "@4 > A 2:2(0) ack 2"], ["ShAFaf"]),
        ([*OPEN, *CLOSE, "@6 > A 2:2(0) ack 2"], ["ShAFaf", "A"]),
        ([*OPEN, "@290 > A 1:1(0) ack 1"], ["ShA"]),
        ([*OPEN, "@310 > A 1:1(0) ack 1"], ["ShA", "A"]),
        ([*OPEN, "> S 900:900(0)"], ["ShA", "S"]),
        ([*OPEN, *CLOSE, "> S 900:900(0)"], ["ShAFaf", "S"]),
    ],
)
def test_zeek_forgets_a_connection_after_a_while(lines: list[str], logged: list[str]) -> None:
    assert [one.history for one in zeek_connections(conversation(*lines))] == logged


@pytest.mark.parametrize(
    "lines, streams",
    [
        ([*OPEN, "> S 900:900(0)", "< A 1:1(0) ack 1"], (7, 5)),
        (["> S 0:0(0)", *OPEN], (7,)),
        (["> S 0:0(0)", "> S 50:50(0)"], (1, 1)),
        (["> S 0:0(0)", "> S 50:50(0)", "< SA 9:9(0) ack 51"], (1, 3)),
        (["> S 0:0(0)", "< S 50:50(0)"], (1,)),
        (["> S 0:0(0)", "< S 50:50(0)", "> S 70:70(0)"], (1, 1)),
        (["> S 0:0(0)", "< RA 0:0(0) ack 1", "> S 0:0(0)"], (37,)),
        (["> S 0:0(0)", "< RA 0:0(0) ack 1", "> S 50:50(0)"], (37, 1)),
        ([*OPEN, "> FA 1:1(0) ack 1", "> S 0:0(0)"], (23,)),
        ([*OPEN, "< S 0:0(0)"], (7,)),
        ([*OPEN, "< S 99:99(0)"], (7, 1)),
        ([*OPEN, "> S 50:50(0)", "> S 70:70(0)"], (7, 1, 1)),
        ([*OPEN, "> S 50:50(0)", "< SA 99:99(0) ack 51"], (7, 3)),
        ([*OPEN, "< SA 99:99(0) ack 1"], (7,)),
        ([*OPEN[:2], "< SA 99:99(0) ack 1", "< S 99:99(0)"], (3,)),
        ([*OPEN[:2], "< SA 99:99(0) ack 1", "< S 0:0(0)"], (3, 1)),
        (["> S 0:0(0)", "> SA 1:1(0) ack 9", "> S 0:0(0)"], (3, 1)),
        (["> S 0:0(0)", "< SFA 0:0(0) ack 1"], (19,)),
        (["> A 0:0(0) ack 9", "> S 50:50(0)"], (0, 1)),
        (["> A 0:0(0) ack 9", "< S 50:50(0)"], (0, 1)),
        (["> PA 0:3(3) ack 9", "< A 9:9(0) ack 3", "< S 8:8(0)"], (12,)),
        (["> S 0:0(0)", "> A 1:1(0) ack 9", "> S 50:53(3)"], (5, 1)),
        (["> RS 0:0(0)"], (1,)),
        (["> RS 0:0(0)", "< A 1:1(0) ack 9"], (37,)),
        (["> S 0:0(0)", "> RS 5:5(0)"], (1, 33)),
    ],
)
def test_wireshark_makes_these_streams(lines: list[str], streams: tuple[int, ...]) -> None:
    """As tshark 4.0.17 said of each."""
    assert completeness(conversation(*lines)) == streams


def test_wireshark_counts_no_packet_that_is_alone_unless_it_is_a_syn() -> None:
    assert completeness(conversation("> FA 1:1(0) ack 1")) == (0,)
    assert completeness(conversation("> FA 1:1(0) ack 1", "> FA 1:1(0) ack 1")) == (20,)
    assert completeness(conversation("> S 0:3(3)")) == (9,)


@given(
    st.lists(
        st.tuples(
            st.sampled_from("<>"),
            st.sampled_from(["S", "F", "R", "P", "SF", "FR", "none"]),
            st.integers(0, 2**32 - 1),
            st.integers(0, 5),
            st.one_of(st.none(), st.integers(0, 2**32 - 1)),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_no_conversation_is_too_much(
    segments: list[tuple[str, str, int, int, int | None]],
) -> None:
    lines = []
    for sender, letters, seq, length, ack in segments:
        flags = letters if ack is None else letters.replace("none", "") + "A"
        end = "" if ack is None else f" ack {ack}"
        after = (seq + length) % 2**32
        lines.append(f"{sender} {flags} {seq}:{after}({length}){end}")
    connection = conversation(*lines)
    assert zeek_connections(connection)
    assert all(0 <= bits < 64 for bits in completeness(connection))


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 9)), max_size=20))
def test_what_was_seen_of_the_data_is_no_gap(pieces: list[tuple[int, int]]) -> None:
    data = Reassembly()
    seen: set[int] = set()
    for start, length in pieces:
        data.add(start, start + length, peer_has=0)
        seen |= set(range(start, start + length))
    missing = [at for at in range(1, 70) if at not in seen]
    holes = sum(at - 1 not in missing for at in missing)
    assert data.acknowledge(70) == holes
    assert data.upto == 70


def test_what_the_capture_cut_off_is_a_gap() -> None:
    whole = conversation(*OPEN, "> PA 1:4(3) ack 1", "< A 1:1(0) ack 4")
    *others, data, answer = whole.segments
    cut = replace(whole, segments=(*others, replace(data, cut=True), answer))
    assert [one.history for c in (whole, cut) for one in zeek_connections(c)] == ["ShADa", "ShADaG"]
