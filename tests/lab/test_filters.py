"""Filters: what each word matches, how they compose, how they are written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpwatch.lab.filters import (
    ACK,
    ANY,
    DATA,
    FIN,
    PSH,
    PURE_ACK,
    RST,
    SYN,
    SYN_ACK,
    Filter,
    Pick,
    where,
)
from tcpwatch.model.events import Point, SegmentSeen
from tcpwatch.model.identity import SocketAddress
from tcpwatch.tcp.segment import Flags, Segment
from tcpwatch.tcp.seq import SeqNumber

CLIENT = SocketAddress("10.77.0.1", 40000)
SERVER = SocketAddress("10.77.0.2", 7000)


def seen(letters: str, payload_len: int = 0) -> SegmentSeen:
    flags = Flags.from_letters(letters)
    ack = SeqNumber(1) if flags & Flags.ACK else None
    segment = Segment(SeqNumber(0), ack, flags, payload_len=payload_len)
    return SegmentSeen(1, Point.SENT, CLIENT, SERVER, segment)


segments = st.builds(
    seen,
    st.integers(0, 0x1FF).map(lambda bits: Flags(bits).letters),
    st.integers(0, 2),
)
words = st.sampled_from([ANY, FIN, SYN, RST, PSH, ACK, DATA, PURE_ACK, SYN_ACK])
filters = st.recursive(
    words,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda pair: pair[0] & pair[1]),
        st.tuples(inner, inner).map(lambda pair: pair[0] | pair[1]),
        inner.map(lambda one: ~one),
        inner.map(lambda one: one.sent_by("client")),
        inner.map(lambda one: one.from_port(40000)),
        inner.map(lambda one: one.to_port(1)),
    ),
    max_leaves=6,
)


@pytest.mark.parametrize(
    "word, matching, other",
    [
        (FIN, ["F", "FA", "FPA"], ["A", "S", "R"]),
        (SYN, ["S", "SA"], ["A", "F"]),
        (RST, ["R", "RA"], ["A", "S"]),
        (ACK, ["A", "SA", "FA", "RA"], ["S", "R", "F"]),
        (PSH, ["PA"], ["A"]),
        (SYN_ACK, ["SA"], ["S", "A"]),
        (PURE_ACK, ["A", "AE", "AW"], ["SA", "FA", "PA", "RA", "S"]),
    ],
    ids=repr,
)
def test_a_word_matches_the_segments_it_names(
    word: Filter, matching: list[str], other: list[str]
) -> None:
    assert [letters for letters in matching + other if word(seen(letters), "client")] == matching


def test_data_is_payload_and_no_pure_ack() -> None:
    assert DATA(seen("A", 1), "client")
    assert not DATA(seen("A"), "client")
    assert not PURE_ACK(seen("A", 1), "client")


def test_direction_is_the_sender() -> None:
    assert FIN.sent_by("client")(seen("F"), "client")
    assert not FIN.sent_by("client")(seen("F"), "server")


def test_a_port_tells_one_connection_from_another() -> None:
    assert SYN.from_port(40000)(seen("S"), "client")
    assert not SYN.from_port(40001)(seen("S"), "client")
    assert SYN.to_port(7000)(seen("S"), "client")
    assert not SYN.to_port(40000)(seen("S"), "client")


def test_where_takes_any_predicate_over_the_segment() -> None:
    two = where(lambda segment: segment.payload_len == 2)
    assert two(seen("A", 2), "client")
    assert not two(seen("A", 1), "client")
    assert repr(two).startswith("where(lambda, line ")


@given(filters, filters, segments, st.sampled_from(["client", "server"]))
def test_the_operators_are_those_of_logic(
    one: Filter, two: Filter, segment: SegmentSeen, by: str
) -> None:
    first, second = one(segment, by), two(segment, by)
    assert (one & two)(segment, by) == (first and second)
    assert (one | two)(segment, by) == (first or second)
    assert (~one)(segment, by) == (not first)


@given(filters, segments, st.sampled_from(["client", "server"]))
def test_a_repr_is_the_filter_as_python_reads_it(
    one: Filter, segment: SegmentSeen, by: str
) -> None:
    namespace = {
        word.text: word for word in (ANY, FIN, SYN, RST, PSH, ACK, DATA, PURE_ACK, SYN_ACK)
    }
    read_back = eval(repr(one), {}, namespace)  # noqa: S307 - our own repr
    assert repr(read_back) == repr(one)
    assert read_back(segment, by) == one(segment, by)


def test_a_repr_has_no_more_brackets_than_it_needs() -> None:
    assert repr((FIN | RST) & ~(DATA & ACK)) == "(FIN | RST) & ~(DATA & ACK)"
    assert repr((FIN | RST).sent_by("client") | SYN) == "(FIN | RST).sent_by('client') | SYN"


@pytest.mark.parametrize(
    "nth, count, taken",
    [
        (None, None, [1, 2, 3, 4]),
        (None, 2, [1, 2]),
        (2, None, [2]),
        (2, 2, [2, 3]),
    ],
)
def test_a_pick_counts_only_matches(nth: int | None, count: int | None, taken: list[int]) -> None:
    pick = Pick(DATA, "client", nth, count)
    result = []
    for number in range(1, 5):
        assert not pick.takes(seen("A"), "client")
        assert not pick.takes(seen("A", 1), "server")
        if pick.takes(seen("A", 1), "client"):
            result.append(number)
    assert result == taken


@pytest.mark.parametrize("nth, count", [(0, None), (None, 0), (-1, None), (None, -1)])
def test_a_pick_counts_from_one(nth: int | None, count: int | None) -> None:
    with pytest.raises(ValueError, match="count from 1"):
        Pick(ANY, None, nth, count)
