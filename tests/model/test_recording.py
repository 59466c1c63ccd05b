"""A recording is read back as what was written, as far as it goes, or the fault is named."""

from __future__ import annotations

import io
from dataclasses import fields, replace
from typing import TYPE_CHECKING, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.model.events import (
    CallPhase,
    Event,
    Fate,
    Gap,
    KernelNote,
    KernelNoted,
    MalformedSeen,
    Measured,
    Payload,
    Point,
    ProcessChange,
    ProcessChanged,
    SegmentFate,
    SegmentSeen,
    SocketSampled,
    StateReported,
    UserCall,
    Vantage,
)
from tcpwatch.model.identity import SocketAddress
from tcpwatch.model.recording import (
    SCHEMA,
    Recording,
    decode_event,
    encode_event,
    encode_foot,
    encode_head,
    read_recording,
)
from tcpwatch.model.timeline import Answer, Expectation, Finding, RunRecord, Severity
from tcpwatch.tcp.segment import Flags, Option, Segment
from tcpwatch.tcp.seq import SeqNumber
from tcpwatch.tcp.state import TcpState

if TYPE_CHECKING:
    from collections.abc import Callable

# Written out by hand, not derived from the annotations as the codec is: the two check each other.
NATURALS = st.integers(0, 2**64 - 1)
INTEGERS = st.integers(-(2**63), 2**63)
# A process may be named by bytes that are no UTF-8: Python has lone surrogates for them.
TEXTS = st.text(st.characters(codec=None, exclude_categories=()), max_size=12)
BYTES = st.binary(max_size=40)
ADDRESSES = st.builds(SocketAddress, st.ip_addresses().map(str), st.integers(0, 0xFFFF))
STATES = st.sampled_from(TcpState)
SEQ_NUMBERS = st.integers(0, 2**32 - 1).map(SeqNumber)
OPTIONS = st.builds(Option, st.integers(0, 255), BYTES)


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    flags = Flags(draw(st.integers(0, 0x1FF)))
    return Segment(
        draw(SEQ_NUMBERS),
        draw(SEQ_NUMBERS) if flags & Flags.ACK else None,
        flags,
        draw(st.integers(0, 0xFFFF)),
        tuple(draw(st.lists(OPTIONS, max_size=4))),
        draw(NATURALS),
    )


PAYLOADS: dict[type, st.SearchStrategy[Payload]] = {
    SegmentSeen: st.builds(
        SegmentSeen,
        n=NATURALS,
        point=st.sampled_from(Point),
        src=ADDRESSES,
        dst=ADDRESSES,
        segment=segments(),
        injected=st.booleans(),
        raw=BYTES,
    ),
    SegmentFate: st.builds(
        SegmentFate, n=NATURALS, fate=st.sampled_from(Fate), copy=st.none() | NATURALS
    ),
    StateReported: st.builds(
        StateReported,
        skaddr=NATURALS,
        local=ADDRESSES,
        remote=ADDRESSES,
        before=STATES,
        after=STATES,
        pid=NATURALS,
    ),
    KernelNoted: st.builds(
        KernelNoted,
        note=st.sampled_from(KernelNote),
        skaddr=NATURALS,
        local=ADDRESSES,
        remote=ADDRESSES,
        state=st.none() | STATES,
        reason=st.none() | INTEGERS,
    ),
    SocketSampled: st.builds(
        SocketSampled,
        local=ADDRESSES,
        remote=ADDRESSES,
        state=st.none() | STATES,
        since_ns=INTEGERS,
        inode=NATURALS,
        receive_queue=NATURALS,
        send_queue=NATURALS,
        timer=NATURALS,
    ),
    UserCall: st.builds(
        UserCall,
        call_id=NATURALS,
        phase=st.sampled_from(CallPhase),
        pid=NATURALS,
        process=TEXTS,
        call=TEXTS,
        arguments=TEXTS,
        local=st.none() | ADDRESSES,
        remote=st.none() | ADDRESSES,
        result=st.none() | INTEGERS | TEXTS,
        errno=st.none() | TEXTS,
    ),
    ProcessChanged: st.builds(
        ProcessChanged,
        pid=NATURALS,
        process=TEXTS,
        change=st.sampled_from(ProcessChange),
        exit_status=st.none() | INTEGERS,
        signal=st.none() | TEXTS,
        parent=TEXTS,
    ),
    Measured: st.builds(Measured, what=TEXTS, value=INTEGERS | TEXTS, case=TEXTS),
    Gap: st.builds(Gap, reason=TEXTS, lost=st.none() | NATURALS, since_ns=INTEGERS),
    MalformedSeen: st.builds(MalformedSeen, reason=TEXTS, raw=BYTES),
}
VANTAGES = st.builds(Vantage, TEXTS, st.none() | TEXTS, st.none() | TEXTS)
EVENTS = st.builds(Event, NATURALS, INTEGERS, VANTAGES, st.one_of(*PAYLOADS.values()))

JSON = st.recursive(
    st.none() | st.booleans() | INTEGERS | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
LISTS = st.lists(TEXTS, max_size=3).map(tuple)
FINDINGS = st.builds(
    Finding,
    code=TEXTS,
    severity=st.sampled_from(Severity),
    message=TEXTS,
    connection=st.none() | NATURALS,
    role=st.none() | TEXTS,
    section=TEXTS,
    evidence=st.lists(NATURALS, max_size=2).map(tuple),
)
EXPECTATIONS = st.builds(
    Expectation,
    endpoint=TEXTS,
    pattern=TEXTS,
    met=st.sampled_from([True, False, None]),
    explanation=TEXTS,
    asked=TEXTS,
)
RECORDS = st.builds(
    RunRecord,
    scenario=TEXTS,
    claim=TEXTS,
    lab=st.dictionaries(TEXTS, JSON, max_size=3),
    sources=st.lists(st.dictionaries(TEXTS, JSON, max_size=3), max_size=3).map(tuple),
    expect=st.dictionaries(TEXTS, TEXTS, max_size=3),
    roles=st.dictionaries(TEXTS, TEXTS, max_size=3),
    problem=st.none() | TEXTS,
    failed_checks=LISTS,
    inconclusive=LISTS,
    end_ns=INTEGERS,
    findings=st.lists(FINDINGS, max_size=2).map(tuple),
    answers=st.lists(st.builds(Answer, EXPECTATIONS, TEXTS), max_size=2).map(tuple),
)

CLIENT, SERVER = SocketAddress("10.77.0.1", 40000), SocketAddress("2001:db8::1", 7000)
SYN_ACK = Segment(
    SeqNumber(5), SeqNumber(6), Flags.SYN | Flags.ACK, options=(Option(2, b"\x05\xb4"), Option(1))
)
SEEN = Event(
    1, 5, Vantage("wire", "client"), SegmentSeen(1, Point.SENT, CLIENT, SERVER, SYN_ACK, raw=b"E")
)
REPORTED = Event(
    2,
    7,
    Vantage("kernel"),
    StateReported(255, CLIENT, SERVER, TcpState.CLOSED, TcpState.SYN_SENT, 12),
)
REFUSED = Event(
    3,
    6,
    Vantage("calls", "client", "tw-1"),
    UserCall(1, CallPhase.RETURNED, 12, "client", "connect", result=-1, errno="ECONNREFUSED"),
)
LOST = Event(4, 9, Vantage("table"), Gap("the receive buffer overran", None, 8))
RECORD = RunRecord(
    "simultaneous-close",
    "both FINs cross",
    {"kind": "namespace", "ip": 4, "latency_ms": 20.5},
    ({"name": "kernel", "available": True, "detail": "", "lost": 0},),
    {"client": "CLOSED > ... > TIME-WAIT"},
    {"10.77.0.1": "client"},
)
ENDED = replace(
    RECORD,
    sources=({"name": "kernel", "available": True, "detail": "", "lost": 3},),
    problem="the play took too long",
    failed_checks=("a zombie is left",),
    end_ns=100,
)
HEAD, SEEN_LINE, REPORTED_LINE, FOOT = (
    encode_head(RECORD),
    encode_event(SEEN),
    encode_event(REPORTED),
    encode_foot(ENDED),
)
LINES = [HEAD, SEEN_LINE, REPORTED_LINE, FOOT]


def test_there_is_a_strategy_for_every_field_of_every_payload() -> None:
    assert set(PAYLOADS) == set(get_args(Payload))


def test_no_payload_has_a_field_that_every_event_has() -> None:
    common = {"id", "t_ns", "event"} | {field.name for field in fields(Vantage)}

    assert not [kind for kind in PAYLOADS if common & {field.name for field in fields(kind)}]


@pytest.mark.parametrize("kind", PAYLOADS)
@given(data=st.data())
def test_every_kind_of_event_is_read_back_as_it_was_written(
    kind: type, data: st.DataObject
) -> None:
    event = Event(
        data.draw(NATURALS), data.draw(INTEGERS), data.draw(VANTAGES), data.draw(PAYLOADS[kind])
    )

    line = encode_event(event)
    back = decode_event(line, 1)

    assert back == event
    assert encode_event(back) == line
    assert line.isascii()
    assert "\n" not in line


@given(RECORDS, RECORDS, st.lists(EVENTS, max_size=5, unique_by=lambda event: event.id))
def test_a_recording_is_read_back_as_it_was_written(
    begun: RunRecord, ended: RunRecord, events: list[Event]
) -> None:
    events.sort(key=lambda event: event.id)
    ended = replace(
        ended, scenario=begun.scenario, claim=begun.claim, lab=begun.lab, expect=begun.expect
    )
    lines = [encode_head(begun), *map(encode_event, events), encode_foot(ended)]

    assert read_recording(lines) == Recording(ended, tuple(events), complete=True)
    assert read_recording(io.StringIO("\n".join(lines))) == read_recording(lines)


@given(st.lists(EVENTS, max_size=4, unique_by=lambda event: event.id), st.data())
def test_a_recording_cut_anywhere_reads_as_far_as_it_goes(
    events: list[Event], data: st.DataObject
) -> None:
    events.sort(key=lambda event: event.id)
    head = encode_head(RECORD)
    text = "".join(f"{line}\n" for line in [head, *map(encode_event, events), encode_foot(ENDED)])
    end = data.draw(st.integers(len(head), len(text) - 2))

    cut = read_recording(io.StringIO(text[:end]))

    whole_lines = sum(1 for line in text[: end + 1].splitlines(keepends=True) if line[-1] == "\n")
    seen = tuple(events[: whole_lines - 1])
    assert cut.complete is False
    assert cut.events == seen
    assert cut.record == replace(RECORD, end_ns=max((event.t_ns for event in seen), default=0))


def test_what_came_to_the_format_later_is_written_only_where_it_says_something() -> None:
    assert FOOT.endswith('"inconclusive":[],"end_ns":100}')
    leak = Finding("leak", Severity.WARNING, "it is held")
    said = encode_foot(replace(ENDED, findings=(leak,)))
    assert said.endswith(
        ',"findings":[{"code":"leak","severity":"warning","message":"it is held"}]}'
    )


def _fault(read: Callable[[], object]) -> TcpwatchError | None:
    try:
        read()
    except TcpwatchError as error:
        return error
    return None


@given(st.lists(st.text(max_size=30), max_size=4))
def test_any_text_is_not_a_recording_and_is_told_so(lines: list[str]) -> None:
    fault = _fault(lambda: read_recording(lines))

    assert fault
    assert fault.message.startswith("line ")
    assert fault.exit_code is ExitCode.USAGE


@given(st.data())
def test_any_change_of_a_line_is_another_event_or_a_fault_with_its_line(
    data: st.DataObject,
) -> None:
    line = data.draw(st.sampled_from([SEEN_LINE, REPORTED_LINE, encode_event(REFUSED)]))
    start = data.draw(st.integers(0, len(line)))
    end = data.draw(st.integers(start, min(len(line), start + 5)))
    changed = line[:start] + data.draw(st.text(max_size=5)) + line[end:]

    fault = _fault(lambda: decode_event(changed, 7))

    if fault:
        assert fault.message.startswith("line 7 ")
        assert "\n" not in str(fault)
    else:
        event = decode_event(changed, 7)
        assert decode_event(encode_event(event), 7) == event


def test_a_line_is_compact_and_readable() -> None:
    assert SEEN_LINE == (
        '{"id":1,"t_ns":5,"source":"wire","side":"client","event":"SegmentSeen","n":1,'
        '"point":"sent","src":"10.77.0.1:40000","dst":"[2001:db8::1]:7000","segment":{"seq":5,'
        '"ack":6,"flags":"SA","window":65535,"options":[{"kind":2,"data":"BbQ="},{"kind":1}]},'
        '"raw":"RQ=="}'
    )
    assert REPORTED_LINE == (
        '{"id":2,"t_ns":7,"source":"kernel","event":"StateReported","skaddr":255,'
        '"local":"10.77.0.1:40000","remote":"[2001:db8::1]:7000","before":"CLOSED",'
        '"after":"SYN-SENT","pid":12}'
    )
    assert encode_event(REFUSED) == (
        '{"id":3,"t_ns":6,"source":"calls","side":"client","namespace":"tw-1","event":"UserCall",'
        '"call_id":1,"phase":"returned","pid":12,"process":"client","call":"connect","result":-1,'
        '"errno":"ECONNREFUSED"}'
    )
    assert encode_event(LOST) == (
        '{"id":4,"t_ns":9,"source":"table","event":"Gap","reason":"the receive buffer overran",'
        '"lost":null,"since_ns":8}'
    )


def test_the_head_says_what_it_is_and_the_foot_how_it_ended() -> None:
    assert HEAD == (
        '{"schema":"tcpwatch-recording/1","scenario":"simultaneous-close",'
        '"claim":"both FINs cross","lab":{"kind":"namespace","ip":4,"latency_ms":20.5},'
        '"sources":[{"name":"kernel","available":true,"detail":"","lost":0}],'
        '"expect":{"client":"CLOSED > ... > TIME-WAIT"},"roles":{"10.77.0.1":"client"}}'
    )
    assert FOOT == (
        '{"sources":[{"name":"kernel","available":true,"detail":"","lost":3}],'
        '"roles":{"10.77.0.1":"client"},"problem":"the play took too long",'
        '"failed_checks":["a zombie is left"],"inconclusive":[],"end_ns":100}'
    )


def test_what_the_foot_says_overrides_the_head() -> None:
    assert read_recording(LINES) == Recording(ENDED, (SEEN, REPORTED), complete=True)


def test_a_recording_without_a_foot_ends_at_its_last_moment() -> None:
    cut = read_recording([HEAD, REPORTED_LINE, encode_event(REFUSED), '{"id":4,"t_n'])

    assert cut == Recording(replace(RECORD, end_ns=7), (REPORTED, REFUSED), complete=False)


def test_blank_lines_mean_nothing() -> None:
    assert read_recording([f"{line}\n\n" for line in LINES] + ["\n"]) == read_recording(LINES)


@pytest.mark.parametrize(
    "lines, fault",
    [
        ([], "line 1 of the recording: there is no head"),
        (["#!/bin/sh"], "line 1 of the recording: there is no head"),
        (["[]"], "line 1 of the recording: not a JSON object"),
        (["{}"], f'line 1 of the recording: it has no schema, and this reads "{SCHEMA}"'),
        (
            [HEAD.replace("recording/1", "recording/2")],
            'line 1 of the recording: its schema is "tcpwatch-recording/2", and this reads "tcpw',
        ),
        (
            [HEAD.replace('"claim"', '"clam"')],
            "line 1 of the recording: in the head, RunRecord has",
        ),
        ([HEAD.replace('"ip":4', '"ip":NaN')], "line 1 of the recording: there is no head"),
        ([HEAD, "{", SEEN_LINE], "line 2 of the recording: not JSON: Expecting property name"),
        ([HEAD, "12"], "line 2 of the recording: not a JSON object"),
        ([HEAD, "[" * 100_000, FOOT], "line 2 of the recording: JSON nested too deeply"),
        ([*LINES, SEEN_LINE], "line 5 of the recording: something follows the foot"),
        ([*LINES, FOOT], "line 5 of the recording: something follows the foot"),
        ([HEAD, REPORTED_LINE, SEEN_LINE], "line 3 of the recording: event 1 follows event 2"),
        ([HEAD, SEEN_LINE, SEEN_LINE], "line 3 of the recording: event 1 follows event 1"),
        (
            [HEAD, FOOT.replace("100", '"x"')],
            'line 2 of the recording: in the foot, end_ns: "x" is',
        ),
    ],
)
def test_a_line_that_is_wrong_is_named(lines: list[str], fault: str) -> None:
    with pytest.raises(TcpwatchError) as caught:
        read_recording(lines)

    assert caught.value.message.startswith(fault)
    assert caught.value.remedy
    assert caught.value.exit_code is ExitCode.USAGE


@pytest.mark.parametrize(
    "right, wrong, fault",
    [
        ('"SegmentSeen"', '"SegmentHeard"', '"SegmentHeard" is not a kind of event'),
        ('"SegmentSeen"', "[[]]", "a list is not a kind of event"),
        ('"n":1', '"n":true', "n: true is not an integer"),
        ('"n":1', '"n":1.0', "n: 1.0 is not an integer"),
        ('"n":1,', "", "SegmentSeen without n"),
        ('"n":1', '"n":1,"colour":2', "SegmentSeen has no field 'colour'"),
        ('"id":1,', "", "Event without id"),
        ('"wire"', "5", "source: 5 is not text"),
        ('"sent"', '"lost"', 'point: "lost" is not one of sent, delivered, midway'),
        ("10.77.0.1:40000", "10.77.0.300:1", "src: '10.77.0.300' does not appear to be an IPv4"),
        (":40000", ":70000", "src: 70000 is not a port"),
        ('"SA"', '"SX"', "segment: flags: 'X' in 'SX' is not a TCP flag"),
        ('"ack":6', '"ack":null', "segment: an acknowledgement stands there exactly when"),
        ('"ack":6', '"ack":4294967296', "segment: ack: 4294967296 has not 32 bits"),
        ("65535", "65536", "segment: the window 65536 has more than 16 bits"),
        ('"BbQ="', '"BbQ"', "segment: options: data: Incorrect padding"),
        ('"RQ=="', '"RQ!=="', "raw: "),
    ],
)
def test_a_field_that_is_wrong_is_named(right: str, wrong: str, fault: str) -> None:
    assert right in SEEN_LINE

    with pytest.raises(TcpwatchError) as caught:
        decode_event(SEEN_LINE.replace(right, wrong, 1), 9)

    assert caught.value.message.startswith(f"line 9 of the recording: {fault}")


def test_bytes_that_are_no_text_are_named_by_their_line() -> None:
    file = io.TextIOWrapper(io.BytesIO(HEAD.encode() + b"\n\xff\xfe\n"), encoding="utf-8")

    with pytest.raises(TcpwatchError, match=r"line \d of the recording: not text in UTF-8"):
        read_recording(file)
