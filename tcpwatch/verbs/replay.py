"""`tcpwatch replay`: recordings, each of its own, and captures, all of them as one run.

Must not conclude or draw: it hands runs to the outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from tcpwatch.errors import TcpwatchError
from tcpwatch.interruption import signals
from tcpwatch.outputs.opening import open_outputs
from tcpwatch.outputs.settings import Settings
from tcpwatch.outputs.telling import Outputs
from tcpwatch.replaying.files import Source, is_capture, recordings_in, sources, told_apart
from tcpwatch.verbs.captures import replay_captures


def replay_recordings(names: Sequence[str], settings: Settings) -> int:
    """Shows recordings, each of its own, and captures, all as one; the exit status.

    What breaks off is shown as far as it goes, and then told.
    """
    with ExitStack() as stack:
        outputs = stack.enter_context(open_outputs(settings))
        with signals() as stop:
            given = stack.enter_context(sources(names, stop.is_set))
        kinds = [_kind(source) for source in given]
        captures = [source for source, kind in zip(given, kinds, strict=True) if kind is True]
        runs = 0
        for source, kind in zip(given, kinds, strict=True):
            if isinstance(kind, TcpwatchError):
                outputs.unreadable(kind)
            elif not kind:
                runs += _replay_runs(source, outputs, runs)
            elif source is captures[0]:
                runs += replay_captures(captures, outputs, settings, runs)
        for name in told_apart(names)[1]:
            outputs.remark(f"{name}: named more than once, and read once")
        outputs.interrupted |= stop.is_set()
        outputs.close(many=runs > 1)
        return outputs.status


def _kind(source: Source) -> bool | TcpwatchError:
    """Whether it is a capture, or why that cannot be told."""
    try:
        return is_capture(source)
    except TcpwatchError as error:
        return error


def _replay_runs(source: Source, outputs: Outputs, before: int) -> int:
    """The runs of a recording, after so many others; how many they are."""
    runs = 0
    try:
        for recording in recordings_in(source):
            outputs.replay(before + runs, recording)
            runs += 1
    except TcpwatchError as error:
        outputs.unreadable(error)
    return runs
