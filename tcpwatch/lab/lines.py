"""What is known of an actor and of the call it is in, and the events that this makes.

Owns: `Line`, `Call`, `Returned`. Must not know who reads the channels, nor who waits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from errno import errorcode
from typing import Any, NamedTuple

from tcpwatch.lab.failures import Ending
from tcpwatch.lab.protocol import Channel
from tcpwatch.model.events import CallPhase, ProcessChange, ProcessChanged, UserCall
from tcpwatch.model.identity import SocketAddress


class Returned(NamedTuple):
    """How a call came back.

    ``child`` is the process that a fork made or a wait reaped; the addresses are the socket's, and
    after accept the new one's.
    """

    result: Any
    errno: int = 0
    blob: bytes = b""
    child: Line | None = None
    local: SocketAddress | None = None
    remote: SocketAddress | None = None


@dataclass(eq=False, slots=True)
class Call:
    """One call in progress. ``arguments`` is how it reads in an event."""

    id: int
    verb: str
    arguments: str
    child_name: str = ""
    done: Future[Returned] = field(default_factory=Future)

    @property
    def waits_for_child(self) -> bool:
        """Whether it may be reaping a process at this moment."""
        return self.verb in ("wait", "waitpid")


@dataclass(eq=False, slots=True)
class Line:
    """The line to one actor. ``inner_pid`` is its pid inside the lab, ``pid`` the one seen here."""

    host: str
    name: str
    channel: Channel
    inner_pid: int
    parent: Line | None = None
    observed: bool = True
    pid: int = 0
    call: Call | None = None  # the one that it was asked for
    own: dict[int, Call] = field(default_factory=dict)  # those that a program is in, by its numbers
    begun: Counter[str] = field(default_factory=Counter)  # how often a program made each call,
    back: Counter[str] = field(default_factory=Counter)  # and how often each came back,
    calls: list[UserCall] = field(default_factory=list)  # in this order, with these results
    printed: str = ""
    is_program: bool = False
    children: int = 0
    reaped: bool = False
    waited_for: bool = False  # it was its parent that reaped it
    ending: Ending | None = None
    is_drained: bool = False  # what it has said is being taken in at this moment
    gone: bool = False  # the channel's other end is closed
    mark: int = 0  # the low-water mark that its first word removes
    on_birth: Callable[[], None] | None = None  # what a fork() in the parent waits for
    ready: Future[None] = field(default_factory=Future)
    ended: Future[Ending] = field(default_factory=Future)

    @property
    def waits_for_child(self) -> bool:
        """Whether it is in a call that reaps, or about to tell what one gave."""
        calls = [*self.own.values(), *([self.call] if self.call else [])]
        return any(call.waits_for_child for call in calls)

    @property
    def is_busy(self) -> bool:
        """Whether it may be about to tell of a call: of one made, or of one that came back."""
        return self.call is not None or (self.is_program and self.ending is None)


def changed(
    line: Line, change: ProcessChange, signal: str | None = None, exit_status: int | None = None
) -> ProcessChanged:
    """The event of a change in a process's life."""
    parent = "" if line.parent is None else line.parent.name
    pid = line.pid or line.inner_pid
    return ProcessChanged(pid, line.name, change, exit_status, signal, parent)


def user_call(line: Line, call: Call, phase: CallPhase, body: dict[str, Any]) -> UserCall:
    """The event of a call made or come back, from what the actor told."""
    result, errno = body.get("result"), body.get("errno")
    return UserCall(
        call_id=call.id,
        phase=phase,
        pid=line.pid,
        process=line.name,
        call=call.verb,
        arguments=call.arguments,
        local=address(body["local"]),
        remote=address(body["remote"]),
        result=result if isinstance(result, int | None) else str(result),
        errno=None if errno is None else errorcode.get(errno, f"E{errno}"),
    )


def address(raw: list[Any] | None) -> SocketAddress | None:
    """As an actor tells it: a pair, or nothing."""
    return None if raw is None else SocketAddress(raw[0], raw[1])
