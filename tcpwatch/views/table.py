"""One row a connection, for spreadsheets and data frames: CSV (RFC 4180) and Parquet.

Owns: the columns, which only ever grow in number. ``src`` is the end that opened the connection, or
was taken for the opener, ``dst`` its peer. Times are integer nanoseconds. Must not know which
connections are written, nor in which order.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import BinaryIO, Final, Protocol, TextIO

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.machine.oddity import oddities
from tcpwatch.machine.rows import Course, Row

_GROUP: Final = 20_000  # rows of Parquet that are written together


class Type(Enum):
    """What a column holds: in Parquet by type, in CSV as text, a list with blanks between."""

    TEXT = "text"
    WHOLE = "whole"
    TRUTH = "truth"
    TIMES = "times"


@dataclass(frozen=True, slots=True)
class Epoch:
    """What rows count from, and until: the capture's first and last frame."""

    started_unix_ns: int
    end_ns: int


Cell = str | int | bool | list[int] | None


@dataclass(frozen=True, slots=True)
class Column:
    """``value`` is None where nothing is known."""

    name: str
    type: Type
    meaning: str
    value: Callable[[Row, Epoch], Cell]


def _of_end(index: int, end: str) -> tuple[Column, ...]:
    def count(what: str, meaning: str) -> Column:
        return Column(
            f"{end}_{what}", Type.WHOLE, meaning, lambda row, _: int(getattr(row, what)[index])
        )

    def entered(row: Row, _: Epoch) -> Cell:
        times = row.times_ns[index : index + 1]
        return [row.start_ns, *times[0]] if times else None

    @lru_cache(4096)
    def path_of(course: Course) -> str | None:
        ends = course.ends[index : index + 1]
        return next((" > ".join(map(str, end.path)) for end in ends), None)

    def path(row: Row, _: Epoch) -> Cell:
        return path_of(row.course)

    def role(row: Row, _: Epoch) -> Cell:
        return next((one.role for one in row.course.ends[index : index + 1]), None)

    return (
        Column(f"{end}_role", Type.TEXT, "active or passive", role),
        Column(f"{end}_path", Type.TEXT, "its states: A > B, A or B where both may be", path),
        Column(f"{end}_entered_ns", Type.TIMES, "when it entered each of them", entered),
        count("segments", "that it sent"),
        count("octets", "of data that it sent, without repetitions"),
        count("retransmissions", "segments that it sent again"),
        count("missing", "octets of it that were acknowledged and are not in the capture"),
        count("zero_windows", "segments that say: nothing more for now"),
    )


COLUMNS: Final = (
    Column("id", Type.WHOLE, "the connection's number", lambda row, _: row.number),
    Column(
        "src_ip",
        Type.TEXT,
        "whose SYN came first, or who spoke first",
        lambda row, _: row.id.four_tuple.local.ip,
    ),
    Column("src_port", Type.WHOLE, "its port", lambda row, _: row.id.four_tuple.local.port),
    Column("dst_ip", Type.TEXT, "its peer", lambda row, _: row.id.four_tuple.remote.ip),
    Column("dst_port", Type.WHOLE, "the peer's port", lambda row, _: row.id.four_tuple.remote.port),
    Column("generation", Type.WHOLE, "earlier uses of the four", lambda row, _: row.id.generation),
    Column(
        "started_unix_ns",
        Type.WHOLE,
        "its first segment, since 1970",
        lambda row, epoch: epoch.started_unix_ns + row.start_ns,
    ),
    Column("start_ns", Type.WHOLE, "the same, in the capture", lambda row, _: row.start_ns),
    Column("duration_ns", Type.WHOLE, "to its last", lambda row, _: row.last_ns - row.start_ns),
    Column(
        "ending",
        Type.TEXT,
        "fin, rst, timeout, refused, unanswered, half-closed or open",
        lambda row, _: row.course.ending.value,
    ),
    Column(
        "closed_by",
        Type.TEXT,
        "whose FIN or RST came first: active, passive or both",
        lambda row, _: row.course.closed_by,
    ),
    Column("complete", Type.TRUTH, "seen from SYN to its end", lambda row, _: row.course.complete),
    Column(
        "midstream",
        Type.TRUTH,
        "it had begun before the capture did",
        lambda row, _: row.course.midstream,
    ),
    Column("aged", Type.TRUTH, "given up open, after a long silence", lambda row, _: row.aged),
    *_of_end(0, "src"),
    *_of_end(1, "dst"),
    Column(
        "zeek_conn_state",
        Type.TEXT,
        "of the first connection that Zeek makes of it",
        lambda row, _: next((one.conn_state for one in row.course.zeek), None),
    ),
    Column(
        "zeek_history",
        Type.TEXT,
        "the same one's",
        lambda row, _: next((one.history for one in row.course.zeek), None),
    ),
    Column(
        "completeness",
        Type.WHOLE,
        "Wireshark's tcp.completeness",
        lambda row, _: next(iter(row.course.completeness), None),
    ),
    Column(
        "findings",
        Type.TEXT,
        "their codes, with blanks between",
        lambda row, _: " ".join(one.code for one in row.course.findings),
    ),
    Column(
        "odd",
        Type.TEXT,
        "what is odd about it, in words",
        lambda row, epoch: "; ".join(one.words for one in oddities(row, epoch.end_ns)),
    ),
)


class Table(Protocol):
    """Where rows are written to."""

    def add(self, row: Row, epoch: Epoch) -> None: ...

    def close(self) -> None: ...


class CsvTable:
    """A header, then a line a connection, each ended by CR LF as RFC 4180 has it."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._writer = csv.writer(out)
        self._writer.writerow(column.name for column in COLUMNS)

    def add(self, row: Row, epoch: Epoch) -> None:
        self._writer.writerow(_as_text(column.value(row, epoch)) for column in COLUMNS)

    def close(self) -> None:
        self._out.flush()


def require_parquet() -> None:
    """Raises TcpwatchError where pyarrow is not installed, before any file is made for it."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise TcpwatchError(
            "Parquet is written by pyarrow, which is not installed",
            "pip install 'tcpwatch[parquet]', or take --csv",
            ExitCode.USAGE,
        ) from None


class ParquetTable:
    """The same columns with their types; lists of times are lists."""

    def __init__(self, out: BinaryIO) -> None:
        """Needs what `require_parquet` looks for."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        types = {
            Type.TEXT: pa.string(),
            Type.WHOLE: pa.int64(),
            Type.TRUTH: pa.bool_(),
            Type.TIMES: pa.list_(pa.int64()),
        }
        fields = [
            pa.field(column.name, types[column.type], metadata={"meaning": column.meaning})
            for column in COLUMNS
        ]
        self._schema = pa.schema(fields)
        self._batch_of = pa.RecordBatch.from_pydict
        self._writer = pq.ParquetWriter(out, self._schema)
        self._rows: list[list[Cell]] = []

    def add(self, row: Row, epoch: Epoch) -> None:
        self._rows.append([column.value(row, epoch) for column in COLUMNS])
        if len(self._rows) >= _GROUP:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            names = (column.name for column in COLUMNS)
            cells = dict(zip(names, map(list, zip(*self._rows, strict=True)), strict=True))
            self._writer.write_batch(self._batch_of(cells, schema=self._schema))
            self._rows.clear()


def _as_text(cell: Cell) -> str:
    match cell:
        case None:
            return ""
        case bool():
            return "yes" if cell else "no"
        case list():
            return " ".join(map(str, cell))
        case _:
            return str(cell)
