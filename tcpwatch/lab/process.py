"""A play's verbs: processes. Each is one real call in a real process.

Owns: how a verb reads, what it gives, and how its failing is expected. Must not know how a request
reaches its process, nor what the call means for a TCP state.
"""

from __future__ import annotations

import contextlib
import os
import signal as signals
import socket as sockets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from tcpwatch.lab.calls import Line, Returned, Switchboard
from tcpwatch.lab.descriptor import Socket
from tcpwatch.lab.failures import Ending, ProcessDied
from tcpwatch.lab.pending import Pending, nothing, number
from tcpwatch.lab.proc import sleeps, sockets_of, threads_of, wait_stopped, zombies_of
from tcpwatch.model.events import UserCall

T = TypeVar("T")


class Reaped(NamedTuple):
    """What a wait() gave. ``process`` is None with WNOHANG while every child lives."""

    process: Process | None
    ending: Ending | None


@dataclass(frozen=True, slots=True)
class Addresses:
    """A host's, and whether the lab is played over IPv6 where a play does not say."""

    ip4: str
    ip6: str
    ipv6: bool

    def ip(self, *, ipv6: bool | None = None) -> str:
        return self.ip6 if (self.ipv6 if ipv6 is None else ipv6) else self.ip4


class Process:
    """A process at one of the hosts, known to the play by ``name``. Begun by `Host.process`."""

    def __init__(self, switchboard: Switchboard, line: Line, addresses: Addresses) -> None:
        self._switchboard = switchboard
        self._line = line
        self.addresses = addresses

    def __repr__(self) -> str:
        return f"<Process {self.name}, pid {self.pid}>"

    @property
    def name(self) -> str:
        return self._line.name

    @property
    def host(self) -> str:
        """Its host's name, ``client`` or ``server``."""
        return self._line.host

    @property
    def pid(self) -> int:
        """As the process that runs the lab sees it."""
        return self._line.pid

    @property
    def inner_pid(self) -> int:
        """As the processes of the lab see it."""
        return self._line.inner_pid

    @property
    def alive(self) -> bool:
        """False from its end on, though it may still be a zombie."""
        return self._line.ending is None

    @property
    def reaped(self) -> bool:
        """Whether its parent has waited for it: it is no zombie, and was no orphan."""
        return self._line.waited_for

    def socket(self, *, ipv6: bool | None = None, kind: int = sockets.SOCK_STREAM) -> Socket:
        """socket(2), of the lab's own address family unless told. Raises as `Pending.result`."""
        wanted = self.addresses.ipv6 if ipv6 is None else ipv6
        family = sockets.AF_INET6 if wanted else sockets.AF_INET
        names = f"{family.name}, {sockets.SocketKind(kind).name}"
        pending = self.begin("socket", None, [int(family), int(kind)], number, arguments=names)
        return Socket(self, pending.result(), ipv6=wanted)

    def shares(self, socket: Socket) -> Socket:
        """The parent's socket as this forked child holds it: another descriptor of the same."""
        return Socket(self, socket.fd, ipv6=socket.ipv6, local=socket.local, remote=socket.remote)

    def fork(self, name: str) -> Process:
        """fork(2): a real child that holds all the sockets this process has open. See `shares`."""
        pending = self.begin("fork", None, [], lambda returned: returned, child_name=name)
        line = pending.result().child
        assert line is not None  # a fork that did not fail has a child
        self._switchboard.wait(line.ready, f"{name} has not started")
        return Process(self._switchboard, line, self.addresses)

    def wait(
        self, child: Process | None = None, *, options: int = 0, fails: int | None = None
    ) -> Reaped:
        """waitpid(2) for ``child`` or any. Raises as `Pending.result`."""
        return self.start_wait(child, options=options, fails=fails).result()

    def start_wait(
        self, child: Process | None = None, *, options: int = 0, fails: int | None = None
    ) -> Pending[Reaped]:
        """Begins a `wait`."""
        pid, text = (-1, "-1") if child is None else (child.inner_pid, str(child.pid))
        if options & os.WNOHANG:
            text += ", WNOHANG"
        args = [pid, int(options)]
        return self.begin("wait", None, args, self._reaped, arguments=text, fails=fails)

    def _reaped(self, returned: Returned) -> Reaped:
        if returned.child is None:
            return Reaped(None, None)
        process = Process(self._switchboard, returned.child, self.addresses)
        return Reaped(process, returned.child.ending)

    def sigaction(self, sig: int, action: str = "default") -> None:
        """Sets a signal's action: ``default``, ``ignore`` or ``note``, a handler that does nothing.

        A new process has every action at its default, but ignores SIGPIPE, as Python programs do.
        """
        name = signals.Signals(sig).name
        self.begin(
            "sigaction", None, [int(sig), action], nothing, arguments=f"{name}, {action}"
        ).result()

    def kill(self, sig: int = signals.SIGKILL) -> None:
        """kill(2), from outside; SIGKILL and SIGSTOP return once it has ended, or stands still.

        Raises ProcessDied where it had ended before.
        """
        try:
            self._switchboard.kill(self._line, int(sig))
        except ProcessLookupError:
            raise ProcessDied(self.name, self._line.ending or Ending()) from None
        if sig == signals.SIGKILL:
            self.join()
        elif sig == signals.SIGSTOP:
            wait_stopped(self.pid)

    @property
    def zombies(self) -> int:
        """How many of its children have ended and are not reaped, now. Raises ProcessDied."""
        return self._look(zombies_of)

    @property
    def open_sockets(self) -> frozenset[int]:
        """The inodes of the sockets that it has open now, as `Entry.inode` has them.

        Raises ProcessDied; Unsupported where there is no /proc.
        """
        return self._look(sockets_of)

    def _look(self, at: Callable[[int], T]) -> T:
        try:
            return at(self.pid)
        except ProcessLookupError:
            raise ProcessDied(self.name, self._line.ending or Ending()) from None

    @property
    def threads(self) -> int:
        """How many threads it has now. Raises ProcessDied."""
        return self._look(threads_of)

    def exit(self, status: int = 0) -> Ending:
        """_exit(2), and waits until it has ended. Raises as `join`."""
        self.begin("exit", None, [status], nothing, arguments=str(status)).result()
        return self.join()

    def run(self, path: str, arguments: Sequence[str]) -> Program:
        """This process becomes the Python program at ``path``. Raises as `Pending.result`."""
        reading, writing = os.pipe()
        terminal = Terminal(writing)
        try:
            text = " ".join([Path(path).stem, *arguments])
            args = [path, list(arguments)]
            self.begin("run", None, args, nothing, arguments=text, fds=[reading]).result()
        except BaseException:
            terminal.close()
            raise
        finally:
            os.close(reading)
        self._switchboard.on_close(terminal.close)
        return Program(self._switchboard, self._line, self.addresses, terminal)

    def join(self) -> Ending:
        """Waits until the process has ended, by itself or not. Raises DeadlinePassed, LabClosed."""
        return self._switchboard.wait(self._line.ended, f"{self.name} has not ended")

    def begin(
        self,
        verb: str,
        on: int | None,
        args: list[Any],
        convert: Callable[[Returned], T],
        *,
        blob: bytes = b"",
        arguments: str = "",
        child_name: str = "",
        fails: int | None = None,
        fds: Sequence[int] = (),
    ) -> Pending[T]:
        """Begins any verb of the actor's table (actor.py): what all the others are made of."""
        call = self._switchboard.begin(
            self._line,
            verb,
            on,
            args,
            blob=blob,
            arguments=arguments,
            child_name=child_name,
            fds=fds,
        )
        return Pending(self._switchboard, self._line, call, convert, fails)


class Program(Process):
    """A process that runs a program: its calls are its own, and are recorded like any.

    Begun by `Host.run`; what it reads from its standard input a play types.
    """

    def __init__(
        self, switchboard: Switchboard, line: Line, addresses: Addresses, terminal: Terminal
    ) -> None:
        super().__init__(switchboard, line, addresses)
        self._terminal = terminal

    @property
    def printed(self) -> str:
        """What it has printed so far, without its children's."""
        return self._line.printed

    @property
    def children(self) -> list[Program]:
        """The processes that it has forked so far, in order; they read the same standard input."""
        lines = self._switchboard.children_of(self._line)
        for line in lines:
            with contextlib.suppress(ProcessDied):  # it is known all the same
                self._switchboard.wait(line.ready, f"{line.name} has not started")
        return [Program(self._switchboard, line, self.addresses, self._terminal) for line in lines]

    @property
    def calls(self) -> list[UserCall]:
        """Its calls that have come back so far, in that order, with what they gave."""
        return list(self._line.calls)

    @property
    def blocked_in(self) -> str | None:
        """The call that its first thread sleeps in now; None while it runs.

        Empty where it sleeps in none that is told. Raises ProcessDied.
        """
        if not self._look(sleeps):
            return None
        calls = list(self._line.own.values())
        return calls[-1].verb if calls else ""

    def type(self, text: str) -> None:
        """Types on its standard input. Raises BrokenPipeError once nobody can read it."""
        self._terminal.write(text)

    def end_input(self) -> None:
        """Its standard input ends, as by ctrl-D. Idempotent."""
        self._terminal.close()

    def called(self, call: str) -> int:
        """How often it has made that call so far; ``SIGCHLD handler`` is one too."""
        return self._line.begun[call]

    def wait_printed(self, text: str) -> None:
        """Until it has printed ``text``, among other things. Raises DeadlinePassed, LabClosed."""
        self._until(lambda: text in self._line.printed, f"has not printed {text!r}")

    def wait_called(self, call: str, count: int = 1) -> None:
        """Until it has made that call ``count`` times: it may be waiting in the last of them."""
        self._until(lambda: self._line.begun[call] >= count, f"has not called {call}()")

    def wait_returned(self, call: str, count: int = 1) -> None:
        """Until that call has come back ``count`` times, with whatever result."""
        self._until(lambda: self._line.back[call] >= count, f"has not come back from {call}()")

    def _until(self, true: Callable[[], bool], what: str) -> None:
        def ended() -> bool:
            return self._line.ending is not None

        self._switchboard.until(lambda: true() or ended(), f"{self.name} {what}")
        if not true():
            # Both may be known by now: why it ended is the better story.
            raise self._switchboard.fault or ProcessDied(self.name, self._line.ending or Ending())


class Terminal:
    """The writing end of a program's standard input. Takes over ``fd``."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
