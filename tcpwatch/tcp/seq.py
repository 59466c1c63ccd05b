"""Sequence numbers: 32 bits, compared only by signed distance (RFC 9293 3.4)."""

from __future__ import annotations

from dataclasses import dataclass

_MODULUS = 1 << 32
_HALF = 1 << 31


@dataclass(frozen=True, slots=True)
class SeqNumber:
    """A point in TCP's circular sequence space.

    Ordering is by signed distance, so it is no total order: it means something only for two
    numbers less than 2**31 apart, as all numbers of one window are.
    """

    value: int

    def __post_init__(self) -> None:
        if not 0 <= self.value < _MODULUS:
            object.__setattr__(self, "value", self.value % _MODULUS)

    def __add__(self, octets: int) -> SeqNumber:
        return SeqNumber((self.value + octets) % _MODULUS)

    def __sub__(self, other: SeqNumber) -> int:
        """The signed distance from ``other`` to here, in -2**31 ... 2**31-1."""
        return (self.value - other.value + _HALF) % _MODULUS - _HALF

    def __lt__(self, other: SeqNumber) -> bool:
        return self - other < 0

    def __le__(self, other: SeqNumber) -> bool:
        return self - other <= 0

    def __gt__(self, other: SeqNumber) -> bool:
        return self - other > 0

    def __ge__(self, other: SeqNumber) -> bool:
        return self - other >= 0

    def __int__(self) -> int:
        return self.value
