"""What processes do, in words: what they call, what they are told, how they begin and end.

Owns: which calls are worth a line, how each reads, and what an earlier moment has said of it.
Must not know where on the page the words stand.
"""

from __future__ import annotations

import ast
import errno
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from tcpwatch.model.events import CallPhase, ProcessChange, ProcessChanged, UserCall
from tcpwatch.model.identity import SocketAddress
from tcpwatch.model.timeline import Happening
from tcpwatch.views.canvas import Span, Word, words
from tcpwatch.views.palette import BAD, DIM, WARN
from tcpwatch.views.wording import Wording

_PREPARING = frozenset({"bind", "setsockopt"})
_UNTOLD = _PREPARING | frozenset(
    {"socket", "setblocking", "settimeout", "fileno", "getsockname", "getpeername", "detach"}
    | {"getsockopt", "fcntl"}
)
"""Calls that move no state and that nobody waits in: told only where they fail."""

_RECEIVING = frozenset({"recv", "recvfrom", "recvmsg", "recv_into", "read", "readn", "readline"})
SENDING = frozenset({"send", "sendto", "sendall", "sendmsg", "write", "writen"})
_WATCHING = frozenset({"select", "poll", "epoll_wait"})
_REAPING = frozenset({"wait", "waitpid"})
_WAITING = _RECEIVING | _WATCHING | _REAPING | {"accept", "pause", "sigwait", "aio_suspend"}
_WITH_ARGUMENTS = frozenset({"shutdown", "ioctl", "signal", "sigaction", "destroy", "epoll_ctl"})
_ENDING = frozenset({"close", "shutdown"})
_SHOWN_BY_STATES = frozenset({"connect", "listen", "close", "shutdown"})
_EMPTY = frozenset({"", "0", "b''", 'b""', "EOF"})
_STDIN = "stdin"
_HANDLER = " handler"
_NOT_YET = {"EAGAIN": "EWOULDBLOCK", "EWOULDBLOCK": "EWOULDBLOCK", "EINPROGRESS": "EINPROGRESS"}
"""Errnos that say no more than that the call does not wait; the first two are one number."""

_ARGUMENTS_AT_MOST = 24  # characters, with the name of the process before them
_DATA = re.compile(r"(b(['\"]).*\2)(\.\.\. \d+ octets)?", re.DOTALL)


Ends = tuple[SocketAddress | None, SocketAddress | None]


@dataclass(slots=True)
class Memory:
    """What was said in earlier moments, as far as later ones need it.

    A process is known by its pid, or by its host's role and its name: each host has a ``child 1``.
    """

    names: dict[int, str] = field(default_factory=dict)  # of processes, by pid
    programs: set[tuple[str | None, str]] = field(default_factory=set)  # that make their own calls
    watchers: set[int] = field(default_factory=set)  # those that wait for several sockets at once
    leaving: set[int] = field(default_factory=set)  # those that were said to exit
    zombies: set[int] = field(default_factory=set)  # those that were said to be one
    ended: set[tuple[str | None, str]] = field(default_factory=set)
    pending: dict[int, tuple[int, UserCall]] = field(default_factory=dict)  # since when, by number
    nonblocking: set[Ends] = field(default_factory=set)
    listening: dict[SocketAddress, str] = field(default_factory=dict)  # by which process


class Acts:
    """Puts the calls and processes of one moment into words."""

    def __init__(self, happenings: Sequence[Happening], wording: Wording, memory: Memory) -> None:
        self._wording = wording
        self._memory = memory
        payloads = [happening.event.payload for happening in happenings]
        calls = [payload for payload in payloads if isinstance(payload, UserCall)]
        changes = [payload for payload in payloads if isinstance(payload, ProcessChanged)]
        self._made = {call.call_id for call in calls if call.phase is CallPhase.CALLED}
        returned = [call for call in calls if call.phase is CallPhase.RETURNED]
        self._back = {call.call_id: call for call in returned if call.call_id in self._made}
        self._forked = {call.result for call in returned if call.call == "fork"}
        self._waited_for = {call.result for call in returned if call.call in _REAPING}
        births = (ProcessChange.STARTED, ProcessChange.FORKED)
        memory.names.update((c.pid, c.process) for c in changes if c.change in births)
        self._reaped = {c.pid for c in changes if c.change is ProcessChange.REAPED}
        self._exited = {c.pid: c for c in changes if c.change is ProcessChange.EXITED}

    def of(self, happening: Happening) -> list[Word]:
        """What is to be said of a call or of a process's change; no words where nothing is."""
        payload, role = happening.event.payload, happening.role
        match payload:
            case UserCall():
                who = self._who(payload.process, role)
                said = self._call(payload, role, happening.event.t_ns, len(who))
            case ProcessChanged():
                who, said = self._who(payload.process, role), self._change(payload, role)
            case _:
                return []
        return [*words(who, DIM), *said] if said else []

    def _who(self, process: str, role: str | None) -> str:
        """The main process of either end need not be named above its column."""
        return "" if process in ("", role) else f"{self._wording.safe(process)}:"

    # ------------------------------------------------------------------ calls

    def _call(self, call: UserCall, role: str | None, t_ns: int, taken: int) -> list[Word]:
        """One line for a call that comes back in its own moment, one at either end for others."""
        memory = self._memory
        listener = self._listener(call)
        if call.phase is CallPhase.CALLED:
            memory.pending[call.call_id] = t_ns, call
            if call.call in _WATCHING:
                memory.watchers.add(call.pid)
            return self._called(call, role, taken, listener=listener)
        self._learn(call)
        began_ns, _ = memory.pending.pop(call.call_id, (t_ns, call))
        said = self._returned(call, role)
        if call.call_id in self._made or self._never_waits(call):
            return said
        if not said and call.call == "accept":
            return words("accept() returns")
        return [*said, *self._waited(call, t_ns - began_ns)] if said else []

    def _called(
        self, call: UserCall, role: str | None, taken: int, *, listener: bool
    ) -> list[Word]:
        own = self._of_its_own_kind(call, role)
        if own is not None:
            return own
        back = self._back.get(call.call_id)
        told_by_result = back is not None and self._returned(back, role)
        waits = back is None and call.call in _WAITING
        if told_by_result or call.call in _UNTOLD or (waits and self._never_waits(call)):
            return []
        name = f"{self._wording.safe(call.call)}({self._arguments(call, taken)})"
        if waits:
            return words(f"waits in {name}", DIM)
        return words(f"{name} of the listener" if listener and call.call in _ENDING else name)

    def _of_its_own_kind(self, call: UserCall, role: str | None) -> list[Word] | None:
        """What reads otherwise than as a call; None where it reads as one."""
        arguments = self._wording.safe(call.arguments)
        match call.call:
            case "run":
                self._memory.programs.add((role, call.process))
                return words(f"runs {arguments}")
            case "print":
                return words(f"prints {self._text(call.arguments)}")
            case "fork":
                return []  # its return tells of the child
            case "exit":
                return self._exits(call, role)
            case name if name.endswith(_HANDLER):
                signal = self._wording.safe(name.removesuffix(_HANDLER))
                return words(f"{signal}: its handler runs", WARN)
            case _:
                return None

    def _returned(self, call: UserCall, role: str | None) -> list[Word]:
        """What a call came back with; no words where what follows shows that it succeeded."""
        name = f"{self._wording.safe(call.call)}({self._option(call)})"
        if call.errno is not None:
            return [*words(name), *self._errno(call)]
        result = "" if call.result is None else self._wording.safe(str(call.result))
        if call.call in _RECEIVING and call.result is not None:
            if call.arguments == _STDIN:
                return words(f"reads {'EOF' if result in _EMPTY else self._text(str(call.result))}")
            return words(f"{name} = {'EOF' if result in _EMPTY else result}")
        if call.call in _UNTOLD:
            return self._preparation(call, role, name)
        if call.call == "accept" and call.pid not in self._memory.watchers:
            return []  # which of its sockets it is matters to who watches several
        if call.result is None or call.call in _SHOWN_BY_STATES or call.call == "print":
            return []
        if call.result == 0 and call.call in _WITH_ARGUMENTS:
            return []
        if call.call in SENDING and sent_length(call.arguments) in (None, call.result):
            return []  # it took all
        if call.call == "fork" and call.result not in self._memory.names:
            return words(name)  # the child has not said its name yet: it will, as it begins
        if call.call in _REAPING | {"fork"}:
            result = self._process(call.result)
        return words(f"{name} = {result}")

    def _preparation(self, call: UserCall, role: str | None, name: str) -> list[Word]:
        """Of calls that nobody waits in: what they find, and a second process's, shown by itself.

        The two ends' own preparations are noise.
        """
        if call.call == "getsockopt" and call.arguments == "SO_ERROR":
            code = call.result
            found = errno.errorcode.get(code, str(code)) if isinstance(code, int) else code
            return words(f"{name} = {self._wording.safe(str(found))}")
        if call.call == "fcntl" and "O_ASYNC" in call.arguments:
            return words("fcntl(O_ASYNC)")
        other = call.process != role and (role, call.process) not in self._memory.programs
        if other and call.call in _PREPARING:
            return words(f"{name} = 0" if call.call == "bind" else name)
        return []

    def _errno(self, call: UserCall) -> list[Word]:
        waits = call.call in _WAITING | SENDING | {"connect"}
        not_yet = _NOT_YET.get(call.errno or "") if waits else None
        return words(not_yet, WARN) if not_yet else words(self._wording.safe(call.errno or ""), BAD)

    def _learn(self, call: UserCall) -> None:
        """Which sockets do not let a call wait: whoever has one knows it in every process."""
        ends = call.local, call.remote
        if call.call == "setblocking":
            change = self._memory.nonblocking.add if call.arguments == "False" else None
            (change or self._memory.nonblocking.discard)(ends)
        elif call.call == "fcntl" and "O_NONBLOCK" in call.arguments:
            self._memory.nonblocking.add(ends)
        self._memory.nonblocking.discard((None, None))  # of a socket that is nowhere yet

    def _never_waits(self, call: UserCall) -> bool:
        """However long it takes: its process may be kept from the CPU."""
        of_socket = call.call in _RECEIVING | SENDING | {"accept"}
        return of_socket and (call.local, call.remote) in self._memory.nonblocking

    def _waited(self, call: UserCall, took_ns: int) -> list[Word]:
        """How long it took where nothing came that ended the waiting, and the page shows none."""
        if call.result == "timeout" or call.errno in ("EAGAIN", "ETIMEDOUT"):
            took_ms = round(took_ns / 1_000_000)
            took = f"{took_ms} ms" if took_ms < 10_000 else f"{took_ms / 1000:.1f} s"
            return words(f"after {took}", DIM)
        return []

    def _arguments(self, call: UserCall, taken: int) -> str:
        """As far as they tell something that the rest of the page does not."""
        arguments = self._wording.safe(call.arguments)
        match call.call:
            case name if name in _WATCHING:
                return arguments.removeprefix("read ")
            case name if name in SENDING:
                room = _ARGUMENTS_AT_MOST - taken
                octets = sent_length(call.arguments)
                counted = octets is not None and (len(arguments) > room or "\\x" in arguments)
                return f"{octets} octets" if counted else arguments
            case "kill":
                pid, _, signal = arguments.partition(", ")
                return f"{self._process(pid)}, {signal}"
            case name if name in _WITH_ARGUMENTS:
                return arguments
            case _:
                return self._option(call)

    def _option(self, call: UserCall) -> str:
        """The one argument that a call is told apart by, also where its result is told."""
        first, _, second = self._wording.safe(call.arguments).partition(", ")
        match call.call:
            case "setsockopt" | "getsockopt":
                return first
            case "read" if first == _STDIN:
                return first
            case _ if second.startswith(("MSG_", "WNOHANG")):
                return second
            case _:
                return ""

    def _process(self, pid: int | str | None) -> str:
        """A process by the name that the page has for it, else its pid."""
        known = str(pid).isdecimal() and self._memory.names.get(int(str(pid)))
        return self._wording.safe(known or str(pid))

    def _text(self, data: str) -> str:
        r"""Octets that are printed or typed as the text that they are: ``'hello'`` for a line."""
        found = _DATA.fullmatch(data)
        try:
            octets = ast.literal_eval(found[1]) if found else None
        except (ValueError, SyntaxError):
            octets = None
        if found is None or not isinstance(octets, bytes):
            return self._wording.safe(data)
        more = found[3] or ""
        text = octets.decode("utf-8", "replace")
        return self._wording.safe(repr(text if more else text.removesuffix("\n")) + more)

    def _listener(self, call: UserCall) -> bool:
        """Whether the call is on a socket that listens: a bound one has no peer either."""
        listening, local = self._memory.listening, call.local
        if local is None or call.remote is not None:
            return False
        if call.call == "listen" and call.errno is None:
            listening.setdefault(local, call.process)
        found = local in listening
        ended = call.call == "close" and call.phase is CallPhase.RETURNED
        if ended and listening.get(local) == call.process:  # a child may hold it still
            del listening[local]
        return found

    # ------------------------------------------------------------------ processes

    def _change(self, change: ProcessChanged, role: str | None) -> list[Word]:
        """A process's beginning, signal or end; no words where a call has told of it."""
        memory, pid = self._memory, change.pid
        signal = self._wording.safe(change.signal or "a signal")
        match change.change:
            case ProcessChange.STARTED:
                return []
            case ProcessChange.FORKED:
                if (role, change.parent) in memory.programs:
                    memory.programs.add((role, change.process))
                return [] if pid in self._forked else words("begins")
            case ProcessChange.SIGNALLED:
                return words(f"gets {signal}", WARN)
            case ProcessChange.REAPED:
                told = pid in memory.zombies and pid not in self._waited_for
                memory.zombies.discard(pid)
                return words("is reaped") if told else []
            case ProcessChange.EXITED:
                said = self._end(change, role, signal)
                memory.ended.add((role, change.process))
                return said

    def _end(self, change: ProcessChanged, role: str | None, signal: str) -> list[Word]:
        zombie = self._becomes_zombie(change, role)
        if change.signal is None and change.pid in self._memory.leaving:
            return words("is a zombie now", WARN) if zombie else []
        if change.signal is not None:
            said = words(f"killed by {signal}", BAD)
        else:
            said = self._status("process exits", change.exit_status or 0)
        return [*said, *zombie]

    def _exits(self, call: UserCall, role: str | None) -> list[Word]:
        """An exit() is told when it is called, with the zombie that it leaves in that moment."""
        self._memory.leaving.add(call.pid)
        status = int(call.arguments) if call.arguments.isdecimal() else 0
        exited = self._exited.get(call.pid)
        zombie = [] if exited is None else self._becomes_zombie(exited, role)
        return [*self._status("exits", status), *zombie]

    def _status(self, exits: str, status: int) -> list[Word]:
        return words(f"{exits}, status {status}", WARN) if status else words(exits)

    def _becomes_zombie(self, change: ProcessChanged, role: str | None) -> list[Word]:
        """``(a zombie)``, once: it has a parent that lives and does not wait for it at once."""
        pid, memory = change.pid, self._memory
        orphan = not change.parent or (role, change.parent) in memory.ended
        awaited = any(
            call.process == change.parent
            and call.call in _REAPING
            and call.arguments in ("", "-1", change.process, str(pid))
            for _, call in memory.pending.values()
        )
        if orphan or awaited or pid in self._reaped or pid in memory.zombies:
            return []
        memory.zombies.add(pid)
        return [(Span("(a zombie)", WARN),)]


def sent_length(arguments: str) -> int | None:
    """How many octets a sending call was given, by its arguments; None where they do not tell."""
    counted = re.search(r"(?:^|\s)(\d+)(?: octets)?$", arguments)
    if counted:
        return int(counted[1])
    try:
        value = ast.literal_eval(arguments)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return len(value) if isinstance(value, bytes) else None
