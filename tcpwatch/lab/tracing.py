"""A program under observation: what it calls in the standard library is told as it happens.

Owns: which names of `socket`, `select`, `os`, `signal`, `fcntl` and of C libraries are traced in an
actor that becomes a program, and how each call reads. The program itself is plain Python and knows
nothing of this; run by itself it does the same. Must not know what a call means for a TCP state.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import io
import itertools
import os
import select
import signal
import socket
import sys
import threading
import time
import types
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from tcpwatch.lab.protocol import Channel, new_line

T = TypeVar("T")
Address = tuple[str, int]

_STANDARD = {0: "stdin", 1: "stdout", 2: "stderr"}
_SHOWN = 40  # characters of data in a call's arguments
_INTERNET = (socket.AF_INET, socket.AF_INET6)
_C_CALLS = frozenset({"aio_read", "aio_write", "aio_error", "aio_suspend", "aio_return"})
"""Functions of C libraries that are told: those by which Python programs do asynchronous I/O."""


class Teller:
    """Tells calls over a channel: from several threads, and from within signal handlers."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._ids = itertools.count(1)
        self._lock = threading.RLock()
        self._waiting: deque[tuple[dict[str, Any], Sequence[int]]] = deque()
        self._sending = False

    def send(self, body: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Stamps and sends one message whole, though a signal's handler may send another within."""
        with self._lock, self.channel.telling():
            self._waiting.append((body | {"t_ns": time.monotonic_ns()}, fds))
            while self._waiting and not self._sending:
                self._sending = True
                try:
                    while self._waiting:
                        message, descriptors = self._waiting.popleft()
                        self.channel.send(message, fds=descriptors)
                finally:
                    self._sending = False

    def begin(self, name: str, arguments: str, sock: TracedSocket | None = None) -> int:
        """Tells that a call is made; gives the number to tell its return by."""
        number = -next(self._ids)  # below zero: not asked for by tcpwatch
        body = {"called": number, "call": name, "arguments": arguments}
        self.send(body | _addresses(sock))
        return number

    def end(
        self,
        number: int,
        result: object,
        error: int | None = None,
        sock: TracedSocket | None = None,
        **more: Any,
    ) -> None:
        """Tells that a call has come back, with its result or its errno."""
        body = {"returned": number, "result": result, **more}
        if error is not None:
            body["errno"] = error
        self.send(body | _addresses(sock))

    def call(
        self,
        name: str,
        arguments: str,
        function: Callable[[], T],
        *,
        show: Callable[[T], object] = lambda _result: None,
        sock: TracedSocket | None = None,
        subject: Callable[[T], TracedSocket | None] = lambda _result: None,
    ) -> T:
        """Makes a call and tells of it before and after. ``subject``: a socket that it made."""
        number = self.begin(name, arguments, sock)
        try:
            result = function()
        except OSError as failure:
            self.end(number, None, failure.errno or errno.EAGAIN, sock)
            raise
        except Exception as refusal:  # Python's own, before any call: select() of too high a number
            self.end(number, type(refusal).__name__, None, sock)
            raise
        except BaseException:  # a handler's SystemExit: the call is over all the same
            self.end(number, None, errno.EINTR, sock)
            raise
        self.end(number, show(result), None, subject(result) or sock)
        return result


class TracedSocket(socket.socket):
    """socket.socket, telling its calls where it is of an internet family."""

    teller: Teller
    open: dict[int, TracedSocket] = {}  # noqa: RUF012 - the process's descriptors: shared
    listens = False
    remote: Address | None = None  # kept: after a RST getpeername() fails

    def __init__(
        self,
        family: int = -1,
        type: int = -1,
        proto: int = -1,
        fileno: int | None = None,  # noqa: A002 - socket's
    ) -> None:
        def make() -> None:
            super(TracedSocket, self).__init__(family, type, proto, fileno)

        if fileno is not None or family not in (-1, *_INTERNET):
            make()
        else:
            names = "AF_INET6" if family == socket.AF_INET6 else "AF_INET"
            kind = "SOCK_DGRAM" if type == socket.SOCK_DGRAM else "SOCK_STREAM"
            self.teller.call("socket", f"{names}, {kind}", make, show=lambda _: self.fileno())
        if self.family in _INTERNET:
            self.open[self.fileno()] = self

    def _tell(
        self, name: str, arguments: str, make: Callable[[], T], show: Callable[[T], object]
    ) -> T:
        if self.family not in _INTERNET:
            return make()
        return self.teller.call(name, arguments, make, show=show, sock=self)

    def bind(self, address: Any, /) -> None:
        self._tell("bind", _where(address), lambda: super(TracedSocket, self).bind(address), _done)

    def listen(self, backlog: int = 128, /) -> None:
        self._tell("listen", str(backlog), lambda: super(TracedSocket, self).listen(backlog), _done)
        self.listens = True

    def accept(self) -> tuple[socket.socket, Any]:
        def made(result: tuple[socket.socket, Any]) -> TracedSocket | None:
            return result[0] if isinstance(result[0], TracedSocket) else None

        return self.teller.call(
            "accept",
            "",
            super().accept,
            show=lambda result: result[0].fileno(),
            sock=self,
            subject=made,
        )

    def connect(self, address: Any, /) -> None:
        make = super().connect
        self._tell("connect", _where(address), lambda: make(address), _done)

    def connect_ex(self, address: Any, /) -> int:
        make = super().connect_ex
        return self._tell(
            "connect",
            _where(address),
            lambda: make(address),
            lambda code: errno.errorcode.get(code, 0),
        )

    def send(self, data: Any, flags: int = 0, /) -> int:
        make = super().send
        return self._tell("send", _data(data), lambda: make(data, flags), _same)

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        make = super().sendall
        self._tell("sendall", _data(data), lambda: make(data, flags), lambda _: len(data))

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        make = super().recv
        peek = ", MSG_PEEK" if flags & socket.MSG_PEEK else ""
        return self._tell("recv", f"{size}{peek}", lambda: make(size, flags), len)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0, /) -> int:
        make = super().recv_into
        size = nbytes or len(buffer)
        return self._tell("recv", str(size), lambda: make(buffer, nbytes, flags), _same)

    def shutdown(self, how: int, /) -> None:
        make = super().shutdown
        name = {socket.SHUT_RD: "SHUT_RD", socket.SHUT_WR: "SHUT_WR"}.get(how, "SHUT_RDWR")
        self._tell("shutdown", name, lambda: make(how), _done)

    def setsockopt(self, *arguments: Any) -> None:
        make: Callable[..., None] = super().setsockopt
        shown = ", ".join(map(str, arguments))
        self._tell("setsockopt", shown, lambda: make(*arguments), _done)

    def getsockopt(self, *arguments: Any) -> Any:
        make: Callable[..., Any] = super().getsockopt
        shown = (
            "SO_ERROR" if arguments[1:] == (socket.SO_ERROR,) else ", ".join(map(str, arguments))
        )
        name = "getsockopt"
        return self._tell(
            name,
            shown,
            lambda: make(*arguments),
            lambda value: errno.errorcode.get(value, value) if shown == "SO_ERROR" else str(value),
        )

    def setblocking(self, flag: bool, /) -> None:  # noqa: FBT001 - socket's
        make = super().setblocking
        self._tell("setblocking", str(flag), lambda: make(flag), _done)

    def _real_close(self, *arguments: Any) -> None:
        make: Callable[..., None] = super()._real_close  # type: ignore[misc]
        self.open.pop(self.fileno(), None)
        if self.fileno() >= 0:
            self._tell("close", "", lambda: make(*arguments), _done)


def _same(value: T) -> T:
    return value


def _done(_result: object) -> int:
    return 0


def _where(address: Any) -> str:
    ip, port = address[0], address[1]
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def _data(data: Any) -> str:
    """Short data as it is; of longer the beginning and the length, as the lab's own calls do."""
    octets = bytes(data)
    shown = repr(octets)
    return shown if len(shown) <= _SHOWN else f"{octets[:16]!r}... {len(octets)} octets"


def _addresses(sock: TracedSocket | None) -> dict[str, Address | None]:
    if sock is None or sock.fileno() < 0 or sock.family not in _INTERNET:
        return {"local": None, "remote": None}
    local = _address(sock.getsockname())
    try:
        sock.remote = _address(sock.getpeername())
    except OSError:
        pass
    return {"local": local, "remote": sock.remote}


def _address(raw: Any) -> Address | None:
    """None while no port is chosen."""
    return (raw[0].partition("%")[0], raw[1]) if raw[1] else None


def _label(item: Any) -> str:
    """A descriptor as a reader knows it: ``stdin``, ``listener``, or its number."""
    fd = item if isinstance(item, int) else item.fileno()
    sock = TracedSocket.open.get(fd)
    if sock is not None and sock.listens:
        return "listener"
    return _STANDARD.get(fd, str(fd))


def _labels(items: Iterable[Any]) -> str:
    return ", ".join(_label(item) for item in items)


class _Poll:
    """select.poll() or select.epoll(), telling its waits."""

    def __init__(self, teller: Teller, inner: Any, name: str, unit_s: float) -> None:
        self._teller, self._inner, self._name, self._unit_s = teller, inner, name, unit_s
        self._watched: dict[int, None] = {}

    def register(self, item: Any, *mask: int) -> None:
        self._inner.register(item, *mask)
        self._watched[item if isinstance(item, int) else item.fileno()] = None

    def unregister(self, item: Any) -> None:
        self._inner.unregister(item)
        self._watched.pop(item if isinstance(item, int) else item.fileno(), None)

    def poll(self, timeout: float | None = None, *more: int) -> list[tuple[int, int]]:
        timed = f"; {timeout * self._unit_s:g} s" if timeout is not None and timeout >= 0 else ""

        def show(ready: list[tuple[int, int]]) -> str:
            return f"{_labels(fd for fd, _ in ready)} ready" if ready else "timeout"

        return self._teller.call(
            self._name,
            _labels(self._watched) + timed,
            lambda: self._inner.poll(timeout, *more),
            show=show,
        )

    def __enter__(self) -> _Poll:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Input(io.RawIOBase):
    """Standard input, reading by the traced os.read()."""

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 0

    def readinto(self, buffer: Any, /) -> int:
        data = os.read(0, len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Output(io.RawIOBase):
    """Standard output or error, writing by the traced os.write()."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def write(self, data: Any, /) -> int:
        return os.write(self._fd, bytes(data))


class Tracer:
    """Puts the traced names into their modules. There is no way back: the process is a program."""

    def __init__(self, channel: Channel) -> None:
        self.teller = Teller(channel)

    def install(self) -> None:
        TracedSocket.teller = self.teller
        socket.socket = TracedSocket  # type: ignore[misc]
        self._install_select()
        self._install_processes()
        self._install_signals()
        self._install_files()
        self._install_c_calls()

    def _install_select(self) -> None:
        plain_select, plain_poll = select.select, select.poll

        def traced_select(
            read: Sequence[Any],
            write: Sequence[Any],
            odd: Sequence[Any],
            timeout: float | None = None,
        ) -> tuple[list[Any], list[Any], list[Any]]:
            kinds = (("read", read), ("write", write), ("except", odd))
            asked = [f"{kind} {_labels(items)}" for kind, items in kinds if items]
            timed = [f"{timeout:g} s"] if timeout is not None else []

            def show(ready: tuple[list[Any], list[Any], list[Any]]) -> str:
                kinds = zip(("readable", "writable", "exceptional"), ready, strict=True)
                return (
                    ", ".join(f"{_labels(items)} {kind}" for kind, items in kinds if items)
                    or "timeout"
                )

            return self.teller.call(
                "select",
                "; ".join([*asked, *timed]),
                lambda: plain_select(read, write, odd, timeout),
                show=show,
            )

        select.select = traced_select  # type: ignore[assignment]
        select.poll = lambda: _Poll(self.teller, plain_poll(), "poll", 1e-3)  # type: ignore[misc,assignment,return-value]
        if hasattr(select, "epoll"):
            plain_epoll = select.epoll

            def traced_epoll(*arguments: int) -> _Poll:
                return _Poll(self.teller, plain_epoll(*arguments), "epoll_wait", 1)

            select.epoll = traced_epoll  # type: ignore[misc,assignment]

    def _install_processes(self) -> None:
        plain_fork, plain_waitpid, plain_exit, plain_kill = os.fork, os.waitpid, os._exit, os.kill

        def fork() -> int:
            theirs, mine = new_line()
            number = self.teller.begin("fork", "")
            pid = plain_fork()
            if pid == 0:
                for fd in theirs:
                    os.close(fd)
                self.teller.channel.close()  # or the parent's end would not be seen
                self.teller = TracedSocket.teller = Teller(mine)
                self.teller.send({"hello": os.getpid()})
                return 0
            mine.close()
            body = {"returned": number, "result": pid}
            self.teller.send(body | _addresses(None), theirs)
            for fd in theirs:
                os.close(fd)
            return pid

        def waitpid(pid: int, options: int) -> tuple[int, int]:
            def show(result: tuple[int, int]) -> list[int]:
                ended, status = result
                return [ended, os.waitstatus_to_exitcode(status) if ended else 0]

            text = f"{pid}, WNOHANG" if options & os.WNOHANG else str(pid)
            return self.teller.call("waitpid", text, lambda: plain_waitpid(pid, options), show=show)

        def leave(status: int) -> NoReturn:
            self.teller.begin("exit", str(status))
            plain_exit(status)

        os.fork = fork
        os.waitpid = waitpid
        os.wait = lambda: waitpid(-1, 0)
        os._exit = leave  # noqa: SLF001
        os.kill = lambda pid, number: self.teller.call(
            "kill", f"{pid}, {_signal_name(number)}", lambda: plain_kill(pid, number)
        )

    def _install_signals(self) -> None:
        plain_signal, plain_pause = signal.signal, signal.pause

        def traced_signal(number: int, action: Any) -> Any:
            name = _signal_name(number)
            is_handler = callable(action) and not isinstance(action, signal.Handlers)

            def handler(received: int, frame: types.FrameType | None) -> None:
                call = self.teller.begin(f"{name} handler", "")
                try:
                    action(received, frame)
                finally:
                    self.teller.end(call, None)

            shown = getattr(action, "name", None) or getattr(action, "__name__", str(action))
            return self.teller.call(
                "signal",
                f"{name}, {shown}",
                lambda: plain_signal(number, handler if is_handler else action),
            )

        signal.signal = traced_signal  # type: ignore[assignment]
        signal.pause = lambda: self.teller.call("pause", "", plain_pause)

    def _install_files(self) -> None:
        plain_read, plain_write, plain_fcntl = os.read, os.write, fcntl.fcntl

        def read(fd: int, size: int, /) -> bytes:
            def show(data: bytes) -> object:
                return _data(data) if fd == 0 and data else len(data)

            text = _STANDARD.get(fd, f"{fd}, {size}")
            return self.teller.call("read", text, lambda: plain_read(fd, size), show=show)

        def write(fd: int, data: Any, /) -> int:
            octets = bytes(data)
            if fd not in (1, 2):
                return self.teller.call(
                    "write", f"{fd}, {_data(octets)}", lambda: plain_write(fd, octets), show=_same
                )
            # Nobody reads a lab's terminal: what is printed goes to whoever watches.
            number = self.teller.begin("print", _data(octets))
            self.teller.end(number, len(octets), printed=octets.decode("utf-8", "replace"))
            return len(octets)

        def traced_fcntl(fd: Any, command: int, argument: Any = 0) -> Any:
            shown = f"{_label(fd)}, {_command(command)}, {_flags(command, argument)}"
            return self.teller.call("fcntl", shown, lambda: plain_fcntl(fd, command, argument))

        os.read, os.write = read, write
        fcntl.fcntl = traced_fcntl
        sys.stdin = io.TextIOWrapper(io.BufferedReader(_Input()), encoding="utf-8")
        sys.stdout = io.TextIOWrapper(io.BufferedWriter(_Output(1)), "utf-8", line_buffering=True)
        sys.stderr = io.TextIOWrapper(io.BufferedWriter(_Output(2)), "utf-8", line_buffering=True)


    def _install_c_calls(self) -> None:
        plain, teller = ctypes.CDLL.__getitem__, self.teller

        def function(library: ctypes.CDLL, name: str) -> Any:
            if name not in _C_CALLS:
                return plain(library, name)

            class Told(library._FuncPtr):  # type: ignore[name-defined,misc]  # noqa: SLF001
                def __call__(self, *arguments: Any) -> Any:
                    make = super().__call__
                    return teller.call(name, "", lambda: make(*arguments), show=show)

            def show(result: int) -> object:
                # aio_error(3) gives the errno of what was begun; it does not fail with it.
                return errno.errorcode.get(result, result) if name == "aio_error" else result

            return Told((name, library))

        ctypes.CDLL.__getitem__ = function  # type: ignore[method-assign]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{int(number)}"


def _command(number: int) -> str:
    names = (name for name in vars(fcntl) if name.startswith("F_"))
    return next((name for name in names if getattr(fcntl, name) == number), str(number))


def _flags(command: int, argument: Any) -> str:
    if command != fcntl.F_SETFL:
        return str(argument)
    known = ("O_NONBLOCK", "O_ASYNC", "O_APPEND")
    return " | ".join(name for name in known if argument & getattr(os, name, 0)) or "0"


def run_program(channel: Channel, path: str, arguments: Sequence[str], stdin: int) -> NoReturn:
    """Becomes the program at ``path``: its text is run as ``__main__``, and its end is our end.

    An exception that it does not catch is told as ``crashed``, with the file and line.
    """
    os.dup2(stdin, 0)
    os.close(stdin)
    plain_exit = os._exit  # noqa: SLF001
    tracer = Tracer(channel)
    tracer.install()
    status = 0
    try:
        text = Path(path).read_text(encoding="utf-8")
        module = types.ModuleType("__main__")
        module.__file__ = path
        sys.modules["__main__"] = module
        sys.argv = [path, *arguments]
        sys.path.insert(0, str(Path(path).parent))
        exec(compile(text, path, "exec"), module.__dict__)  # noqa: S102 - that is what it is for
        sys.stdout.flush()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001 - it is the program's, and is told
        tracer.teller.send({"crashed": _describe(error, path)})
        status = 1
    tracer.teller.begin("exit", str(status))
    plain_exit(status)


def _describe(error: BaseException, path: str) -> str:
    """``file:line: what``, of the innermost frame in the program's own file."""
    import traceback

    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
    line = lines[-1] if lines else getattr(error, "lineno", 1)
    return f"{path}:{line}: {traceback.format_exception_only(error)[-1].strip()}"
