"""Starting the supervisor, and ending it: all that the two kinds of lab have in common.

Owns: the supervisor's process, the handshake, the end within a bounded time. Must not know what the
supervisor does for either kind.
"""

from __future__ import annotations

import os
import select
import subprocess
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from tcpwatch.errors import TcpwatchError
from tcpwatch.lab.calls import Switchboard
from tcpwatch.lab.failures import DeadlinePassed, ProgramFailed
from tcpwatch.lab.host import Host
from tcpwatch.lab.protocol import Channel, Message
from tcpwatch.model.events import Payload
from tcpwatch.model.witness import Observation
from tcpwatch.prestart import take

START_S = 20.0  # to become ready; some 0.2 s are usual
_END_S = 5.0  # to end by itself, before it is killed
_PATIENCE_S = 30.0


class Started:
    """A supervisor that runs: its process, our end of its channel, its first answer."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.process, ours = take()
        self.channel = Channel(ours)
        try:
            self.channel.send({**config, "main": os.getpid()})
            self.answer = self._await_answer()
        except BaseException:
            self.end()
            raise

    def _await_answer(self) -> Message:
        poller = select.poll()
        poller.register(self.channel.fileno(), select.POLLIN)
        if not poller.poll(START_S * 1000):
            raise DeadlinePassed(f"the lab's supervisor is not ready after {START_S:.0f} s")
        answer = self.channel.receive()
        if answer is None:
            raise TcpwatchError(
                "the lab's supervisor ended before it was ready", "its message stands above"
            )
        return answer

    def end(self) -> None:
        """Closes the channel and waits until the supervisor, and all inside, is gone."""
        self.channel.close()
        try:
            self.process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()  # its child, the first process inside, dies with it
            self.process.wait(_END_S)


class HostPair:
    """Two hosts and their processes. `Namespaces` and `Loopback` are the two kinds.

    ``patience_s`` bounds every waiting of a play.
    """

    def __init__(
        self, started: Started, emit: Callable[[Observation], None], patience_s: float | None
    ) -> None:
        self._started = started
        self._switchboard = Switchboard(started.channel, emit, patience_s or _PATIENCE_S)
        self._closing = threading.Lock()
        self._hosts: tuple[Host, ...] = ()
        self.privilege = str(started.answer.body["ready"]["privilege"])  # root or user
        self.wire_kind = str(started.answer.body["ready"].get("wire", ""))  # tun or veth

    @property
    def client(self) -> Host:
        return self._hosts[0]

    @property
    def server(self) -> Host:
        return self._hosts[1]

    @property
    def supervisor_pid(self) -> int:
        """The process that all others of the lab end with."""
        return self._started.process.pid

    def set_deadline(self, deadline_ns: int | None) -> None:
        """From then (CLOCK_MONOTONIC) on every waiting of a play ends with DeadlinePassed."""
        self._switchboard.set_deadline(deadline_ns)

    def note(self, payload: Payload) -> None:
        """Emits a fact that the play itself has found, as of now. Any thread."""
        self._switchboard.note(payload)

    @property
    def fault(self) -> ProgramFailed | None:
        """Why a program of the play failed by itself; None where none did."""
        return self._switchboard.fault

    def calls_watermark(self) -> int:
        """CLOCK_MONOTONIC nanoseconds: nothing from before is still to come. Any thread."""
        return self._switchboard.watermark()

    def close(self) -> None:
        """Ends all that runs in the lab and waits, a bounded time, until it is gone. Idempotent."""
        with self._closing:
            self._switchboard.close()
            self._started.end()
            for host in self._hosts:
                host.close()

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()
