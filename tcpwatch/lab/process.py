"""A play's verbs: processes and their sockets. Each is one real call in a real process.

Owns: how a verb reads, what it gives, and how its failing is expected. Must not know how a request
reaches its process, nor what the call means for a TCP state.
"""

from __future__ import annotations

import contextlib
import os
import signal as signals
import socket as sockets
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from errno import errorcode
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.lab import spelling
from tcpwatch.lab.calls import Call, Line, Returned, Switchboard
from tcpwatch.lab.failures import CheckFailed, Ending, ProcessDied
from tcpwatch.lab.proc import sleeps, sockets_of, threads_of, wait_stopped, zombies_of
from tcpwatch.model.events import UserCall
from tcpwatch.model.identity import SocketAddress

T = TypeVar("T")
Address = SocketAddress | tuple[str, int]
_TCP_REPAIR = 19  # linux/tcp.h; the socket module has no name for it
_SHOWN = 24  # octets of what is sent, in an event's arguments


class Pending(Generic[T]):
    """A call that was begun. While it lasts, its process can make no other."""

    def __init__(
        self,
        switchboard: Switchboard,
        line: Line,
        call: Call,
        convert: Callable[[Returned], T],
        fails: int | None = None,
    ) -> None:
        self._switchboard = switchboard
        self._line = line
        self._call = call
        self._convert = convert
        self._fails = fails

    @property
    def done(self) -> bool:
        """Whether it has come back."""
        return self._call.done.done()

    def result(self) -> T:
        """Waits until the call is back, and gives what it gave; may be asked for again.

        Raises the OSError it failed with, CheckFailed where it should have failed so and did not,
        ProcessDied, DeadlinePassed, LabClosed.
        """
        what = f"{self._line.name}: {self._call.verb}({self._call.arguments})"
        returned = self._switchboard.wait(self._call.done, f"{what} did not come back")
        if self._fails is not None and returned.errno != self._fails:
            was = f"failed with {errorcode[returned.errno]}" if returned.errno else "succeeded"
            raise CheckFailed(f"{what} {was}, expected {errorcode[self._fails]}")
        if self._fails is None and returned.errno:
            raise OSError(returned.errno, f"{os.strerror(returned.errno)}, from {what}")
        return self._convert(returned)


def _nothing(_: Returned) -> None:
    return None


def _number(returned: Returned) -> int:
    """The call's own result; -1 for an expected failure, as in C."""
    return -1 if returned.result is None else int(returned.result)


def _bytes(returned: Returned) -> bytes:
    return returned.blob


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
        pending = self.begin("socket", None, [int(family), int(kind)], _number, arguments=names)
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
            "sigaction", None, [int(sig), action], _nothing, arguments=f"{name}, {action}"
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
        self.begin("exit", None, [status], _nothing, arguments=str(status)).result()
        return self.join()

    def run(self, path: str, arguments: Sequence[str]) -> Program:
        """This process becomes the Python program at ``path``. Raises as `Pending.result`."""
        reading, writing = os.pipe()
        terminal = Terminal(writing)
        try:
            text = " ".join([Path(path).stem, *arguments])
            args = [path, list(arguments)]
            self.begin("run", None, args, _nothing, arguments=text, fds=[reading]).result()
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


class Start:
    """A socket's verbs, begun and not waited for: each gives a `Pending`."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket

    def _begin(
        self,
        verb: str,
        args: list[Any],
        convert: Callable[[Returned], T],
        arguments: str = "",
        fails: int | None = None,
        blob: bytes = b"",
    ) -> Pending[T]:
        def learn(returned: Returned) -> T:
            if verb != "accept":  # those of another socket
                self._socket.local = returned.local or self._socket.local
                self._socket.remote = returned.remote or self._socket.remote
            return convert(returned)

        process, fd = self._socket.process, self._socket.fd
        return process.begin(verb, fd, args, learn, blob=blob, arguments=arguments, fails=fails)

    def bind(self, address: Address | int, fails: int | None = None) -> Pending[None]:
        """A port alone means the host's own address."""
        own = self._socket.process.addresses.ip(ipv6=self._socket.ipv6)
        ip, port = (own, address) if isinstance(address, int) else _pair(address)
        return self._begin("bind", [ip, port], _nothing, spelling.place((ip, port)), fails)

    def listen(self, backlog: int = 128, fails: int | None = None) -> Pending[None]:
        return self._begin("listen", [backlog], _nothing, str(backlog), fails)

    def accept(self, fails: int | None = None) -> Pending[Socket]:
        """With ``fails`` the result is the listener itself: there is no other socket to give."""
        return self._begin("accept", [], self._accepted, fails=fails)

    def connect(self, address: Address, fails: int | None = None) -> Pending[None]:
        ip, port = _pair(address)
        return self._begin("connect", [ip, port], _nothing, spelling.place((ip, port)), fails)

    def send(self, data: bytes, flags: int = 0, fails: int | None = None) -> Pending[int]:
        shown = repr(data) if len(data) <= _SHOWN else f"{data[:_SHOWN]!r}... {len(data)} octets"
        return self._begin("send", [int(flags)], _number, shown, fails, data)

    def recv(self, n: int = 65536, flags: int = 0, fails: int | None = None) -> Pending[bytes]:
        text = spelling.receiving(n, flags)
        return self._begin("recv", [n, int(flags)], _bytes, text, fails)

    def shutdown(self, how: int, fails: int | None = None) -> Pending[None]:
        text = spelling.how_to_shut(how)
        return self._begin("shutdown", [int(how)], _nothing, text, fails)

    def close(self, fails: int | None = None) -> Pending[None]:
        return self._begin("close", [], _nothing, fails=fails)

    def setsockopt(
        self, level: int, name: int, value: int | bytes, fails: int | None = None
    ) -> Pending[None]:
        number, blob = (None, value) if isinstance(value, bytes) else (int(value), b"")
        shown = f"{spelling.option(level, name)}, {value!r}"
        args = [int(level), int(name), number]
        return self._begin("setsockopt", args, _nothing, shown, fails, blob)

    def getsockopt(self, level: int, name: int, fails: int | None = None) -> Pending[int]:
        args = [int(level), int(name), 0]
        return self._begin("getsockopt", args, _number, spelling.option(level, name), fails)

    def setblocking(self, *, blocking: bool) -> Pending[None]:
        return self._begin("setblocking", [int(blocking)], _nothing, str(blocking))

    def getsockname(self, fails: int | None = None) -> Pending[SocketAddress]:
        return self._begin("getsockname", [], lambda got: SocketAddress(*got.result), fails=fails)

    def _accepted(self, returned: Returned) -> Socket:
        if returned.errno:
            return self._socket
        process, ipv6 = self._socket.process, self._socket.ipv6
        return Socket(
            process, returned.result, ipv6=ipv6, local=returned.local, remote=returned.remote
        )


class Socket:
    """A process's descriptor of a socket; each verb is one call, waited for.

    ``fails`` is an errno: the call must then fail with it, else CheckFailed is raised. A call that
    fails unexpectedly raises the OSError. See `Pending.result` for the rest.
    """

    def __init__(
        self,
        process: Process,
        fd: int,
        *,
        ipv6: bool,
        local: SocketAddress | None = None,
        remote: SocketAddress | None = None,
    ) -> None:
        self.process = process
        self.fd = fd
        self.ipv6 = ipv6
        self.local = local  # as its last call had it; None: not chosen yet
        self.remote = remote

    def __repr__(self) -> str:
        return f"<Socket {self.fd} of {self.process.name}>"

    @property
    def start(self) -> Start:
        """The same verbs, begun and not waited for."""
        return Start(self)

    def bind(self, address: Address | int, fails: int | None = None) -> None:
        """bind(2); a port alone means the host's own address."""
        self.start.bind(address, fails).result()

    def listen(self, backlog: int = 128, fails: int | None = None) -> None:
        self.start.listen(backlog, fails).result()

    def accept(self, fails: int | None = None) -> Socket:
        """accept(2); for an expected failure gives the listener itself."""
        return self.start.accept(fails).result()

    def connect(self, address: Address, fails: int | None = None) -> None:
        self.start.connect(address, fails).result()

    def send(self, data: bytes, flags: int = 0, fails: int | None = None) -> int:
        """send(2): how many octets were taken; -1 for an expected failure."""
        return self.start.send(data, flags, fails).result()

    def recv(self, n: int = 65536, flags: int = 0, fails: int | None = None) -> bytes:
        """recv(2): what is there; empty at the peer's FIN, or for an expected failure."""
        return self.start.recv(n, flags, fails).result()

    def recv_exactly(self, n: int) -> bytes:
        """As many recv() as it takes for ``n`` octets. Raises CheckFailed at an earlier end."""
        data = b""
        while len(data) < n:
            more = self.recv(n - len(data))
            if not more:
                raise CheckFailed(f"{self.process.name} read {len(data)} octets, expected {n}")
            data += more
        return data

    def recv_to_end(self) -> bytes:
        """As many recv() as it takes until the peer's FIN."""
        data = b""
        while more := self.recv():
            data += more
        return data

    def shutdown(self, how: int, fails: int | None = None) -> None:
        """shutdown(2) with SHUT_RD, SHUT_WR or SHUT_RDWR of the standard library."""
        self.start.shutdown(how, fails).result()

    def close(self, fails: int | None = None) -> None:
        self.start.close(fails).result()

    def setsockopt(
        self, level: int, name: int, value: int | bytes, fails: int | None = None
    ) -> None:
        self.start.setsockopt(level, name, value, fails).result()

    def getsockopt(self, level: int, name: int, fails: int | None = None) -> int:
        """getsockopt(2) of an int; -1 for an expected failure."""
        return self.start.getsockopt(level, name, fails).result()

    def setblocking(self, *, blocking: bool) -> None:
        self.start.setblocking(blocking=blocking).result()

    def settimeout(self, seconds: float) -> None:
        """SO_RCVTIMEO and SO_SNDTIMEO: calls stay blocking, and give up with EAGAIN.

        A connect() gives up with EINPROGRESS. 0 is for ever.
        """
        whole = int(seconds)
        value = struct.pack("@ll", whole, round((seconds - whole) * 1e6))
        for name in (sockets.SO_RCVTIMEO, sockets.SO_SNDTIMEO):
            self.setsockopt(sockets.SOL_SOCKET, name, value)

    @property
    def address(self) -> SocketAddress:
        """Where it is bound: what another may connect to. Raises a usage error before that."""
        if self.local is None:
            raise TcpwatchError(f"{self!r} has no address", "bind() it first", ExitCode.USAGE)
        return self.local

    def reuse_address(self) -> None:
        """SO_REUSEADDR switched on."""
        self.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)

    def reuse_port(self) -> None:
        """SO_REUSEPORT switched on: others that also ask for it may bind the same port."""
        self.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEPORT, 1)

    def linger(self, seconds: int) -> None:
        """SO_LINGER switched on; with 0 a close() aborts the connection by RST."""
        self.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, struct.pack("@ii", 1, seconds))

    def vanish(self) -> None:
        """TCP_REPAIR, then close(): the socket is gone, and not a segment tells its peer."""
        self.setsockopt(sockets.IPPROTO_TCP, _TCP_REPAIR, 1)
        self.close()

    def getsockname(self) -> SocketAddress:
        """The local address, as getsockname(2) has it."""
        return self.start.getsockname().result()


def _pair(address: Address) -> tuple[str, int]:
    return (address.ip, address.port) if isinstance(address, SocketAddress) else address
