"""What a segment occupies, and how its flags are written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpwatch.tcp.segment import WINDOW_SCALE, Flags, Option, Segment
from tcpwatch.tcp.seq import SeqNumber


def _segment(flags: str, payload_len: int = 0, seq: int = 100) -> Segment:
    parsed = Flags.from_letters(flags)
    ack = SeqNumber(1) if parsed & Flags.ACK else None
    return Segment(SeqNumber(seq), ack, parsed, payload_len=payload_len)


@pytest.mark.parametrize(
    "flags, payload_len, seg_len",
    [
        ("A", 0, 0),
        ("PA", 5, 5),
        ("S", 0, 1),
        ("SA", 0, 1),
        ("S", 10, 11),  # RFC 7413: data in the SYN
        ("FA", 0, 1),
        ("FPA", 7, 8),
        ("SF", 0, 2),  # RFC 9293 lets nobody send it, which does not keep it off the wire
        ("R", 0, 0),
        ("none", 0, 0),
    ],
)
def test_syn_and_fin_count_one_each_beside_the_payload(
    flags: str, payload_len: int, seg_len: int
) -> None:
    segment = _segment(flags, payload_len)

    assert segment.seg_len == seg_len
    assert segment.seq_end == SeqNumber(100 + seg_len)


def test_the_end_goes_round_with_the_sequence_space() -> None:
    assert _segment("FPA", 4, seq=2**32 - 2).seq_end == SeqNumber(3)


def test_the_fin_stands_after_syn_and_payload() -> None:
    assert _segment("FA", 7).fin_seq == SeqNumber(107)
    assert _segment("SF", 7).fin_seq == SeqNumber(108)


@given(st.integers(0, 0x1FF).map(Flags))
def test_flags_and_their_letters_are_the_same(flags: Flags) -> None:
    assert Flags.from_letters(flags.letters) == flags


@pytest.mark.parametrize("tcpdump, ours", [(".", "A"), ("S.", "SA"), ("F.", "FA"), ("P.", "PA")])
def test_tcpdumps_dot_is_ack(tcpdump: str, ours: str) -> None:
    assert Flags.from_letters(tcpdump) == Flags.from_letters(ours)


def test_a_letter_that_is_no_flag_is_named() -> None:
    with pytest.raises(ValueError, match="'X' in 'SX'"):
        Flags.from_letters("SX")


def test_an_option_is_found_by_its_kind() -> None:
    segment = Segment(SeqNumber(0), None, Flags.SYN, options=(Option(1), Option(8, b"12345678")))

    assert segment.option(8) == b"12345678"
    assert segment.option(WINDOW_SCALE) is None


@pytest.mark.parametrize("data, shift", [(b"\7", 7), (b"\xff", 14), (b"", None)])
def test_the_window_shift_is_at_most_14(data: bytes, shift: int | None) -> None:
    segment = Segment(SeqNumber(0), None, Flags.SYN, options=(Option(WINDOW_SCALE, data),))

    assert segment.window_shift == shift
