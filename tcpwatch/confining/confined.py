"""A command in a network of its own, as tcpwatch sees it: started, signalled, waited for, ended.

Owns: our end of the keeper's channel, what passes a signal on, the exits that were told. Must not
know what is observed there, nor what an exit means.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.lab.keeper import start
from tcpwatch.lab.namespace import refusal
from tcpwatch.lab.protocol import Message
from tcpwatch.sources.sockdiag import Row

_FORWARDED = (
    *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2),
)
_SI_KERNEL = 0x80  # asm-generic/siginfo.h: the terminal sent it, and to the command as well
_READY_S = 20.0
_END_S = 5.0


class NotRun(TcpwatchError):  # noqa: N818 - as the shell says it
    """The command could not be executed; ``status`` is what a shell gives then."""

    def __init__(self, command: str, number: int) -> None:
        remedy = "is it spelt right, and on the PATH?" if number == 2 else ""  # ENOENT
        super().__init__(f"cannot run {command!r}: {os.strerror(number)}", remedy, ExitCode.USAGE)
        self.status = 127 if number == 2 else 126


@dataclass(frozen=True, slots=True)
class Exited:
    """A process that has ended, and the sockets that it alone had open then, by host and row.

    ``key`` names the command that it was, empty for a process of a command. ``code`` is negative
    for the signal that killed it. ``t_ns`` (CLOCK_MONOTONIC) is when it began to end.
    """

    pid: int
    key: str
    name: str
    code: int
    t_ns: int
    sockets: tuple[tuple[int, Row], ...]


class Confined:
    """The keeper's network and what runs in it. Make it before any thread is started.

    ``network`` is ``private`` (with a loopback of its own), ``shared`` (the present one) or
    ``pair`` (two hosts and a wire). Raises TcpwatchError where it is refused. Used as a context:
    its end ends everything inside.
    """

    def __init__(
        self,
        network: str,
        *,
        sysctls: Mapping[str, str] | None = None,
        addresses: Sequence[tuple[str, str]] = (),
        wire: str = "auto",
    ) -> None:
        self._ignored = [
            number for number in _FORWARDED if signal.getsignal(number) is signal.SIG_IGN
        ]
        blocked = {number for number in _FORWARDED if number not in self._ignored}
        # Before the fork: a signal must not come between it and whoever passes it on.
        self._blocked = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
        self._pid = 0
        self._messages: deque[Message] = deque()
        self._gone = False
        try:
            self._pid, self._channel = start(
                {
                    "network": network,
                    "sysctls": dict(sysctls or {}),
                    "addresses": list(addresses),
                    "wire": wire,
                }
            )
            self.ready, self.fds = self._get_ready()
        except BaseException:
            self.end()
            raise
        self.traced = True
        self.alive = False
        self.exits: list[Exited] = []
        self.codes: dict[str, int] = {}
        self._forwarding = threading.Thread(
            target=self._forward, args=(blocked,), name="signals", daemon=True
        )
        self._ending = False

    def _get_ready(self) -> tuple[dict[str, Any], tuple[int, ...]]:
        answer = self._next(_READY_S)
        if answer is None:
            raise TcpwatchError("the command's network is not ready", "its message stands above")
        if "refused" in answer.body:
            body = answer.body
            error = refusal(body["refused"], body["errno"], body["text"])
            remedy = error.remedy.partition("; or play on")[0]
            raise TcpwatchError(error.message, f"{remedy}; or use --share-network", error.exit_code)
        return answer.body["ready"], answer.fds

    def run(
        self, key: str, argv: Sequence[str], *, host: int = 0, trace: bool = True, **more: str
    ) -> None:
        """Starts a command; ``more`` is added to its environment. Raises NotRun."""
        if not self._forwarding.is_alive():
            self._forwarding.start()
        environment = {**os.environ, "TCPWATCH_EXEC": "1", **more}
        self._channel.send(
            {
                "run": key,
                "argv": list(argv),
                "host": host,
                "trace": trace,
                "environment": environment,
                "ignored": [int(number) for number in self._ignored],
                "blocked": [int(number) for number in self._blocked],
            }
        )
        while True:
            message = self._next(_READY_S)
            if message is None:
                raise TcpwatchError("the command's keeper has ended before its time")
            if message.body.get("started") == key:
                self.traced &= bool(message.body["traced"])
                if message.body["errno"]:
                    raise NotRun(argv[0], message.body["errno"])
                return
            self._take(message)

    def wait(self, key: str, timeout_s: float | None = None) -> int | None:
        """Until that command has ended: its code, negative for a signal. None: not in time."""
        self._until(lambda: key in self.codes, timeout_s)
        return self.codes.get(key)

    def wait_alone(self, timeout_s: float) -> bool:
        """Until no process is left inside; whether that came about."""
        return self._until(lambda: not self.alive, timeout_s)

    def running(self) -> list[tuple[int, str]]:
        """The processes inside that have not ended, each with its command line."""
        self._channel.send({"who": True})
        while True:
            message = self._next(_READY_S)
            if message is None:
                raise TcpwatchError("the command's keeper has ended before its time")
            if "running" in message.body:
                return [(pid, name) for pid, name in message.body["running"]]
            self._take(message)

    def send_signal(self, number: int, key: str | None = None) -> None:
        """Sends it to a command, or to all of them."""
        with suppress(OSError):
            self._channel.send({"signal": int(number), "to": key})

    def end(self) -> None:
        """Ends all that is inside, and the keeper; signals are ours again. Idempotent."""
        if self._pid:
            self._ending = True
            self._channel.close()
            _reap(self._pid)
            self._pid = 0
            for number in _FORWARDED:  # what came until now was for the command
                if number not in self._ignored and number in signal.sigpending():
                    signal.sigtimedwait([number], 0)
            signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    # ------------------------------------------------------------------ the channel

    def _until(self, condition: Callable[[], bool], timeout_s: float | None) -> bool:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not condition():  # what has come already is taken in any case
            left = None if deadline is None else max(deadline - time.monotonic(), 0)
            message = self._next(left)
            if message is not None:
                self._take(message)
            elif self._gone:
                raise TcpwatchError("the command's keeper has ended before its time")
            elif left == 0:
                return condition()
        return True

    def _next(self, timeout_s: float | None) -> Message | None:
        """The next message; None when none came in time or none will."""
        if not self._messages:
            poller = select.poll()
            poller.register(self._channel.fileno(), select.POLLIN)
            poller.poll(None if timeout_s is None else max(timeout_s, 0) * 1000)
            messages, self._gone = self._channel.receive_available()
            self._messages += messages
        return self._messages.popleft() if self._messages else None

    def _take(self, message: Message) -> None:
        body = message.body
        if "alive" in body:
            self.alive = body["alive"]
        elif "ended" in body:
            sockets = tuple((row[0], _row(row[1:])) for row in body["rows"])
            key = body["key"] or ""
            self.exits.append(
                Exited(body["ended"], key, body["name"], body["code"], body["t_ns"], sockets)
            )
            if key:
                self.codes[key] = body["code"]

    def _forward(self, numbers: set[signal.Signals]) -> None:
        """Passes on what was sent to us alone; what the terminal sends, the command gets too."""
        while not self._ending:
            found = signal.sigtimedwait(numbers, 0.2)
            if found is not None and found.si_code != _SI_KERNEL:
                self.send_signal(found.si_signo)


def _row(values: Sequence[Any]) -> Row:
    """As the keeper has it in JSON: its octets are behind the rest, in hexadecimal."""
    return Row._make([*values[:4], bytes.fromhex(values[10]), *values[5:10]])


def _reap(pid: int) -> None:
    deadline = time.monotonic() + _END_S
    with suppress(ChildProcessError):
        pidfd = os.pidfd_open(pid)
        try:
            poller = select.poll()
            poller.register(pidfd, select.POLLIN)
            if not poller.poll(max(deadline - time.monotonic(), 0) * 1000):
                os.kill(pid, signal.SIGKILL)
        finally:
            os.close(pidfd)
        os.waitpid(pid, 0)


def descriptor(fd: int) -> socket.socket:
    """A descriptor of the keeper's, as a socket."""
    return socket.socket(fileno=fd)
