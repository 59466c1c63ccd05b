"""What every source promises, asked of each: order, immutability, an end, an honest probe."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tcpwatch.errors import TcpwatchError
from tcpwatch.model.events import SocketSampled, StateReported
from tcpwatch.model.identity import SocketAddress
from tcpwatch.model.witness import Availability, Observation, Source
from tcpwatch.sources import kernel, psutil_table, sockdiag
from tcpwatch.sources.table import INTERVAL_NS, TableSource
from tcpwatch.tcp.state import TcpState

PATIENCE_S = 30
Predicate = Callable[[SocketAddress, SocketAddress], bool]


def open_sockdiag(networks: Predicate) -> Source:
    sock = sockdiag.open_socket()
    return TableSource(
        [("client", sockdiag.sampler(sock))], INTERVAL_NS, networks, resources=[sock]
    )


def open_psutil(networks: Predicate) -> Source:
    return TableSource([(None, psutil_table.sampler())], INTERVAL_NS, networks)


@dataclass(frozen=True)
class Subject:
    open: Callable[[Predicate], Source]
    probe: Callable[[], Availability]


SUBJECTS = {
    "kernel": Subject(kernel.KernelSource, kernel.probe),
    "sockdiag": Subject(open_sockdiag, sockdiag.probe),
    "psutil": Subject(open_psutil, psutil_table.probe),
}


@pytest.fixture(params=SUBJECTS)
def subject(request: pytest.FixtureRequest) -> Subject:
    found = SUBJECTS[request.param]
    availability = found.probe()
    if not availability.available:
        pytest.skip(f"{availability.detail}; {availability.remedy}")
    return found


class Reader:
    """Reads a source in a thread of its own, and asks the watermark from another all the while."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.seen: list[Observation] = []
        self.too_early: list[Observation] = []
        self.changed = threading.Condition()
        self._peak_ns = 0
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self._reader = threading.Thread(target=self._read)
        self._watcher.start()
        self._reader.start()

    def _watch(self) -> None:
        while not self._ended.wait(0.0002):
            self._peak_ns = max(self._peak_ns, self.source.watermark())

    def _read(self) -> None:
        try:
            for observation in self.source.observations():
                if observation.t_ns < self._peak_ns:
                    self.too_early.append(observation)
                with self.changed:
                    self.seen.append(observation)
                    self.changed.notify_all()
        finally:
            self._ended.set()

    def wait_until(self, holds: Callable[[list[Observation]], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: holds(self.seen), PATIENCE_S), self.seen

    def join(self) -> None:
        self._reader.join(PATIENCE_S)
        self._watcher.join(PATIENCE_S)
        assert not self._reader.is_alive()


@contextlib.contextmanager
def listening() -> Iterator[tuple[socket.socket, Predicate]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        yield listener, lambda local, remote: port in (local.port, remote.port)


@contextlib.contextmanager
def connected(listener: socket.socket) -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_connection(listener.getsockname()) as client:
        accepted, _ = listener.accept()
        with accepted:
            yield client, accepted


def states(observations: list[Observation], port: int) -> set[TcpState | None]:
    """The states that the endpoints with that local port were seen in."""
    return {
        payload.after if isinstance(payload, StateReported) else payload.state
        for payload in (observation.payload for observation in observations)
        if isinstance(payload, StateReported | SocketSampled) and payload.local.port == port
    }


def test_a_connection_is_reported_in_order_and_never_behind_the_watermark(subject: Subject) -> None:
    with listening() as (listener, networks):
        source = subject.open(networks)
        reader = Reader(source)
        for _ in range(20):
            with connected(listener) as (client, _):
                port = client.getsockname()[1]
                reader.wait_until(lambda seen, p=port: TcpState.ESTABLISHED in states(seen, p))  # type: ignore[misc]
    source.close()
    reader.join()
    times = [observation.t_ns for observation in reader.seen]
    assert times == sorted(times)
    assert reader.too_early == []
    assert source.lost == 0


def test_what_happened_before_close_is_still_yielded(subject: Subject) -> None:
    with listening() as (listener, networks):
        source = subject.open(networks)
        with connected(listener) as (client, _):
            port = client.getsockname()[1]
            source.close()
            seen = list(source.observations())
    assert TcpState.ESTABLISHED in states(seen, port)


def test_close_ends_it_from_another_thread_and_may_be_repeated(subject: Subject) -> None:
    source = subject.open(lambda _local, _remote: False)
    reader = Reader(source)
    closers = [threading.Thread(target=source.close) for _ in range(3)]
    for closer in closers:
        closer.start()
    for closer in closers:
        closer.join()
    source.close()
    reader.join()
    assert reader.seen == []
    assert list(source.observations()) == []


def test_close_ends_it_from_its_own_loop(subject: Subject) -> None:
    with listening() as (listener, networks):
        source = subject.open(networks)
        with connected(listener):
            for _ in source.observations():
                source.close()


def test_the_watermark_moves_where_nothing_happens(subject: Subject) -> None:
    source = subject.open(lambda _local, _remote: False)
    reader = Reader(source)
    before = source.watermark()
    while source.watermark() <= before + 5_000_000:
        assert not reader.seen
    source.close()
    reader.join()


def test_observations_are_immutable_values(subject: Subject) -> None:
    with listening() as (listener, networks):
        source = subject.open(networks)
        with connected(listener):
            source.close()
    observations = list(source.observations())
    assert len({*observations, *observations}) == len(set(observations)) > 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        observations[0].t_ns = 0  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        observations[0].payload.local = SocketAddress("::", 0)  # type: ignore[misc, union-attr]


def test_closed_it_holds_no_descriptor(subject: Subject) -> None:
    subject.open(lambda _local, _remote: False).close()  # whatever is opened once for all
    before = sorted(Path("/proc/self/fd").iterdir())
    source = subject.open(lambda _local, _remote: False)
    source.close()
    assert sorted(Path("/proc/self/fd").iterdir()) == before


@pytest.mark.parametrize("name", SUBJECTS)
def test_the_probe_is_honest(name: str) -> None:
    check_probe(name)


@pytest.mark.parametrize("name", SUBJECTS)
@pytest.mark.skipif(os.geteuid() != 0, reason="without privilege the test above says the same")
def test_the_probe_is_honest_without_privilege(name: str) -> None:
    code = "import os, sys; sys.path[:0] = sys.argv[2:]; import test_conformance as here, psutil"
    code += "; os.setgroups([]); os.setgid(65534); os.setuid(65534); here.check_probe(sys.argv[1])"
    here = Path(__file__).parent
    answer = subprocess.run(
        [sys.executable, "-c", code, name, str(here), str(here.parents[1])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr


def check_probe(name: str) -> None:
    availability = SUBJECTS[name].probe()
    assert availability.blind_spots
    if availability.available:
        SUBJECTS[name].open(lambda _local, _remote: False).close()
        return
    with pytest.raises(TcpwatchError) as refusal:
        SUBJECTS[name].open(lambda _local, _remote: False)
    assert availability.detail == refusal.value.message
    assert availability.remedy == refusal.value.remedy != ""
