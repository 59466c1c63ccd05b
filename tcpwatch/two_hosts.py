"""A lab held open for whoever is not a scenario: two hosts, their wire, and the witnesses.

Owns: the session's thread while the lab is open, and what was seen once it has ended. The verbs are
the scenarios' own. Must not know a test framework.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Self, Unpack

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.lab import command
from tcpwatch.lab.failures import Unsupported
from tcpwatch.lab.host import Host
from tcpwatch.lab.player import Lab
from tcpwatch.lab.process import Program
from tcpwatch.lab.scenario import Scenario
from tcpwatch.lab.sockets import Entry
from tcpwatch.lab.wire import Wire
from tcpwatch.model.recording import Recording
from tcpwatch.model.timeline import Judged
from tcpwatch.observing.observer import Held, Observed
from tcpwatch.observing.seen import AT_REST, Seen, come_to_rest
from tcpwatch.playing.options import Options, SomeOptions
from tcpwatch.playing.session import Interrupted, Session
from tcpwatch.tcp.state import TcpState

_SETTLE_S = 2.0  # the longest that a stack usually waits to send a segment again
_DAY_S = 86_400  # the test's own timeout ends it


@dataclass(frozen=True, slots=True)
class _Open(Scenario):
    """A scenario whose play is whatever happens until it is told to end."""

    body: Callable[[Lab], None] = lambda _lab: None

    def load(self) -> Callable[[Lab], None]:
        return self.body


class TwoHosts:
    """Two hosts, each with a kernel TCP of its own, joined by a wire that can lose and delay."""

    def __init__(self, name: str, folder: Path, options: Options) -> None:
        self._lab: SimpleQueue[Lab | BaseException] = SimpleQueue()
        self._over = threading.Event()
        self._stop = threading.Event()
        self._judged: Judged | None = None
        self._held: tuple[Held, ...] = ()
        scenario = _Open(name, "", "", "", {}, (), folder / "test", body=self._play)
        self._session = Session(scenario, options, [], self._stop)
        self._thread = threading.Thread(target=self._run, name="tcpwatch-lab", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        found = self._lab.get()
        if not isinstance(found, Lab):
            raise found
        self.lab = found
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _play(self, lab: Lab) -> None:
        self._lab.put(lab)
        self._over.wait()

    def _run(self) -> None:
        try:
            self._judged = self._session.run()
        except Interrupted:
            pass
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits for the lab
            self._lab.put(error)

    # ------------------------------------------------------------------ what a play has

    @property
    def client(self) -> Host:
        return self.lab.client

    @property
    def server(self) -> Host:
        return self.lab.server

    @property
    def wire(self) -> Wire:
        """Raises TcpwatchError where this machine has no namespaces."""
        return self.lab.wire

    @property
    def port(self) -> int:
        return self.lab.port

    def command(self, host: Host, *argv: object, name: str = "") -> Program:
        """Runs any command on a host; what it prints is in ``printed``, `join` waits for its end.

        A server is ready once ``lab.server.until(lambda: lab.server.sockets("LISTEN"), "ready")``.
        Raises as `Host.run`; that there is no such command, its exit status and ``printed`` tell.
        """
        return host.run(str(Path(command.__file__)), *argv, name=name or str(argv[0]))

    def __getattr__(self, name: str) -> Any:
        """The other verbs of `Lab`: connect, listen, wait, settle."""
        if name.startswith("_") or name == "lab":
            raise AttributeError(name)
        return getattr(self.lab, name)

    def end(self) -> Seen:
        """Ends the lab once what is under way has come to rest; what was seen in it."""
        if self._judged is None:
            come_to_rest(self._moving, _SETTLE_S)
            self._held = tuple(held for host in (self.client, self.server) for held in _held(host))
            self.__exit__()
        judged = self._judged
        if judged is None:
            raise TcpwatchError("the lab was interrupted", "", ExitCode.INTERRUPTED)
        seen = Seen()
        recording = Recording(judged.record, judged.timeline.events, complete=True)
        seen.fill(Observed(recording, judged.timeline, self._held), judged.timeline, self._held)
        return seen

    def _moving(self) -> AbstractSet[object]:
        """The sockets of both hosts that are not yet closed."""
        return {
            (host.name, entry.ends, entry.state)
            for host in (self.client, self.server)
            for entry in _entries(host)
            if TcpState.parse(entry.state) not in AT_REST
        }


def two_hosts(
    name: str = "lab", *, folder: Path | None = None, **options: Unpack[SomeOptions]
) -> TwoHosts:
    """A lab for a ``with`` statement; ``options`` are those of `tcpwatch.playing.staging.Options`.

    ``folder``: what the paths of programs are relative to. Raises TcpwatchError.
    """
    try:
        chosen = replace(Options(timeout_s=_DAY_S), **options)
    except TypeError as error:
        raise TcpwatchError(str(error), "see tcpwatch.playing.staging", ExitCode.USAGE) from None
    return TwoHosts(name, folder or Path(), chosen)


def _held(host: Host) -> list[Held]:
    """What the host's table has at the end; in the lab every process is somebody's program."""
    return [
        Held(entry.ends.local, entry.ends.remote, TcpState.parse(entry.state), entry.inode)
        for entry in _entries(host)
        if entry.ends is not None and entry.state != TcpState.TIME_WAIT.value
    ]


def _entries(host: Host) -> list[Entry]:
    """None on the loopback, where a host has no table of its own."""
    try:
        return host.sockets()
    except Unsupported:
        return []
