"""Telling of calls: before and after each, with its socket's addresses, from wherever it is made.

Owns: that a message goes out whole and in order, whatever threads and signals do, and that a forked
child tells by a channel of its own. Must not know which calls there are, nor what they mean.
"""

from __future__ import annotations

import errno
import itertools
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from tcpwatch.lab.protocol import Channel

T = TypeVar("T")
Address = tuple[str, int]
Addresses = dict[str, Address | None]
INTERNET = (socket.AF_INET, socket.AF_INET6)
plain_exit = os._exit  # which tells of nothing


class Endpoint(Protocol):
    """A socket that is told of, as far as this file must know it."""

    @property
    def addresses(self) -> Addresses:
        """``local`` and ``remote`` as they are now; None where there is none."""


class Teller:
    """Tells calls over a channel."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._ids = itertools.count(1)
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._lock = threading.RLock()
        self._waiting: deque[tuple[dict[str, Any], Sequence[int]]] = deque()
        self._sender = 0  # the thread that is sending
        self._late: list[Callable[[], None]] = []

    def become_child(self, channel: Channel) -> None:
        """In a process that was just forked, whose other threads are gone: tell by this channel."""
        self.channel.close()  # or the parent's end would not be seen
        self.channel = channel
        self._begin_anew()
        self.send({"hello": os.getpid()})

    def send(self, body: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Stamps and sends one message, then runs what `interrupt` has put off."""
        with self._lock, self.channel.telling():
            self._waiting.append((body | {"t_ns": time.monotonic_ns()}, fds))
            if self._sender:
                return  # in the midst of another: that one goes first, then this
            self._sender = threading.get_ident()
            try:
                while self._waiting:
                    message, descriptors = self._waiting.popleft()
                    self.channel.send(message, fds=descriptors)
            except OSError:
                plain_exit(0)  # tcpwatch is gone: no error of the program's, nor for it to catch
            finally:
                self._sender = 0
        while self._late and threading.current_thread() is threading.main_thread():
            self._late.pop(0)()

    def interrupt(self, run: Callable[[], None]) -> None:
        """Runs a signal's handler, but not within a message, which it may cut off by raising."""
        if self._sender == threading.get_ident():
            self._late.append(run)
        else:
            run()

    def begin(self, name: str, arguments: str, at: Addresses | None = None) -> int:
        """Tells that a call is made; gives the number to tell its return by."""
        number = -next(self._ids)  # below zero: not asked for by tcpwatch
        self.send({"called": number, "call": name, "arguments": arguments, **(at or NOWHERE)})
        return number

    def end(
        self,
        number: int,
        result: object,
        *,
        error: int | None = None,
        at: Addresses | None = None,
        fds: Sequence[int] = (),
        **more: Any,
    ) -> None:
        """Tells that a call has come back, with its result or its errno."""
        failed = {} if error is None else {"errno": error}
        body = {"returned": number, "result": result, **failed, **(at or NOWHERE), **more}
        self.send(body, fds)

    def call(
        self,
        name: str,
        arguments: str,
        function: Callable[[], T],
        *,
        show: Callable[[T], object] = lambda _result: None,
        on: Endpoint | None = None,
        made: Callable[[T], Endpoint | None] = lambda _result: None,
    ) -> T:
        """Makes a call and tells of it before and after.

        ``on``: the socket that it is made on; ``made``: the one that it gave.
        """
        before = _addresses(on)
        number = self.begin(name, arguments, before)
        try:
            result = function()
        except OSError as failure:
            # Without an errno: a socket's timeout, which Python itself has waited for.
            self.end(number, None, error=failure.errno or errno.EAGAIN, at=_later(on, before))
            raise
        except Exception as refusal:  # Python's own, before any call: select() of too high a number
            self.end(number, type(refusal).__name__, at=before)
            raise
        except BaseException:  # a handler's SystemExit: the call is over all the same
            self.end(number, None, error=errno.EINTR, at=before)
            raise
        new = made(result)
        self.end(number, show(result), at=_later(on, before) if new is None else new.addresses)
        return result


NOWHERE: Addresses = {"local": None, "remote": None}


def _addresses(on: Endpoint | None) -> Addresses:
    return NOWHERE if on is None else on.addresses


def _later(on: Endpoint | None, before: Addresses) -> Addresses:
    """After the call; one that closed the socket still tells which it was."""
    after = _addresses(on)
    return {key: after[key] or before[key] for key in before}
