"""The whole socket table of a host, kept up to date at two paces without telling all of it anew.

Owns: what has changed between two looks, and the latest row of each socket (its queues change all
the time and are no event). Ten thousand sockets cost some 5 ms beside their dump. Must not know
how often it is looked at, nor what a change means.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from tcpwatch.model.events import SocketSampled
from tcpwatch.sources.absences import Absences
from tcpwatch.sources.sockdiag import Row, Rows, Sampler

_LISTEN = 10  # include/net/tcp_states.h


class Sighting(NamedTuple):
    """A socket, by the id of its row, is there for the first time, in another state, or gone."""

    id: bytes
    sampled: SocketSampled


class HostTable:
    """The table of one namespace: `look` at all of it seldom, `glance` at what moves often.

    ``rows`` are the latest by the id of `Row`. Raises what the samplers raise (TcpwatchError).
    """

    def __init__(self, whole: Sampler, moving: Sampler | None = None) -> None:
        self._whole = whole
        self._moving = moving
        self.rows: dict[bytes, Row] = {}
        self.problem = ""
        """Why rows may have been missing at the last look."""
        self.left: list[bytes] = []
        """Who was in a moving state at one glance and not at the next: ask for it by name."""
        self._glanced: Collection[bytes] = ()
        self._absences: Absences[bytes] = Absences()

    def look(self, since_ns: int) -> list[Sighting]:
        """All that has changed since the look before, which began at ``since_ns``."""
        sample = self._whole()
        self.problem = sample.problem
        before = self.rows
        rows = {row[4]: row for row in sample.rows}
        gone = self._absences.gone(before, rows, sample, since_ns)
        ended = [Sighting(one, _ended(before[one], at_ns)) for one, at_ns in gone]
        seen = self._changed(sample, since_ns)
        # The id of one that is doubtfully absent stays, so that its end is told later.
        waiting = {one: before[one] for one in self._absences.waiting}
        self.rows = rows | waiting if waiting else rows
        return [*ended, *seen]

    def glance(self, since_ns: int) -> list[Sighting]:
        """What of the moving states is new or has changed. Nothing is ever gone at a glance."""
        if self._moving is None:
            return []
        sample = self._moving()
        seen = self._changed(sample, since_ns)
        now = {row[4]: row for row in sample.rows}
        self.left = [] if sample.problem else [one for one in self._glanced if one not in now]
        self._glanced = now.keys()
        self.rows.update(now)
        return seen

    def listening(self) -> dict[int, int]:
        """The ports of the listeners, each with the inode of one of them."""
        return {
            int.from_bytes(row[4][:2], "big"): row[9]
            for row in self.rows.values()
            if row[1] == _LISTEN
        }

    def _changed(self, sample: Rows, since_ns: int) -> list[Sighting]:
        get = self.rows.get
        changed = []
        for row in sample.rows:
            before = get(row[4])
            if before is None or before[1] != row[1]:
                changed.append(Sighting(row[4], _sampled(row, since_ns)))
        return changed


def _ended(row: Row, since_ns: int) -> SocketSampled:
    local, remote = row.endpoints
    return SocketSampled(local, remote, None, since_ns, inode=row.inode)


def _sampled(row: Row, since_ns: int) -> SocketSampled:
    local, remote = row.endpoints
    return SocketSampled(
        local,
        remote,
        row.state,
        since_ns,
        inode=row.inode,
        receive_queue=row.receive_queue,
        send_queue=row.send_queue,
        timer=row.timer,
    )
