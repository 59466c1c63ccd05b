"""A TCP segment as a value (RFC 9293 3.1), without its addresses.

Owns: flags, options, lengths. Must not know how a segment was captured or what it does to a state.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

from tcpwatch.tcp.seq import SeqNumber


class Flags(IntFlag):
    """The control bits, at their place in the header."""

    FIN = 0x001
    SYN = 0x002
    RST = 0x004
    PSH = 0x008
    ACK = 0x010
    URG = 0x020
    ECE = 0x040
    CWR = 0x080
    AE = 0x100  # RFC 9768, formerly NS

    @property
    def letters(self) -> str:
        """One letter a flag: ``S``, ``SA``, ``PA``, ``FA``, ``R``; ``none`` where none is set."""
        return "".join(letter for flag, letter in _LETTERS if self & flag) or "none"

    @classmethod
    def from_letters(cls, letters: str) -> Flags:
        """The inverse of `letters`; tcpdump's ``.`` also means ACK.

        Raises ValueError at any other letter.
        """
        flags = cls(0)
        if letters == "none":
            return flags
        for letter in letters.replace(".", "A"):
            try:
                flags |= _BY_LETTER[letter]
            except KeyError:
                raise ValueError(f"{letter!r} in {letters!r} is not a TCP flag") from None
        return flags


_LETTERS = (
    (Flags.SYN, "S"),
    (Flags.FIN, "F"),
    (Flags.RST, "R"),
    (Flags.PSH, "P"),
    (Flags.ACK, "A"),
    (Flags.URG, "U"),
    (Flags.ECE, "E"),
    (Flags.CWR, "W"),
    (Flags.AE, "e"),
)
_BY_LETTER = {letter: flag for flag, letter in _LETTERS}


@dataclass(frozen=True, slots=True)
class Option:
    """One TCP option: its kind (IANA) and its octets after kind and length."""

    kind: int
    data: bytes = b""


# The & of an IntFlag makes another IntFlag, which takes five times as long.
_bits = int.__and__
_SYN, _FIN, _RST = int(Flags.SYN), int(Flags.FIN), int(Flags.RST)

MSS, WINDOW_SCALE, SACK_PERMITTED, SACK, TIMESTAMPS = 2, 3, 4, 5, 8


@dataclass(frozen=True, slots=True)
class Segment:
    """One TCP segment. ``ack`` is None exactly when ACK is not set; lengths are in octets."""

    seq: SeqNumber
    ack: SeqNumber | None
    flags: Flags
    window: int = 65535
    options: tuple[Option, ...] = ()
    payload_len: int = 0

    @property
    def seg_len(self) -> int:
        """The sequence space it occupies: payload, and one each for SYN and FIN (RFC 9293 3.4)."""
        return self.payload_len + self.syn + self.fin

    @property
    def seq_end(self) -> SeqNumber:
        """The sequence number after its last octet."""
        return self.seq + self.seg_len

    @property
    def fin_seq(self) -> SeqNumber:
        """The sequence number that its FIN occupies (or would occupy)."""
        return self.seq + self.syn + self.payload_len

    @property
    def syn(self) -> bool:
        return _bits(self.flags, _SYN) != 0

    @property
    def fin(self) -> bool:
        return _bits(self.flags, _FIN) != 0

    @property
    def rst(self) -> bool:
        return _bits(self.flags, _RST) != 0

    def option(self, kind: int) -> bytes | None:
        """The data of the first option of that kind, None where there is none."""
        return next((option.data for option in self.options if option.kind == kind), None)

    @property
    def window_shift(self) -> int | None:
        """The Window Scale option's shift (RFC 7323), at most 14; None where it has none."""
        data = self.option(WINDOW_SCALE)
        return min(data[0], 14) if data else None
