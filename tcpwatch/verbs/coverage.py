"""`tcpwatch coverage`: the whole catalogue, or recordings, to what they exercise of the machine.

Owns: which runs are looked at, where the report goes, the command's exit status. Must not decide
what was exercised, nor draw it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.interruption import signals
from tcpwatch.lab.scenario import catalogue, find
from tcpwatch.machine.coverage import Coverage, Sighting, declared, sightings, survey
from tcpwatch.model.recording import Recording
from tcpwatch.model.timeline import Judged, Verdict
from tcpwatch.outputs.files import open_text
from tcpwatch.outputs.progress import Progress
from tcpwatch.outputs.settings import Settings
from tcpwatch.playing.fleet import Played, cores, play_many
from tcpwatch.playing.options import Options
from tcpwatch.playing.session import Interrupted
from tcpwatch.replaying.files import read_file
from tcpwatch.replaying.replayed import concluded
from tcpwatch.verbs.run import JOBS_A_CORE
from tcpwatch.views.coverage import coverage_document, coverage_lines, coverage_markdown
from tcpwatch.views.json import dump
from tcpwatch.views.summary import render

TO_THE_END = "normal-close"  # whose TIME-WAIT is waited for: a minute, beside all the others


@dataclass(slots=True)
class _Looked:
    """What all runs so far exercised."""

    runs: list[str] = field(default_factory=list)
    seen: list[Sighting] = field(default_factory=list)
    doubtful: bool = False  # a run was inconclusive, or could not be played

    def at(self, judged: Judged) -> None:
        self.runs.append(judged.record.scenario)
        self.seen += sightings(judged)
        self.doubtful |= judged.verdict is Verdict.INCONCLUSIVE


def cover(names: Sequence[str], settings: Settings, markdown: str | None) -> int:
    """Reports what the recordings (the catalogue, where none is named) exercise; the exit status.

    0: every arrow that Linux's calls can produce; 1: some are missing; 3: and might have been seen,
    had all been observed.
    """
    looked = _Looked()
    with ExitStack() as stack:
        json_out, markdown_out = (
            open_text(name, stack) if name is not None else None
            for name in (settings.json, markdown)
        )
        if json_out is markdown_out is sys.stdout:
            raise TcpwatchError(
                "standard output can take only one of --json and --markdown",
                "name a file for the other",
                ExitCode.USAGE,
            )
        if names:
            for name in names:
                for recording in read_file(name):
                    looked.at(concluded(recording))
        else:
            try:
                _play(looked, settings, stack.enter_context(signals()))
            except Interrupted:
                sys.stderr.write("tcpwatch: interrupted\n")
                return ExitCode.INTERRUPTED
        coverage = survey(looked.seen)
        if json_out:
            json_out.write(dump(coverage_document(coverage, looked.runs)))
        if markdown_out:
            patterns = {name: declared(one.expect) for name, one in catalogue().items()}
            markdown_out.write(coverage_markdown(coverage, patterns))
    if "-" not in (settings.json, markdown) and not settings.quiet:
        lines = coverage_lines(coverage, looked.runs, settings.width)
        sys.stdout.write(render(lines, colour=settings.colour, ascii_only=settings.ascii_only))
    return _status(coverage, looked)


def _status(coverage: Coverage, looked: _Looked) -> ExitCode:
    if not coverage.missing:
        return ExitCode.OK
    return ExitCode.INCONCLUSIVE if looked.doubtful else ExitCode.FAILED


# ---------------------------------------------------------------------- playing


def _play(looked: _Looked, settings: Settings, stop: threading.Event) -> None:
    """Every scenario once, and one until its TIME-WAIT is over. Raises Interrupted."""
    scenarios = list(catalogue().values())
    progress = Progress(settings)
    progress.total = len(scenarios)
    played: dict[int, Played] = {}

    def to_the_end() -> list[Played]:
        options = Options(wait_time_wait=True)
        with closing(play_many([find(TO_THE_END)], options, 1, stop)) as runs:
            return [one for _, one in runs]

    def begun(index: int) -> None:
        progress.begin(index, scenarios[index].name)

    with ThreadPoolExecutor(1) as beside:
        last = beside.submit(to_the_end)
        try:
            jobs = JOBS_A_CORE * cores()
            with closing(play_many(scenarios, Options(), jobs, stop, begun)) as runs:
                for index, one in runs:
                    played[index] = one
                    progress.end(index)
                    progress.show()
            every = [*(played[index] for index in sorted(played)), *last.result()]
        except BaseException:
            stop.set()
            raise
        finally:
            progress.clear()
    _look_at(looked, every)


def _look_at(looked: _Looked, every: Sequence[Played]) -> None:
    errors = [one for one in every if isinstance(one, TcpwatchError)]
    if len(errors) == len(every):
        raise errors[0]
    looked.doubtful = bool(errors)
    for one in every:
        if isinstance(one, Recording):
            looked.at(concluded(one))
    for error in dict.fromkeys(map(str, errors)):
        sys.stderr.write(f"tcpwatch: {error}\n")
