"""What one asks of a capture: a filter, demands, the oddest, a row a connection, its beginning."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import select
import signal
import struct
import subprocess
import sys
import termios
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest

from tcpwatch.cli import main
from tcpwatch.machine.filtering import parse_filter
from tcpwatch.machine.row_fields import CAPTURE_FIELDS, RowSubject
from tcpwatch.machine.verdict import Court, path_elements
from tcpwatch.replaying.files import Captures, Source, record_of
from tcpwatch.replaying.replayed import conclude, tracker_of
from tcpwatch.replaying.sifting import sift, wish_of
from tcpwatch.sources.capture.rows import Rows
from tcpwatch.tcp.segment import Flags
from tcpwatch.views.table import COLUMNS
from tests.sources.capture.writing import RAW, Frame, pcap

ROOT = Path(__file__).parents[1]
MS = 1_000_000
START_NS = 1_700_000_000_000_000_000

OPENED = ("> S 0 0", "< SA 0 1", "> A 1 1", "> PA 1 1 5", "< A 1 6")
CLOSED = ("> FA 6 1", "< A 1 7", "< FA 1 7", "> A 7 2")
NORMAL = (*OPENED, *CLOSED)
REFUSED = ("> S 0 0", "< RA 0 1")
UNANSWERED = ("> S 0 0", "> S 0 0", "> S 0 0")
HALF = (*OPENED, *CLOSED[:2])
REPEATED = (*OPENED, "> PA 1 1 5", "< A 1 6", *CLOSED)


def connection(port: int, lines: tuple[str, ...], *, start_ms: int = 0) -> list[Frame]:
    """``> PA seq ack octets``: a segment a millisecond, from 10.0.0.1 to port 443 of 10.0.0.2."""
    frames = []
    for number, line in enumerate(lines):
        way, letters, seq, ack, *octets = line.split()
        data = bytes(int(octets[0]) if octets else 0)
        flags = int(Flags.from_letters(letters))
        ends = [(bytes((10, 0, 0, 1)), port), (bytes((10, 0, 0, 2)), 443)]
        (src, sport), (dst, dport) = ends if way == ">" else ends[::-1]
        numbers = (int(seq) + 100, int(ack) + 100 if "A" in letters else 0)
        header = struct.pack(
            ">BBHHHBBH4s4s", 0x45, 0, 40 + len(data), 0, 0, 64, 6, 0, src, dst
        ) + struct.pack(">HHIIBBHHH", sport, dport, *numbers, 0x50, flags, 65535, 0, 0)
        frames.append(Frame(START_NS + (start_ms + number) * MS, header + data))
    return frames


def capture(*frames: Frame) -> bytes:
    ordered = sorted(frames, key=lambda frame: frame.t_ns)
    return pcap(ordered, link=RAW, unit="nanoseconds")


def many() -> list[Frame]:
    """Ten normal connections, then one refused, one unanswered, one half-closed, one repeated."""
    ways = (*[NORMAL] * 10, REFUSED, UNANSWERED, HALF, REPEATED)
    return [
        frame
        for index, way in enumerate(ways)
        for frame in connection(40_000 + index, way, start_ms=20 * index)
    ]


class Done(NamedTuple):
    status: int
    out: str
    err: str


Call = Callable[..., Done]


@pytest.fixture
def replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Call:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "many.pcap").write_bytes(capture(*many()))

    def run(*arguments: str) -> Done:
        status = main(["replay", *arguments])
        return Done(int(status), *capsys.readouterr())

    return run


def documented(replay: Call, *arguments: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(replay("many.pcap", *arguments, "--json", "-").out)
    return read


def test_the_ladder_of_one_connection_among_many(replay: Call) -> None:
    done = replay("many.pcap", "--filter", "port:40003")
    assert (done.status, done.err) == (0, "")
    assert "1 of 14 connections selected by port:40003 ms active" in " ".join(done.out.split())
    assert "active 10.0.0.1:40003" in done.out
    assert " ESTABLISHED > FIN-WAIT-1 ─ FA 6:6(0) ack 1 ───▶ ESTABLISHED > CLOSE-WAIT" in done.out


def test_what_is_left_keeps_its_number_and_its_time(replay: Call) -> None:
    one, other = documented(replay, "--filter", "port:40003,40012")["connections"]
    assert (one["id"], other["id"]) == (4, 13)
    assert (one["start_ns"], other["start_ns"]) == (60 * MS, 240 * MS)
    assert other["odd"] == []
    whole = documented(replay)["connections"]
    for name in ("start_ns", "ending", "zeek", "octets", "closed_by", "complete"):
        assert one[name] == whole[3][name]
    assert [end["path"] for end in one["endpoints"]] == [
        end["path"] for end in whole[3]["endpoints"]
    ]


def test_many_are_counted_and_only_those_selected(replay: Call) -> None:
    shown = replay("many.pcap", "--filter", "-reason:fin", "--summary").out
    assert "4 of 14 connections selected by not reason:fin" not in shown  # REPEATED ended by FIN
    assert "3 of 14 connections selected by not reason:fin" in " ".join(shown.split())
    assert "3 connections\n1  33.3 % refused: a RST answered the SYN" in shown


@pytest.mark.parametrize("selects", ["port:1", "state:closing", "octets>1M"])
def test_an_empty_selection_is_said_and_is_no_success(selects: str, replay: Call) -> None:
    done = replay("many.pcap", "--filter", selects)
    assert done.status == 3
    assert "none of 14 connections selected by" in " ".join(done.out.split())
    assert done.out.endswith("INCONCLUSIVE\n  the filter selects no connection\n")


def test_every_field_of_a_capture_can_be_asked_for_and_stands_in_the_help(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["replay", "--help"])
    shown = capsys.readouterr().out
    named = shown.partition("fields: ")[2].partition("patterns: ")[0].split()
    assert sorted(named) == sorted(CAPTURE_FIELDS)
    (tmp_path / "many.pcap").write_bytes(capture(*many()))
    for row in Rows([str(tmp_path / "many.pcap")]):
        subject = RowSubject(row, 1000 * MS)
        known = {name for name in named if parse_filter(f"{name}:*").matches(subject)}
        assert known == set(named) - {"findings"}


# ---------------------------------------------------------------------- demands


@pytest.mark.parametrize(
    "demand, status, counts",
    [
        ("reason:fin active: ... > TIME-WAIT", 0, "of 11 ends: 11 as expected"),
        ("reason:fin both: never CLOSING", 0, "of 22 ends: 22 as expected"),
        (
            "active: ... > CLOSE-WAIT > ...",
            1,
            "of 14 ends: 13 NOT as expected, 1 cannot be told",
        ),
        ("reason:half-closed passive: ... > CLOSED", 3, "of 1 end: 1 cannot be told"),
        ("port:1 active: ...", 3, "no connection is selected that has such an end"),
        ("client: ...", 3, "no connection is selected that has such an end"),
    ],
)
def test_each_connection_that_is_selected_is_judged(
    demand: str, status: int, counts: str, replay: Call
) -> None:
    done = replay("many.pcap", "--expect", demand)
    assert done.status == status
    verdict = {0: "PASS", 1: "FAIL", 3: "INCONCLUSIVE"}[status]
    lines = done.out.splitlines()
    assert f"  {counts}" in lines
    assert verdict in lines
    assert replay("many.pcap", "--expect", demand, "-q") == (status, "", "")


def test_a_failure_shows_the_difference_and_its_evidence(replay: Call) -> None:
    done = replay("many.pcap", "--expect", "active: CLOSED > SYN-SENT > CLOSED")
    assert done.status == 1
    assert (
        """\
  of 14 ends: 12 NOT as expected, 2 cannot be told
  #1 10.0.0.1:40000 > 10.0.0.2:443 active  NOT as expected, and 10 more that
    went this way (- expected, + witnessed)
      CLOSED
      SYN-SENT
    - CLOSED
    + ESTABLISHED
          at 2.000 ms; inferred; SYN,ACK received; segment 2; seen by wire
    + FIN-WAIT-1
    + FIN-WAIT-2
    + TIME-WAIT
  #13 10.0.0.1:40012 > 10.0.0.2:443 active  NOT as expected
"""
        in done.out
    )
    assert (
        """\
  #12 10.0.0.1:40011 > 10.0.0.2:443 active  cannot be told
    CLOSED > SYN-SENT
    the capture ends before that is settled
"""
        in done.out
    )


def test_few_are_judged_beside_their_ladder(replay: Call) -> None:
    done = replay(
        "many.pcap", "--filter", "port:40000", "--expect", "active: ... > SYN-RECEIVED > ..."
    )
    assert done.status == 1
    assert "NOT as expected (- expected, + witnessed)" in done.out
    assert done.out.endswith("FAIL\n  active 1: NOT as expected, see above\n")


def test_every_expectation_stands_in_the_document(replay: Call) -> None:
    demands = ("reason:fin active: ... > TIME-WAIT", "passive: ... > CLOSED")
    found = documented(replay, "--expect", demands[0], "--expect", demands[1])
    asked = [one["asked"] for one in found["expectations"]]
    assert (asked.count(demands[0]), asked.count(demands[1])) == (11, 14)
    assert found["expectations"][0]["endpoint"] == "active 1"


def test_the_demands_are_of_a_recording_too(replay: Call) -> None:
    recording = str(ROOT / "tests/data/recordings/simultaneous-close.jsonl")
    demand = "client: ... > CLOSING > TIME-WAIT"
    done = replay(recording, "--filter", "dport:7000", "--expect", demand)
    assert done.status == 0
    assert done.out.count("as expected") == 3  # the scenario's two, and this
    assert replay(recording, "--expect", "server: never CLOSING", "-q").status == 1
    nothing = replay(recording, "--filter", "port:1")
    assert nothing.status == 3
    assert nothing.out.endswith("\n  the filter selects no connection\n")
    assert replay(recording, "--expect", "active: ...", "-q").status == 3


# ---------------------------------------------------------------------- the oddest, the rows


def test_the_oddest_come_first_with_the_reason(replay: Call) -> None:
    done = replay("many.pcap", "--top", "9")
    assert done.status == 0
    assert "\n3 of 14 connections are odd\n" in done.out
    told = [line for line in done.out.splitlines() if line.startswith(("#", "    "))]
    assert told[0].startswith("#12 10.0.0.1:40011 > 10.0.0.2:443")
    assert told[1] == "    nobody answered its SYN, sent 3 times"
    assert "    refused: a RST answered the SYN" in told
    assert "    1 of 11 segments sent again" in told
    assert replay("many.pcap", "--top", "2", "--filter", "port:40000").out.endswith(
        "nothing odd about 1 connection\n"
    )


def test_a_row_a_connection(replay: Call, tmp_path: Path) -> None:
    done = replay("many.pcap", "--csv", "rows.csv", "--parquet", "rows.parquet", "-q")
    assert done == (0, "", "")
    text = (tmp_path / "rows.csv").read_bytes().decode()
    assert text.count("\r\n") == text.count("\n") == 15
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["id"] for row in rows] == [str(number) for number in range(1, 15)]
    first = rows[0]
    assert (first["src_ip"], first["src_port"], first["dst_port"]) == ("10.0.0.1", "40000", "443")
    assert first["src_path"] == (
        "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT"
    )
    assert first["src_entered_ns"].split() == ["0", "0", "2000000", "5000000", "8000000", "8000000"]
    assert (first["ending"], first["closed_by"], first["zeek_conn_state"]) == (
        "fin",
        "active",
        "SF",
    )
    assert (rows[13]["src_retransmissions"], rows[13]["odd"]) == (
        "1",
        "1 of 11 segments sent again",
    )
    assert (rows[10]["ending"], rows[11]["ending"]) == ("refused", "unanswered")
    table = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    assert [row["started_unix_ns"] for row in table][:2] == [START_NS, START_NS + 20 * MS]
    for row, same in zip(rows, table, strict=True):
        assert list(row) == list(same)
        for name, value in same.items():
            match value:
                case None:
                    assert row[name] == ""
                case bool():
                    assert row[name] == ("yes" if value else "no")
                case list():
                    assert row[name] == " ".join(map(str, value))
                case _:
                    assert row[name] == str(value)


def test_parquet_without_pyarrow_names_the_remedy_and_leaves_no_file(
    replay: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = {each.name for each in tmp_path.iterdir()}
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = replay("many.pcap", "--csv", "rows.csv", "--parquet", "rows.parquet")
    assert (done.status, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert "pip install 'tcpwatch[parquet]'" in done.err
    assert {each.name for each in tmp_path.iterdir()} == before


def test_standard_output_is_the_table_alone(replay: Call) -> None:
    done = replay("many.pcap", "--csv", "-", "--filter", "reason:refused")
    header, row = done.out.splitlines()
    assert header.startswith("id,src_ip,")
    assert row.startswith("11,10.0.0.1,40010,")
    refused = replay("many.pcap", "--csv", "-", "--json", "-")
    assert refused.status == 2
    assert "only one of --json, --jsonl, --pcap, --junit, --csv and --parquet" in refused.err


# ---------------------------------------------------------------------- several, and the beginning


def test_several_captures_are_one_in_order_of_time(replay: Call, tmp_path: Path) -> None:
    frames = sorted(many(), key=lambda frame: frame.t_ns)
    for name, part in (("b.pcap", frames[::2]), ("a.pcap", frames[1::2])):
        (tmp_path / name).write_bytes(capture(*part))
    assert replay("a.pcap", "b.pcap", "--csv", "-").out == replay("many.pcap", "--csv", "-").out
    shown = replay("a.pcap", "b.pcap", "--filter", "port:40000").out
    assert shown.startswith("a.pcap and 1 more, as one\npcap,")
    assert "active  CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2" in shown


def test_what_cannot_be_read_is_told_beside_what_can(replay: Call, tmp_path: Path) -> None:
    octets = capture(*many())
    (tmp_path / "cut.pcap").write_bytes(octets[: len(octets) // 2])
    done = replay("cut.pcap", "nowhere.pcap", "--top", "1")
    assert done.status == 2
    assert "\nnothing odd about 7 connections\n" in done.out
    assert [line.split(": ")[1] for line in done.err.splitlines()] == [
        "cut.pcap",
        "cannot read nowhere.pcap",
    ]


def test_an_interruption_shows_what_was_read_until_then(tmp_path: Path) -> None:
    argv = [sys.executable, "-P", "-m", "tcpwatch", "replay", "-", "--summary"]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", "COLUMNS": "80"}
    with subprocess.Popen(
        argv,
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        process.stdin.write(capture(*many()))
        process.stdin.flush()
        while _unread(process.stdin.fileno()):  # it reads only once it heeds the signal
            select.select([], [], [], 0.01)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert process.stderr is not None
        out, err = process.stdout.read().decode(), process.stderr.read().decode()
        assert process.wait() == 130
    assert "\n14 connections\n" in out
    assert err == "tcpwatch: interrupted\n"


def _unread(pipe: int) -> int:
    count = bytearray(4)
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return int.from_bytes(count, sys.byteorder)


def test_standard_input_is_read_as_often_as_needed(
    replay: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "many.pcap").open("rb") as given:
        monkeypatch.setattr(sys, "stdin", given)
        done = replay("-", "--filter", "port:40000")
    assert done.out.startswith("standard input\npcap,")
    assert "ESTABLISHED > FIN-WAIT-1 ─ FA" in done.out
    assert replay("-", "-").status == 2


def test_a_filter_that_cannot_be_read_is_shown_with_the_place(replay: Call) -> None:
    done = replay("nowhere", "--filter", "port:443 state:close-wiat")
    assert done == (
        2,
        "",
        """\
tcpwatch: bad filter at column 16: 'close-wiat' is not a TCP state; did you mean CLOSE-WAIT?
  port:443 state:close-wiat
                 ^
""",
    )
    hostile = replay("nowhere", "--expect", "'\x1b[2J' port:80 activ: ...")
    assert "\x1b" not in hostile.err
    assert hostile.err.endswith("\n  '\\x1b[2J' port:80 activ: ...\n" + " " * 30 + "^\n")


def test_columns_are_counted_as_rows_are(replay: Call) -> None:
    whole = replay("many.pcap", "--summary").out
    selected = replay("many.pcap", "--summary", "--filter", "port:*").out
    assert whole.partition("\n\n")[2] == selected.partition("\n\n")[2]
    assert "11  78.6 % closed by FIN (11 first by the active end)" in whole
    assert "3 retransmissions in 2 connections" in whole


def test_a_recording_of_a_capture_shows_the_same(replay: Call) -> None:
    for asked in ([], ["--filter", "port:40012"], ["--expect", "active: ... > CLOSING > ..."]):
        shown = replay("many.pcap", "--jsonl", "again.jsonl", *asked)
        assert shown.out == replay("many.pcap", *asked).out
        if "--filter" not in asked:  # which leaves a recording of its own
            assert replay("again.jsonl", *asked) == shown


@pytest.mark.parametrize(
    "demand",
    [
        "active: ... > TIME-WAIT",
        "both: never CLOSE-WAIT[>2ms]",
        "passive: ... > CLOSE-WAIT[<2ms] > ...",
        "both: ... > ESTABLISHED[>=1ms] > ...",
        "-reason:fin both: ... > CLOSED",
    ],
)
def test_a_course_is_judged_as_each_of_its_connections_is(demand: str, tmp_path: Path) -> None:
    (tmp_path / "many.pcap").write_bytes(capture(*many()))
    reader = Rows([str(tmp_path / "many.pcap")])
    rows = list(reader)
    record, wish = record_of(reader.captures), wish_of(None, [demand], None)
    (tally,) = sift(rows, wish, record, keep=0).tallies
    court, (asked,) = Court(record, record.end_ns), wish.demands
    answers = Counter(
        court.answer("an end", asked.pattern, end).expectation.met
        for row in rows
        if asked.selects.matches(RowSubject(row, record.end_ns))
        for end in row.endpoints
        if asked.is_about(end.role)
    )
    assert (tally.met, tally.unmet, tally.doubtful) == (
        answers[True],
        answers[False],
        answers[None],
    )
    for cases, count in ((tally.wrong, tally.unmet), (tally.unsure, tally.doubtful)):
        assert sum(case.count for case in cases.values()) == count


def test_a_path_that_is_asked_for_is_the_path_that_is_judged(tmp_path: Path) -> None:
    (tmp_path / "many.pcap").write_bytes(capture(*many()))
    for row in Rows([str(tmp_path / "many.pcap")]):
        asked = RowSubject(row, 1000 * MS).values("path")
        assert asked == [path_elements(end, 1000 * MS) for end in row.endpoints]


def test_the_oddest_stand_under_a_ladder_too(replay: Call) -> None:
    done = replay("many.pcap", "--filter", "port:40011", "--ladder", "--top", "1")
    assert " ms active 10.0.0.1:40011 " in done.out
    assert "\nthe oddest of 1 connection\n\n#12 10.0.0.1:40011 > 10.0.0.2:443" in done.out


def test_every_column_says_what_it_is() -> None:
    assert all(column.meaning for column in COLUMNS)
    assert len({column.name for column in COLUMNS}) == len(COLUMNS)


def test_what_was_given_up_in_a_long_silence_and_went_on_is_shown_whole(tmp_path: Path) -> None:
    path = tmp_path / "one.pcap"
    path.write_bytes(capture(*connection(40_000, NORMAL)))
    recording = Captures([Source("one.pcap", str(path))]).recording()
    (row,) = Rows([str(path)])
    later = replace(row, number=7, id=replace(row.id, generation=2))
    wish = wish_of("id:7", ["active: ... > TIME-WAIT"], None)
    sifted = sift([row, later], wish, recording.record, keep=9)
    record, tracker = tracker_of(recording)
    replayed = conclude(record, tracker, recording.events, wish, sifted=sifted)
    (shown,) = replayed.judged.timeline.connections
    assert (shown.number, len(shown.segments)) == (7, len(NORMAL))
    assert {happening.connection for happening in replayed.happenings} == {7}
    assert [one.met for one in replayed.judged.expectations] == [True]
