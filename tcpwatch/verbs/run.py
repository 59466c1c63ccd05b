"""`tcpwatch run`: which scenarios, in which order, one at a time or many side by side.

Must not conclude or draw: it hands runs to the outputs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.interruption import signals
from tcpwatch.lab.scenario import Scenario, catalogue, find, of_topic
from tcpwatch.model.recording import Recording
from tcpwatch.outputs.opening import open_outputs
from tcpwatch.outputs.settings import Settings
from tcpwatch.outputs.telling import Outputs
from tcpwatch.playing.fleet import Played, cores, play_many
from tcpwatch.playing.session import Interrupted

JOBS_A_CORE = 2  # a run mostly waits; with more of them none ends sooner, and each takes longer


def run_scenarios(names: Sequence[str], settings: Settings) -> int:
    """Plays them; the command's exit status."""
    chosen = [one for one in _chosen(names, settings) for _ in range(settings.repeat)]
    many = len(chosen) > 1
    with ExitStack() as stack:
        outputs = stack.enter_context(open_outputs(settings))
        stop = stack.enter_context(signals())
        folded = settings.every or settings.topic is not None or settings.repeat > 1
        outputs.plan(chosen, by_topic=folded, folded=folded and many)  # else in the order given
        jobs = min(settings.jobs or _good_jobs(chosen, settings), len(chosen))
        began_s = time.monotonic()
        try:
            if jobs > 1:
                _play_side_by_side(chosen, settings, jobs, outputs, stop, in_order=not folded)
            else:
                _play_in_turn(chosen, outputs, stop)
        except Interrupted:
            outputs.interrupted = True
        outputs.close(many=many, wall_s=time.monotonic() - began_s)
        return outputs.status


def _good_jobs(chosen: Sequence[Scenario], settings: Settings) -> int:
    """How many to play side by side, if nobody says.

    A process to play in takes as long to start as a short scenario lasts: it must play two of them,
    or a slow one, to be worth it.
    """
    slow = sum(bool(one.slow or settings.options.wait_time_wait) for one in chosen)
    return min(max((len(chosen) + 1) // 2, slow), JOBS_A_CORE * cores())


def _play_in_turn(chosen: Sequence[Scenario], outputs: Outputs, stop: threading.Event) -> None:
    """One after another, each shown as it happens. Raises Interrupted."""
    for index, scenario in enumerate(chosen):
        outputs.begun(index, scenario)
        try:
            outputs.play(index, scenario, stop)
        except TcpwatchError as error:
            outputs.unplayed(index, scenario, error)


def _play_side_by_side(
    chosen: Sequence[Scenario],
    settings: Settings,
    jobs: int,
    outputs: Outputs,
    stop: threading.Event,
    *,
    in_order: bool,
) -> None:
    """Many at a time, each shown when it has ended, or ``in_order``. Raises Interrupted."""
    held: dict[int, Played] = {}
    expected = 0  # the next to be shown, where they are shown in order

    def begun(index: int) -> None:
        outputs.begun(index, chosen[index])

    def show(index: int, played: Played) -> None:
        if isinstance(played, Recording):
            outputs.replay(index, played)
        else:
            outputs.unplayed(index, chosen[index], played)

    with closing(play_many(chosen, settings.options, jobs, stop, begun)) as runs:
        try:
            for index, played in runs:
                held[index] = played
                while held and (expected in held or not in_order):
                    shown = expected if in_order else index
                    show(shown, held.pop(shown))
                    expected += in_order
        except Interrupted:
            for index in sorted(held):
                show(index, held[index])
            raise


# ---------------------------------------------------------------------- what is played


def _chosen(names: Sequence[str], settings: Settings) -> list[Scenario]:
    chosen = [find(name) for name in names]
    if settings.every:
        chosen += catalogue().values()
    if settings.topic is not None:
        chosen += of_topic(settings.topic)
    if not chosen:
        raise TcpwatchError(
            "no scenario was named",
            "begin with `tcpwatch run simultaneous-close`, or see `tcpwatch list`",
            ExitCode.USAGE,
        )
    return chosen
