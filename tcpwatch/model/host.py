"""What is told of one socket of a host at a moment, and who holds it. Values only.

Owns: the shape that views and filters share. Must not know who found it out, nor how.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from tcpwatch.model.identity import SocketAddress
from tcpwatch.model.timeline import Belief


class Holder(NamedTuple):
    """A process with a descriptor of a socket; ``name`` is /proc/PID/comm, as the kernel has it."""

    pid: int
    name: str
    command: str = ""


class Holding(Enum):
    """What the processes named with a socket have to do with it."""

    HOLDS = "holds"  # they have a descriptor of it, all of them are named
    OPENED = "opened"  # it called connect(); whether it still holds it is not known
    LISTENS = "listens"  # they hold the listener it came by: it is theirs to accept
    UNKNOWN = "unknown"
    NOBODY = "nobody"  # the kernel alone has it: a minisocket, an orphan


@dataclass(frozen=True, slots=True)
class SocketFacts:
    """One socket at a moment. A listener has remote port 0.

    ``age_ns`` is how long it has been in its state: at least, where ``age_is_least``. Queues are
    octets; of a listener the connections that wait in accept() and the backlog; None where the
    witness does not tell. ``retransmits`` counts what was seen to be sent again (the kernel), or
    is under way unacknowledged (the table).
    """

    number: int
    local: SocketAddress
    remote: SocketAddress
    belief: Belief
    age_ns: int
    age_is_least: bool
    holders: tuple[Holder, ...] = ()
    holding: Holding = Holding.UNKNOWN
    receive_queue: int | None = None
    send_queue: int | None = None
    inode: int = 0
    user: str = ""
    timer: str = ""
    retransmits: int = 0
    ended: bool = False

    @property
    def is_listener(self) -> bool:
        return self.remote.port == 0
