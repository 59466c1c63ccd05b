"""The ends of the lab's wire: there one reads what a host's kernel sends, and writes what arrives.

Owns: reading and writing one IP packet on a TUN device or a packet socket. Must not know what a
packet holds, nor how the device came to be.
"""

from __future__ import annotations

import os
import socket
from typing import Protocol

_LONGEST = 65535  # an IPv4 packet's, and more than the wire's MTU
_ETHERTYPE = {4: 0x0800, 6: 0x86DD}


class Port(Protocol):
    """One host's end of the wire."""

    def fileno(self) -> int:
        """Readable when a packet is there."""

    def read(self) -> bytes | None:
        """The next IP packet that the host sent; None when nothing is there.

        Never blocks. Raises OSError once the host is gone.
        """

    def write(self, packet: bytes) -> None:
        """Lets an IP packet arrive at the host. Raises OSError once the host is gone."""

    def close(self) -> None:
        """Idempotent."""


class TunPort:
    """A TUN device (IFF_TUN, IFF_NO_PI): one read or write is one packet. Takes over ``fd``."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def read(self) -> bytes | None:
        try:
            return os.read(self._fd, _LONGEST)
        except BlockingIOError:
            return None

    def write(self, packet: bytes) -> None:
        os.write(self._fd, packet)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class PacketPort:
    """A packet socket (AF_PACKET, SOCK_DGRAM) on the lab's end of a veth pair. Takes over ``fd``.

    ``mac`` is the host's end of the pair: a frame for anybody else its kernel would drop.
    """

    def __init__(self, fd: int, interface: str, mac: bytes) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(False)
        self._addresses = {
            version: (interface, ethertype, 0, 0, mac) for version, ethertype in _ETHERTYPE.items()
        }

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> bytes | None:
        while True:
            try:
                packet = self._socket.recv(_LONGEST)
            except BlockingIOError:
                return None
            if packet and packet[0] >> 4 in _ETHERTYPE:
                return packet

    def write(self, packet: bytes) -> None:
        self._socket.sendto(packet, self._addresses[packet[0] >> 4])

    def close(self) -> None:
        self._socket.close()
