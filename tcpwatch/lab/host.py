"""One of the lab's two hosts, as a play and the session see it.

Owns: the host's addresses, sysctls and descriptors. Must not know how they came to be.
"""

from __future__ import annotations

import errno
import socket

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.lab.calls import Line, Switchboard
from tcpwatch.lab.failures import Unsupported
from tcpwatch.lab.ports import Port
from tcpwatch.lab.process import Addresses, Process
from tcpwatch.model.identity import SocketAddress


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
        self._keeper: Line | None = None

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
