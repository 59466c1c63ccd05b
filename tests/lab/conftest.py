"""What the lab's tests share: labs that are closed whatever happens, and life without privilege."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from tcpwatch.lab.host import Host
from tcpwatch.lab.loopback import Loopback
from tcpwatch.lab.namespace import Namespaces
from tcpwatch.lab.ports import Port
from tcpwatch.lab.process import Program
from tcpwatch.model.witness import Observation
from tests.lab.bench import Bench, benched
from tests.lab.programmed import Run

DROP_ALL_CAPABILITIES = """
import ctypes, os, sys
PR_CAPBSET_DROP = 24
number = 0
while ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, number, 0, 0, 0) == 0:
    number += 1
os.execv(sys.argv[1], sys.argv[1:])
"""


def unprivileged_command(argv: list[str]) -> list[str]:
    """The same command without a single capability, and without the power to get one."""
    return [sys.executable, "-c", DROP_ALL_CAPABILITIES, *argv]


@pytest.fixture(name="unprivileged_command", scope="session")
def _unprivileged_command() -> Callable[[list[str]], list[str]]:
    return unprivileged_command


def marked_processes(mark: str) -> list[int]:
    """Every process that descends from one started with ``TCPWATCH_TEST_MARK=mark``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"TCPWATCH_TEST_MARK={mark}".encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


@pytest.fixture(name="marked_processes", scope="session")
def _marked_processes() -> Callable[[str], list[int]]:
    return marked_processes


class Relay:
    """The simplest wire: what one host sends, the other gets."""

    def __init__(self, first: Port, second: Port) -> None:
        self._peers = {first.fileno(): (first, second), second.fileno(): (second, first)}
        self._stop, self._stopper = os.pipe()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        poller = select.poll()
        for fd in (self._stop, *self._peers):
            poller.register(fd, select.POLLIN)
        while True:
            for fd, _ in poller.poll():
                if fd == self._stop:
                    return
                source, target = self._peers[fd]
                while (packet := source.read()) is not None:
                    target.write(packet)

    def close(self) -> None:
        os.close(self._stopper)
        self._thread.join()
        os.close(self._stop)


@pytest.fixture
def observations() -> list[Observation]:
    return []


@contextlib.contextmanager
def _wired(lab: Namespaces) -> Iterator[Namespaces]:
    with lab:
        relay = Relay(lab.client.port, lab.server.port)
        try:
            yield lab
        finally:
            relay.close()


@pytest.fixture
def namespaces(observations: list[Observation]) -> Iterator[Namespaces]:
    """A lab of namespaces whose wire simply delivers; its events go to ``observations``."""
    with _wired(Namespaces.open(index=200, emit=observations.append)) as lab:
        yield lab


@pytest.fixture
def loopback(observations: list[Observation]) -> Iterator[Loopback]:
    with Loopback.open(emit=observations.append) as lab:
        yield lab


@pytest.fixture(params=[pytest.param("namespaces", marks=pytest.mark.needs("lab")), "loopback"])
def lab(request: pytest.FixtureRequest) -> Namespaces | Loopback:
    """Each kind of lab: what a play does with processes is the same in both."""
    made: Namespaces | Loopback = request.getfixturevalue(request.param)
    return made


@pytest.fixture
def bench() -> Iterator[Bench]:
    with benched() as bench:
        yield bench


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a program given by its text, which may go on from `SERVER` or `CLIENT`."""

    def start(
        host: Host, text: str, *arguments: object, begin: str = "", name: str = ""
    ) -> Program:
        path = tmp_path / f"program{len(list(tmp_path.iterdir()))}.py"
        path.write_text(begin + dedent(text), encoding="utf-8")
        return host.run(str(path), *arguments, name=name)

    return start
