"""What a program under observation has in place of the standard library's sockets, polls and stdio.

Owns: classes that do as those do, and tell of it. Must not know how they get into the program, nor
what a call means for a TCP state.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import socket
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Self, TypeVar
from weakref import WeakValueDictionary

from tcpwatch.lab import spelling
from tcpwatch.lab.telling import INTERNET, NOWHERE, Address, Addresses, Teller

T = TypeVar("T")
_STANDARD = {0: "stdin", 1: "stdout", 2: "stderr"}


def same(value: T) -> T:
    """A result that is shown as it is."""
    return value


def done(_result: object) -> int:
    """What a call gives in C that gives nothing in Python."""
    return 0


class TracedSocket(socket.socket):
    """socket.socket, telling its calls where it is of an internet family."""

    teller: Teller
    # Weak: a socket that the program forgets is closed, as it is where nobody looks.
    by_number: ClassVar[WeakValueDictionary[int, TracedSocket]] = WeakValueDictionary()
    listens = False
    remote: Address | None = None  # kept: after a RST getpeername() fails

    def __init__(
        self,
        family: int = -1,
        type: int = -1,  # noqa: A002 - socket's
        proto: int = -1,
        fileno: int | None = None,
    ) -> None:
        def make() -> None:
            super(TracedSocket, self).__init__(family, type, proto, fileno)

        if fileno is not None or family not in (-1, *INTERNET):
            make()
        else:
            names = "AF_INET6" if family == socket.AF_INET6 else "AF_INET"
            kind = "SOCK_DGRAM" if type == socket.SOCK_DGRAM else "SOCK_STREAM"
            self.teller.call("socket", f"{names}, {kind}", make, show=lambda _: self.fileno())
        if self.family in INTERNET:
            self.by_number[self.fileno()] = self

    @property
    def addresses(self) -> Addresses:
        """As an event has them."""
        if self.fileno() < 0 or self.family not in INTERNET:
            return NOWHERE
        with contextlib.suppress(OSError):  # not connected yet, or any more
            self.remote = _address(self.getpeername())
        return {"local": _address(self.getsockname()), "remote": self.remote}

    def _tell(
        self, name: str, arguments: str, make: Callable[[], T], show: Callable[[T], object] = done
    ) -> T:
        if self.family not in INTERNET:
            return make()
        return self.teller.call(name, arguments, make, show=show, on=self)

    def bind(self, address: Any, /) -> None:
        make = super().bind
        self._tell("bind", spelling.place(address), lambda: make(address))

    def listen(self, backlog: int = 128, /) -> None:
        make = super().listen
        self._tell("listen", str(backlog), lambda: make(backlog))
        self.listens = True

    def accept(self) -> tuple[socket.socket, Any]:
        def made(result: tuple[socket.socket, Any]) -> TracedSocket | None:
            return result[0] if isinstance(result[0], TracedSocket) else None

        if self.family not in INTERNET:
            return super().accept()
        return self.teller.call(
            "accept", "", super().accept, show=lambda got: got[0].fileno(), on=self, made=made
        )

    def connect(self, address: Any, /) -> None:
        make = super().connect
        self._tell("connect", spelling.place(address), lambda: make(address))

    def connect_ex(self, address: Any, /) -> int:
        make = super().connect_ex

        def connect() -> None:
            if code := make(address):
                raise OSError(code, os.strerror(code))

        try:
            self._tell("connect", spelling.place(address), connect)
        except OSError as failure:
            return failure.errno or errno.EAGAIN
        return 0

    def send(self, data: Any, flags: int = 0, /) -> int:
        make = super().send
        return self._tell("send", spelling.data(data), lambda: make(data, flags), same)

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        make, length = super().sendall, len(data)
        self._tell("sendall", spelling.data(data), lambda: make(data, flags), lambda _: length)

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        make = super().recv
        return self._tell("recv", spelling.receiving(size, flags), lambda: make(size, flags), len)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        make = super().recv_into
        text = spelling.receiving(nbytes or len(buffer), flags)
        return self._tell("recv", text, lambda: make(buffer, nbytes, flags), same)

    def shutdown(self, how: int, /) -> None:
        make = super().shutdown
        self._tell("shutdown", spelling.how_to_shut(how), lambda: make(how))

    def setsockopt(self, level: int, name: int, *value: Any) -> None:
        make: Callable[..., None] = super().setsockopt
        shown = ", ".join([spelling.option(level, name), *map(str, value)])
        self._tell("setsockopt", shown, lambda: make(level, name, *value))

    def getsockopt(self, level: int, name: int, *size: int) -> Any:
        make: Callable[..., Any] = super().getsockopt
        shown = spelling.option(level, name)
        found = errno.errorcode.get if shown == "SO_ERROR" else lambda value, _: str(value)
        return self._tell(
            "getsockopt", shown, lambda: make(level, name, *size), lambda value: found(value, value)
        )

    def setblocking(self, flag: bool, /) -> None:  # noqa: FBT001 - socket's
        make = super().setblocking
        self._tell("setblocking", str(bool(flag)), lambda: make(flag))

    def _real_close(self, *arguments: Any) -> None:
        make: Callable[..., None] = super()._real_close  # type: ignore[misc]
        if self.fileno() >= 0:
            self._tell("close", "", lambda: make(*arguments))


def _address(raw: Any) -> Address | None:
    """None while no port is chosen."""
    return (raw[0].partition("%")[0], raw[1]) if raw[1] else None


def number_of(item: Any) -> int:
    """A descriptor's number, as select() takes either."""
    return item if isinstance(item, int) else int(item.fileno())


def socket_of(item: Any) -> TracedSocket | None:
    """The socket that has this descriptor."""
    found = TracedSocket.by_number.get(number_of(item))
    return found if found is not None and found.fileno() == number_of(item) else None


def label(item: Any) -> str:
    """A descriptor as a reader knows it: ``stdin``, ``listener``, or its number."""
    found = socket_of(item)
    if found is not None and found.listens:
        return "listener"
    return _STANDARD.get(number_of(item), str(number_of(item)))


def labels(items: Iterable[Any]) -> str:
    """Several of them."""
    return ", ".join(map(label, items))


class Poll:
    """select.poll() or select.epoll(), telling its waits. ``unit_s``: of its timeouts."""

    def __init__(self, teller: Teller, inner: Any, name: str, unit_s: float) -> None:
        self._teller, self._inner, self._name, self._unit_s = teller, inner, name, unit_s
        self._watched: dict[int, None] = {}

    def register(self, item: Any, *mask: int) -> None:
        self._control("ADD", item, lambda: self._inner.register(item, *mask))
        self._watched[number_of(item)] = None

    def modify(self, item: Any, mask: int) -> None:
        self._control("MOD", item, lambda: self._inner.modify(item, mask))

    def unregister(self, item: Any) -> None:
        self._control("DEL", item, lambda: self._inner.unregister(item))
        self._watched.pop(number_of(item), None)

    def _control(self, what: str, item: Any, make: Callable[[], None]) -> None:
        """The list of epoll is the kernel's, that of poll is Python's: no call."""
        if self._name == "epoll_wait":
            self._teller.call("epoll_ctl", f"{what}, {label(item)}", make, show=done)
        else:
            make()

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        timed = f"; {timeout * self._unit_s:g} s" if timeout is not None and timeout >= 0 else ""
        more = (maxevents,) if self._name == "epoll_wait" else ()

        def show(ready: list[tuple[int, int]]) -> str:
            return spelling.polled((label(fd), mask) for fd, mask in ready)

        return self._teller.call(
            self._name,
            labels(self._watched) + timed,
            lambda: self._inner.poll(timeout, *more),
            show=show,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Input(io.RawIOBase):
    """Standard input, reading by the traced os.read()."""

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 0

    def readinto(self, buffer: Any, /) -> int:
        data = os.read(0, len(buffer))
        buffer[: len(data)] = data
        return len(data)


class Output(io.RawIOBase):
    """Standard output or error, writing by the traced os.write()."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def write(self, data: Any, /) -> int:
        return os.write(self._fd, bytes(data))
