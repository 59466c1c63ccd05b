"""Who is meant: socket addresses, the four-tuple of an endpoint, a connection across reuse.

Owns: normalisation, so that the IPv6 table's ``::ffff:10.0.0.1`` meets the IPv4 table's
``10.0.0.1``.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache


@lru_cache(maxsize=4096)
def canonical_ip(text: str) -> str:
    """The one spelling of an address that tcpwatch uses; v4-mapped IPv6 becomes IPv4.

    Raises ValueError where ``text`` is no address.
    """
    address = ipaddress.ip_address(text)
    mapped = address.ipv4_mapped if address.version == 6 else None
    return str(mapped or address)


@dataclass(frozen=True, slots=True, order=True)
class SocketAddress:
    """An IP address in canonical text, and a port (0: not chosen yet)."""

    ip: str
    port: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "ip", canonical_ip(self.ip))

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> SocketAddress:
        """The inverse of ``str()``. Raises ValueError."""
        ip, colon, port = text.rpartition(":")
        if not colon:
            raise ValueError(f"{text!r} is not ADDRESS:PORT")
        return cls(ip.strip("[]"), int(port))


@dataclass(frozen=True, slots=True, order=True)
class FourTuple:
    """A connection as one of its endpoints sees it."""

    local: SocketAddress
    remote: SocketAddress

    @property
    def flipped(self) -> FourTuple:
        """The same connection as the other end sees it."""
        return FourTuple(self.remote, self.local)

    def __str__(self) -> str:
        return f"{self.local} > {self.remote}"


@dataclass(frozen=True, slots=True, order=True)
class ConnectionId:
    """One connection: the tuple from its first opener's end, and which use of that tuple it is."""

    four_tuple: FourTuple
    generation: int = 0
