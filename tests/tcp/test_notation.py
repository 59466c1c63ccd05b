"""Segments as text: what is written is read back, and what cannot be read is pointed at."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpwatch.tcp.notation import format_segment, parse_segment
from tcpwatch.tcp.segment import Flags, Option, Segment
from tcpwatch.tcp.seq import SeqNumber

SEQ_NUMBERS = st.integers(0, 2**32 - 1).map(SeqNumber)
BASES = st.none() | SEQ_NUMBERS
SHAPED = [(0, 0), (1, 0), (2, 2), (3, 1), (4, 0), (5, 8), (5, 24), (8, 8), (34, 0), (34, 8)]
OPTIONS = st.one_of(
    st.sampled_from(SHAPED).flatmap(
        lambda shape: st.builds(
            Option, st.just(shape[0]), st.binary(min_size=shape[1], max_size=shape[1])
        )
    ),
    st.builds(Option, st.integers(0, 255), st.binary(max_size=38)),
)


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    flags = Flags(draw(st.integers(0, 0x1FF)))
    return Segment(
        draw(SEQ_NUMBERS),
        draw(SEQ_NUMBERS) if flags & Flags.ACK else None,
        flags,
        draw(st.integers(0, 0xFFFF)),
        tuple(draw(st.lists(OPTIONS, max_size=5))),
        draw(st.integers(0, 2**20)),
    )


@given(segments(), BASES, BASES)
def test_what_is_written_whole_is_read_back_as_the_same_segment(
    segment: Segment, isn: SeqNumber | None, peer_isn: SeqNumber | None
) -> None:
    text = format_segment(segment, isn=isn, peer_isn=peer_isn, window=True, options=True)

    assert (
        parse_segment(text, isn=isn or SeqNumber(0), peer_isn=peer_isn or SeqNumber(0)) == segment
    )


@given(st.text(alphabet="SFRPA.UEWe none0123456789:()-<>,ackwinmssTSvalecrkindsackFO\n\t٣é"))
def test_any_text_is_a_segment_or_a_fault_with_its_column(text: str) -> None:
    try:
        segment = parse_segment(text)
    except ValueError as error:
        place = str(error).removeprefix("column ").partition(":")[0]
        assert 1 <= int(place) <= len(text) + 1
    else:
        assert isinstance(segment, Segment)


@pytest.mark.parametrize(
    "text",
    [
        "S 0:0(0)",
        "S 0:0(0) win 64240 <mss 1460,sackOK,TS val 1 ecr 0,nop,wscale 7>",
        "SA 0:0(0) ack 1",
        "PA 1:5(4) ack 1 win 512",
        "FA 5:5(0) ack 1",
        "R 1:1(0)",
        "none 1:1(0)",
        "A -1:-1(0) ack 1",  # a keepalive before any data
        "A 1:1(0) ack 1 <nop,nop,sack 1001:2001 3001:4001>",
        "S 0:4(4) <FO 0a1b2c3d>",
        "S 0:0(0) <FO,eol>",
        "S 0:0(0) <kind 2 05,kind 253>",  # an MSS option of the wrong length, an unknown one
    ],
)
def test_our_notation_is_written_as_it_is_read(text: str) -> None:
    segment = parse_segment(text)

    assert text == format_segment(
        segment,
        isn=SeqNumber(0),
        peer_isn=SeqNumber(0),
        window="win" in text,
        options="<" in text,
    )


@pytest.mark.parametrize(
    "tcpdump, ours",
    [
        ("S. 0:0(0) ack 1", "SA 0:0(0) ack 1"),
        (". 1:1(0) ack 1", "A 1:1(0) ack 1"),
        ("F. 5:5(0) ack 1", "FA 5:5(0) ack 1"),
        ("P. 1:5(4) ack 1", "PA 1:5(4) ack 1"),
        ("  S   0:0( 0 )  win 5  < mss 1 , nop >  ", "S 0:0(0) win 5 <mss 1,nop>"),
    ],
)
def test_tcpdumps_dot_and_any_spacing_are_understood(tcpdump: str, ours: str) -> None:
    assert parse_segment(tcpdump) == parse_segment(ours)


def test_numbers_are_relative_to_the_two_initial_numbers() -> None:
    segment = Segment(SeqNumber(1005), SeqNumber(3), Flags.PSH | Flags.ACK, payload_len=4)

    text = format_segment(segment, isn=SeqNumber(1000), peer_isn=SeqNumber(2**32 - 7))

    assert text == "PA 5:9(4) ack 10"


def test_numbers_are_absolute_where_the_syn_was_not_seen() -> None:
    segment = Segment(SeqNumber(2**32 - 2), SeqNumber(3000), Flags.ACK, payload_len=4)

    assert format_segment(segment, isn=None, peer_isn=None) == "A 4294967294:2(4) ack 3000"


def test_without_a_window_it_is_a_segments_default() -> None:
    assert parse_segment("S 0:0(0)").window == Segment(SeqNumber(0), None, Flags.SYN).window


@pytest.mark.parametrize(
    "text, fault",
    [
        ("", "column 1: expected flags such as S, SA, PA, FA, R or none, found the end"),
        ("SX 0:0(0)", "column 1: 'X' in 'SX' is not a TCP flag"),
        ("S 0", "column 4: expected ':' and the end of the payload, found the end"),
        ("S zero:0(0)", "column 3: expected a number from -2147483648 to 4294967295"),
        ("PA 1:5(5) ack 1", "column 6: the payload ends at 6, not at 5"),
        ("SA 0:0(0)", "column 10: expected 'ack', as the ACK flag is set, found the end"),
        ("S 0:0(0) ack 1", "column 10: 'ack' without the ACK flag"),
        ("S 0:0(0) win 65536", "column 14: 65536 is not from 0 to 65535"),
        ("S 0:0(0) <mss 1460,foo>", "column 20: 'foo' is not an option that has a name"),
        ("S 0:0(0) <mss 1460", "column 19: expected ',' or '>', found the end"),
        ("S 0:0(0) <wscale 256>", "column 18: 256 is not from 0 to 255"),
        ("S 0:0(0) <FO abc>", "column 14: an odd number of hexadecimal digits"),
        ("S 0:0(0) <>", "column 11: expected the name of an option, found '>'"),
        ("S 0:0(0) S", "column 10: expected the end of the segment, found 'S'"),
    ],
)
def test_a_fault_is_told_with_its_column(text: str, fault: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_segment(text)

    assert str(caught.value).startswith(fault)
