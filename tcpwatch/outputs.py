"""All outputs of one command: what it prints, the documents it writes, its exit status.

Owns: the sinks a run feeds, live or from its recording, and what of many runs is shown when. Must
not know what is played next, nor by whom.
"""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Protocol, TextIO

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.lab.scenario import Scenario
from tcpwatch.machine.tracker import Tracker
from tcpwatch.machine.verdict import judge
from tcpwatch.model.events import SegmentSeen
from tcpwatch.model.identity import SocketAddress
from tcpwatch.model.recording import Recording, encode_event, encode_foot, encode_head
from tcpwatch.model.timeline import Happening, Judged, RunRecord, Verdict
from tcpwatch.session import Attendant, Session, Sink
from tcpwatch.staging import Options
from tcpwatch.views import json as json_view
from tcpwatch.views.canvas import shortened
from tcpwatch.views.ladder import LONGEST_MOMENT_NS, Ladder
from tcpwatch.views.palette import in_ascii
from tcpwatch.views.paths import summary_head, summary_lines
from tcpwatch.views.runs import Run, Unplayed, run_line, table_lines
from tcpwatch.views.summary import CAPTURE, Lines, render
from tcpwatch.views.wording import Wording, escaped

LADDERS_AT_MOST = 8
"""Connections of a capture that are drawn; more are counted."""

_STATUS = {
    Verdict.PASS: ExitCode.OK,
    Verdict.FAIL: ExitCode.FAILED,
    Verdict.INCONCLUSIVE: ExitCode.INCONCLUSIVE,
}


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line asks for, beside what to play. ``jobs`` None: as many as are good.

    ``summary``: count a replay's connections instead of drawing them; None: where they are many.
    """

    options: Options = field(default_factory=Options)
    every: bool = False
    topic: str | None = None
    repeat: int = 1
    jobs: int | None = None
    json: str | None = None
    jsonl: str | None = None
    pcap: str | None = None
    quiet: bool = False
    width: int = 80
    colour: bool = False
    ascii_only: bool = False
    progress: bool = False
    summary: bool | None = None

    @property
    def silent(self) -> bool:
        """Standard output belongs to a document, or nothing is to be said."""
        return self.quiet or "-" in (self.json, self.jsonl, self.pcap)


@dataclass(slots=True)
class _Planned:
    """One run that was to be: its topic, and what came of it."""

    topic: str = ""
    run: Run | None = None


class Screen(Sink, Attendant, Protocol):
    """A screen: it is told everything."""


class Outputs:
    """All outputs of one command. ``planned`` runs are known by their index.

    ``folded``: a run is one line, and its ladder is shown only where it does not pass.
    """

    def __init__(
        self, settings: Settings, json: TextIO | None, jsonl: TextIO | None, pcap: BinaryIO | None
    ) -> None:
        self._settings = settings
        self._wording = Wording(settings.ascii_only)
        self._json, self._jsonl, self._pcap = json, jsonl, pcap
        self._planned: list[_Planned] = []
        self._errors: list[TcpwatchError] = []
        self._progress = Progress(settings)
        self._shown = False
        self._folded = False
        self.interrupted = False

    def plan(self, topics: Sequence[str], *, folded: bool) -> None:
        """What is to be played: the topic of each run, in the order of the final table."""
        self._planned = [_Planned(topic) for topic in topics]
        self._folded = folded
        self._progress.total = len(topics)

    @property
    def status(self) -> ExitCode:
        """The worst of all runs.

        What could not be played outweighs a failure, and that what could not be observed.
        """
        if self.interrupted:
            return ExitCode.INTERRUPTED
        found = {_STATUS[judged.verdict] for judged in self._judged}
        found |= {error.exit_code for error in self._errors}
        worst = (ExitCode.USAGE, ExitCode.FAILED, ExitCode.INCONCLUSIVE)
        return next((status for status in worst if status in found), ExitCode.OK)

    @property
    def _judged(self) -> list[Judged]:
        return [one.run for one in self._planned if isinstance(one.run, Judged)]

    # ------------------------------------------------------------------ runs

    def begun(self, index: int, scenario: Scenario) -> None:
        """Progress: that one is being played."""
        self._progress.begin(index, scenario.name)

    def play(
        self,
        index: int,
        scenario: Scenario,
        stop: threading.Event,
        screen: Screen | None = None,
    ) -> None:
        """One run, shown as it happens, also by a ``screen``. Raises as `Session.run`."""
        held = io.StringIO()
        keeper = _Keeper()
        try:
            sinks = [keeper, *self._sinks(held), *([screen] if screen else [])]
            Session(scenario, self._settings.options, sinks, stop, screen).run()
        finally:
            if keeper.judged is not None:
                self._ended(index, keeper.judged, held.getvalue())

    def replay(self, index: int, recording: Recording, screen: Sink | None = None) -> None:
        """A recording's events through the same tracker to the same sinks, and to a ``screen``."""
        record, tracker = tracker_of(recording)
        held = io.StringIO()
        summary = self._settings.summary
        many = _has_many(recording) if summary is None else summary
        sinks = [*self._sinks(held, summarised=many), *([screen] if screen else [])]
        for sink in sinks:
            sink.begin(record)
        for event in recording.events:
            happening = tracker.feed(event)
            for sink in sinks:
                sink.happened(happening)
        judged = judge(record, tracker.timeline(record.end_ns))
        for sink in sinks:
            sink.finish(judged)
        self._ended(index, judged, held.getvalue())

    def unplayed(self, index: int, scenario: Scenario, error: TcpwatchError) -> None:
        """A scenario that could not be played at all."""
        self._errors.append(error)
        self._ended(index, Unplayed(scenario.name, scenario.claim, error.message), "")

    def unreadable(self, error: TcpwatchError) -> None:
        """A file that is to be replayed could not be read, or not to its end."""
        self._errors.append(error)

    def _sinks(self, held: io.StringIO, *, summarised: bool = False) -> list[Sink]:
        """Where a run goes: its recording, and its ladder, which is held back where folded."""
        sinks: list[Sink] = [_RecordingSink(self._jsonl)] if self._jsonl else []
        if not self._settings.silent:
            if not self._folded:
                self._separate()
            write = held.write if self._folded else self._say
            sink = _SummarySink if summarised else _LadderSink
            sinks.append(sink(write, self._settings))
        return sinks

    def _ended(self, index: int, run: Run, ladder: str) -> None:
        while len(self._planned) <= index:  # a replay does not know how many there will be
            self._planned.append(_Planned())
        self._planned[index].run = run
        self._progress.end(index)
        if (self._folded or isinstance(run, Unplayed)) and not self._settings.silent:
            self._tell_folded(run, ladder if _worth_a_ladder(run) else "")
        self._progress.show()

    def _tell_folded(self, run: Run, ladder: str) -> None:
        if ladder:
            self._separate()
            self._say(f"{ladder}\n")
        self._shown = True
        done, total = self._progress.done, len(self._planned)
        width = self._settings.width
        self._draw(run_line(run, done, total, width, self._wording, explained=bool(ladder)))

    # ------------------------------------------------------------------ the end

    def close(self, *, many: bool, wall_s: float | None = None) -> None:
        """Writes what is written at the end: the documents, and the table of several runs.

        ``wall_s``: how long it took to play them. Raises TcpwatchError where nothing was played.
        """
        self._progress.clear()
        if self._errors and not self._judged and not self.interrupted:
            raise self._errors[0]
        self._write_documents(many=many)
        if many and not self._settings.silent:
            self._separate()
            self._tell_table(wall_s)
        told = dict.fromkeys(str(error) for error in self._errors)
        if self.interrupted and not self._settings.quiet:
            told["interrupted"] = None
        for message in told:
            sys.stderr.write(f"tcpwatch: {escaped(message)}\n")

    def _write_documents(self, *, many: bool) -> None:
        if self._json:
            documents = [json_view.run_document(judged) for judged in self._judged]
            one = len(documents) == 1 and not many
            self._json.write(json_view.dump(documents[0] if one else json_view.runs(documents)))
            self._json.flush()
        if self._pcap:
            from tcpwatch.views.pcap import write_pcapng

            for judged in self._judged:
                write_pcapng(judged, self._pcap)
            self._pcap.flush()

    def _tell_table(self, wall_s: float | None) -> None:
        topics: dict[str, list[Run]] = {}
        for one in self._planned:
            if one.run is not None:
                topics.setdefault(one.topic, []).append(one.run)
        planned = len(self._planned)
        width = self._settings.width
        self._draw(table_lines(topics.items(), width, self._wording, planned, wall_s))

    def _separate(self) -> None:
        if self._shown:
            self._say("\n")
        self._shown = True

    def _draw(self, lines: Lines) -> None:
        settings = self._settings
        self._say(render(lines, colour=settings.colour, ascii_only=settings.ascii_only))

    def _say(self, text: str) -> None:
        self._progress.clear()
        sys.stdout.write(text)
        sys.stdout.flush()


def tracker_of(recording: Recording) -> tuple[RunRecord, Tracker]:
    """What a recording's events are to be fed to, and its record: one that is cut off says so."""
    record = recording.record
    if not recording.complete:
        # A check that failed, a problem, what was lost: all that stood in the foot.
        cut_off = "the recording is cut off before its end"
        record = replace(record, inconclusive=(*record.inconclusive, cut_off))
    attending = [str(one["name"]) for one in record.sources if one.get("available")]
    of_host = record.lab.get("kind") == "host"
    return record, Tracker(
        roles=record.roles, attending=attending, newborn_only=not of_host, of_host=of_host
    )


def _has_many(recording: Recording) -> bool:
    """Whether a capture has more connections than anybody follows in a ladder."""
    if recording.record.lab.get("kind") != CAPTURE:
        return False
    met: set[frozenset[SocketAddress]] = set()
    for event in recording.events:
        if isinstance(event.payload, SegmentSeen):
            met.add(frozenset((event.payload.src, event.payload.dst)))
            if len(met) > LADDERS_AT_MOST:
                return True
    return False


def _worth_a_ladder(run: Run) -> bool:
    """Whether a run whose ladder is folded away must be looked at."""
    if isinstance(run, Unplayed) or run.verdict is Verdict.PASS:
        return False
    return "interrupted" not in run.record.inconclusive


# ---------------------------------------------------------------------- sinks


class _RecordingSink:
    """Writes the recording as it happens: what was recorded is not lost, whatever comes."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def begin(self, record: RunRecord) -> None:
        self._line(encode_head(record))

    def happened(self, happening: Happening) -> None:
        self._line(encode_event(happening.event))

    def tick(self, t_ns: int) -> None:
        """Nothing is held back."""

    def finish(self, judged: Judged) -> None:
        self._line(encode_foot(judged.record))

    def _line(self, text: str) -> None:
        self._out.write(text + "\n")
        self._out.flush()


class _LadderSink:
    """Prints the ladder as it happens."""

    def __init__(self, write: Callable[[str], object], settings: Settings) -> None:
        def say(text: str) -> None:
            write(text)

        self._ladder = Ladder(
            say,
            width=settings.width,
            colour=settings.colour,
            ascii_only=settings.ascii_only,
        )

        self._last_ns = 0

    def begin(self, record: RunRecord) -> None:
        self._ladder.begin(record)

    def happened(self, happening: Happening) -> None:
        self._last_ns = happening.event.t_ns
        self._ladder.feed(happening)

    def tick(self, t_ns: int) -> None:
        # What comes after such a pause is another moment in any case, so a replay draws the same.
        if t_ns - self._last_ns > LONGEST_MOMENT_NS:
            self._ladder.tick()

    def finish(self, judged: Judged) -> None:
        self._ladder.finish(judged)


class _SummarySink:
    """Prints how many connections went which way."""

    def __init__(self, write: Callable[[str], object], settings: Settings) -> None:
        self._write = write
        self._settings = settings
        self._wording = Wording(settings.ascii_only)

    def begin(self, record: RunRecord) -> None:
        self._draw(summary_head(record, self._settings.width, self._wording))

    def happened(self, happening: Happening) -> None:
        """Nothing is shown before the end."""

    def tick(self, t_ns: int) -> None:
        """Nothing is held back."""

    def finish(self, judged: Judged) -> None:
        self._draw(summary_lines(judged, self._settings.width, self._wording))

    def _draw(self, lines: Lines) -> None:
        settings = self._settings
        self._write(render(lines, colour=settings.colour, ascii_only=settings.ascii_only))


class _Keeper:
    """Keeps what was judged, also of a run that ended early."""

    def __init__(self) -> None:
        self.judged: Judged | None = None

    def begin(self, record: RunRecord) -> None:
        """Nothing yet."""

    def happened(self, happening: Happening) -> None:
        """The timeline has it."""

    def tick(self, t_ns: int) -> None:
        """Nothing is shown."""

    def finish(self, judged: Judged) -> None:
        self.judged = judged


class Progress:
    """One line on a terminal's standard error, written over and over: what is being played."""

    def __init__(self, settings: Settings) -> None:
        self._wanted = settings.progress and not settings.quiet
        self._settings = settings
        self._playing: dict[int, str] = {}
        self._shown = False
        self.total = 0
        self.done = 0

    def begin(self, index: int, name: str) -> None:
        self._playing[index] = name
        self.show()

    def end(self, index: int) -> None:
        self._playing.pop(index, None)
        self.done += 1

    def show(self) -> None:
        if self._wanted and self._playing and self.total > 1:
            names = ", ".join(map(escaped, self._playing.values()))
            text = f"{self.done} of {self.total} played; playing {names}"
            text = shortened(text, self._settings.width - 1)
            sys.stderr.write(f"\r{in_ascii(text) if self._settings.ascii_only else text}\x1b[K")
            sys.stderr.flush()
            self._shown = True

    def clear(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._shown = False


# ---------------------------------------------------------------------- files


@contextmanager
def open_outputs(settings: Settings) -> Iterator[Outputs]:
    """Opens every output before anything is played: one that cannot be written is told at once."""
    with ExitStack() as stack:

        def text(name: str | None) -> TextIO | None:
            if name is None or name == "-":
                return sys.stdout if name else None
            return stack.enter_context(Path(name).open("w", encoding="utf-8"))

        try:
            json, jsonl = text(settings.json), text(settings.jsonl)
            pcap: BinaryIO | None = None
            if settings.pcap == "-":
                pcap = sys.stdout.buffer
            elif settings.pcap is not None:
                pcap = stack.enter_context(Path(settings.pcap).open("wb"))
        except OSError as error:
            raise TcpwatchError(
                f"cannot write {error.filename}: {error.strerror}",
                "name a file in a folder that you may write to",
                ExitCode.USAGE,
            ) from error
        if [settings.json, settings.jsonl, settings.pcap].count("-") > 1:
            raise TcpwatchError(
                "standard output can take only one of --json, --jsonl and --pcap",
                "name files for the others",
                ExitCode.USAGE,
            )
        yield Outputs(settings, json, jsonl, pcap)
