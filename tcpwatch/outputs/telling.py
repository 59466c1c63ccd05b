"""All outputs of one command: what it prints, the documents it writes, its exit status.

Owns: the sinks a run feeds, live or from its recording, and what of many runs is shown when. Must
not know what is played next, nor by whom.
"""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, TextIO

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.machine.rows import Row, row_of
from tcpwatch.model.recording import Recording
from tcpwatch.model.timeline import CAPTURE, COMMAND, Happening, Judged, RunRecord, Verdict
from tcpwatch.outputs.progress import Progress
from tcpwatch.outputs.reports import Reports
from tcpwatch.outputs.settings import Settings
from tcpwatch.outputs.sinks import Keeper, LadderSink, RecordingSink, Screen
from tcpwatch.playing.audience import Sink
from tcpwatch.replaying.replayed import Replayed, conclude, tracker_of
from tcpwatch.replaying.sifting import Sifted, Wish, sift
from tcpwatch.views.cases import Case
from tcpwatch.views.paths import summary_lines
from tcpwatch.views.runs import Run, Unplayed, run_line, table_lines
from tcpwatch.views.sifted import demand_lines, top_lines
from tcpwatch.views.summary import (
    Lines,
    expectation_lines,
    finding_lines,
    head_lines,
    render,
    verdict_lines,
)
from tcpwatch.views.wording import Wording, escaped

if TYPE_CHECKING:
    from tcpwatch.lab.scenario import Scenario
    from tcpwatch.machine.baseline import Baseline, Comparison
    from tcpwatch.views.table import Table

LADDERS_AT_MOST = 8
SEGMENTS_AT_MOST = 4000
"""What of a capture is drawn: with more connections, or more segments, they are counted."""

_STATUS = {
    Verdict.PASS: ExitCode.OK,
    Verdict.FAIL: ExitCode.FAILED,
    Verdict.INCONCLUSIVE: ExitCode.INCONCLUSIVE,
}


@dataclass(slots=True)
class _Planned:
    """One run that was to be: its topic in the table, its scenario, and what came of it."""

    topic: str = ""
    scenario: Scenario | None = None
    run: Run | None = None


class Outputs:
    """All outputs of one command. ``planned`` runs are known by their index.

    ``folded``: a run is one line, and its ladder is shown only where it does not pass.
    """

    def __init__(
        self,
        settings: Settings,
        json: TextIO | None,
        jsonl: TextIO | None,
        pcap: BinaryIO | None,
        reports: Reports,
        baseline: Baseline | None,
        tables: Sequence[Table] = (),
    ) -> None:
        self._settings = settings
        self._reports, self._baseline, self._tables = reports, baseline, tables
        self._wording = Wording(settings.ascii_only)
        self._json, self._jsonl, self._pcap = json, jsonl, pcap
        self._planned: list[_Planned] = []
        self._errors: list[TcpwatchError] = []
        self._remarks: list[str] = []
        self._progress = Progress(settings)
        self._shown = False
        self._folded = False
        self._comparison: Comparison | None = None
        self.interrupted = False

    def plan(self, chosen: Sequence[Scenario], *, by_topic: bool, folded: bool) -> None:
        """What is to be played, in the order of the final table, which may be ``by_topic``."""
        self._planned = [_Planned(one.topic if by_topic else "", one) for one in chosen]
        self._folded = folded
        self._progress.total = len(chosen)

    @property
    def settings(self) -> Settings:
        """What was asked for."""
        return self._settings

    @property
    def status(self) -> ExitCode:
        """The worst of all runs.

        What could not be played outweighs a failure, and that what could not be observed.
        """
        if self.interrupted:
            return ExitCode.INTERRUPTED
        if self._comparison is not None and not self._errors:
            return _STATUS[self._comparison.verdict]
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
        from tcpwatch.playing.session import Session

        held = io.StringIO()
        keeper = Keeper()
        try:
            sinks = [keeper, *self._sinks(held), *([screen] if screen else [])]
            Session(scenario, self._settings.options, sinks, stop, screen).run()
        finally:
            if keeper.judged is not None:
                self._ended(index, keeper.judged, held.getvalue())

    def replay(
        self,
        index: int,
        recording: Recording,
        sifted: Sifted | None = None,
        screen: Sink | None = None,
    ) -> None:
        """A recording's events through the same tracker to the same sinks, and to a ``screen``.

        ``sifted``: what is known already of which of its connections to show.
        """
        settings = self._settings
        record, tracker = tracker_of(recording)
        count = bool(settings.summary) or not _chosen(record)
        write = self.writer(record) if self._tables and sifted is None else None
        replayed = conclude(
            record,
            tracker,
            recording.events,
            settings.wish,
            sifted=sifted,
            count=count,
            write=write,
        )
        held = io.StringIO()
        counts = replayed.sifted is not None and not draws(replayed.sifted, settings, record)
        sinks = [*self._sinks(held, counted=counts), *([screen] if screen else [])]
        for sink in sinks:
            sink.begin(replayed.judged.record)
        for happening in replayed.happenings:
            for sink in sinks:
                sink.happened(happening)
        for sink in sinks:
            sink.finish(replayed.judged)
        if counts and not settings.silent:
            self._tell_counted(replayed)
        elif replayed.sifted is not None and settings.wish.top and not settings.silent:
            self._draw([[], *self._top(replayed.sifted)])
        self._ended(index, replayed.judged, held.getvalue())

    def counted(self, index: int, replayed: Replayed) -> None:
        """A capture whose connections are counted, and not followed one by one."""
        if not self._settings.silent:
            self._separate()
            self._tell_counted(replayed)
        self._ended(index, replayed.judged, "")

    def writer(self, record: RunRecord) -> Callable[[Row], None]:
        """What writes a row to every table."""
        from tcpwatch.views.table import Epoch

        started_ns = record.lab.get("started_unix_ns")
        epoch = Epoch(started_ns if isinstance(started_ns, int) else 0, record.end_ns)

        def write(row: Row) -> None:
            for table in self._tables:
                table.add(row, epoch)

        return write

    def _top(self, sifted: Sifted) -> Lines:
        wanted, chosen = self._settings.wish.top or 0, sifted.census.connections
        return top_lines(sifted.top, wanted, chosen, self._settings.width, self._wording)

    def _tell_counted(self, replayed: Replayed) -> None:
        settings, sifted, judged = self._settings, replayed.sifted, replayed.judged
        assert sifted is not None
        width, wording = settings.width, self._wording
        parts: list[Lines] = [head_lines(judged.record, width, wording)]
        if sifted.census.connections and not settings.told_otherwise:
            parts.append(summary_lines(sifted.census, width, wording))
        if settings.wish.top:
            parts.append(self._top(sifted))
        if sifted.tallies:
            parts.append(demand_lines(sifted.tallies, width, wording))
        answered = [answer.expectation for answer in judged.record.answers]
        parts.append(expectation_lines(answered, width, wording))
        of_none = [one for one in judged.record.findings if one.connection is None]
        parts.append(finding_lines(of_none, width, wording))
        parts.append(verdict_lines(judged, width, wording, brief=bool(sifted.tallies)))
        self._draw([line for part in parts if part for line in ([], *part)][1:])

    def observed(self, index: int, judged: Judged) -> None:
        """A run that was judged already; its events go once more to whoever draws them."""
        record, tracker = tracker_of(Recording(judged.record, judged.timeline.events, True))
        held = io.StringIO()
        summary = self._settings.summary
        count = len(judged.timeline.connections)
        many = not 0 < count <= LADDERS_AT_MOST if summary is None else summary
        sinks = self._sinks(held, counted=many)
        for sink in sinks:
            sink.begin(record)
        for event in judged.timeline.events if sinks else ():
            happening = Happening(event) if many else tracker.feed(event)
            for sink in sinks:
                sink.happened(happening)
        for sink in sinks:
            sink.finish(judged)
        if many and not self._settings.silent:
            timeline = judged.timeline
            rows = [row_of(one, timeline.findings) for one in timeline.connections]
            self._tell_counted(Replayed(judged, sift(rows, Wish(), record, keep=0)))
        self._ended(index, judged, held.getvalue())

    def unplayed(self, index: int, scenario: Scenario, error: TcpwatchError) -> None:
        """A scenario that could not be played at all."""
        self._errors.append(error)
        self._ended(index, Unplayed(scenario.name, scenario.claim, error.message), "")

    def unreadable(self, error: TcpwatchError) -> None:
        """A file that is to be replayed could not be read, or not to its end."""
        self._errors.append(error)

    def remark(self, text: str) -> None:
        """What is worth a line on standard error, and changes nothing."""
        self._remarks.append(text)

    def _sinks(self, held: io.StringIO, *, counted: bool = False) -> list[Sink]:
        """Where a run goes: its recording, and its ladder, which is held back where folded.

        ``counted``: its connections are counted, so that there is no ladder.
        """
        sinks: list[Sink] = [RecordingSink(self._jsonl)] if self._jsonl else []
        if not self._settings.silent:
            if not self._folded:
                self._separate()
            write = held.write if self._folded else self._say
            if not counted:
                sinks.append(LadderSink(write, self._settings))
        return sinks

    def _ended(self, index: int, run: Run, ladder: str) -> None:
        while len(self._planned) <= index:  # a replay does not know how many there will be
            self._planned.append(_Planned())
        self._planned[index].run = run
        self._progress.end(index)
        # Of one alone that could not be played, the error at the end tells.
        unplayed = isinstance(run, Unplayed) and len(self._planned) > 1
        if (self._folded or unplayed) and not self._settings.silent:
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
        kept = self._reports.write([_case(one) for one in self._planned if one.run is not None])
        if self._errors and not self._judged and not self.interrupted:
            raise self._errors[0]
        self._write_documents(many=many)
        if many and not self._settings.silent:
            self._separate()
            self._tell_table(wall_s)
        if kept and not self._settings.silent:
            self._say("".join(f"kept {escaped(name)}\n" for name in kept))
        self._compare()
        remarks = () if self._settings.quiet else self._remarks
        told = dict.fromkeys([*map(str, self._errors), *remarks])
        if self.interrupted and not self._settings.quiet:
            told["interrupted"] = None
        for message in told:
            sys.stderr.write(f"tcpwatch: {escaped(message)}\n")

    def _compare(self) -> None:
        """Against the baseline, where one was given: what is otherwise now is shown as a diff."""
        if self._baseline is None:
            return
        from tcpwatch.views import json as json_view
        from tcpwatch.views.comparison import comparison_lines

        documents = [json_view.run_document(judged) for judged in self._judged]
        chance = {one.scenario.name: one.scenario.chance for one in self._planned if one.scenario}
        every = self._settings.every
        self._comparison = self._baseline.compare(documents, every=every, chance=chance)
        if not self._settings.silent:
            self._separate()
            self._draw(comparison_lines(self._comparison, self._settings.width, self._wording))

    def _write_documents(self, *, many: bool) -> None:
        for table in self._tables:
            table.close()
        if self._json:
            from tcpwatch.views import json as json_view

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
        out = self._settings.to or sys.stdout
        out.write(text)
        out.flush()


def _case(planned: _Planned) -> Case:
    run, scenario = planned.run, planned.scenario
    assert run is not None
    if scenario is None:
        assert isinstance(run, Judged)  # what could not be played was a scenario
        suite = "exec" if COMMAND in run.record.lab else "replay"
        return Case(suite, run.record.scenario, run)
    return Case(scenario.topic, scenario.name, run, scenario.path)


def draws(sifted: Sifted, settings: Settings, record: RunRecord) -> bool:
    """Whether connections are drawn: by wish, or because somebody can follow them."""
    if settings.summary is not None or settings.wish.top:
        return settings.summary is False
    census = sifted.census
    few = 0 < census.connections <= LADDERS_AT_MOST
    if record.lab.get("kind") == CAPTURE:
        return few and census.segments <= SEGMENTS_AT_MOST
    return few or _chosen(record)


def _chosen(record: RunRecord) -> bool:
    """Whether somebody chose its connections: else there may be none, or any number of them."""
    return record.lab.get("kind") != CAPTURE and COMMAND not in record.lab


def _worth_a_ladder(run: Run) -> bool:
    """Whether a run whose ladder is folded away must be looked at."""
    if isinstance(run, Unplayed) or run.verdict is Verdict.PASS:
        return False
    return "interrupted" not in run.record.inconclusive
