"""A worker of the fleet: a process that plays what it is told, and sends back what it recorded.

Owns: the worker's life and both directions of its channel. It ends in order when the channel does,
whatever has become of the one who started it. Must not know what else is played, nor what for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import json
import os
import queue
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Self

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.lab.scenario import Scenario, read
from tcpwatch.model.recording import encode_event, encode_foot, encode_head
from tcpwatch.model.timeline import Happening, Judged, RunRecord
from tcpwatch.playing.options import Options
from tcpwatch.playing.session import Interrupted, Session
from tcpwatch.prestart import prepare

_BEAT_S = 1.0  # between two signs of life of a run in which nothing happens
_SILENCE_S = 40.0  # without a sign of life, beside --timeout: a lab may take 20 s to open
_ORPHANED_S = 10.0  # how much longer than the one who started it a worker waits to end itself
_LEFT_RUNNING = frozenset({"tcpwatch-play", "tcpwatch-load"})


def silence_s(options: Options) -> float:
    """After so long without a sign of life the interpreter of a run hangs."""
    return options.timeout_s + _SILENCE_S


def job(scenario: Scenario, options: Options, *, more: bool) -> bytes:
    """What a worker is told: a line. ``more``: others follow, so it will need another lab."""
    known = {**dataclasses.asdict(options), "without": sorted(options.without)}
    return json.dumps([str(scenario.path), known, more]).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a worker says that a run is over.

    ``spent``: it is of no more use; ``error``: why there was no run at all.
    """

    spent: bool
    error: TcpwatchError | None

    def line(self) -> str:
        """The line for it, which is not an object as those of recordings are."""
        error = self.error
        told = error and [error.message, error.remedy, error.exit_code]
        return json.dumps([self.spent, told]) + "\n"

    @classmethod
    def parse(cls, line: str) -> Ending | None:
        """None: it is a line of the recording."""
        if not line.startswith("["):
            return None
        spent, told = json.loads(line)
        if told is None:
            return cls(spent, None)
        message, remedy, exit_code = told
        return cls(spent, TcpwatchError(message, remedy, ExitCode(exit_code)))


def serve(fd: int) -> NoReturn:
    """A worker's life: plays what it is told until the channel ends. ``fd``: its end of that."""
    channel = socket.socket(fileno=fd)
    jobs: queue.Queue[str] = queue.Queue()
    stop = threading.Event()

    def listen() -> None:
        with contextlib.suppress(OSError), channel.makefile("r", encoding="utf-8") as lines:
            for line in lines:
                jobs.put(line)
        stop.set()
        jobs.put("")

    def leave(_number: int, _frame: object) -> None:
        with contextlib.suppress(OSError):
            channel.shutdown(socket.SHUT_RD)  # as if the one who started us had gone

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
    threading.Thread(target=listen, name="tcpwatch-jobs", daemon=True).start()
    while (line := jobs.get()) and not stop.is_set():
        error = _play(line, channel, stop)
        # A play that never ends would go on beside those that follow.
        spent = stop.is_set() or any(one.name in _LEFT_RUNNING for one in threading.enumerate())
        _send(channel, Ending(spent, error).line())
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(0)  # whatever threads a play has left behind


def _play(line: str, channel: socket.socket, stop: threading.Event) -> TcpwatchError | None:
    """One run; the error for which there was none."""
    path, known, more = json.loads(line)
    options = Options(**{**known, "without": frozenset(known["without"])})
    with _Sending(channel, silence_s(options), more=more) as sending:
        try:
            Session(read(Path(path)), options, [sending], stop).run()
        except Interrupted:
            pass  # what there is of the recording says so, if there is any
        except TcpwatchError as error:
            return error
    return None


class _Sending:
    """The sink that sends the recording, and signs of life while nothing happens."""

    def __init__(self, channel: socket.socket, silence_s: float, *, more: bool) -> None:
        self._channel = channel
        self._silence_s = silence_s + _ORPHANED_S
        self._more = more
        self._pending: list[str] = []
        self._sent_s = time.monotonic()
        self._devnull = open(os.devnull, "wb")  # noqa: PTH123, SIM115 - closed at exit

    def __enter__(self) -> Self:
        self._reassure()
        return self

    def __exit__(self, *_: object) -> None:
        faulthandler.cancel_dump_traceback_later()
        self._devnull.close()

    def begin(self, record: RunRecord) -> None:
        if self._more:
            prepare()  # the next lab's supervisor
        self._pending.append(encode_head(record))

    def happened(self, happening: Happening) -> None:
        self._pending.append(encode_event(happening.event))

    def tick(self, _t_ns: int) -> None:
        silent = time.monotonic() - self._sent_s > _BEAT_S
        if silent:
            self._pending.append("")
            self._reassure()
        self._flush()

    def finish(self, judged: Judged) -> None:
        self._pending.append(encode_foot(judged.record))
        self._flush()

    def _flush(self) -> None:
        if self._pending:
            _send(self._channel, "\n".join(self._pending) + "\n")
            self._pending.clear()
            self._sent_s = time.monotonic()

    def _reassure(self) -> None:
        """A play may keep the interpreter for ever, with nobody left to kill us for it.

        This ends us from a thread that does not need the interpreter.
        """
        faulthandler.dump_traceback_later(self._silence_s, exit=True, file=self._devnull)


def _send(channel: socket.socket, text: str) -> None:
    with contextlib.suppress(OSError):  # nobody is there any more: the listening thread sees it
        channel.sendall(text.encode())
