"""Running and replaying: scenarios and recordings to the outputs that were asked for.

Owns: which sinks a run feeds, the order of several runs, signals, exit codes of `run` and
`replay`. Must not conclude or draw: it hands happenings from the session to the views.
"""

from __future__ import annotations

import io
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import BinaryIO, TextIO

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.lab.scenario import Scenario, catalogue, find
from tcpwatch.machine.tracker import Tracker
from tcpwatch.machine.verdict import judge
from tcpwatch.model.recording import (
    Recording,
    encode_event,
    encode_foot,
    encode_head,
    read_recordings,
)
from tcpwatch.model.timeline import Happening, Judged, RunRecord, Verdict
from tcpwatch.session import Interrupted, Session, Sink
from tcpwatch.staging import Options
from tcpwatch.views import json as json_view
from tcpwatch.views.ladder import LONGEST_MOMENT_NS, Ladder
from tcpwatch.views.summary import render, table_lines
from tcpwatch.views.wording import Wording

_STATUS = {
    Verdict.PASS: ExitCode.OK,
    Verdict.FAIL: ExitCode.FAILED,
    Verdict.INCONCLUSIVE: ExitCode.INCONCLUSIVE,
}


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line asks for, beside what to play."""

    options: Options = field(default_factory=Options)
    every: bool = False
    topic: str | None = None
    repeat: int = 1
    json: str | None = None
    jsonl: str | None = None
    pcap: str | None = None
    quiet: bool = False
    width: int = 80
    colour: bool = False
    ascii_only: bool = False

    @property
    def silent(self) -> bool:
        """Standard output belongs to a document, or nothing is to be said."""
        return self.quiet or "-" in (self.json, self.jsonl, self.pcap)


def run_scenarios(names: Sequence[str], settings: Settings) -> int:
    """Plays them one after another; the command's exit status."""
    scenarios = _chosen(names, settings)
    with ExitStack() as stack:
        outputs = stack.enter_context(_outputs(settings))
        stop = stack.enter_context(_signals())
        many = len(scenarios) * settings.repeat > 1
        for scenario in scenarios:
            for _ in range(settings.repeat):
                try:
                    outputs.play(scenario, stop, folded=settings.repeat > 1)
                except Interrupted:
                    outputs.interrupted = True
                    break
            if outputs.interrupted:
                break
        outputs.close(many=many)
        return outputs.status


def replay_recordings(names: Sequence[str], settings: Settings) -> int:
    """Shows recordings again; the command's exit status is that of the runs they recorded."""
    with ExitStack() as stack:
        outputs = stack.enter_context(_outputs(settings))
        runs = 0
        for name in names:
            for recording in _read(name):
                outputs.replay(recording)
                runs += 1
        outputs.close(many=runs > 1)
        return outputs.status


# ---------------------------------------------------------------------- what is played


def _chosen(names: Sequence[str], settings: Settings) -> list[Scenario]:
    chosen = [find(name) for name in names]
    if settings.every:
        chosen += catalogue().values()
    if settings.topic is not None:
        of_topic = [one for one in catalogue().values() if one.topic == settings.topic]
        if not of_topic:
            topics = ", ".join(dict.fromkeys(one.topic for one in catalogue().values()))
            raise TcpwatchError(
                f"there is no topic {settings.topic!r}", f"there are: {topics}", ExitCode.USAGE
            )
        chosen += of_topic
    if not chosen:
        raise TcpwatchError(
            "no scenario was named",
            "begin with `tcpwatch run simultaneous-close`, or see `tcpwatch list`",
            ExitCode.USAGE,
        )
    return chosen


def _read(name: str) -> Iterator[Recording]:
    try:
        if name == "-":
            yield from read_recordings(io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8"))
            return
        with Path(name).open(encoding="utf-8") as lines:
            yield from read_recordings(lines)
    except UnicodeDecodeError as error:
        raise TcpwatchError(
            f"{name} is no recording: it is not text",
            "replay takes what `tcpwatch run --jsonl FILE` wrote",
            ExitCode.USAGE,
        ) from error
    except OSError as error:
        raise TcpwatchError(
            f"cannot read {name}: {error.strerror}", "name a recording", ExitCode.USAGE
        ) from error
    except TcpwatchError as error:
        raise TcpwatchError(f"{name}: {error.message}", error.remedy, error.exit_code) from error


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

    def __init__(self, write: Callable[[str], None], settings: Settings) -> None:
        self._ladder = Ladder(
            write,
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


class _Outputs:
    """All outputs of one command."""

    def __init__(
        self, settings: Settings, json: TextIO | None, jsonl: TextIO | None, pcap: BinaryIO | None
    ) -> None:
        self._settings = settings
        self._json, self._jsonl, self._pcap = json, jsonl, pcap
        self._judged: list[Judged] = []
        self._shown = False
        self.interrupted = False

    @property
    def status(self) -> ExitCode:
        """The worst of all runs: a failure outweighs what could not be observed."""
        if self.interrupted:
            return ExitCode.INTERRUPTED
        found = {_STATUS[judged.verdict] for judged in self._judged}
        worst = (ExitCode.FAILED, ExitCode.INCONCLUSIVE)
        return next((status for status in worst if status in found), ExitCode.OK)

    def play(self, scenario: Scenario, stop: threading.Event, *, folded: bool) -> None:
        """One run. ``folded``: its ladder is shown only where it does not pass."""
        held = io.StringIO()
        sinks: list[Sink] = [_RecordingSink(self._jsonl)] if self._jsonl else []
        if not self._settings.silent:
            if not folded:
                self._separate()
            sinks.append(_LadderSink(_into(held) if folded else self._say, self._settings))
        keeper = _Keeper(self._judged)
        Session(scenario, self._settings.options, [keeper, *sinks], stop).run()
        if folded and not self._settings.silent:
            self._tell_folded(held.getvalue())

    def replay(self, recording: Recording) -> None:
        """A recording's events through the same tracker to the same sinks."""
        record = recording.record
        if not recording.complete:
            # A check that failed, a problem, what was lost: all that stood in the foot.
            cut_off = "the recording is cut off before its end"
            record = replace(record, inconclusive=(*record.inconclusive, cut_off))
        tracker = Tracker(
            roles=record.roles,
            attending=[str(one["name"]) for one in record.sources if one.get("available")],
            newborn_only=True,
        )
        sinks: list[Sink] = [_RecordingSink(self._jsonl)] if self._jsonl else []
        if not self._settings.silent:
            self._separate()
            sinks.append(_LadderSink(self._say, self._settings))
        for sink in sinks:
            sink.begin(record)
        for event in recording.events:
            happening = tracker.feed(event)
            for sink in sinks:
                sink.happened(happening)
        judged = judge(record, tracker.timeline(record.end_ns))
        for sink in [_Keeper(self._judged), *sinks]:
            sink.finish(judged)

    def close(self, *, many: bool) -> None:
        """Writes what is written at the end: the documents, and the table of several runs."""
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
        if many and not self._settings.silent:
            self._separate()
            settings = self._settings
            lines = table_lines(self._judged, settings.width, Wording(settings.ascii_only))
            self._say(render(lines, colour=settings.colour, ascii_only=settings.ascii_only))
        if self.interrupted and not self._settings.quiet:
            sys.stderr.write("tcpwatch: interrupted\n")

    def _tell_folded(self, ladder: str) -> None:
        judged = self._judged[-1]
        if judged.verdict is not Verdict.PASS:
            self._say(f"{ladder}\n")
        self._shown = True
        seconds = judged.record.end_ns / 1e9
        count = f"{len(self._judged):>5}"
        self._say(f"{count}  {judged.record.scenario}  {judged.verdict.name}  {seconds:.2f} s\n")

    def _separate(self) -> None:
        if self._shown:
            self._say("\n")
        self._shown = True

    def _say(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def _into(held: io.StringIO) -> Callable[[str], None]:
    def say(text: str) -> None:
        held.write(text)

    return say


class _Keeper:
    """Keeps what was judged, also of a run that ended early."""

    def __init__(self, kept: list[Judged]) -> None:
        self._kept = kept

    def begin(self, record: RunRecord) -> None:
        """Nothing yet."""

    def happened(self, happening: Happening) -> None:
        """The timeline has it."""

    def tick(self, t_ns: int) -> None:
        """Nothing is shown."""

    def finish(self, judged: Judged) -> None:
        self._kept.append(judged)


# ---------------------------------------------------------------------- files and signals


@contextmanager
def _outputs(settings: Settings) -> Iterator[_Outputs]:
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
        yield _Outputs(settings, json, jsonl, pcap)


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """SIGINT, SIGTERM and SIGHUP as a wish that is heeded between two steps, never within one.

    A KeyboardInterrupt between making something and remembering to unmake it would leave it behind.
    """
    stop = threading.Event()

    def wish(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)  # ignored: by nohup(1), which is to be heeded
    before = {number: signal.signal(number, wish) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
