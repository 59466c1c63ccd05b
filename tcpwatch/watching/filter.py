"""What the filter language can ask of a host's sockets, and of a move of one.

Owns: the fields that a host can know. One `Subject` is turned to socket after socket, since ten
thousand are asked again and again. Must not know the language.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.machine.fields import Value
from tcpwatch.machine.filtering import FilterError, Node, parse_filter
from tcpwatch.machine.pattern import PathElement
from tcpwatch.machine.population import HostMove, HostSocket
from tcpwatch.watching.host import Host
from tcpwatch.watching.owners import user_name

FIELDS = (
    *("state", "was", "path", "age", "ip", "src", "dst", "port", "sport", "dport", "id"),
    *("process", "command", "pid", "user", "recvq", "sendq", "retransmissions"),
)
_DEAR = frozenset({"process", "command", "pid"})


def read_filter(text: str) -> Node:
    """The filter that ``text`` is, over a host's fields. Raises FilterError."""
    return parse_filter(text, source="a host", has=FIELDS)


def read_filter_argument(words: Sequence[str]) -> Node:
    """The filter of the command line. Raises TcpwatchError."""
    try:
        return read_filter(" ".join(words))
    except FilterError as error:
        raise TcpwatchError(
            f"{error} in {error.text!r}", "see `tcpwatch watch --help`", ExitCode.USAGE
        ) from error


class Subject:
    """One socket as a filter sees it, or one move: then both its states count."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._move: HostMove | None = None
        self._socket: HostSocket

    def fits(self, node: Node, sock: HostSocket) -> bool:
        """Whether the filter selects that socket as it is now."""
        self._socket, self._move = sock, None
        return node.matches(self)

    def fits_move(self, node: Node, move: HostMove) -> bool:
        """Whether it selects the socket as it was before the move, or as it is after it.

        ``age`` is how long it had been in the state that it left.
        """
        self._socket, self._move = move.socket, move
        return node.matches(self)

    def values(self, field: str) -> Sequence[Value]:
        """As `tcpwatch.machine.fields.Row` wants it."""
        sock = self._socket
        match field:
            case "state":
                return (sock.states,) if self._move is None else self._move[1:3]
            case "was":
                return [step.states for step in sock.history.steps]
            case "path":
                return (self._path(),)
            case "age":
                return (self._age_ns(),)
            case "ip":
                return (sock.local,) if sock.is_listener else (sock.local, sock.remote)
            case "src":
                return (sock.local,)
            case "dst":
                return () if sock.is_listener else (sock.remote,)
            case "port":
                ports = (sock.local.port, sock.remote.port)
                return ports[:1] if sock.is_listener else ports
            case "sport":
                return (sock.local.port,)
            case "dport":
                return () if sock.is_listener else (sock.remote.port,)
            case "id":
                return (sock.number,)
            case _:
                return self._of_row(field)

    def _of_row(self, field: str) -> Sequence[Value]:
        row = self._host.row(self._socket)
        if field in _DEAR:
            holders, _ = self._host.owners.of(self._socket, row)
            if field == "pid":
                return [holder.pid for holder in holders]
            return [one.name if field == "process" else one.command for one in holders]
        if field == "retransmissions":
            seen = row.retransmissions if row is not None else 0
            return (max(self._socket.retransmits, seen),)
        if row is None or not self._host.tells_queues:
            return ()
        match field:
            case "user":
                return (user_name(row.uid),) if row.inode else ()
            case "recvq":
                return (row.receive_queue,)
            case "sendq":
                return (row.send_queue,)
            case _:
                return ()

    def _age_ns(self) -> int:
        if self._move is None:
            return self._host.age(self._socket)[0]
        steps, since_ns = self._socket.history.steps, self._move.t_ns
        for step, following in pairwise(steps):
            if following.t_ns == self._move.t_ns and following.states == self._move.after:
                since_ns = step.t_ns
        return self._move.t_ns - since_ns

    def _path(self) -> tuple[PathElement, ...]:
        steps = self._socket.history.steps
        now_ns = self._host.now_ns
        ends = [*(step.t_ns for step in steps[1:]), now_ns]
        return tuple(
            PathElement(
                step.states, end_ns - step.t_ns, ended=index < len(steps) - 1, gap_before=step.gap
            )
            for index, (step, end_ns) in enumerate(zip(steps, ends, strict=True))
        )
