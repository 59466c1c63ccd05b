"""The lab as a play sees it, and the thread in which a play runs.

Owns: `Lab`, what `play(lab)` is given: the two hosts, the wire between them, connections, waiting
for what witnesses see. Must not know who watches: it only waits for an `Observer`.
"""

from __future__ import annotations

import socket
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Protocol, TypeVar

from tcpwatch.errors import TcpwatchError
from tcpwatch.lab.descriptor import Socket
from tcpwatch.lab.failures import CheckFailed, LabClosed, Unsupported
from tcpwatch.lab.host import Host
from tcpwatch.lab.process import Process
from tcpwatch.lab.scenario import Scenario, describe, place_of
from tcpwatch.lab.wire import Wire, WireTimeout
from tcpwatch.model.events import Measured
from tcpwatch.tcp.state import TcpState

if TYPE_CHECKING:
    from _typeshed import TraceFunction

PORT = 7000
Measurement = TypeVar("Measurement", int, str)


class Observer(Protocol):
    """Whoever watches the lab: answers what the witnesses have seen so far."""

    def wait_for_state(
        self, role: str, state: TcpState, timeout_s: float, connection: int | None
    ) -> bool:
        """Until that role's end is witnessed in the state; False when the time ran out.

        ``connection`` is its number (None: the latest), here and below.
        """

    def wait_until_settled(self, timeout_s: float) -> bool:
        """Until every witness has seen all that it can see of what happened."""

    def belief(self, role: str, connection: int | None) -> str:
        """The present state of that role's end in words."""

    def doubt(self, role: str, state: TcpState, connection: int | None) -> str | None:
        """Why the end may well be, or have been, in that state unseen; None where it was not."""


class Lab:
    """Two hosts, each with its own kernel TCP stack, and the wire between them.

    Everything done with it is done by real processes on real sockets, and recorded.
    """

    def __init__(
        self,
        client: Host,
        server: Host,
        wire: Wire | None,
        observer: Observer,
        *,
        note: Callable[[Measured], None],
        folder: Path,
        port: int = PORT,
        patience_s: float = 10,
    ) -> None:
        self.client = client
        self.server = server
        self._wire = wire
        self._observer = observer
        self._note = note
        client.folder = server.folder = folder
        self.port = port
        self._patience_s = patience_s
        self._programs: dict[str, Process] = {}

    @property
    def wire(self) -> Wire:
        """The wire: `hold`, `drop`, `duplicate`, `delay`, `reorder`, `inject`, `wait_for`.

        Raises Unsupported where the lab is the host's loopback.
        """
        if self._wire is None:
            raise Unsupported(
                "this scenario needs the wire between two hosts, and the loopback lab has none",
                "`tcpwatch doctor` tells what network namespaces need here",
            )
        return self._wire

    # ------------------------------------------------------------------ connections

    def program(self, host: Host) -> Process:
        """The process that stands for that host's program, started when first needed."""
        if host.name not in self._programs or not self._programs[host.name].alive:
            self._programs[host.name] = host.process(host.name)
        return self._programs[host.name]

    def listen(self, port: int | None = None, backlog: int = 8) -> Socket:
        """A listening socket of the server's program, with SO_REUSEADDR as servers should have."""
        listener = self.program(self.server).socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(port or self.port)
        listener.listen(backlog)
        return listener

    def connect(
        self, listener: Socket | None = None, port: int | None = None
    ) -> tuple[Socket, Socket]:
        """One connection, ESTABLISHED at both ends and seen to be: (client's socket, server's)."""
        listener = listener or self.listen(port)
        client = self.program(self.client).socket()
        client.connect((self.server.ip, port or self.port))
        server = listener.accept()
        self.wait(client=TcpState.ESTABLISHED, server=TcpState.ESTABLISHED)
        self.settle()
        return client, server

    # ------------------------------------------------------------------ waiting and checking

    def wait(
        self,
        *,
        client: TcpState | str | None = None,
        server: TcpState | str | None = None,
        connection: int | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """Until the witnesses see that end in that state. Raises CheckFailed when they never do.

        ``connection`` is its number, from 1 in the order of appearance; None: the latest.
        """
        for role, wanted in (("client", client), ("server", server)):
            if wanted is None:
                continue
            state = TcpState.parse(wanted) if isinstance(wanted, str) else wanted
            patience_s = self._patience_s if timeout_s is None else timeout_s
            if not self._observer.wait_for_state(role, state, patience_s, connection):
                belief = self._observer.belief(role, connection)
                end = role if connection is None else f"{role} of connection {connection}"
                unseen = f"the {end} was not seen in {state}, but in {belief}"
                doubt = self._observer.doubt(role, state, connection)
                if doubt is not None:
                    raise Unsupported(f"{unseen}: {doubt}")
                raise CheckFailed(f"{unseen}, within {patience_s:g} s")

    def settle(self) -> None:
        """Until each witness has seen all that happened so far; a slow one gets little time."""
        self._observer.wait_until_settled(0.25)

    def measured(self, what: str, value: Measurement, case: str = "") -> Measurement:
        """Records what the play looked at or counted, and gives it back.

        It is shown under the ladder: values of the same ``what`` in several cases side by side.
        """
        self._note(Measured(what, value, case))
        return value

    def check(self, condition: object, message: str) -> None:
        """Fails the run with ``message`` unless the condition holds."""
        if not condition:
            raise CheckFailed(message)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a play ended: by itself (all None), at a failed check, with a problem, or unsupported."""

    problem: str | None = None
    failed_check: str | None = None
    unsupported: str | None = None


class Loading:
    """A scenario's file being run, in a thread of its own: its code may never end, as a play's."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._play: Callable[[Lab], None] | None = None
        self._error: TcpwatchError | None = None
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._load, name="tcpwatch-load", daemon=True)
        self._thread.start()

    def _load(self) -> None:
        try:
            self._play = self._scenario.load()
        except TcpwatchError as error:
            self._error = error
        finally:
            self.ended.set()

    def result(self) -> Callable[[Lab], None]:
        """The play, once it has ended. Raises as `Scenario.load`."""
        if self._error is not None:
            raise self._error
        assert self._play is not None
        return self._play

    @property
    def where(self) -> str:
        """The line of the file at which it stands now."""
        return _standing(self._thread, self._scenario.path)


class Performance:
    """A play under way in a thread of its own. A play that never ends is left behind.

    ``reached`` is told each line of the scenario's file before it runs, in that thread.
    """

    def __init__(
        self,
        play: Callable[[Lab], None],
        lab: Lab,
        path: Path,
        reached: Callable[[int], None] | None = None,
    ) -> None:
        self._play, self._lab, self._path, self._reached = play, lab, path, reached
        self.outcome: Outcome | None = None
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._perform, name="tcpwatch-play", daemon=True)
        self._thread.start()

    def _perform(self) -> None:
        if self._reached is not None:
            sys.settrace(self._trace)  # of this thread alone, and of that file's frames alone
        try:
            self.outcome = self._run()
        finally:
            sys.settrace(None)
            self.ended.set()

    def _trace(self, frame: FrameType, event: str, _argument: object) -> TraceFunction | None:
        if frame.f_code.co_filename != str(self._path):
            return None
        if event == "line" and self._reached is not None:
            self._reached(frame.f_lineno)
        return self._trace

    def _run(self) -> Outcome:
        try:
            self._play(self._lab)
        except CheckFailed as error:
            return Outcome(failed_check=f"{place_of(error, self._path)}: {error.message}")
        except Unsupported as error:
            return Outcome(unsupported=str(error))
        except LabClosed:
            return Outcome(problem="the play was stopped")
        except WireTimeout as error:
            return Outcome(failed_check=f"{place_of(error, self._path)}: {error}")
        except TcpwatchError as error:
            return Outcome(problem=f"{place_of(error, self._path)}: {error}")
        except BaseException as error:  # noqa: BLE001 - the user's own code may raise anything
            return Outcome(problem=f"{place_of(error, self._path)}: {describe(error)}")
        return Outcome()

    def join(self, timeout_s: float) -> None:
        """Waits for the thread, no longer than that."""
        self._thread.join(timeout_s)

    @property
    def where(self) -> str:
        """The line of the scenario at which the play stands now: for one that never ends."""
        return _standing(self._thread, self._path)


def _standing(thread: threading.Thread, path: Path) -> str:
    """``file:line`` of the innermost frame of that file in which the thread is now."""
    # There is no other way to see where another thread stands.
    frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001
    if frame is None:
        return str(path)
    lines = [f for f in traceback.extract_stack(frame) if f.filename == str(path)]
    return f"{path}:{lines[-1].lineno}" if lines else str(path)
