"""Frames as columns: what a container is read into, a block at a time.

Owns: the one form that every container is read into, and how a broken one is told. Must not know
what stands in a frame.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.sources.capture.octets import Octets

Int64s = NDArray[np.int64]

BLOCK = 4 << 20
"""Octets read at a time: enough for numpy to be quick, little enough to stay near the caches.

Measured with two million frames: 1 to 4 MB are equal, 16 MB take a fifth longer and 60 MB more.
"""

LONGEST_FRAME = 262_144
"""Octets; what libpcap and Wireshark take for the most that a frame may have."""


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """Frames that lie in one run of octets; in each column a row a frame.

    ``at`` is where a frame begins in ``octets``, ``captured`` how many octets of it are there,
    ``wire_len`` how many it had. ``t_ns`` counts from 1970. ``link`` is the link type,
    ``interface`` counts those of the section. ``inbound``: the capture says that it came in there.
    """

    octets: bytes
    at: Int64s
    captured: Int64s
    wire_len: Int64s
    t_ns: Int64s
    link: Int64s
    interface: Int64s
    inbound: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.at)

    @classmethod
    def joined(cls, parts: list[Frames]) -> Frames:
        """One behind the other, where all lie in the same octets."""
        if len(parts) == 1:
            return parts[0]
        names = [one.name for one in fields(cls)[1:]]
        columns = (np.concatenate([getattr(part, name) for part in parts]) for name in names)
        return cls(parts[0].octets, *columns)


def numbers(octets: bytes, kind: str) -> NDArray[np.unsignedinteger]:
    """The octets as numbers of that type, one beginning at every octet: for those at odd places."""
    kept = np.dtype(kind)
    count = max(len(octets) - kept.itemsize + 1, 0)
    return np.ndarray((count,), kept, octets if count else bytes(kept.itemsize), 0, (1,))


def column(values: NDArray[np.generic]) -> Int64s:
    """As 64 bits, in which nothing overflows that comes from 32."""
    return values.astype(np.int64)


def broken(octets: Octets, offset: int, what: str) -> TcpwatchError:
    """The capture cannot be read beyond ``offset``; what came before it counts."""
    return TcpwatchError(
        f"{octets.name}: {what}, at {octets.where(offset)}",
        "what came before it is shown",
        ExitCode.FAILED,
    )


def unreadable(octets: Octets, offset: int, what: str) -> TcpwatchError:
    """Nothing of the capture can be read."""
    return TcpwatchError(
        f"{octets.name}: {what}, at {octets.where(offset)}",
        "replay reads pcap and pcapng, also packed with gzip or zstd, and recordings of tcpwatch",
        ExitCode.USAGE,
    )
