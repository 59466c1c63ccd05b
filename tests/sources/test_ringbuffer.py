"""The parser of trace_pipe_raw: on pages built here, on a recorded one, on any octets."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpwatch.model.events import KernelNote, KernelNoted, StateReported
from tcpwatch.model.identity import SocketAddress
from tcpwatch.sources.ringbuffer import (
    Decoder,
    EventFormat,
    Field,
    PageLayout,
    event_id,
    parse_page,
)
from tcpwatch.tcp.state import TcpState

RECORDED = Path(__file__).parent / "recorded"
LAYOUT = PageLayout.parse((RECORDED / "header_page").read_text())
MISSED, STORED = 1 << 31, 1 << 30

pytestmark = pytest.mark.skipif(sys.byteorder != "little", reason="the pages are little-endian")


def page(*records: bytes, t_ns: int = 1000, flags: int = 0, behind: bytes = b"") -> bytes:
    data = b"".join(records)
    header = struct.pack("=QQ", t_ns, len(data) | flags)
    return (header + data + behind).ljust(LAYOUT.page_octets, b"\0")


def record(delta: int, data: bytes) -> bytes:
    assert len(data) % 4 == 0
    if len(data) <= 112:
        return struct.pack("=I", delta << 5 | len(data) // 4) + data
    return struct.pack("=II", delta << 5, len(data) + 4) + data


def time_extend(delta: int) -> bytes:
    return struct.pack("=II", (delta & 0x7FFFFFF) << 5 | 30, delta >> 27)


def time_stamp(t_ns: int) -> bytes:
    return struct.pack("=II", (t_ns & 0x7FFFFFF) << 5 | 31, t_ns >> 27 & 0xFFFFFFFF)


def times(octets: bytes) -> list[int]:
    return [t_ns for t_ns, _ in parse_page(octets, LAYOUT).records]


def test_deltas_add_up_from_the_stamp_of_the_page() -> None:
    assert times(page(record(0, b"aaaa"), record(7, b"bbbb"), record(5, b"cccc"))) == [
        1000,
        1007,
        1012,
    ]


def test_records_of_any_length_keep_their_octets() -> None:
    short, long = b"abcd" * 28, b"efgh" * 29
    found = parse_page(page(record(1, short), record(1, long), record(1, b"last")), LAYOUT)
    assert [bytes(data) for _, data in found.records] == [short, long, b"last"]


def test_a_time_extend_carries_a_delta_of_more_than_27_bits() -> None:
    assert times(page(time_extend(10**12), record(3, b"aaaa"))) == [1000 + 10**12 + 3]


def test_an_absolute_stamp_keeps_the_high_bits_of_the_time() -> None:
    high = 0x18 << 56
    now = high | 0x1234567 << 27
    assert times(page(time_stamp(now & (1 << 59) - 1), record(2, b"aaaa"), t_ns=high)) == [now + 2]


def test_a_discarded_record_counts_only_its_time() -> None:
    discarded = struct.pack("=II", 4 << 5 | 29, 12) + b"\0" * 8
    assert times(page(record(0, b"aaaa"), discarded, record(2, b"bbbb"))) == [1000, 1006]


def test_padding_without_time_ends_the_page() -> None:
    assert times(page(record(0, b"aaaa"), struct.pack("=I", 29), record(2, b"bbbb"))) == [1000]


@pytest.mark.parametrize(
    "flags, behind, lost",
    [
        (0, b"", 0),
        (MISSED | STORED, struct.pack("=Q", 17), 17),
        (MISSED, b"", None),
    ],
)
def test_lost_events_are_told(flags: int, behind: bytes, lost: int | None) -> None:
    found = parse_page(page(record(0, b"aaaa"), flags=flags, behind=behind), LAYOUT)
    assert found.lost == lost
    assert len(found.records) == 1


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\0" * 15,
        struct.pack("=QQ", 0, 5000),
        page(record(0, b"aaaa"), struct.pack("=II", 0, 1 << 20)),
        page(record(0, b"aaaa"), struct.pack("=II", 0, 0)),
        page(record(0, b"aaaa"), struct.pack("=I", 28)),
        page(record(0, b"aaaa"), struct.pack("=I", 30)),
    ],
)
def test_a_page_that_contradicts_itself_is_a_problem_and_keeps_what_came_before(
    octets: bytes,
) -> None:
    found = parse_page(octets, LAYOUT)
    assert found.problem
    assert len(found.records) == (b"aaaa" in octets)


@given(st.binary(max_size=200), st.integers(0, 2**32 - 1))
def test_any_octets_give_a_page(octets: bytes, commit: int) -> None:
    for candidate in (octets, struct.pack("=QQ", 0, commit) + octets, page(octets)):
        for _, data in parse_page(candidate, LAYOUT).records:
            for decoder in decoders().values():
                decoder.decode(data)
            event_id(data)


def decoders() -> dict[int, Decoder]:
    found = {}
    for file in sorted(RECORDED.glob("*.format")):
        layout = EventFormat.parse(file.read_text())
        note = None if file.stem == "inet_sock_set_state" else KernelNote(file.stem)
        found[layout.id] = Decoder(layout, note)
    return found


def test_a_recorded_page_reads_as_the_conversation_that_it_recorded() -> None:
    by_event = decoders()
    found = parse_page((RECORDED / "page.bin").read_bytes(), LAYOUT)
    assert (found.problem, found.lost) == ("", 0)
    lines = []
    for _, data in found.records:
        payload = by_event[event_id(data)].decode(data)
        if isinstance(payload, StateReported):
            lines.append(f"{payload.local.port} {payload.before} > {payload.after}")
        elif isinstance(payload, KernelNoted):
            lines.append(f"{payload.local.port} {payload.note.value}")
    assert lines == [
        "47001 CLOSED > LISTEN",
        "47002 CLOSED > SYN-SENT",
        "47002 SYN-SENT > ESTABLISHED",
        "47001 LISTEN > SYN-RECEIVED",
        "47001 SYN-RECEIVED > ESTABLISHED",
        "47002 ESTABLISHED > FIN-WAIT-1",
        "47001 ESTABLISHED > CLOSE-WAIT",
        "47001 CLOSE-WAIT > LAST-ACK",
        "47002 FIN-WAIT-1 > FIN-WAIT-2",
        "47002 FIN-WAIT-2 > CLOSED",
        "47002 tcp_destroy_sock",
        "47001 LAST-ACK > CLOSED",
        "47001 tcp_destroy_sock",
        "47001 LISTEN > CLOSED",
        "47001 tcp_destroy_sock",
        "47003 CLOSED > SYN-SENT",
        "47001 tcp_send_reset",
        "47003 tcp_receive_reset",
        "47003 SYN-SENT > CLOSED",
    ]


def test_a_field_is_found_by_its_name_whatever_its_type() -> None:
    layout = EventFormat.parse(
        "name: x\nID: 7\nformat:\n"
        "\tfield:const void * skaddr;\toffset:8;\tsize:8;\tsigned:0;\n"
        "\tfield:__u8 saddr[4];\toffset:16;\tsize:4;\tsigned:0;\n"
        "\tfield:int state;\toffset:20;\tsize:4;\tsigned:1;\n"
    )
    assert layout.id == 7
    assert layout.fields == {
        "skaddr": Field(8, 8),
        "saddr": Field(16, 4, array=True),
        "state": Field(20, 4, signed=True),
    }


def older_reset(local: bytes, remote: bytes, state: int) -> KernelNoted | StateReported | None:
    """tcp_send_reset as kernels had it before 6.10: no sockaddr, no family, no reason."""
    layout = EventFormat.parse(
        "ID: 9\n"
        "field:unsigned short common_type; offset:0; size:2; signed:0;\n"
        "field:const void * skaddr; offset:16; size:8; signed:0;\n"
        "field:int state; offset:24; size:4; signed:1;\n"
        "field:__u16 sport; offset:28; size:2; signed:0;\n"
        "field:__u16 dport; offset:30; size:2; signed:0;\n"
        "field:__u8 saddr[4]; offset:32; size:4; signed:0;\n"
        "field:__u8 daddr[4]; offset:36; size:4; signed:0;\n"
        "field:__u8 saddr_v6[16]; offset:40; size:16; signed:0;\n"
        "field:__u8 daddr_v6[16]; offset:56; size:16; signed:0;\n"
    )
    data = struct.pack("=H14xQiHH8x16s16s", 9, 77, state, 80, 4000, local, remote)
    return Decoder(layout, KernelNote.RESET_SENT).decode(memoryview(data))


def test_an_event_without_family_is_read_by_its_longer_address() -> None:
    mapped = b"\0" * 10 + b"\xff\xff"
    decoded = older_reset(mapped + b"\x0a\0\0\x01", mapped + b"\x0a\0\0\x02", 1)
    assert decoded == KernelNoted(
        KernelNote.RESET_SENT,
        77,
        SocketAddress("10.0.0.1", 80),
        SocketAddress("10.0.0.2", 4000),
        TcpState.ESTABLISHED,
    )


def test_an_unknown_state_is_not_guessed() -> None:
    assert older_reset(b"\0" * 16, b"\0" * 16, 99) is None


def test_a_format_without_addresses_is_refused() -> None:
    with pytest.raises(ValueError, match="saddr"):
        Decoder(EventFormat(1, {}), KernelNote.DESTROYED)
    with pytest.raises(ValueError, match="no ID"):
        EventFormat.parse("nothing")
    with pytest.raises(ValueError, match="commit"):
        PageLayout.parse("nothing")
