"""Many scenarios side by side: a few processes, each playing one scenario after another.

Owns: the workers' lives, what is played next, and that no worker outlives us. A worker gives a run
back as the lines of its recording, so whoever shows it replays it, as `tcpwatch replay` would.
Processes and not threads: every run's wire, sampler and tracker would share one interpreter.
Must not know how anything is shown.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace

from tcpwatch.errors import TcpwatchError
from tcpwatch.lab.scenario import Scenario
from tcpwatch.model.recording import Recording, read_recording
from tcpwatch.model.timeline import RunRecord
from tcpwatch.playing.options import Options
from tcpwatch.playing.session import Interrupted
from tcpwatch.playing.worker import Ending, job, silence_s

# With our own sys.path it finds this very copy of the package, and a scenario finds what it would
# find with us. The lab's supervisor starts while the worker is still at its imports.
_PROGRAM = """
import sys
sys.path[:] = {path!r}
from tcpwatch.prestart import prepare
prepare()
from tcpwatch.playing.worker import serve
serve({fd})
"""
_POLL_S = 0.05  # how soon a wish to stop is heeded
_END_S = 10.0  # to end in order, before a worker is killed

Played = Recording | TcpwatchError
"""What comes of one run: its recording, or why it could not be played at all."""


def cores() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def play_many(
    scenarios: Sequence[Scenario],
    options: Options,
    jobs: int,
    stop: threading.Event,
    begun: Callable[[int], None] = lambda _index: None,
) -> Generator[tuple[int, Played], None, None]:
    """Plays them, at most ``jobs`` at a time: each one's index and what came of it, as they end.

    The slow ones begin first. ``begun`` is told the index of one that begins, in the caller's
    thread. What a worker that dies leaves behind is an inconclusive run like any other. Once
    ``stop`` is set those under way end early and are given too; then raises Interrupted. Close the
    iterator (contextlib.closing) where it may not be exhausted: that ends the workers.
    """
    fleet = _Fleet(scenarios, options)
    try:
        fleet.start(min(jobs, len(scenarios)))
        yield from fleet.results(stop, begun)
    finally:
        fleet.end()


class _Fleet:
    """The workers of one command, each driven by a thread."""

    def __init__(self, scenarios: Sequence[Scenario], options: Options) -> None:
        self._scenarios = scenarios
        self._options = options
        by_length = sorted(range(len(scenarios)), key=lambda index: not scenarios[index].slow)
        self._waiting = deque(by_length)
        self._lock = threading.Lock()  # guards what follows, and what is waiting
        self._workers: set[_Worker] = set()
        self._halted_s: float | None = None
        # What begins (None) and what has ended; None: a driver is through; or a bug of ours.
        self._news: queue.Queue[tuple[int, Played | None] | Exception | None] = queue.Queue()
        self._drivers: list[threading.Thread] = []

    def start(self, count: int) -> None:
        for number in range(count):
            driver = threading.Thread(
                target=self._drive, name=f"tcpwatch-fleet-{number}", daemon=True
            )
            self._drivers.append(driver)
            driver.start()

    def results(
        self, stop: threading.Event, begun: Callable[[int], None]
    ) -> Iterator[tuple[int, Played]]:
        """See `play_many`."""
        driving = len(self._drivers)
        while driving:
            if stop.is_set():
                self._halt()
            try:
                news = self._news.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if news is None:
                driving -= 1
                continue
            if isinstance(news, Exception):
                raise news
            index, played = news
            if played is None:
                begun(index)
            else:
                yield index, played
        if self._halted_s is not None:
            raise Interrupted

    def end(self) -> None:
        """Ends all workers in order, those that will not by force."""
        self._halt()
        for driver in self._drivers:
            driver.join(_END_S)
        self._kill()
        for driver in self._drivers:
            driver.join()

    def _halt(self) -> None:
        """Nothing more begins, and what is under way ends early; by force when it takes long."""
        with self._lock:
            if self._halted_s is None:
                self._halted_s = time.monotonic()
                for worker in self._workers:
                    worker.dismiss()
            late = time.monotonic() - self._halted_s > _END_S
        if late:
            self._kill()

    def _kill(self) -> None:
        with self._lock:
            for worker in self._workers:
                worker.kill()

    # ------------------------------------------------------------------ a driver's thread

    def _drive(self) -> None:
        worker: _Worker | None = None
        try:
            while (index := self._next()) is not None:
                self._news.put((index, None))
                try:
                    worker = worker or self._launch()
                except TcpwatchError as error:
                    self._news.put((index, error))
                    continue
                if worker is None:  # halted meanwhile
                    return
                played = worker.play(self._scenarios[index], self._options, self._waiting)
                self._news.put((index, played))
                if worker.spent:
                    self._discharge(worker)
                    worker = None
        except Exception as error:  # noqa: BLE001 - raised in the thread that waits for us
            self._news.put(error)
        finally:
            if worker is not None:
                self._discharge(worker)
            self._news.put(None)

    def _next(self) -> int | None:
        with self._lock:
            return self._waiting.popleft() if self._waiting and self._halted_s is None else None

    def _launch(self) -> _Worker | None:
        with self._lock:
            if self._halted_s is not None:
                return None
            worker = _Worker()
            self._workers.add(worker)
            return worker

    def _discharge(self, worker: _Worker) -> None:
        worker.end()
        with self._lock:
            self._workers.discard(worker)


class _Worker:
    """A process that plays for us, and our end of its channel. Raises TcpwatchError."""

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        program = _PROGRAM.format(path=sys.path, fd=theirs.fileno())
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", program],
                stdin=subprocess.DEVNULL,
                # What a play prints must not come between the lines of a document.
                stdout=2 if sys.__stderr__ is not None else subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # a terminal's ctrl-C is for us: we end it in order
            )
        except OSError as error:
            self._channel.close()
            raise TcpwatchError(
                f"cannot start a process to play in: {error.strerror}", "try fewer --jobs"
            ) from error
        finally:
            theirs.close()
        self._lines = self._channel.makefile("r", encoding="utf-8", newline="\n")
        self.spent = False  # it cannot be used again

    def play(self, scenario: Scenario, options: Options, following: Sequence[int]) -> Played:
        """One run, to its end. ``following``: those that are still to come."""
        lines: list[str] = []
        self._channel.settimeout(silence_s(options))
        try:
            self._channel.sendall(job(scenario, options, more=bool(following)))
            for line in self._lines:
                ending = Ending.parse(line)
                if ending is None:
                    lines.append(line)
                    continue
                self.spent = ending.spent
                if ending.error is not None:
                    return ending.error
                if not lines:
                    return _cut_short(scenario, lines, "interrupted")
                return read_recording(lines)
            death = self._death()
        except TimeoutError:
            self.kill()
            death = f"hung: nothing was heard of it for {silence_s(options):g} s"
        except OSError:  # it ended before it took the job, or with a part of it unread
            death = self._death()
        self.spent = True
        return _cut_short(scenario, lines, f"the run's process {death}")

    def _death(self) -> str:
        """How it died, once its end of the channel is closed."""
        try:
            status = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return "lost its channel"
        if status < 0:
            return f"died: killed by {_signal_name(-status)}"
        return f"died: exit status {status}"

    def dismiss(self) -> None:
        """Has it end in order: a run that is under way ends early. Any thread."""
        with contextlib.suppress(OSError):  # it has ended by itself
            self._channel.shutdown(socket.SHUT_WR)

    def kill(self) -> None:
        """Any thread."""
        self._process.kill()

    def end(self) -> None:
        """Dismisses it and waits until it is gone."""
        self.dismiss()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
        self._lines.close()
        self._channel.close()


def _cut_short(scenario: Scenario, lines: Iterable[str], why: str) -> Recording:
    """What was recorded of a run whose process did not end it."""
    try:
        recording = read_recording(lines)
    except TcpwatchError:  # not even a head
        record = RunRecord(scenario.name, scenario.claim, {}, (), scenario.expect, {})
        recording = Recording(record, (), complete=False)
    record = replace(recording.record, inconclusive=(*recording.record.inconclusive, why))
    return Recording(record, recording.events, complete=True)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
