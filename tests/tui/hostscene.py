"""A host at a moment of a fixed clock, told by events: some forty sockets, some moves, a trend.

Owns: that host, for the tests of what its screen shows. Its processes are files in a folder that
looks like /proc; their names are what a hostile user would choose.
"""

from __future__ import annotations

import os
import socket
from itertools import pairwise
from pathlib import Path

from tcpwatch.model.events import KERNEL, TABLE, Event, SocketSampled, StateReported, Vantage
from tcpwatch.model.identity import FourTuple, SocketAddress
from tcpwatch.model.witness import Availability
from tcpwatch.sources.holders import Holders
from tcpwatch.sources.hosttable import HostTable
from tcpwatch.sources.sockdiag import Row, Rows, row_id
from tcpwatch.tcp.state import TcpState as S
from tcpwatch.watching.host import Host
from tcpwatch.watching.owners import Owners

SECOND_NS = 1_000_000_000
BEGAN_UNIX_NS = 1_700_000_000 * SECOND_NS
HOSTILE = "\x1b[31m[b]x"
HOSTILE_COMMAND = b"/bin/evil\0\x1b]0;owned\x07\0[link=https://x]click[/link]\0"
_LINUX = {S.from_linux(number): number for number in range(11, 0, -1)}


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.t_ns = 0

    def __call__(self) -> int:
        return self.t_ns


class Scene:
    """A host that is told what happens, and a clock that is told what time it is."""

    def __init__(self, proc: Path, *, attending: tuple[str, ...] = (KERNEL, TABLE)) -> None:
        self.clock = Clock()
        self.proc = proc
        self.holders = Holders(proc)
        witnesses = [
            Availability(KERNEL, KERNEL in attending, "each move"),
            Availability(TABLE, TABLE in attending, "sock_diag"),
        ]
        self.host = Host(
            witnesses,
            HostTable(lambda: Rows([])),
            owners=Owners(self.holders),
            clock=self.clock,
            began_unix_ns=BEGAN_UNIX_NS,
        )
        self._events = 0
        self._inodes = 1000

    def process(self, pid: int, name: str, command: bytes, inodes: list[int]) -> None:
        """A process with descriptors of these sockets."""
        folder = self.proc / str(pid)
        (folder / "fd").mkdir(parents=True)
        (folder / "comm").write_text(f"{name}\n")
        (folder / "cmdline").write_bytes(command)
        for number, inode in enumerate(inodes):
            os.symlink(f"socket:[{inode}]", folder / "fd" / str(number))  # noqa: PTH211 - no Path

    def is_in(
        self,
        ends: FourTuple,
        state: S,
        *,
        since_ns: int = -1,
        queues: tuple[int, int] = (0, 0),
        held: bool = True,
    ) -> int:
        """The table shows a socket there; returns its inode."""
        self._inodes += 1
        inode = self._inodes if held else 0
        local, remote = ends.local, ends.remote
        ident = row_id((local.ip, local.port), (remote.ip, remote.port), socket.AF_INET, inode)
        row = Row(socket.AF_INET, _LINUX[state], 0, 0, ident, 0, *queues, 0, inode)
        self.host.table.rows[ident] = row
        self._tell(SocketSampled(local, remote, state, since_ns, inode=inode), TABLE)
        found = (
            self.host.population.find(ends)
            if remote.port
            else self.host.population.listener(local, inode)
        )
        assert found is not None
        found.row = ident
        return inode

    def moves(self, ends: FourTuple, *path: S, skaddr: int, each_ns: int = 3_000_000) -> None:
        """The kernel tells of a socket's moves, one after another."""
        for before, after in pairwise(path):
            self.clock.t_ns += each_ns
            self._tell(StateReported(skaddr, ends.local, ends.remote, before, after, 812), KERNEL)

    def _tell(self, payload: StateReported | SocketSampled, source: str) -> None:
        self._events += 1
        event = Event(self._events, self.clock.t_ns, Vantage(source), payload)
        self.host.note(self.host.population.feed(event))

    def later(self, seconds: float) -> None:
        """The clock goes on; a second that has passed is counted."""
        self.clock.t_ns += int(seconds * SECOND_NS)
        self.host.note([])


def ends(local: str, remote: str) -> FourTuple:
    return FourTuple(SocketAddress.parse(local), SocketAddress.parse(remote))


def busy_host(proc: Path) -> Scene:
    """A web server with a leak: sockets in every state, two witnesses, half a minute of trend."""
    scene = Scene(proc)
    listener = scene.is_in(ends("0.0.0.0:443", "0.0.0.0:0"), S.LISTEN, queues=(3, 511))
    ssh = scene.is_in(ends("0.0.0.0:22", "0.0.0.0:0"), S.LISTEN, queues=(0, 128))
    served, leaked = [], []
    for index in range(18):
        pair = ends("10.0.0.5:443", f"203.0.113.{10 + index}:{50000 + 7 * index}")
        queues = (0, 14_480 if index % 5 == 0 else 0)
        served.append(scene.is_in(pair, S.ESTABLISHED, queues=queues))
        if index % 2:
            scene.later(1)
    for index in range(6):
        pair = ends("10.0.0.5:443", f"198.51.100.{40 + index}:{41000 + index}")
        leaked.append(scene.is_in(pair, S.CLOSE_WAIT, queues=(1 + 512 * index, 0)))
        scene.later(1)
    evil = scene.is_in(ends("10.0.0.5:40222", "192.0.2.66:6667"), S.ESTABLISHED)
    scene.is_in(ends("10.0.0.5:39000", "192.0.2.80:80"), S.SYN_SENT)
    for index in range(5):
        pair = ends("10.0.0.5:443", f"203.0.113.{90 + index}:{33000 + index}")
        scene.is_in(pair, S.TIME_WAIT, held=False)
        scene.later(1)
    long = ends(
        "[2001:db8:85a3:8d3:1319:8a2e:370:7348]:443", "[2001:db8:ffff:ffff:ffff:ffff:ffff:1]:50123"
    )
    scene.process(801, "nginx", b"nginx: master process\0", [listener, *served, *leaked])
    scene.process(812, "nginx", b"nginx: worker process\0", [listener, *served, *leaked])
    scene.process(813, "nginx", b"nginx: worker process\0", [listener])
    scene.process(1, "sshd", b"/usr/sbin/sshd\0-D\0", [ssh])
    scene.process(6667, HOSTILE, HOSTILE_COMMAND, [evil])
    while not scene.holders.search(1.0):
        pass
    scene.moves(long, S.LISTEN, S.SYN_RECEIVED, S.ESTABLISHED, skaddr=9)
    scene.later(2)
    first = ends("10.0.0.5:443", "203.0.113.10:50000")
    scene.moves(first, S.ESTABLISHED, S.FIN_WAIT_1, S.FIN_WAIT_2, S.CLOSED, skaddr=10)
    scene.later(0.4)
    scene.moves(ends("10.0.0.5:443", "203.0.113.11:50007"), S.ESTABLISHED, S.CLOSE_WAIT, skaddr=11)
    scene.later(1)
    return scene
