"""An actor: a process of the lab that makes one real call at a time, on request, and tells of it.

Or becomes a program, for good, which makes its calls by itself (`tracing`).
Owns: the table of verbs, and the stamps just before and just after each call. Must not know the
scenario, what a call's outcome means, nor which namespace it is in.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, NamedTuple, NoReturn

from tcpwatch.lab.protocol import Channel, Message, new_line
from tcpwatch.lab.tracing import run_program

Address = tuple[str, int]


class Outcome(NamedTuple):
    """What a call gave: its own result, bytes it read, a socket or a channel it made."""

    result: Any = 0
    blob: bytes = b""
    subject: socket.socket | None = None  # whose addresses to tell, where not the called one's
    handover: Sequence[int] = ()  # descriptors that go to tcpwatch


class Actor:
    """The calls' state: the open sockets by descriptor number, which a fork duplicates as it is."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.sockets: dict[int, socket.socket] = {}
        self.remotes: dict[int, Address] = {}  # told also after a RST, when getpeername() fails

    def run(self) -> NoReturn:
        """Serves requests until the other end is gone. Never returns: a forked child must not."""
        try:
            with self.channel.telling():
                self.channel.send({"hello": os.getpid(), "t_ns": time.monotonic_ns()})
            while (request := self.channel.receive()) is not None:
                self._perform(request)
        except (BrokenPipeError, ConnectionError):
            pass  # tcpwatch is gone
        os._exit(0)

    def _perform(self, request: Message) -> None:
        body = request.body
        sock = self.sockets.get(body["on"]) if body["on"] is not None else None
        before = self._addresses(sock)
        with self.channel.telling():
            self.channel.send({"called": body["id"], "t_ns": time.monotonic_ns(), **before})
        if body["verb"] == "run":
            path, arguments = body["args"]
            run_program(self.channel, path, arguments, request.fds[0])
        answer: dict[str, Any] = {"returned": body["id"]}
        outcome = Outcome(None)
        try:
            outcome = VERBS[body["verb"]](self, sock, request.blob, *body["args"])
        except OSError as error:
            answer["errno"] = error.errno
        with self.channel.telling():
            answer["t_ns"] = time.monotonic_ns()
            answer["result"] = outcome.result
            after = self._addresses(outcome.subject or sock)
            answer.update({key: after[key] or before[key] for key in after})
            self.channel.send(answer, outcome.blob, outcome.handover)
        for fd in outcome.handover:
            os.close(fd)

    def _addresses(self, sock: socket.socket | None) -> dict[str, Address | None]:
        if sock is None or sock.fileno() < 0:
            return {"local": None, "remote": None}
        local = _address(sock.getsockname())
        try:
            remote = _address(sock.getpeername())
        except OSError:
            remote = self.remotes.get(sock.fileno())
        if remote is not None:
            self.remotes[sock.fileno()] = remote
        return {"local": local, "remote": remote}

    def keep(self, sock: socket.socket) -> int:
        self.sockets[sock.fileno()] = sock
        self.remotes.pop(sock.fileno(), None)
        return sock.fileno()


def _address(raw: Any) -> Address | None:
    """The first two members of the kernel's answer; None while no port is chosen."""
    return (raw[0].partition("%")[0], raw[1]) if raw[1] else None


def _known(sock: socket.socket | None) -> socket.socket:
    """The socket, or what the kernel says to a call on a descriptor that is not open."""
    if sock is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return sock


def _socket(actor: Actor, _: object, __: bytes, family: int, kind: int) -> Outcome:
    made = socket.socket(family, kind)
    return Outcome(actor.keep(made), subject=made)


def _bind(_: Actor, sock: socket.socket | None, __: bytes, ip: str, port: int) -> Outcome:
    _known(sock).bind((ip, port))
    return Outcome()


def _listen(_: Actor, sock: socket.socket | None, __: bytes, backlog: int) -> Outcome:
    _known(sock).listen(backlog)
    return Outcome()


def _accept(actor: Actor, sock: socket.socket | None, _: bytes) -> Outcome:
    accepted = _known(sock).accept()[0]
    return Outcome(actor.keep(accepted), subject=accepted)


def _connect(_: Actor, sock: socket.socket | None, __: bytes, ip: str, port: int) -> Outcome:
    _known(sock).connect((ip, port))
    return Outcome()


def _send(_: Actor, sock: socket.socket | None, data: bytes, flags: int) -> Outcome:
    return Outcome(_known(sock).send(data, flags))


def _recv(_: Actor, sock: socket.socket | None, __: bytes, size: int, flags: int) -> Outcome:
    data = _known(sock).recv(size, flags)
    return Outcome(len(data), data)


def _shutdown(_: Actor, sock: socket.socket | None, __: bytes, how: int) -> Outcome:
    _known(sock).shutdown(how)
    return Outcome()


def _close(actor: Actor, sock: socket.socket | None, _: bytes) -> Outcome:
    known = _known(sock)
    actor.sockets.pop(known.fileno())
    known.close()
    return Outcome()


def _setsockopt(
    _: Actor, sock: socket.socket | None, data: bytes, level: int, name: int, value: int | None
) -> Outcome:
    _known(sock).setsockopt(level, name, data if value is None else value)
    return Outcome()


def _getsockopt(
    _: Actor, sock: socket.socket | None, __: bytes, level: int, name: int, size: int
) -> Outcome:
    if size == 0:
        return Outcome(_known(sock).getsockopt(level, name))
    data = _known(sock).getsockopt(level, name, size)
    return Outcome(len(data), data)


def _setblocking(_: Actor, sock: socket.socket | None, __: bytes, blocking: int) -> Outcome:
    _known(sock).setblocking(bool(blocking))
    return Outcome()


def _getsockname(_: Actor, sock: socket.socket | None, __: bytes) -> Outcome:
    return Outcome(list(_known(sock).getsockname()[:2]))


def _fork(actor: Actor, _: object, __: bytes) -> Outcome:
    theirs, mine = new_line()
    pid = os.fork()
    if pid == 0:
        for fd in theirs:
            os.close(fd)
        actor.channel.close()  # or the parent's end would not be seen
        actor.channel = mine
        actor.run()
    mine.close()
    return Outcome(pid, handover=theirs)


def _wait(_: Actor, __: object, ___: bytes, pid: int, options: int) -> Outcome:
    ended, status = os.waitpid(pid, options)
    return Outcome([ended, os.waitstatus_to_exitcode(status) if ended else 0])


def _sigaction(_: Actor, __: object, ___: bytes, number: int, action: str) -> Outcome:
    signal.signal(number, _ACTIONS[action])
    return Outcome()


def _exit(_: Actor, __: object, ___: bytes, status: int) -> Outcome:
    os._exit(status)


def _note(_: int, __: object) -> None:
    """A handler that does nothing: the signal interrupts and is forgotten."""


_ACTIONS: dict[str, Callable[[int, FrameType | None], Any] | signal.Handlers] = {
    "default": signal.SIG_DFL,
    "ignore": signal.SIG_IGN,
    "note": _note,
}

VERBS: dict[str, Callable[..., Outcome]] = {
    "socket": _socket,
    "bind": _bind,
    "listen": _listen,
    "accept": _accept,
    "connect": _connect,
    "send": _send,
    "recv": _recv,
    "shutdown": _shutdown,
    "close": _close,
    "setsockopt": _setsockopt,
    "getsockopt": _getsockopt,
    "setblocking": _setblocking,
    "getsockname": _getsockname,
    "fork": _fork,
    "wait": _wait,
    "sigaction": _sigaction,
    "exit": _exit,
}
"""A verb takes the actor, the socket it is called on (or None), bytes, and its own arguments.

``run`` is not among them: it does not come back.
"""
