"""A program under observation: what it calls in the standard library is told as it happens.

Owns: which names of `socket`, `select`, `os`, `signal`, `fcntl` and of C libraries are traced in an
actor that becomes a program, and its end. The program itself is plain Python and knows nothing of
this; run by itself it does the same. Must not know what a call means for a TCP state.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import io
import os
import select
import selectors
import signal
import socket
import sys
import threading
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from tcpwatch.lab import spelling
from tcpwatch.lab.protocol import Channel, new_line
from tcpwatch.lab.telling import Teller, plain_exit
from tcpwatch.lab.traced import Input, Output, Poll, TracedSocket, label, labels, same, socket_of

_C_CALLS = frozenset({"aio_read", "aio_write", "aio_error", "aio_suspend", "aio_return"})
"""Functions of C libraries that are told: those by which Python programs do asynchronous I/O."""


class Tracer:
    """Puts the traced names into their modules. There is no way back: the process is a program."""

    def __init__(self, channel: Channel) -> None:
        self.teller = Teller(channel)

    def interrupted(self, number: int, frame: types.FrameType | None) -> None:
        """Python's own handler of SIGINT, which raises KeyboardInterrupt."""
        self.teller.interrupt(lambda: signal.default_int_handler(number, frame))

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
            asked = [f"{kind} {labels(items)}" for kind, items in kinds if items]
            timed = [f"{timeout:g} s"] if timeout is not None else []
            text = "; ".join([*asked, *timed])

            def show(ready: tuple[list[Any], list[Any], list[Any]]) -> str:
                kinds = zip(("readable", "writable", "exceptional"), ready, strict=True)
                found = [f"{labels(items)} {kind}" for kind, items in kinds if items]
                return ", ".join(found) or "timeout"

            make = plain_select
            return self.teller.call(
                "select", text, lambda: make(read, write, odd, timeout), show=show
            )

        def traced_poll() -> Poll:
            return Poll(self.teller, plain_poll(), "poll", 1e-3)

        # The selectors have taken the plain ones as they were imported.
        select.select = traced_select  # type: ignore[assignment]
        selectors.SelectSelector._select = staticmethod(traced_select)  # type: ignore[attr-defined]  # noqa: SLF001
        select.poll = traced_poll  # type: ignore[misc,assignment]
        selectors.PollSelector._selector_cls = staticmethod(traced_poll)  # type: ignore[attr-defined]  # noqa: SLF001
        if hasattr(select, "epoll"):
            plain_epoll = select.epoll

            def traced_epoll(*arguments: int) -> Poll:
                return Poll(self.teller, plain_epoll(*arguments), "epoll_wait", 1)

            select.epoll = traced_epoll  # type: ignore[misc,assignment]
            selectors.EpollSelector._selector_cls = staticmethod(traced_epoll)  # type: ignore[attr-defined]  # noqa: SLF001

    def _install_processes(self) -> None:
        plain_waitpid, plain_kill = os.waitpid, os.kill

        def reap(name: str, text: str, pid: int, options: int) -> tuple[int, int]:
            def show(result: tuple[int, int]) -> list[int]:
                ended, status = result
                return [ended, os.waitstatus_to_exitcode(status) if ended else 0]

            return self.teller.call(name, text, lambda: plain_waitpid(pid, options), show=show)

        def waitpid(pid: int, options: int) -> tuple[int, int]:
            text = f"{pid}, WNOHANG" if options & os.WNOHANG else str(pid)
            return reap("waitpid", text, pid, options)

        def leave(status: int) -> NoReturn:
            self.teller.begin("exit", str(status))
            plain_exit(status)

        def kill(pid: int, number: int) -> None:
            text = f"{pid}, {spelling.signal_name(number)}"
            self.teller.call("kill", text, lambda: plain_kill(pid, number))

        os.fork = self._traced_fork(os.fork)
        os.waitpid = waitpid
        os.wait = lambda: reap("wait", "", -1, 0)
        os._exit = leave
        os.kill = kill

    def _traced_fork(self, plain_fork: Callable[[], int]) -> Callable[[], int]:
        def fork() -> int:
            theirs, mine = new_line()
            reading, writing = os.pipe()
            number = self.teller.begin("fork", "")
            try:
                pid = plain_fork()
            except OSError as failure:
                self.teller.end(number, None, error=failure.errno)
                mine.close()
                _close([*theirs, reading, writing])
                raise
            if pid == 0:
                self.teller.become_child(mine)
                _close([*theirs, reading, writing])
                return 0
            mine.close()
            os.close(writing)
            # Not before the child has spoken: killed before, it would be nobody that one knows.
            with open(reading, "rb", buffering=0) as until_then:  # noqa: PTH123 - a descriptor
                until_then.read()
            self.teller.end(number, pid, fds=theirs)
            _close(theirs)
            return pid

        return fork

    def _install_signals(self) -> None:
        plain_signal, plain_pause = signal.signal, signal.pause

        def traced_signal(number: int, action: Any) -> Any:
            name = spelling.signal_name(number)
            is_handler = callable(action) and not isinstance(action, signal.Handlers)
            chosen = self._told(name, action) if is_handler else action
            previous = self.teller.call(
                "signal", f"{name}, {spelling.action(action)}", lambda: plain_signal(number, chosen)
            )
            return getattr(previous, "__wrapped__", previous)

        signal.signal = traced_signal  # type: ignore[assignment]
        signal.pause = lambda: self.teller.call("pause", "", plain_pause)

    def _told(self, name: str, action: Callable[..., Any]) -> Callable[..., None]:
        """A signal's handler that tells when it runs."""

        def run(received: int, frame: types.FrameType | None) -> None:
            call = self.teller.begin(f"{name} handler", "")
            try:
                action(received, frame)
            finally:
                self.teller.end(call, None)

        def handler(received: int, frame: types.FrameType | None) -> None:
            self.teller.interrupt(lambda: run(received, frame))

        handler.__wrapped__ = action  # type: ignore[attr-defined]
        return handler

    def _install_files(self) -> None:
        plain_read, plain_write, plain_fcntl = os.read, os.write, fcntl.fcntl

        def read(fd: int, size: int, /) -> bytes:
            def show(data: bytes) -> object:
                return spelling.data(data) if fd == 0 and data else len(data)

            text = f"{label(fd)}" if fd == 0 else f"{fd}, {size}"
            return self.teller.call(
                "read", text, lambda: plain_read(fd, size), show=show, on=socket_of(fd)
            )

        def write(fd: int, data: Any, /) -> int:
            octets = bytes(data)
            text = spelling.data(octets)
            if fd not in (1, 2):
                on = socket_of(fd)
                text = text if on is not None else f"{fd}, {text}"
                make = plain_write
                return self.teller.call("write", text, lambda: make(fd, octets), show=same, on=on)
            # Nobody reads a lab's terminal: what is printed goes to whoever watches.
            number = self.teller.begin("print", text)
            self.teller.end(number, len(octets), printed=octets.decode("utf-8", "replace"))
            return len(octets)

        def traced_fcntl(fd: Any, command: int, argument: Any = 0) -> Any:
            shown = f"{label(fd)}, {spelling.control(command, argument)}"
            make = plain_fcntl
            return self.teller.call(
                "fcntl", shown, lambda: make(fd, command, argument), on=socket_of(fd)
            )

        os.read, os.write = read, write
        fcntl.fcntl = traced_fcntl
        sys.stdin = io.TextIOWrapper(io.BufferedReader(Input()), encoding="utf-8")
        sys.stdout = io.TextIOWrapper(io.BufferedWriter(Output(1)), "utf-8", line_buffering=True)
        sys.stderr = io.TextIOWrapper(io.BufferedWriter(Output(2)), "utf-8", line_buffering=True)

    def _install_c_calls(self) -> None:
        plain, teller = ctypes.CDLL.__getitem__, self.teller

        def function(library: ctypes.CDLL, name: str) -> Any:
            if name not in _C_CALLS:
                return plain(library, name)

            plain_type = library._FuncPtr  # noqa: SLF001 - ctypes has no other way to ask

            class Told(plain_type):  # type: ignore[misc,valid-type]
                _flags_, _restype_ = plain_type._flags_, plain_type._restype_

                def __call__(self, *arguments: Any) -> Any:
                    make = super().__call__
                    return teller.call(name, "", lambda: make(*arguments), show=show)

            def show(result: int) -> object:
                # aio_error(3) gives the errno of what was begun; it does not fail with it.
                return errno.errorcode.get(result, result) if name == "aio_error" else result

            return Told((name, library))

        ctypes.CDLL.__getitem__ = function  # type: ignore[method-assign]


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


def run_program(channel: Channel, path: str, arguments: Sequence[str], stdin: int) -> NoReturn:
    """Becomes the program at ``path``: its text is run as ``__main__``, and its end is our end.

    An exception that it does not catch is told as ``crashed``, with the file and line.
    """
    os.dup2(stdin, 0)
    os.close(stdin)
    tracer = Tracer(channel)
    plain_signal, plain_kill = signal.signal, os.kill
    signal.signal(signal.SIGINT, tracer.interrupted)
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
        _finish()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        _finish()
    except KeyboardInterrupt:  # as Python does, so that the parent learns of the signal
        plain_signal(signal.SIGINT, signal.SIG_DFL)
        plain_kill(os.getpid(), signal.SIGINT)
    except BaseException as error:  # noqa: BLE001 - it is the program's, and is told
        tracer.teller.send({"crashed": _describe(error, path)})
        status = 1
    tracer.teller.begin("exit", str(status))
    plain_exit(status)


def _finish() -> None:
    """What the interpreter does at the end: waits for the threads, and prints what is left."""
    threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001 - it is what Python calls
    sys.stdout.flush()


def _describe(error: BaseException, path: str) -> str:
    """``file:line: what``, of the innermost frame in the program's own file."""
    import traceback

    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
    line = lines[-1] if lines else getattr(error, "lineno", 1)
    return f"{path}:{line}: {traceback.format_exception_only(error)[-1].strip()}"
