"""Reads a capture's octets for a test, and keeps what it raises at the end."""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

from tcpwatch.errors import TcpwatchError
from tcpwatch.sources.capture.container import open_container
from tcpwatch.sources.capture.octets import Octets
from tests.sources.capture.writing import Frame

SHARED = Path(__file__).parents[4] / "shared" / "captures"
"""Captures with reference answers, where they stand beside the checkout."""


class WasRead(NamedTuple):
    """All frames, the link type of each, and what stopped the reading."""

    frames: list[Frame]
    links: list[int]
    broken: TcpwatchError | None
    dropped: int = 0


def octets_of(written: bytes) -> Octets:
    return Octets("made.pcap", io.BytesIO(written))


def frames_of(written: bytes) -> WasRead:
    """Raises TcpwatchError where it is no capture at all."""
    container = open_container(octets_of(written))
    frames: list[Frame] = []
    links: list[int] = []
    broken = None
    try:
        for block in container.blocks():
            columns = (block.at, block.captured, block.wire_len, block.t_ns)
            for at, captured, wire_len, t_ns in zip(*(c.tolist() for c in columns), strict=True):
                assert 0 <= at <= at + captured <= len(block.octets)
                frames.append(Frame(t_ns, block.octets[at : at + captured], wire_len))
            links += block.link.tolist()
    except TcpwatchError as error:
        broken = error
    return WasRead(frames, links, broken, container.dropped)
