"""The lab on the loopback: plain processes of this machine, for where there are no namespaces.

Owns: nothing but its addresses. It has no wire, no sysctls and no socket table of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from tcpwatch.lab.host import Host
from tcpwatch.lab.process import Addresses
from tcpwatch.lab.supervision import HostPair, Started
from tcpwatch.model.witness import Observation


class Loopback(HostPair):
    """Two "hosts" that are both this machine: 127.0.0.1, or ::1 with ``ip`` 6."""

    @classmethod
    def open(
        cls,
        *,
        emit: Callable[[Observation], None],
        ip: int = 4,
        patience_s: float | None = None,
    ) -> Loopback:
        """Starts the supervisor, without namespaces. Raises TcpwatchError."""
        lab = cls(Started({"mode": "loopback"}), emit, patience_s)
        addresses = Addresses("127.0.0.1", "::1", ipv6=ip == 6)
        lab._hosts = tuple(Host(lab._switchboard, name, addresses) for name in ("client", "server"))
        return lab

    def __enter__(self) -> Self:
        return self
