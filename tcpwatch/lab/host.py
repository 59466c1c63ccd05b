"""One of the lab's two hosts, as a play and the session see it.

Owns: the host's addresses, sysctls, socket table and descriptors. Must not know how they came to
be.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.lab.calls import Line, Switchboard
from tcpwatch.lab.descriptor import Socket
from tcpwatch.lab.failures import CheckFailed, Unsupported
from tcpwatch.lab.ports import Port
from tcpwatch.lab.process import Addresses, Process, Program
from tcpwatch.lab.scenario import find_program
from tcpwatch.lab.sockets import Entry, SocketTable, counter, destroy_failure
from tcpwatch.model.events import CallPhase, UserCall
from tcpwatch.model.identity import SocketAddress
from tcpwatch.tcp.state import TcpState

_PATIENCE_S = 10.0
_LOOK_S = 0.001  # between two looks


class Host:
    """``client`` or ``server``.

    Without a namespace of its own (the lab on the loopback) it has no port, no sysctls and no
    netlink socket: asking for one raises Unsupported.
    """

    def __init__(
        self,
        switchboard: Switchboard,
        name: str,
        addresses: Addresses,
        port: Port | None = None,
    ) -> None:
        self._switchboard = switchboard
        self.name = name
        self.addresses = addresses
        self._port = port
        self._diag: socket.socket | None = None
        self._table: SocketTable | None = None
        self._keeper: Line | None = None
        self._programs = 0
        self.folder = Path()  # which a program's relative path counts from

    def __repr__(self) -> str:
        return f"<Host {self.name} {self.ip}>"

    @property
    def ip(self) -> str:
        """Its address, of the family that the lab is played with."""
        return self.addresses.ip()

    @property
    def ip4(self) -> str:
        return self.addresses.ip4

    @property
    def ip6(self) -> str:
        return self.addresses.ip6

    def address(self, port: int, *, ipv6: bool | None = None) -> SocketAddress:
        """A port at this host, of the lab's own address family unless told."""
        return SocketAddress(self.addresses.ip(ipv6=ipv6), port)

    @property
    def port(self) -> Port:
        """Its end of the wire. Raises Unsupported."""
        if self._port is None:
            raise self._unsupported("wire")
        return self._port

    @property
    def pid(self) -> int:
        """A process that lives in the host's namespaces as long as the lab does."""
        if self._keeper is None:
            raise self._unsupported("namespace")
        return self._keeper.pid

    @property
    def diag(self) -> socket.socket:
        """A NETLINK_SOCK_DIAG socket in its namespace; the lab closes it. Raises Unsupported."""
        if self._diag is None:
            raise self._unsupported("socket table of its own")
        return self._diag

    def process(self, name: str) -> Process:
        """A new process at this host. Raises OSError, LabClosed, DeadlinePassed."""
        return Process(self._switchboard, self._switchboard.spawn(self.name, name), self.addresses)

    def run(self, program: str, *arguments: object, name: str = "") -> Program:
        """A new process that runs a program, and is recorded as it makes its calls.

        ``program`` is one of scenarios/programs by its name, or a Python file's path, relative to
        the scenario's. Its process is called ``name``, else as the host, and numbered from 2.
        Raises a usage error where there is no such program, and as `process`.
        """
        path = find_program(program, self.folder)
        if not name:
            self._programs += 1
            name = self.name if self._programs == 1 else f"{self.name} {self._programs}"
        return self.process(name).run(str(path), [str(argument) for argument in arguments])

    def sysctl(self, name: str, value: int | str | None = None) -> str:
        """Reads a sysctl such as ``net.ipv4.tcp_fin_timeout``; with a ``value`` sets it first.

        Raises Unsupported where this lab or kernel has no such sysctl or may not write it, and a
        usage error for a value that the kernel refuses.
        """
        if self._port is None:
            raise self._unsupported("sysctls")
        path = name if "/" in name else name.replace(".", "/")
        if not path.startswith("net/") or ".." in path:
            raise TcpwatchError(
                f"{name} belongs to no network namespace",
                "a lab has the sysctls under net, such as net.ipv4.tcp_fin_timeout",
                ExitCode.USAGE,
            )
        text = None if value is None else str(value)
        try:
            answer = self._switchboard.ask("sysctl", host=self.name, path=path, value=text)
        except OSError as error:
            raise _sysctl_failure(name, text, error) from error
        return str(answer.body["value"])

    # ------------------------------------------------------------------ its own socket table

    def sockets(self, *states: TcpState | str) -> list[Entry]:
        """What its socket table has now, listeners first; only in these states where any is named.

        Raises Unsupported where it has no table of its own.
        """
        wanted = {str(TcpState.parse(str(state))) for state in states}
        entries = self._socket_table().entries()
        return [entry for entry in entries if not wanted or entry.state in wanted]

    def entry(self, socket: Socket) -> Entry:
        """What its table has of that socket, or of the socket's peer where this is the peer's host.

        CLOSED where it has none. Raises Unsupported.
        """
        for entry in self.sockets():
            assert entry.ends is not None  # it is in the table
            for ends in (entry.ends, entry.ends.flipped):
                if socket.local == ends.local and socket.remote in (None, ends.remote):
                    return entry
        return Entry()

    def destroy(self, socket: Socket) -> None:
        """SOCK_DESTROY, as `ss -K` does: from outside, whatever its process is doing.

        Recorded as a call of the host's administrator. Raises Unsupported where this kernel cannot,
        OSError (ENOENT: there is no such socket).
        """
        table, entry = self._socket_table(), self.entry(socket)
        local, remote = (entry.ends.local, entry.ends.remote) if entry.ends else (None, None)
        call = UserCall(
            self._switchboard.number(),
            CallPhase.CALLED,
            os.getpid(),
            "administrator",
            "destroy",
            local=local,
            remote=remote,
        )
        self._switchboard.note(call, self.name)
        number = table.destroy(entry)
        failed = errno.errorcode.get(number, f"E{number}") if number else None
        returned = replace(call, phase=CallPhase.RETURNED, errno=failed)
        self._switchboard.note(returned, self.name)
        if number:
            raise destroy_failure(number, entry)

    def counter(self, name: str) -> int:
        """One of its kernel's TCP counters, as `nstat` names them: ``ListenOverflows``.

        Raises Unsupported where there is none of that name.
        """
        return counter(self.pid, name)

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Looks again and again until that is true of its table or counters, for at most 10 s.

        Raises CheckFailed, saying ``what`` was awaited.
        """
        never = threading.Event()
        give_up = time.monotonic() + _PATIENCE_S
        while not condition():
            if time.monotonic() > give_up:
                raise CheckFailed(f"{what}: not at the {self.name} within {_PATIENCE_S:g} s")
            never.wait(_LOOK_S)

    def another_table(self) -> SocketTable:
        """Its socket table through a netlink socket of the asker's own, who closes it.

        For whoever looks from another thread than the play. Raises Unsupported.
        """
        if self._diag is None:
            raise self._unsupported("socket table of its own")
        asked = self._switchboard.ask("diag", host=self.name)
        return SocketTable(socket.socket(fileno=asked.fds[0]))

    def _socket_table(self) -> SocketTable:
        if self._table is None:
            self._table = self.another_table()
        return self._table

    # ------------------------------------------------------------------ its beginning and end

    def furnish(self) -> None:
        """Opens the netlink socket and starts the process that `pid` stands for. Called once."""
        message = self._switchboard.ask("diag", host=self.name)
        self._diag = socket.socket(fileno=message.fds[0])
        self._keeper = self._switchboard.spawn(self.name, f"{self.name}'s keeper", observed=False)

    def close(self) -> None:
        """Closes the descriptors. Idempotent."""
        if self._port is not None:
            self._port.close()
        if self._diag is not None:
            self._diag.close()
        if self._table is not None:
            self._table.close()

    def _unsupported(self, what: str) -> Unsupported:
        return Unsupported(
            f"on the loopback the {self.name} has no {what}", "use the lab of namespaces"
        )


def _sysctl_failure(name: str, value: str | None, error: OSError) -> TcpwatchError:
    if error.errno == errno.ENOENT:
        return Unsupported(f"this kernel has no sysctl {name} in a network namespace")
    if error.errno in (errno.EINVAL, errno.ERANGE) and value is not None:
        return TcpwatchError(f"the kernel refuses {value!r} for {name}", "", ExitCode.USAGE)
    return Unsupported(
        f"{name} is not to be {'read' if value is None else 'written'} here: {error.strerror}",
        "in a container, run it with --privileged or --security-opt systempaths=unconfined",
    )
