"""Whatever ends a run, and whenever: nothing is left behind, and it ends in order where it can."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import pytest

from tcpwatch.sources.tracefs import Tracefs

TIMES = 50
AT_ONCE = 4
NEVER_ENDING = '''"""A play that waits for what nobody sends."""


def play(lab):
    client, server = lab.connect()
    client.recv()
'''


@pytest.fixture(autouse=True, scope="module")
def heeded_hangup() -> Iterator[None]:
    """Under nohup we would hand on that SIGHUP is ignored, and the command rightly keeps to it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


class Command(subprocess.Popen[str]):
    """A command that does not outlast its test: ctrl-C here does not reach its session."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.terminate()
        super().__exit__(kind, value, traceback)


def start(*arguments: str | Path, mark: str) -> Command:
    """The command, in a session of its own; all that it starts carries the mark."""
    return Command(
        [sys.executable, "-P", "-m", "tcpwatch", *map(str, arguments)],
        env={**os.environ, "TCPWATCH_TEST_MARK": mark, "PYTHONIOENCODING": "utf-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def marked(mark: str) -> list[int]:
    """Every process that descends from one started with that mark."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            environment = path.read_bytes().split(b"\0")
        except OSError:  # it has ended meanwhile
            continue
        if f"TCPWATCH_TEST_MARK={mark}".encode() in environment:
            found.append(int(path.parent.name))
    return found


def wait_until(condition: Callable[[], bool]) -> None:
    """pytest's timeout ends this where the condition never holds."""
    never = threading.Event()
    while not condition():
        never.wait(0.01)


def heeds(process: subprocess.Popen[str], number: int) -> bool:
    """Whether it has a handler for that signal (proc_pid_status(5), SigCgt), or has ended."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    except OSError:
        return True
    caught = next((line for line in status.splitlines() if line.startswith("SigCgt:")), "x 0")
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1) or process.poll() is not None


def instances() -> set[str]:
    """The tracing instances that are ours by their name."""
    tracefs = Tracefs()
    try:
        return {path.name for path in (tracefs.root / "instances").glob("tcpwatch-*")}
    finally:
        tracefs.close()


def instances_of(pids: Iterable[int]) -> set[str]:
    wanted = tuple(f"tcpwatch-{pid}-" for pid in pids)
    return {name for name in instances() if name.startswith(wanted)}


def held_namespaces() -> set[str]:
    """What keeps a network namespace without any process in it: a name, or a mount."""
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    named = Path("/run/netns")
    return {line for line in mounts if " - nsfs " in line} | (
        {path.name for path in named.iterdir()} if named.is_dir() else set()
    )


def devices() -> set[str]:
    return {path.name for path in Path("/sys/class/net").iterdir()}


class Ended(NamedTuple):
    """One run that was interrupted: how it was, and what it said."""

    pid: int
    status: int
    out: str
    err: str
    processes: int  # of it, when the signal came


def begin(mark: str) -> Command:
    """A run that is under way: until then it is Python that starts, as SIGTERM's handler shows."""
    process = start("run", "simultaneous-close", mark=mark)
    wait_until(lambda: heeds(process, signal.SIGTERM))
    return process


@pytest.fixture(scope="module")
def length_s() -> float:
    """How long a run takes here and now, so many at once: signals are to come within it."""

    def measure(mark: str) -> float:
        with begin(mark) as process:
            begun_s = time.monotonic()
            process.communicate()
            assert process.returncode == 0
            return time.monotonic() - begun_s

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return min(pool.map(measure, [uuid.uuid4().hex] * AT_ONCE))


def interrupt(number: int, standing: bool, after_s: float, mark: str) -> Ended:  # noqa: FBT001
    """Begins a run, waits that long at most for it to end, and sends the signal.

    ``standing``: the wait begins when its lab's first process is there.
    """
    with begin(mark) as process:
        if standing:
            wait_until(lambda: process.poll() is not None or len(marked(mark)) >= 3)
        try:
            process.wait(after_s)
        except subprocess.TimeoutExpired:
            processes = len(marked(mark))
            process.send_signal(number)
        else:
            processes = 0
        out, err = process.communicate()
        return Ended(process.pid, process.returncode, out, err, processes)


def interrupt_many(number: int, length_s: float) -> list[Ended]:
    """Many runs, each at a moment of its own within its length, the same each time.

    Half of the moments are counted from when the lab stands: the machine may be busier or idler
    than when the length was measured, and then a lab would be met by chance only.
    """
    chance = random.Random(number)  # noqa: S311
    standing = [index % 2 == 1 for index in range(TIMES)]
    moments = [
        length_s / 2 * index / TIMES if stands else chance.uniform(0, length_s)
        for index, stands in enumerate(standing)
    ]
    mark = uuid.uuid4().hex
    held, had = held_namespaces(), devices()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        marks = [f"{mark}-{index}" for index in range(TIMES)]
        ended = list(pool.map(interrupt, [number] * TIMES, standing, moments, marks))
    # A namespace lives as long as a process is in it or holds it, or as long as a mount holds it.
    for one in marks:
        wait_until(lambda one=one: not marked(one))  # type: ignore[misc]
    assert held_namespaces() <= held
    assert devices() <= had
    assert max(one.processes for one in ended) >= 3, "no signal met a lab that stood"
    return ended


@pytest.mark.needs("lab")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_any_moment_ends_a_run_in_order(
    number: signal.Signals, length_s: float
) -> None:
    ended = interrupt_many(number, length_s)
    for one in ended:
        assert "Traceback" not in one.err, one.err
        if one.status == 0:  # the signal came when all had been said
            assert (one.err, "PASS in " in one.out) == ("", True)
        else:
            assert (one.status, one.err) == (130, "tcpwatch: interrupted\n")
    assert any(one.status == 130 and one.processes >= 3 for one in ended)
    assert instances_of(one.pid for one in ended) == set()


@pytest.mark.needs("lab")
def test_sigkill_at_any_moment_leaves_at_most_what_the_next_start_removes(
    length_s: float,
) -> None:
    ended = interrupt_many(signal.SIGKILL, length_s)
    for one in ended:
        assert one.status in (-signal.SIGKILL, 0)
        assert one.err == ""
    with start("run", "normal-close", "--quiet", mark=uuid.uuid4().hex) as process:
        process.communicate()
    assert instances_of(one.pid for one in ended) == set()


@pytest.mark.needs("lab", "kernel")
def test_the_instance_of_a_killed_run_is_removed_by_the_next_start(tmp_path: Path) -> None:
    (tmp_path / "waiting.py").write_text(NEVER_ENDING, encoding="utf-8")
    mark = uuid.uuid4().hex
    with start("run", tmp_path / "waiting.py", mark=mark) as process:
        wait_until(lambda: process.poll() is not None or instances_of([process.pid]) != set())
        process.kill()
    wait_until(lambda: not marked(mark))
    assert instances_of([process.pid]) != set()  # the kernel does not know that it is ours
    with start("run", "normal-close", "--quiet", mark=mark) as following:
        following.communicate()
    assert following.returncode == 0
    assert instances_of([process.pid, following.pid]) == set()


# ---------------------------------------------------------------------- many runs side by side

MANY = ("run", "--topic", "the-five", "--repeat", "20", "--jobs", "3")
PLAYING = '''"""A play that tells who plays it, and waits for what nobody sends."""

import os
from pathlib import Path


def play(lab):
    client, _server = lab.connect()
    Path(__file__).with_name(f"{os.getpid()}.playing").touch()
    client.recv()
'''


def players(folder: Path) -> set[int]:
    """The processes in which a play has got as far as the call that does not return."""
    return {int(path.stem) for path in folder.glob("*.playing")}


@contextmanager
def many_waiting(folder: Path, mark: str) -> Iterator[Command]:
    """A command with two runs under way that would not end, and four that were to follow."""
    (folder / "waiting.py").write_text(PLAYING, encoding="utf-8")
    names = [str(folder / "waiting.py")] * 6
    with start("run", *names, "--jobs", "2", "--timeout", "90", mark=mark) as process:
        wait_until(lambda: process.poll() is not None or len(players(folder)) == 2)
        assert process.poll() is None, process.communicate()
        yield process


@pytest.fixture
def clean() -> Iterator[str]:
    """A mark; in the end nothing that bears it is left."""
    mark = uuid.uuid4().hex
    held, had = held_namespaces(), devices()
    yield mark
    wait_until(lambda: not marked(mark))
    assert held_namespaces() <= held
    assert devices() <= had


@pytest.mark.needs("lab")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("whom", ["the group", "the command"])
def test_a_signal_ends_many_runs_in_order(
    number: signal.Signals, whom: str, tmp_path: Path, clean: str
) -> None:
    with many_waiting(tmp_path, clean) as process:
        if whom == "the group":  # as a terminal does for ctrl-C
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        out, err = process.communicate()
    assert (process.returncode, err) == (130, "tcpwatch: interrupted\n")
    assert re.search(r"\n2 of 6 runs: 2 inconclusive; .*\n$", out)
    assert out.count("\n  interrupted\n") == 2  # under each ladder
    assert instances_of({process.pid} | players(tmp_path)) == set()


@pytest.mark.needs("lab")
def test_a_signal_at_any_moment_ends_many_runs_in_order(clean: str) -> None:
    chance = random.Random(6)  # noqa: S311
    for _ in range(10):
        with start(*MANY, mark=clean) as process:
            wait_until(lambda process=process: heeds(process, signal.SIGTERM))  # type: ignore[misc]
            try:
                process.wait(chance.uniform(0, 3))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGINT)
            out, err = process.communicate()
        assert (process.returncode, err) == (130, "tcpwatch: interrupted\n")
        assert "FAIL" not in out
        assert not marked(clean), "it ended before its workers did"


@pytest.mark.needs("lab")
def test_the_workers_of_a_killed_command_end_in_order(tmp_path: Path, clean: str) -> None:
    with many_waiting(tmp_path, clean) as process:
        process.kill()
        process.communicate()
    wait_until(lambda: not marked(clean))
    assert instances_of(players(tmp_path)) == set()


@pytest.mark.needs("lab")
def test_runs_whose_processes_are_killed_are_inconclusive_and_the_rest_goes_on(
    tmp_path: Path, clean: str
) -> None:
    killed: set[int] = set()
    with many_waiting(tmp_path, clean) as process:
        while len(killed) < 6:
            wait_until(lambda: process.poll() is not None or players(tmp_path) - killed != set())
            assert process.poll() is None, process.communicate()
            for pid in players(tmp_path) - killed:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        out, err = process.communicate()
    assert (process.returncode, err) == (3, "")
    assert out.count("\n  the run's process died: killed by SIGKILL\n") == 6
    assert "\n6 runs: 6 inconclusive; " in out


@pytest.mark.needs("lab")
def test_a_reader_that_goes_away_ends_many_runs(clean: str) -> None:
    with start(*MANY, mark=clean) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("  1/100 PASS ")
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait() == 130


# ---------------------------------------------------------------------- what remains of it


def has_received(recording: Path) -> bool:
    """Whether the play has got as far as the call that does not return."""
    return recording.exists() and '"call":"recv"' in recording.read_text(encoding="utf-8")


def record_until(number: int, folder: Path) -> Command:
    """A run that would not end, ended by the signal once the connection stood in its recording."""
    (folder / "waiting.py").write_text(NEVER_ENDING, encoding="utf-8")
    recording = folder / "run.jsonl"
    argv = ("run", folder / "waiting.py", "--jsonl", recording)
    with start(*argv, mark=uuid.uuid4().hex) as process:
        wait_until(lambda: process.poll() is not None or has_received(recording))
        assert process.poll() is None, process.communicate()
        process.send_signal(number)
        process.communicate()
    return process


def replay(folder: Path) -> tuple[int, str]:
    with start("replay", folder / "run.jsonl", mark=uuid.uuid4().hex) as process:
        out, err = process.communicate()
        assert err == ""
        return process.returncode, out


@pytest.mark.needs("lab")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_was_recorded_until_a_signal_is_replayed(
    number: signal.Signals, tmp_path: Path
) -> None:
    assert record_until(number, tmp_path).returncode == 130
    status, out = replay(tmp_path)
    assert status == 3
    assert "client  CLOSED > SYN-SENT > ESTABLISHED\n" in out
    assert out.endswith("  interrupted\n")


@pytest.mark.needs("lab")
def test_what_was_recorded_until_it_was_killed_is_replayed(tmp_path: Path) -> None:
    assert record_until(signal.SIGKILL, tmp_path).returncode == -signal.SIGKILL
    status, out = replay(tmp_path)
    assert status == 3
    assert "client  CLOSED > SYN-SENT > ESTABLISHED\n" in out
    assert "cut off" in out


@pytest.mark.needs("lab")
def test_an_interrupted_run_writes_its_other_outputs_too(tmp_path: Path) -> None:
    (tmp_path / "waiting.py").write_text(NEVER_ENDING, encoding="utf-8")
    files = [tmp_path / f"run.{kind}" for kind in ("json", "pcap", "jsonl")]
    outputs = [word for file in files for word in (f"--{file.suffix[1:]}", file)]
    with start("run", tmp_path / "waiting.py", *outputs, mark=uuid.uuid4().hex) as process:
        recording = files[-1]
        wait_until(lambda: process.poll() is not None or has_received(recording))
        assert process.poll() is None, process.communicate()
        process.send_signal(signal.SIGINT)
        process.communicate()
    assert process.returncode == 130
    assert '"verdict": "inconclusive"' in files[0].read_text(encoding="utf-8")
    assert files[1].read_bytes().startswith(b"\x0a\x0d\x0d\x0a")  # pcapng's section header
