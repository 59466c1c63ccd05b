"""A capture's connection as a filter sees it: which fields it has, and what is in each.

Owns: how a field's values follow from a row. Must not know what is asked of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tcpwatch.machine.fields import Value
from tcpwatch.machine.rows import Row
from tcpwatch.machine.verdict import path_elements
from tcpwatch.tcp.state import TcpState

CAPTURE: Final = "a capture"
"""What it is called where a field that it cannot have is asked for."""


@dataclass(frozen=True, slots=True)
class RowSubject:
    """A row, and when the capture ended: what is open has lasted until then."""

    row: Row
    end_ns: int

    def values(self, field: str, /) -> Sequence[Value]:
        return _KNOWN[field](self)

    @property
    def present(self) -> list[frozenset[TcpState]]:
        return [end.path[-1].states for end in self.row.course.ends]

    @property
    def ages_ns(self) -> list[int]:
        row = self.row
        return [self.end_ns - (times[-1] if times else row.start_ns) for times in row.times_ns]


def _ends(subject: RowSubject) -> list[Value]:
    four_tuple = subject.row.id.four_tuple
    return [four_tuple.local, four_tuple.remote]


_KNOWN: Final[dict[str, Callable[[RowSubject], Sequence[Value]]]] = {
    "state": lambda one: one.present,
    "was": lambda one: [belief.states for path in one.row.paths for belief in path],
    "path": lambda one: [path_elements(end, one.end_ns) for end in one.row.endpoints],
    "age": lambda one: one.ages_ns,
    "duration": lambda one: [one.row.last_ns - one.row.start_ns],
    "start": lambda one: [one.row.start_ns],
    "role": lambda one: [end.role for end in one.row.course.ends],
    "ip": _ends,
    "src": lambda one: _ends(one)[:1],
    "dst": lambda one: _ends(one)[1:],
    "port": lambda one: [one.row.id.four_tuple.local.port, one.row.id.four_tuple.remote.port],
    "sport": lambda one: [one.row.id.four_tuple.local.port],
    "dport": lambda one: [one.row.id.four_tuple.remote.port],
    "id": lambda one: [one.row.number],
    "closed_by": lambda one: [one.row.course.closed_by or "nobody"],
    "reason": lambda one: [one.row.course.ending.value],
    "complete": lambda one: [one.row.course.complete],
    "midstream": lambda one: [one.row.course.midstream],
    "segments": lambda one: [sum(one.row.segments)],
    "octets": lambda one: [sum(one.row.octets)],
    "retransmissions": lambda one: [sum(one.row.retransmissions)],
    "missing": lambda one: [sum(one.row.missing)],
    "zero_windows": lambda one: [sum(one.row.zero_windows)],
    "findings": lambda one: [finding.code for finding in one.row.course.findings],
    "zeek": lambda one: [line.conn_state for line in one.row.course.zeek],
    "history": lambda one: [line.history for line in one.row.course.zeek],
    "completeness": lambda one: one.row.course.completeness,
}

CAPTURE_FIELDS: Final = tuple(_KNOWN)
