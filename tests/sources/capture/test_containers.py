"""pcap and pcapng: what was written is read, and what is broken is told, after all before it."""

from __future__ import annotations

import struct
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.sources.capture import pcap as pcap_module
from tcpwatch.sources.capture import pcapng as pcapng_module
from tcpwatch.sources.capture.container import open_container
from tcpwatch.sources.capture.frames import BLOCK
from tcpwatch.sources.capture.walking import records
from tests.sources.capture.reading import WasRead, frames_of, octets_of
from tests.sources.capture.writing import (
    PCAP,
    RAW,
    SHARE,
    Frame,
    block,
    enhanced,
    interface,
    obsolete,
    option,
    pcap,
    section,
    simple,
    statistics,
)

ORDERS = ("<", ">")
SECOND = 1_000_000_000
FRAMES = st.lists(
    st.builds(
        Frame,
        st.integers(0, 2**32 * SECOND - 1),
        st.binary(max_size=90),
        st.integers(-1, 3000),
    ),
    max_size=12,
)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So small that hardly a frame lies in one of them."""
    for module in (pcap_module, pcapng_module):
        monkeypatch.setattr(module, "BLOCK", 64)


def as_read(frames: list[Frame], share: int = 1) -> list[Frame]:
    return [Frame(f.t_ns // share * share, f.octets, f.length) for f in frames]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("unit", sorted(PCAP))
@given(frames=FRAMES)
def test_a_pcap_gives_back_its_frames(unit: str, order: str, frames: list[Frame]) -> None:
    assert frames_of(pcap(frames, order=order, unit=unit, link=RAW)) == WasRead(
        as_read(frames, SHARE[unit]), [RAW] * len(frames), None
    )


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("order", ORDERS)
def test_frames_lie_across_blocks(order: str) -> None:
    frames = [Frame(n * SECOND, bytes([n]) * (n % 150)) for n in range(200)]
    assert frames_of(pcap(frames, order=order)).frames == as_read(frames)
    written = section(order) + interface(order, resolution=9)
    written += b"".join(enhanced(f.octets, f.t_ns, order=order) for f in frames)
    assert frames_of(written).frames == as_read(frames)


def test_old_pcaps_have_their_lengths_the_other_way_round() -> None:
    frames = [Frame(0, b"abc", 60), Frame(SECOND, b"defg")]
    for version in ((2, 2), (2, 3)):
        assert frames_of(pcap(frames, version=version)).frames == as_read(frames)


def test_a_part_of_a_second_that_is_none_stays_in_its_second() -> None:
    written = replaced(pcap([Frame(5 * SECOND, b"a")]), 24 + 4, 2**32 - 1)
    assert frames_of(written).frames == [Frame(6 * SECOND - 1, b"a", 1)]


def test_the_frame_check_sequence_is_no_part_of_the_link_type() -> None:
    written = bytearray(pcap([Frame(0, b"a")]))
    written[23] = 0x30
    assert frames_of(bytes(written)).links == [1]


@pytest.mark.parametrize("order", ORDERS)
@given(frames=FRAMES)
def test_a_pcapng_gives_back_its_frames(order: str, frames: list[Frame]) -> None:
    written = section(order) + interface(order, link=RAW, resolution=9)
    for frame in frames:
        written += enhanced(frame.octets, frame.t_ns, order=order, wire_len=frame.wire_len)
    assert frames_of(written) == WasRead(as_read(frames), [RAW] * len(frames), None)


def test_every_section_has_its_own_byte_order_and_interfaces() -> None:
    written = section("<") + interface("<", link=RAW) + enhanced(b"one", 1_000_001)
    written += section(">") + interface(">", resolution=9) + interface(">", link=0)
    written += enhanced(b"two", 7, order=">") + enhanced(b"three", 2, order=">", of=1)
    assert frames_of(written) == WasRead(
        [Frame(1_000_001_000, b"one", 3), Frame(7, b"two", 3), Frame(2000, b"three", 5)],
        [RAW, 1, 0],
        None,
    )


@pytest.mark.parametrize(
    "resolution, ticks, t_ns",
    [
        (None, 1_500_000, 1_500_000_000),
        (0, 3, 3 * SECOND),
        (3, 3, 3_000_000),
        (9, 3, 3),
        (12, 3_999, 3),
        (18, 2 * 10**18 + 5 * 10**17, 2_500_000_000),
        (0x80 | 1, 3, 1_500_000_000),
        (0x80 | 20, (1 << 20) + (1 << 19), 1_500_000_000),
        (0x80 | 32, (1 << 32) + 1, 1_000_000_000),
        (0x80 | 60, (1 << 60) + (1 << 59), 1_500_000_000),
        (127, 2**64 - 1, 0),
    ],
)
def test_an_interface_says_how_its_clock_counts(
    resolution: int | None, ticks: int, t_ns: int
) -> None:
    written = section() + interface(resolution=resolution) + enhanced(b"a", ticks)
    assert frames_of(written).frames == [Frame(t_ns, b"a", 1)]


def test_an_interface_says_from_when_its_clock_counts() -> None:
    for offset_s in (1000, -1000):
        written = section() + interface(offset_s=offset_s) + enhanced(b"a", 2_000_000_000)
        assert frames_of(written).frames == [Frame((2000 + offset_s) * SECOND, b"a", 1)]


def test_a_time_beyond_all_counting_stays_at_its_end() -> None:
    latest = (2**63 // SECOND - 1) * SECOND
    for described in (interface(resolution=0), interface(offset_s=2**63 - 1)):
        (frame,) = frames_of(section() + described + enhanced(b"a", 2**64 - 1)).frames
        assert latest <= frame.t_ns < latest + SECOND


def test_a_simple_packet_has_the_time_of_the_frame_before_it() -> None:
    written = section() + interface() + simple(b"zero") + enhanced(b"one", 9) + simple(b"two")
    assert frames_of(written).frames == [
        Frame(0, b"zero", 4),
        Frame(9000, b"one", 3),
        Frame(9000, b"two", 3),
    ]


def test_a_simple_packet_is_cut_where_its_interface_says() -> None:
    written = section() + interface(snaplen=4) + simple(b"abcd", wire_len=9)
    assert frames_of(written).frames == [Frame(0, b"abcd", 9)]


def test_the_obsolete_packet_block_is_read() -> None:
    written = section() + interface() + interface(link=RAW) + obsolete(b"abc", 5, of=1)
    assert frames_of(written) == WasRead([Frame(5000, b"abc", 3)], [RAW], None)


def test_other_blocks_are_stepped_over() -> None:
    written = section() + block(4, b"names...") + interface() + block(0x0BAD, bytes(4000))
    written += enhanced(b"a", 1) + block(10, bytes(40)) + enhanced(b"b", 2)
    assert [frame.octets for frame in frames_of(written).frames] == [b"a", b"b"]


def test_what_the_capturing_program_lost_is_counted() -> None:
    written = section() + interface() + interface() + enhanced(b"a", 1)
    written += statistics(dropped=2) + statistics(of=1, dropped=5) + statistics(dropped=3)
    written += section() + interface() + statistics(dropped=10)
    assert frames_of(written).dropped == 3 + 5 + 10


# ---------------------------------------------------------------------- what is broken


@given(frames=FRAMES, order=st.sampled_from(ORDERS), data=st.data())
def test_a_pcap_that_is_cut_off_gives_all_whole_frames(
    frames: list[Frame], order: str, data: st.DataObject
) -> None:
    written = pcap(frames, order=order, unit="nanoseconds")
    ends = list(accumulate((16 + len(f.octets) for f in frames), initial=24))
    cut = data.draw(st.integers(24, len(written)))
    whole = sum(end <= cut for end in ends[1:])
    found = frames_of(written[:cut])
    assert found.frames == as_read(frames[:whole])
    assert (found.broken is None) == (cut in ends)
    if found.broken is not None:
        assert f"at octet {ends[whole]}" in str(found.broken)
        assert found.broken.exit_code is ExitCode.FAILED


@given(frames=FRAMES, data=st.data())
def test_a_pcapng_that_is_cut_off_gives_all_whole_frames(
    frames: list[Frame], data: st.DataObject
) -> None:
    head = section() + interface(resolution=9)
    blocks = [enhanced(frame.octets, frame.t_ns, wire_len=frame.wire_len) for frame in frames]
    ends = list(accumulate(map(len, blocks), initial=len(head)))
    written = head + b"".join(blocks)
    cut = data.draw(st.integers(len(head), len(written)))
    whole = sum(end <= cut for end in ends[1:])
    found = frames_of(written[:cut])
    assert found.frames == as_read(frames[:whole])
    assert (found.broken is None) == (cut in ends)


def replaced(written: bytes, at: int, value: int) -> bytes:
    return written[:at] + struct.pack("<I", value) + written[at + 4 :]


@pytest.mark.parametrize(
    "length, words",
    [
        (262_145, "a frame of 262145 octets, more than any has, at octet 43"),
        (0xFFFFFFFF, "a frame of 4294967295 octets, more than any has, at octet 43"),
        (200, "the file ends within a frame, 5 octets of it are there, at octet 43"),
    ],
)
def test_a_pcap_record_that_lies_about_its_length_ends_the_reading(length: int, words: str) -> None:
    written = replaced(pcap([Frame(0, b"abc"), Frame(1, b"defgh")]), 43 + 8, length)
    found = frames_of(written)
    assert [frame.octets for frame in found.frames] == [b"abc"]
    assert words in str(found.broken)


BEFORE = section() + interface(resolution=9) + enhanced(b"before", 1)


@pytest.mark.parametrize(
    "wrong, words",
    [
        (replaced(enhanced(b"abcd", 1), 4, 24), "a block of type 6 that says it has 24 octets"),
        (replaced(enhanced(b"abcd", 1), 4, 37), "a block of type 6 that says it has 37 octets"),
        (replaced(enhanced(b"abcd", 1), 4, 2**31), "a block of 2147483648 octets, more than any"),
        (replaced(enhanced(b"abcd", 1), 4, 40), "a block of 40 octets that says otherwise"),
        (replaced(enhanced(b"abcd", 1), 8, 1), "a frame of interface 1, where 1 are described"),
        (replaced(enhanced(b"abcd", 1), 20, 500), "a frame of 500 octets in a block of"),
        (replaced(enhanced(b"abcd", 1), 20, 2**32 - 1), "a frame of 4294967295 octets in a block"),
        (replaced(block(4, bytes(8)), 16, 12), "a block of 20 octets that says at its end it has"),
        (block(0x0A0D0D0A, b"what" + bytes(12)), "a section without its byte order"),
        (
            block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 9, 1, -1)),
            "a section of pcapng version 9.1",
        ),
        (replaced(enhanced(b"abcd", 1), 4, 400), "the file ends within a block of 400 octets"),
        (replaced(enhanced(b"abcd", 1), 4, 8 << 20), "a block of 8388608 octets around a frame of"),
        (bytes(40), "a block of type 0 that says it has 0 octets"),
        (block(1, b"1234"), "a block of type 1 that says it has 16 octets"),
    ],
)
def test_a_block_that_is_wrong_ends_the_reading(wrong: bytes, words: str) -> None:
    found = frames_of(BEFORE + wrong + enhanced(b"after", 1))
    assert found.frames == [Frame(1, b"before", 6)]
    assert words in str(found.broken)
    assert f"at octet {len(BEFORE)}" in str(found.broken)


def test_a_length_that_none_has_is_told_though_the_file_ends_there() -> None:
    found = frames_of(BEFORE + struct.pack("<II", 6, 0xFFFFFFF0))
    assert found.frames == [Frame(1, b"before", 6)]
    assert "a block of type 6 that says it has 4294967280 octets" in str(found.broken)
    assert f"at octet {len(BEFORE)}" in str(found.broken)


@pytest.mark.parametrize("unit", sorted(PCAP))
def test_zeros_behind_the_last_record_are_none(unit: str) -> None:
    whole = pcap([Frame(1, b"abc"), Frame(2000, b"")], unit=unit)
    for zeros in (1 << 10, (9 << 20) + 5):
        found = frames_of(whole + bytes(zeros))
        assert [frame.octets for frame in found.frames] == [b"abc", b""]
        assert f"nothing but zeros where a record would begin, at octet {len(whole)}" in str(
            found.broken
        )


def test_a_few_empty_frames_of_1970_are_frames() -> None:
    filled = [Frame(0, b"x" * 84)] * (BLOCK // 100 - 1)  # up to a block's end, and beyond it
    frames = [*filled, *[Frame(0, b"")] * 15, Frame(0, b"after")]
    found = frames_of(pcap(frames))
    assert found.broken is None
    assert [frame.octets for frame in found.frames] == [frame.octets for frame in frames]


def test_a_frame_before_any_interface_ends_the_reading() -> None:
    for wrong in (enhanced(b"a", 1), simple(b"a"), obsolete(b"a", 1)):
        found = frames_of(section() + wrong)
        assert found.frames == []
        assert "interface 0, where 0 are described" in str(found.broken)


def test_nobody_has_so_many_interfaces() -> None:
    described = interface()
    written = section() + described * (1 << 16)
    assert frames_of(written + enhanced(b"a", 1, of=(1 << 16) - 1)).frames == [Frame(1000, b"a", 1)]
    found = frames_of(written + enhanced(b"a", 1) + described)
    assert [frame.octets for frame in found.frames] == [b"a"]
    assert "more than 65536 interfaces" in str(found.broken)


def test_a_section_for_every_frame_is_read_at_once() -> None:
    one = section() + interface() + enhanced(b"a", 1) + simple(b"b")
    wrong = section() + simple(b"c")
    container = open_container(octets_of(one * 50 + wrong))
    blocks = container.blocks()
    assert len(next(blocks)) == 100
    with pytest.raises(TcpwatchError, match="interface 0, where 0 are described"):
        next(blocks)


def test_an_option_that_lies_about_its_length_is_left_alone() -> None:
    lie = option(9, b"\x09")[:-4] + struct.pack("<HH", 14, 60_000)
    written = section() + block(1, struct.pack("<HHI", 1, 0, 0) + lie) + enhanced(b"a", 5)
    assert [frame.octets for frame in frames_of(written).frames] == [b"a"]


@pytest.mark.parametrize(
    "written, words",
    [
        (b"", "it is empty"),
        (b"\n", "it begins with 0a"),
        (b"hello, world", "it begins with 68 65 6c 6c"),
        (struct.pack("<I", 0xA1B2C3D5), "it begins with d5 c3 b2 a1"),
        (pcap([])[:20], "ends within the header"),
        (pcap([], version=(3, 0)), "version 3.0"),
    ],
)
def test_what_is_no_capture_is_told(written: bytes, words: str) -> None:
    with pytest.raises(TcpwatchError, match=words):
        frames_of(written)


# ---------------------------------------------------------------------- whatever comes

PIECES = st.one_of(
    st.binary(max_size=60),
    st.builds(section, st.sampled_from(ORDERS)),
    st.builds(interface, st.sampled_from(ORDERS), resolution=st.integers(0, 255)),
    st.builds(enhanced, st.binary(max_size=40), st.integers(0, 2**64 - 1), of=st.integers(0, 2)),
    st.builds(simple, st.binary(max_size=40), wire_len=st.integers(-1, 2**32 - 1)),
    st.builds(obsolete, st.binary(max_size=40), st.integers(0, 2**64 - 1), of=st.integers(0, 2)),
    st.builds(statistics, of=st.integers(0, 2), dropped=st.integers(0, 2**64 - 1)),
)


@given(
    st.sampled_from([section(), section(">"), pcap([]), pcap([], order=">", unit="kuznetzov")]),
    st.lists(PIECES, max_size=8),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6),
)
def test_no_octets_are_too_much(
    head: bytes, pieces: list[bytes], changes: list[tuple[int, int]]
) -> None:
    written = bytearray(head + b"".join(pieces))
    for at, value in changes:
        if at < len(written):
            written[at] = value
    try:
        found = frames_of(bytes(written))
    except TcpwatchError as error:
        assert error.exit_code in {ExitCode.USAGE, ExitCode.FAILED}  # noqa: PT017
    else:
        assert sum(len(frame.octets) for frame in found.frames) <= len(written)


@given(
    lengths=st.lists(st.integers(0, 300), min_size=1, max_size=1500),
    order=st.sampled_from("<>"),
    seconds=st.integers(0, 2**32 - 1),
    noise=st.binary(max_size=40),
)
@settings(max_examples=20, deadline=None)
def test_many_ways_at_once_meet_the_same_records(
    lengths: list[int], order: str, seconds: int, noise: bytes
) -> None:
    header = struct.pack(f"{order}II", seconds, 1)
    written = b"".join(
        header + struct.pack(f"{order}II", length, length) + (header * 40)[:length]
        for length in lengths
    )
    places, at = [], 0
    for length in lengths:
        places.append(at)
        at += 16 + length
    assert records(written + noise[:15], order, 16).tolist() == places
