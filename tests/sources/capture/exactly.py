"""A capture's rows the exact way, and rows of either way as plain values that can be compared."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tcpwatch.errors import TcpwatchError
from tcpwatch.machine.rows import Row, row_of
from tcpwatch.machine.tracker import Tracker
from tcpwatch.model.events import WIRE, Event
from tcpwatch.sources.capture.gathering import Limits
from tcpwatch.sources.capture.octets import open_octets
from tcpwatch.sources.capture.rows import Rows
from tcpwatch.sources.capture.segments import Capture

FOR_EVER = Limits(open_ns=1 << 62, over_ns=1 << 62)


def exact_rows(path: Path) -> list[Row]:
    """As the tracker sees each connection, segment by segment."""
    with open_octets(str(path)) as octets:
        capture = Capture(octets)
        tracker = Tracker(attending=[WIRE])
        try:
            for count, one in enumerate(capture.observations(), 1):
                t_ns = one.t_ns - (capture.tally.first_ns or 0)
                tracker.feed(Event(count, t_ns, one.vantage, one.payload))
        except TcpwatchError:
            pass
        timeline = tracker.timeline(capture.tally.last_ns - (capture.tally.first_ns or 0))
    return [row_of(connection, timeline.findings) for connection in timeline.connections]


def quick_rows(path: Path, *, at_once: int = 1 << 18, limits: Limits = FOR_EVER) -> list[Row]:
    """As the columns see them, by number."""
    rows: list[Row] = []
    try:
        for batch in Rows([str(path)], at_once=at_once, limits=limits).batches():
            rows += batch
    except TcpwatchError:
        pass
    return sorted(rows, key=lambda row: row.number)


def plain(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """All that a row says, without objects that are compared by identity."""
    return [
        {
            "number": row.number,
            "id": row.id,
            "times": (row.start_ns, row.last_ns),
            "ends": [
                (
                    end.role,
                    end.address,
                    end.initial,
                    [(m.before, m.after, m.t_ns, m.cause, m.basis, m.gap) for m in end.transitions],
                )
                for end in row.endpoints
            ],
            "counts": (row.segments, row.octets, row.retransmissions, row.zero_windows),
            "missing": row.missing,
            "closed": (row.course.closed_by, row.course.close_reason, row.course.ending),
            "complete": row.course.complete,
            "zeek": row.course.zeek,
            "completeness": row.course.completeness,
            "findings": [(one.code, one.message, one.role) for one in row.course.findings],
            "aged": row.aged,
        }
        for row in rows
    ]
