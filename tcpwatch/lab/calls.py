"""Calls in progress: requests to actors and supervisor, and the facts that come back.

Owns: the one thread that reads all channels, the events it makes of them, what is still awaited,
and the low-water mark. Must not know sockets' verbs, namespaces or scenarios.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple, TypeVar

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.lab.failures import (
    CheckFailed,
    DeadlinePassed,
    Ending,
    LabClosed,
    ProcessDied,
    ProgramFailed,
    Unsupported,
    signal_name,
)
from tcpwatch.lab.lines import Call, Line, Returned, address, changed, user_call
from tcpwatch.lab.protocol import Channel, Message, open_line
from tcpwatch.model.events import (
    CALLS,
    PLAY,
    CallPhase,
    Payload,
    ProcessChange,
    Vantage,
)
from tcpwatch.model.witness import Observation

__all__ = [
    "Call",
    "CheckFailed",
    "DeadlinePassed",
    "Ending",
    "LabClosed",
    "Line",
    "ProcessDied",
    "Returned",
    "Switchboard",
    "Unsupported",
]

_EXIT_MS = 1000  # from closing its files to its end; some microseconds are usual
_STAMP_SLACK_NS = 2_000_000  # an actor may be preempted between taking a stamp and sending it
_STUCK_NS = 100_000_000  # or be stopped by a signal there
T = TypeVar("T")


class _Asked(NamedTuple):
    future: Future[Any]
    arrived: Callable[[Message], None]


class Switchboard:
    """All lines of a lab. Its public methods may be called from any thread.

    ``emit`` takes each observation, from whichever thread makes it, and must not block.
    ``patience_s`` bounds every waiting; so does a deadline, once set.
    """

    def __init__(
        self, supervisor: Channel, emit: Callable[[Observation], None], patience_s: float
    ) -> None:
        self._deadline_ns: int | None = None
        self._news = threading.Condition()  # something awaited came, or the deadline was moved
        self._patience_s = patience_s
        self._supervisor = supervisor
        self._emit = emit
        self._ids = itertools.count(1)
        # Guards all below, and makes one step of taking a stamp and emitting what it is for.
        self._lock = threading.RLock()
        self._closed: LabClosed | None = None
        self._fault: ProgramFailed | None = None
        self._to_close: list[Callable[[], None]] = []
        self._asked: dict[int, _Asked] = {}
        self._lines: dict[int, Line] = {}  # by pid inside the lab: a pid's last holder
        self._every_line: list[Line] = []
        self._marks: dict[int, int] = {}  # id -> the time before which what it stands for cannot be
        self._passed_ns = time.monotonic_ns()  # all that was sent before it has been emitted
        self._watermark_ns = self._passed_ns
        self._rounds = 0  # of the reader; odd while it is at work
        self._selector = selectors.DefaultSelector()
        self._wake, self._waker = socket.socketpair()
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._selector.register(supervisor, selectors.EVENT_READ, supervisor)
        self._reader = threading.Thread(target=self._read, name="tcpwatch-calls", daemon=True)
        self._reader.start()

    # --- what a play asks for ---------------------------------------------------------------

    def ask(self, do: str, **body: Any) -> Message:
        """Asks the supervisor and waits.

        Raises OSError as the supervisor met it, LabClosed, DeadlinePassed.
        """
        future: Future[Message] = Future()
        self._begin_ask(_Asked(future, partial(_give, future)), do, body)
        message = self.wait(future, f"the lab's supervisor has not answered to {do!r}")
        _raise_errno(message)
        return message

    def spawn(self, host: str, name: str, *, observed: bool = True) -> Line:
        """A new process at ``host``. Raises as `ask`, and ProcessDied."""
        future: Future[Line] = Future()

        def arrived(message: Message) -> None:
            try:
                _raise_errno(message)
            except OSError as error:
                self._marks.pop(message.body["re"], None)
                _fail(future, error)
                return
            line = Line(host, name, self._open(message), message.body["pid"], observed=observed)
            line.mark = message.body["re"]
            self._add(line)
            _give(future, line)

        self._begin_ask(_Asked(future, arrived), "spawn", {"host": host}, marked=True)
        line = self.wait(future, f"{name} has not started")
        self.wait(line.ready, f"{name} has not started")
        return line

    def begin(
        self, line: Line, verb: str, on: int | None, args: list[Any], *, blob: bytes = b"",
        arguments: str = "", child_name: str = "", fds: Sequence[int] = (),
    ) -> Call:  # fmt: skip
        """Lets an actor begin a call.

        Raises ProcessDied, LabClosed, and a usage error while the process is in another call.
        """
        with self._lock:
            self._raise_if_closed()
            if line.ending is not None or line.gone:
                raise ProcessDied(line.name, line.ending or Ending())
            if line.is_program:
                raise TcpwatchError(
                    f"{line.name} runs a program, which makes its own calls",
                    "let another process make this one",
                    ExitCode.USAGE,
                )
            if line.call is not None:
                raise TcpwatchError(
                    f"{line.name} is still in {line.call.verb}(): one call at a time",
                    "wait for that call's result() first, or let another process make this one",
                    ExitCode.USAGE,
                )
            call = Call(next(self._ids), verb, arguments, child_name)
            line.call = call
            self._marks[call.id] = time.monotonic_ns()
        request = {"id": call.id, "verb": verb, "on": on, "args": args}
        with contextlib.suppress(OSError):  # it just died: its end is on its way, and ends the call
            line.channel.send(request, blob, fds)
        return call

    def note(self, payload: Payload, host: str | None = None) -> None:
        """Emits a fact of the play's own, as of now; with ``host`` a call that we made there."""
        vantage = Vantage(PLAY) if host is None else Vantage(CALLS, side=host)
        with self._lock:
            self._emit(Observation(time.monotonic_ns(), vantage, payload))

    def number(self) -> int:
        """A number that no other call has."""
        return next(self._ids)

    @property
    def fault(self) -> ProgramFailed | None:
        """Why a program of the play failed by itself: an exception that it left uncaught."""
        return self._fault

    def kill(self, line: Line, number: int) -> None:
        """Sends a signal. Raises OSError (ESRCH when it is gone), LabClosed, DeadlinePassed."""
        with self._lock:
            self._raise_if_closed()
            name = signal_name(number)
            self._tell(line, time.monotonic_ns(), changed(line, ProcessChange.SIGNALLED, name))
        self.ask("kill", pid=line.inner_pid, signal=number)

    def wait(self, future: Future[T], otherwise: str) -> T:
        """What ``future`` gives. Raises DeadlinePassed with ``otherwise`` as its reason."""
        future.add_done_callback(self._nudge)
        self._until(future.done, otherwise)
        return future.result()

    def until(self, true: Callable[[], bool], otherwise: str) -> None:
        """Waits until ``true()``, looked at after each message. Raises as `wait`, and LabClosed."""
        self._until(lambda: true() or self._closed is not None, otherwise)
        if not true():
            self._raise_if_closed()

    def _until(self, true: Callable[[], bool], otherwise: str) -> None:
        patience_ends_ns = time.monotonic_ns() + round(self._patience_s * 1e9)
        with self._news:
            while not true():
                if self._fault is not None:
                    raise self._fault
                left_ns = patience_ends_ns - time.monotonic_ns()
                limit = f"within {self._patience_s:g} s"
                if self._deadline_ns is not None:
                    left_ns = min(left_ns, self._deadline_ns - time.monotonic_ns())
                    limit += " or before the deadline"
                if left_ns <= 0:
                    raise DeadlinePassed(f"{otherwise} {limit}")
                self._news.wait(left_ns / 1e9)

    def children_of(self, line: Line) -> list[Line]:
        """The processes that it has forked so far, in order."""
        with self._lock:
            return [other for other in self._every_line if other.parent is line]

    def on_close(self, close: Callable[[], None]) -> None:
        """What is to be closed with the lab."""
        with self._lock:
            self._to_close.append(close)

    def set_deadline(self, deadline_ns: int | None) -> None:
        """Ends every waiting, also one under way, at that time (CLOCK_MONOTONIC)."""
        with self._news:
            self._deadline_ns = deadline_ns
            self._news.notify_all()

    def _nudge(self, _: object = None) -> None:
        with self._news:
            self._news.notify_all()

    def watermark(self) -> int:
        """CLOCK_MONOTONIC nanoseconds before which nothing more will be emitted.

        One thing can undercut it: an actor that is kept for longer than 0.1 s between the stamp
        of a call and telling of it, or for 2 ms where the system has no memfd.
        """
        rounds = self._rounds
        with self._lock:
            now_ns = self._nothing_told_before(time.monotonic_ns())
            mark_ns = now_ns if self._is_quiet(rounds) else self._passed_ns
            mark_ns = min([mark_ns, *self._marks.values()])
            self._watermark_ns = max(self._watermark_ns, mark_ns)
            return self._watermark_ns

    def _nothing_told_before(self, now_ns: int) -> int:
        """Since when an actor may have a stamp that it has not told yet; ``now_ns`` where none has.

        It must be asked before the channels are: what is told by then, they have.
        """
        mark_ns = now_ns
        for line in tuple(self._every_line):
            cell = line.channel.cell
            if cell is None:
                since_ns = now_ns - _STAMP_SLACK_NS if line.is_busy else now_ns
            else:
                # A stopped process must not stop the time.
                since_ns = max(cell.since_ns or now_ns, now_ns - _STUCK_NS)
            mark_ns = min(mark_ns, since_ns)
        return mark_ns

    def close(self) -> None:
        """Ends every waiting with LabClosed and tells the supervisor to end. Idempotent."""
        self._shut(LabClosed())
        if threading.current_thread() is not self._reader:
            self._reader.join()
        with self._lock:
            while self._to_close:
                self._to_close.pop()()

    # --- the reader ---------------------------------------------------------------------------

    def _is_quiet(self, rounds: int) -> bool:
        """Whether the reader is asleep and nothing has come since: what comes is of later."""
        if rounds % 2 or self._closed is not None:
            return False
        poller = select.poll()
        poller.register(self._selector.fileno(), select.POLLIN)
        return not poller.poll(0) and self._rounds == rounds

    def _read(self) -> None:
        while self._closed is None:
            self._rounds += 1 - self._rounds % 2  # from a round at work into the next: still odd
            passed_ns = self._nothing_told_before(time.monotonic_ns())
            ready = self._selector.select(0)
            if not ready:
                self._passed_ns = passed_ns
                self._rounds += 1
                self._selector.select()
                continue
            for key, _ in ready:
                if isinstance(key.data, Line):
                    self._drain(key.data)
                elif isinstance(key.data, Channel):
                    self._drain_supervisor()
        with self._lock:
            self._selector.close()
            for channel in (self._supervisor, *(line.channel for line in self._every_line)):
                channel.close()
        self._wake.close()
        self._waker.close()

    def _drain_supervisor(self) -> None:
        messages, gone = self._supervisor.receive_available()
        for message in messages:
            with self._lock:
                if "ended" in message.body:
                    self._on_reaped(message)
                else:
                    asked = self._asked.pop(message.body["re"], None)
                    if asked is not None:
                        asked.arrived(message)
        if gone:
            self._shut(LabClosed("the lab's supervisor has ended"))

    def _drain(self, line: Line) -> None:
        """Takes all that an actor has said, and notices its end."""
        if line.gone or line.is_drained:
            return  # what it has said after that comes after it
        line.is_drained = True
        messages, gone = line.channel.receive_available()
        with self._lock:
            for message in messages:
                self._on_message(line, message)
            line.is_drained = False
            self._nudge()
            if gone:
                line.gone = True
                self._selector.unregister(line.channel)
                line.channel.close()
                self._on_gone(line)

    def _on_message(self, line: Line, message: Message) -> None:
        body = message.body
        if "hello" in body:
            line.pid = message.pid or body["hello"]
            change = ProcessChange.STARTED if line.parent is None else ProcessChange.FORKED
            self._tell(line, body["t_ns"], changed(line, change))
            self._born(line)
            _give(line.ready, None)
        elif "called" in body:
            self._on_called(line, body)
        elif "returned" in body:
            call = line.own.get(body["returned"]) if line.is_program else line.call
            if call is not None:
                self._on_returned(line, call, message)
        elif "crashed" in body and self._fault is None:
            self._fault = ProgramFailed(line.name, body["crashed"])

    def _on_called(self, line: Line, body: dict[str, Any]) -> None:
        if line.is_program:
            arguments = body["arguments"]
            if body["call"] in ("kill", "waitpid"):
                arguments = self._with_name(arguments)
            call = Call(next(self._ids), body["call"], arguments)
            line.own[body["called"]] = call
            line.begun[call.verb] += 1
            if call.verb == "fork":
                line.children += 1
                number = f"{line.name.partition(' ')[2]}." if line.parent is not None else ""
                call.child_name = f"child {number}{line.children}"
        elif line.call is not None:
            call = line.call
        else:
            return
        self._tell(line, body["t_ns"], user_call(line, call, CallPhase.CALLED, body))
        self._marks.pop(call.id, None)
        if call.verb == "fork":  # a child that is not known yet may have told of its birth
            self._marks[call.id] = body["t_ns"]
        if call.verb == "run":  # it does not come back: from now on the calls are the program's
            line.is_program, line.call = True, None
            _give(call.done, Returned(0))

    def _with_name(self, arguments: str) -> str:
        """The process that they begin with by its name: its pid is the one inside the lab."""
        inner_pid, comma, more = arguments.partition(", ")
        line = self._lines.get(int(inner_pid)) if inner_pid.isdecimal() else None
        return arguments if line is None else f"{line.name}{comma}{more}"

    def _on_returned(self, line: Line, call: Call, message: Message) -> None:
        body = message.body
        errno = body.get("errno", 0)
        child: Line | None = None

        def finish() -> None:
            told = {**body, "result": child.pid} if child is not None else body
            came_back = user_call(line, call, CallPhase.RETURNED, told)
            self._tell(line, body["t_ns"], came_back)
            self._marks.pop(call.id, None)
            if line.is_program:
                line.calls.append(came_back)
                line.back[call.verb] += 1
                line.printed += body.get("printed", "")
                line.own.pop(body["returned"], None)
            else:
                line.call = None
            local, remote = address(body["local"]), address(body["remote"])
            returned = Returned(body["result"], errno, message.blob, child, local, remote)
            _give(call.done, returned)

        if call.verb == "fork" and not errno:
            child = Line(
                line.host,
                call.child_name,
                self._open(message),
                body["result"],
                parent=line,
                is_program=line.is_program,
            )
            # The child's pid as it is seen here comes with its own first word.
            child.on_birth = finish
            self._add(child)
            return
        if call.waits_for_child and not errno:
            child = self._reaped_by_wait(body)
        finish()

    def _reaped_by_wait(self, body: dict[str, Any]) -> Line | None:
        inner_pid, code = body["result"]
        child = self._lines.get(inner_pid)
        if child is not None:
            self._drain(child)
            self._end(child, Ending.of_exit_code(code), body["t_ns"])
            self._reap(child, body["t_ns"])
            child.waited_for = True
        else:
            body["result"] = inner_pid
        return child

    def _on_reaped(self, message: Message) -> None:
        line = self._lines.get(message.body["ended"])
        if line is not None:
            self._drain(line)  # its last words may still be on the line
            self._end(line, Ending.of_exit_code(message.body["code"]), message.body["t_ns"])
            self._reap(line, message.body["t_ns"])

    def _reap(self, line: Line, t_ns: int) -> None:
        """It is no zombie any more. Of those that the lab itself reaps, nobody wants to hear."""
        if line.parent is not None and not line.reaped:
            line.reaped = True
            self._tell(line, t_ns, changed(line, ProcessChange.REAPED))

    def _on_gone(self, line: Line) -> None:
        """An actor's channel closed. Its parent will say how it ended: the supervisor at once.

        An actor may leave it a zombie, or not care (SIGCHLD ignored): then /proc says it or nobody.
        """
        if line.parent is None or line.ending is not None:
            return
        if not line.pid or not _await_exit(line.pid):
            return  # it never spoke, or is another program by exec(): whoever reaps it will tell
        now_ns = time.monotonic_ns()  # before it can be reaped, where it is a zombie
        ending = Ending.of_zombie(line.pid)
        if ending is None:
            self._drain(line.parent)  # it may have told already
            if line.parent.waits_for_child or line.parent.ending is not None:
                return  # who reaped it is about to tell
        self._end(line, ending or Ending(), now_ns)
        if ending is None:
            self._reap(line, now_ns)

    def _end(self, line: Line, ending: Ending, t_ns: int) -> None:
        if line.ending is not None:
            return
        line.ending = ending
        self._born(line)
        exited = changed(line, ProcessChange.EXITED, ending.signal, ending.exit_status)
        self._tell(line, t_ns, exited)
        if not line.ready.done():
            line.ready.set_exception(ProcessDied(line.name, ending))
        call, line.call = line.call, None
        for own in line.own.values():
            self._marks.pop(own.id, None)
        line.own.clear()
        if call is not None:
            self._marks.pop(call.id, None)
            if call.verb == "exit":
                _give(call.done, Returned(0))
            else:
                _fail(call.done, ProcessDied(line.name, ending, call.verb))
        _give(line.ended, ending)
        self._nudge()

    # --- the rest -------------------------------------------------------------------------------

    def _begin_ask(
        self, asked: _Asked, do: str, body: dict[str, Any], *, marked: bool = False
    ) -> None:
        with self._lock:
            self._raise_if_closed()
            number = next(self._ids)
            self._asked[number] = asked
            if marked:
                self._marks[number] = time.monotonic_ns()
            with contextlib.suppress(OSError):  # its end is on its way, and ends the waiting
                self._supervisor.send({"id": number, "do": do, **body})

    def _open(self, message: Message) -> Channel:
        channel = open_line(message.fds)
        # A stopped process does not read: writing to it must not outlast the patience either.
        patience = struct.pack("@ll", int(self._patience_s) + 1, 0)
        channel.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
        return channel

    def _add(self, line: Line) -> None:
        self._lines[line.inner_pid] = line
        self._every_line.append(line)
        self._selector.register(line.channel, selectors.EVENT_READ, line)

    def _born(self, line: Line) -> None:
        self._marks.pop(line.mark, None)
        on_birth, line.on_birth = line.on_birth, None
        if on_birth is not None:
            on_birth()

    def _tell(self, line: Line, t_ns: int, payload: Payload) -> None:
        if line.observed:
            self._emit(Observation(t_ns, Vantage(CALLS, side=line.host), payload))

    def _raise_if_closed(self) -> None:
        if self._closed is not None:
            raise self._closed

    def _shut(self, why: LabClosed) -> None:
        with self._lock:
            if self._closed is not None:
                return
            self._closed = why
            futures = [asked.future for asked in self._asked.values()]
            for line in self._every_line:
                futures += [line.ready, line.ended]
                futures += [line.call.done] if line.call is not None else []
            for future in futures:
                _fail(future, why)
            self._marks.clear()
            with contextlib.suppress(OSError):
                # Not only close(): a forked child of this process may hold a copy of the socket.
                self._supervisor.sock.shutdown(socket.SHUT_RDWR)
            self._waker.send(b"x")


def _raise_errno(message: Message) -> None:
    if "errno" in message.body:
        raise OSError(message.body["errno"], message.body["text"])


def _await_exit(pid: int) -> bool:
    """Until that process is a zombie, or reaped: a dying one closes its files some while before.

    False where it goes on living.
    """
    if not hasattr(os, "pidfd_open"):
        return True
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return True
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    has_ended = bool(poller.poll(_EXIT_MS))
    os.close(pidfd)
    return has_ended


def _give(future: Future[T], result: T) -> None:
    """Answers what is waited for, unless the lab's closing has answered it already."""
    if not future.done():
        future.set_result(result)


def _fail(future: Future[T], error: BaseException) -> None:
    """As `_give`."""
    if not future.done():
        future.set_exception(error)
