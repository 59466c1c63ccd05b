"""Whose a connection is on a network that others use too: this process's and its children's.

Owns: noting what this process connects and listens to, through Python's socket module, while a
block is observed; and which processes belong to it. What a child does is known by what it holds.
"""

from __future__ import annotations

import functools
import os
import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import psutil

from tcpwatch.model.identity import FourTuple, SocketAddress
from tcpwatch.model.timeline import Connection
from tcpwatch.observing.observer import Held
from tcpwatch.tcp.state import TcpState

_CALLS = ("connect", "connect_ex", "listen")
_ANYWHERE = ("0.0.0.0", "::")  # noqa: S104 - nothing is bound to it
_NO_ADDRESS = (OSError, ValueError, TypeError, LookupError, AttributeError)
"""Closed meanwhile, a host's name, or no address at all: then the call itself has failed."""

_INTERNET = (socket.AF_INET, socket.AF_INET6)


class Ours:
    """What this process had to do with, from `begin` to `end`. Several may be under way."""

    _watching: list[Ours] = []  # noqa: RUF012 - shared: the calls are wrapped once
    _unwrap: list[Callable[[], None]] = []  # noqa: RUF012 - as above
    _lock = threading.Lock()

    def __init__(self) -> None:
        self._pairs: set[FourTuple] = set()  # as our end sees them
        self._refused: set[SocketAddress] = set()
        self.ports: set[int] = set()  # those we listen to
        self._family = frozenset({os.getpid()})

    def begin(self) -> None:
        """Wraps socket.socket's calls, where nobody of us did before."""
        with self._lock:
            if not self._watching:
                self._unwrap.extend(_wrap(socket.socket, name) for name in _CALLS)
            self._watching.append(self)

    def end(self) -> None:
        """Unwraps them after the last. Idempotent."""
        with self._lock:
            if self in self._watching:
                self._watching.remove(self)
            while self._unwrap and not self._watching:
                self._unwrap.pop()()

    @classmethod
    def note(cls, name: str, sock: socket.socket, remote: Any) -> None:
        """A call was made, with that peer's address."""
        if sock.family not in _INTERNET:
            return
        with suppress(*_NO_ADDRESS):
            local = _address(sock.getsockname())
            peer = local if name == "listen" else _address(remote)
            for each in [*cls._watching]:
                each.note_call(name, local, peer)

    def note_call(self, name: str, local: SocketAddress, remote: SocketAddress) -> None:
        """Our socket at that address has made it."""
        if name == "listen":
            self.ports.add(local.port)
        elif local.port and local.ip not in _ANYWHERE:
            self._pairs.add(FourTuple(local, remote))
        else:  # refused at once: the kernel has taken its address back
            self._refused.add(remote)

    def learn(self, held: Iterable[Held]) -> None:
        """What the processes of our tree hold is ours."""
        held = tuple(held)
        pids = {holder.pid for one in held for holder in one.holders}
        if pids - self._family:
            self._family = family()
        for one in held:
            if self._held_by_us(one):
                if one.state is TcpState.LISTEN:
                    self.ports.add(one.local.port)
                else:
                    self._pairs.add(FourTuple(one.local, one.remote))

    def has(self, connection: Connection) -> bool:
        """Whether one of its ends is ours."""
        passive = connection.endpoints[-1].address
        listened = passive.port in self.ports or passive in self._refused
        return listened or self._connected(connection.id.four_tuple)

    def may_be(self, four_tuple: FourTuple) -> bool:
        """Whether a socket is ours, as far as was noted until now."""
        ports = {four_tuple.local.port, four_tuple.remote.port}
        return self._connected(four_tuple) or not self.ports.isdisjoint(ports)

    def holds(self, held: Held) -> bool:
        """Whether it is a socket of ours, or is to be accepted by one."""
        if held.holders:
            return self._held_by_us(held)
        mine = FourTuple(held.local, held.remote)
        return self._connected(mine) or held.local.port in self.ports

    def _connected(self, four_tuple: FourTuple) -> bool:
        return four_tuple in self._pairs or four_tuple.flipped in self._pairs

    def _held_by_us(self, held: Held) -> bool:
        return any(holder.pid in self._family for holder in held.holders)


def family() -> frozenset[int]:
    """This process and all that descend from it."""
    with suppress(psutil.Error):
        return frozenset({os.getpid(), *(p.pid for p in psutil.Process().children(recursive=True))})
    return frozenset({os.getpid()})


def _wrap(kind: type[socket.socket], name: str) -> Callable[[], None]:
    """Has the call noted once it was made; how to undo it."""
    inner = getattr(kind, name)
    inherited = name not in vars(kind)

    @functools.wraps(inner)
    def call(self: socket.socket, *arguments: Any) -> Any:
        try:
            return inner(self, *arguments)
        finally:
            Ours.note(name, self, arguments[0] if arguments else None)

    setattr(kind, name, call)
    if inherited:
        return lambda: delattr(kind, name)
    return lambda: setattr(kind, name, inner)


def _address(raw: Any) -> SocketAddress:
    return SocketAddress(raw[0].partition("%")[0], raw[1])
