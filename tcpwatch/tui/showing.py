"""`run --tui` and `replay --tui`: from the command line to a screen, and its exit status.

Owns: a run that is played in a thread while the screen looks on, a recording that was read, and
that nothing of either stays behind. Must not know what the screen shows.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.interruption import signals
from tcpwatch.lab.failures import Unsupported
from tcpwatch.lab.host import Host
from tcpwatch.lab.scenario import Scenario, catalogue, find
from tcpwatch.lab.sockets import SocketTable
from tcpwatch.lab.wire import Wire
from tcpwatch.outputs.opening import open_outputs
from tcpwatch.outputs.settings import Settings
from tcpwatch.outputs.telling import Outputs
from tcpwatch.playing.session import Interrupted
from tcpwatch.playing.staging import Stage
from tcpwatch.replaying.files import read_file
from tcpwatch.tui.lab import LabScreen
from tcpwatch.tui.leaving import surely_ends
from tcpwatch.tui.pace import Mode, Pace
from tcpwatch.tui.reel import Recorder, Reel
from tcpwatch.tui.stepping import StepScreen
from tcpwatch.tui.timers import Timer, timers_of
from tcpwatch.tui.wire import Gate, Waiting
from tcpwatch.views.wording import escaped

_THINKING_S = 3600.0
"""How long a play may last that somebody steps through."""

_PATIENT = (
    ("net.ipv4.tcp_syn_retries", 30),  # else SYN-SENT ends after 2 minutes
    ("net.ipv4.tcp_synack_retries", 30),  # SYN-RECEIVED after one
    ("net.ipv4.tcp_retries2", 100),  # whatever awaits its acknowledgement after 15
    ("net.ipv4.tcp_orphan_retries", 30),  # a closed socket in FIN-WAIT-1, CLOSING, LAST-ACK sooner
    ("net.ipv4.tcp_fin_timeout", 3600),  # and in FIN-WAIT-2 after one
)
"""So that a thinking person does not time out. TIME-WAIT's minute is no sysctl."""


def _give_time(host: Host) -> None:
    for name, value in _PATIENT:
        # Where a container forbids sysctls, or a kernel has not this one, its own times hold.
        with suppress(Unsupported):
            host.sysctl(name, value)


class LiveRun(Recorder):
    """A scenario that is played in a thread of its own, beginning with `start`."""

    def __init__(
        self, scenario: Scenario, outputs: Outputs, stop: threading.Event, *, stepped: bool
    ) -> None:
        super().__init__()
        self._stepped = stepped
        self._wire: Wire | None = None
        self._tables: dict[str, SocketTable] = {}
        self._looking = (
            threading.Lock()
        )  # the tables come and go in another thread than they are read in
        self._chosen = 0
        self._note = ""
        self.script = scenario.path
        self.place = (1, 1)
        self.plays = True
        self.error: TcpwatchError | None = None
        self._scenario, self._outputs, self._stop = scenario, outputs, stop
        self._thread = threading.Thread(target=self._play, name="tcpwatch-run", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Ends it, in order, wherever it is; returns when all that it had opened is closed."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _play(self) -> None:
        try:
            self._outputs.play(0, self._scenario, self._stop, self)
        except Interrupted:
            self._outputs.interrupted = True
        except TcpwatchError as error:
            self.error = error
        finally:
            self.plays = False
            self._forget_tables()

    def turn(self, by: int) -> None:
        """There is no other."""

    def staged(self, stage: Stage) -> None:
        """The lab is open, and nothing has happened in it."""
        self._wire = stage.wire
        if stage.wire is None:
            if self._stepped:
                self._note = "there is no wire to step through: `tcpwatch doctor` says why"
            return
        hosts = (stage.client, stage.server)
        for host in hosts if self._stepped else ():
            _give_time(host)
        with self._looking:
            self._tables = {host.name: host.another_table() for host in hosts}
        if self._stepped:
            stage.wire.gate.shut()

    def detains(self) -> bool:
        """While its wire is stopped, a run whose play is over stays open: one may still inject."""
        return self._wire is not None and self._wire.gate.is_shut

    @property
    def wire(self) -> Wire | None:
        """None before the lab is open, and where it has no wire."""
        return self._wire

    def choose(self, place: int) -> None:
        """Of what is stopped, this one is meant (from 0)."""
        self._chosen = place

    def gate(self) -> Gate | None:
        """What is stopped now."""
        if self._wire is None or not self.plays:
            return None
        stopped = self._wire.gate.waiting()
        chosen = min(self._chosen, max(len(stopped) - 1, 0))
        waiting = tuple(Waiting(one.n, one.again) for one in stopped)
        return Gate(waiting, chosen, shut=self._wire.gate.is_shut)

    def timers(self) -> dict[str, tuple[Timer, ...]]:
        """What each end's kernel is about to do, by role."""
        found: dict[str, tuple[Timer, ...]] = {}
        with self._looking:
            for name, table in self._tables.items() if self.plays else ():
                try:
                    found[name] = timers_of(table.entries())
                except OSError:  # the lab has ended in this moment
                    continue
        return found

    def _forget_tables(self) -> None:
        with self._looking:
            for table in self._tables.values():
                table.close()
            self._tables.clear()

    def trouble(self) -> str:
        """What kept it from being played, or stopped it."""
        if self.error is not None:
            return str(self.error)
        judged = self._judged
        problem = judged.record.problem if judged else None
        failed = judged.record.failed_checks if judged else ()
        return problem or (failed[0] if failed else self._note)


class Recorded:
    """What was read: a recording's runs, of which one is shown, or a capture."""

    def __init__(self, *reels: Reel) -> None:
        self._reels, self._at = reels, 0

    @property
    def script(self) -> Path | None:
        """The scenario's file, if it is one of ours."""
        known = catalogue().get(self.reel().record.scenario)
        return known.path if known else None

    @property
    def place(self) -> tuple[int, int]:
        """Which of how many runs is shown, from 1."""
        return self._at + 1, len(self._reels)

    def turn(self, by: int) -> None:
        """Shows the next, or the one before; after the last the first."""
        self._at = (self._at + by) % len(self._reels)

    def reel(self) -> Reel:
        return self._reels[self._at]

    def gate(self) -> Gate | None:
        return None

    def trouble(self) -> str:
        return self.reel().record.problem or ""


def run_on_screen(names: Sequence[str], settings: Settings, *, stepped: bool = False) -> int:
    """Plays one scenario on a screen, or ``stepped`` through; the command's exit status."""
    if len(names) != 1 or settings.every or settings.topic or settings.repeat > 1:
        raise TcpwatchError(
            "--tui shows one scenario", "name one: see `tcpwatch list`", ExitCode.USAGE
        )
    scenario = find(names[0])
    silent = replace(settings, quiet=True, progress=False)
    if stepped:
        patience_s = max(settings.options.timeout_s, _THINKING_S)
        silent = replace(silent, options=replace(settings.options, timeout_s=patience_s))
    with ExitStack() as stack:
        outputs = stack.enter_context(open_outputs(silent))
        stop = stack.enter_context(signals())
        run = LiveRun(scenario, outputs, stop, stepped=stepped)
        stack.callback(run.end)
        pace = Pace(Mode.LIVE if stepped else Mode.FILM)
        screen = StepScreen(run, name=escaped(scenario.name), pace=pace, stop=stop)
        run.start()
        with surely_ends(stop, run.end):
            screen.run()
        over = run.reel().judged is not None
        run.end()
        if over:
            outputs.interrupted = False
        if run.error is not None:
            raise run.error
        outputs.close(many=False)
        return outputs.status


def replay_on_screen(names: Sequence[str], settings: Settings) -> int:
    """Shows one recording or capture on a screen; the exit status is that of its run."""
    if len(names) != 1:
        raise TcpwatchError("--tui shows one file", "name one", ExitCode.USAGE)
    silent = replace(settings, quiet=True, progress=False)
    with ExitStack() as stack:
        outputs = stack.enter_context(open_outputs(silent))
        stop = stack.enter_context(signals())
        recordings = list(read_file(names[0], keep_octets=True))
        if not recordings:
            raise TcpwatchError(f"{names[0]} has no run in it", "", ExitCode.USAGE)
        reels = []
        for index, recording in enumerate(recordings):
            shown = Recorder()
            outputs.replay(index, recording, screen=shown)
            reels.append(shown.reel())
        run = Recorded(*reels)
        name = escaped(run.reel().record.scenario or names[0])
        screen = LabScreen(run, name=name, pace=Pace(Mode.STILL, -1), stop=stop)
        with surely_ends(stop, bool):
            screen.run()
        outputs.close(many=len(recordings) > 1)
        return outputs.status
