"""How a scenario is to be played, as its caller asks for it.

Owns: the choices and what stands where none is made. Must not know what a lab is made of, so that
whoever only passes them on need not import one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict


@dataclass(frozen=True, slots=True)
class Options:
    """How a scenario is to be played. Times as in the interface: ``latency_ms`` one way."""

    latency_ms: float = 20
    ipv6: bool = False
    lab: str = "auto"
    wire: str = "auto"
    sampler: str = "sockdiag"
    without: frozenset[str] = frozenset()
    timeout_s: float = 30
    wait_time_wait: bool = False


class SomeOptions(TypedDict, total=False):
    """Those of `Options` that somebody names; the others are as they are there."""

    latency_ms: float
    ipv6: bool
    lab: str
    wire: str
    sampler: str
    without: frozenset[str]
    timeout_s: float
    wait_time_wait: bool
