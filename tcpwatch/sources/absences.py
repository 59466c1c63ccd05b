"""Who is gone from one sample of a socket table to the next.

Owns: which absence counts. Must not know what was sampled, nor why.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

from tcpwatch.sources.sockdiag import Row, Rows

K = TypeVar("K")

_ADDRESSES = slice(36)  # of the id of a `Row`: its ports and addresses
_SYN_RECEIVED, _FIN_WAIT_2, _TIME_WAIT = 3, 5, 6  # include/net/tcp_states.h


class Absences(Generic[K]):
    """Of one table, sample after sample; ``K`` is what its sockets are told apart by.

    A sample that came in pieces may lack a socket that lives: then the second absence counts, or a
    successor on the same addresses. ``waiting`` are those whose absence does not count yet.
    """

    def __init__(self) -> None:
        self.waiting: dict[K, int] = {}
        self._once: set[K] = set()  # seen in one sample only

    def gone(
        self, before: Mapping[K, Row], now: Mapping[K, Row], sample: Rows, since_ns: int
    ) -> list[tuple[K, int]]:
        """Who has ended, with when they were last known to be there.

        ``before`` has the waiting too, ``now`` is of ``sample``; the one before it began at
        ``since_ns``.
        """
        missing, new = before.keys() - now.keys(), now.keys() - before.keys()
        gone, waiting = [], {}
        if missing:
            doubtful = bool(sample.problem) or not sample.atomic
            successors = {now[key].id[_ADDRESSES]: now[key] for key in new}
            for key in missing:
                row, at_ns = before[key], self.waiting.get(key, since_ns)
                successor = successors.get(row.id[_ADDRESSES])
                if successor and key in self._once and _may_become(row, successor):
                    continue
                again = key in self.waiting and not sample.problem
                if successor or again or not doubtful:
                    gone.append((key, at_ns))
                else:
                    waiting[key] = at_ns
        self._once = new | (self._once & waiting.keys())
        self.waiting = waiting
        return gone


def _may_become(row: Row, successor: Row) -> bool:
    """Whether what seems to be another socket is the same one, which was dumped only once before.

    The kernel makes up a cookie when it first dumps a socket (sock_diag.c). If just then the
    request becomes a socket, or the socket a minisocket, that one is given another.
    """
    request = row.linux_state == _SYN_RECEIVED and not row.inode
    into_mini = successor.linux_state in (_FIN_WAIT_2, _TIME_WAIT)
    return request or (into_mini and row.linux_state != _TIME_WAIT)
