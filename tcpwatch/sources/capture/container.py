"""Which container a stream of octets is, by its content.

Owns: the magic numbers. Must not know what a container holds.
"""

from __future__ import annotations

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.sources.capture import pcap, pcapng
from tcpwatch.sources.capture.octets import Octets, packing


def is_capture(octets: Octets) -> bool:
    """Whether it begins as a capture does. Nothing is read of it."""
    magic = octets.peek(4)
    return magic in pcap.MAGICS or magic == pcapng.MAGIC


def may_begin(octets: bytes) -> bool:
    """Whether a capture begins so, packed or not: four octets tell."""
    magic = octets[:4]
    return magic in pcap.MAGICS or magic == pcapng.MAGIC or packing(magic) != ""


def open_container(octets: Octets) -> pcap.Pcap | pcapng.Pcapng:
    """The capture in it. Raises TcpwatchError where there is none."""
    magic = octets.peek(4)
    if magic in pcap.MAGICS:
        return pcap.Pcap(octets)
    if magic == pcapng.MAGIC:
        return pcapng.Pcapng(octets)
    raise no_capture(octets)


def no_capture(octets: Octets) -> TcpwatchError:
    """What it begins with instead."""
    magic = octets.peek(4)
    begins = f"begins with {magic.hex(' ')}" if magic else "is empty"
    return TcpwatchError(
        f"{octets.name} is neither a capture nor a recording: it {begins}",
        "replay reads pcap and pcapng, also packed with gzip or zstd, and recordings of tcpwatch",
        ExitCode.USAGE,
    )
