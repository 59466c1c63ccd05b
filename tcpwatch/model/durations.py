"""A length of time in words.

Owns: which unit, and how many digits, somebody can compare at a glance.
"""

from __future__ import annotations

from typing import Final

_UNITS: Final = (
    (86_400e9, 172_800e9, "days"),
    (3600e9, 6_000e9, "h"),
    (60e9, 100e9, "min"),
    (1e9, 1e9, "s"),
    (1e6, 1e6, "ms"),
)
"""The length of a unit, and from which length on it is used, in ns."""


def lasting(ns: float) -> str:
    """``0 ms``, ``7 us``, ``1.2 ms``, ``14.54 s``, ``1.5 min``, ``2.25 h``, ``12 days``."""
    if ns == 0:
        return "0 ms"
    for length_ns, from_ns, unit in _UNITS:
        if ns >= from_ns:
            digits = 4 if unit == "s" else 3
            return (
                f"{ns / length_ns:.{digits}g} {unit}"
                if ns < 1e3 * length_ns
                else (f"{ns / length_ns:,.0f} {unit}")
            )
    return f"{ns / 1e3:.3g} us"
