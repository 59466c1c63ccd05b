"""`run --tui` and `replay --tui`: from the command line to a screen, and its exit status.

Owns: a run that is played in a thread while the screen looks on, a recording that was read, and
that nothing of either stays behind. Must not know what the screen shows.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.lab.scenario import Scenario, catalogue, find
from tcpwatch.outputs import Outputs, Settings, open_outputs, tracker_of
from tcpwatch.replaying import read_file
from tcpwatch.running import signals
from tcpwatch.session import Interrupted
from tcpwatch.staging import Stage
from tcpwatch.tui.lab import LabScreen
from tcpwatch.tui.pace import Mode, Pace
from tcpwatch.tui.reel import Recorder, Reel, reel_of
from tcpwatch.tui.wire import Gate
from tcpwatch.views.wording import escaped


class LiveRun(Recorder):
    """A scenario that is played in a thread of its own, beginning with `start`."""

    def __init__(self, scenario: Scenario, outputs: Outputs, stop: threading.Event) -> None:
        super().__init__()
        self.script: Path | None = scenario.path
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

    def staged(self, stage: Stage) -> None:
        """The lab is open."""

    def detains(self) -> bool:
        """A run ends by itself."""
        return False

    def gate(self) -> Gate | None:
        """Nothing is stopped."""
        return None

    def trouble(self) -> str:
        """What kept it from being played, or stopped it."""
        if self.error is not None:
            return str(self.error)
        judged = self._judged
        problem = judged.record.problem if judged else None
        failed = judged.record.failed_checks if judged else ()
        return problem or (failed[0] if failed else "")


class Recorded:
    """A recording, or a capture, that was read."""

    def __init__(self, reel: Reel) -> None:
        self._reel = reel
        self.plays = False
        known = catalogue().get(reel.record.scenario)
        self.script: Path | None = known.path if known else None

    def reel(self) -> Reel:
        return self._reel

    def gate(self) -> Gate | None:
        return None

    def trouble(self) -> str:
        return self._reel.record.problem or ""


def run_on_screen(names: Sequence[str], settings: Settings) -> int:
    """Plays one scenario on a screen; the command's exit status."""
    if len(names) != 1 or settings.every or settings.topic or settings.repeat > 1:
        raise TcpwatchError(
            "--tui shows one scenario", "name one: see `tcpwatch list`", ExitCode.USAGE
        )
    scenario = find(names[0])
    silent = replace(settings, quiet=True, progress=False)
    with ExitStack() as stack:
        outputs = stack.enter_context(open_outputs(silent))
        stop = stack.enter_context(signals())
        run = LiveRun(scenario, outputs, stop)
        stack.callback(run.end)
        screen = LabScreen(run, name=escaped(scenario.name), stop=stop)
        run.start()
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
        for index, recording in enumerate(recordings):
            outputs.replay(index, recording)
        reel = reel_of(recordings[0], *tracker_of(recordings[0]))
        name = escaped(reel.record.scenario or names[0])
        LabScreen(Recorded(reel), name=name, pace=Pace(Mode.STILL, -1), stop=stop).run()
        outputs.close(many=len(recordings) > 1)
        return outputs.status
