"""Our notation for a segment, as packetdrill and tcpdump write it: ``SA 0:0(0) ack 1 win 512``.

Owns: both directions between a Segment and its text. Must not know whose segment it is: the
initial sequence numbers that make the numbers relative come in as arguments.

    FLAGS SEQ:END(PAYLOAD_LEN) [ack N] [win N] [<OPTION,...>]
"""

from __future__ import annotations

import re
import struct
from dataclasses import replace
from typing import Final

from tcpwatch.tcp.segment import (
    MSS,
    SACK,
    SACK_PERMITTED,
    TIMESTAMPS,
    WINDOW_SCALE,
    Flags,
    Option,
    Segment,
)
from tcpwatch.tcp.seq import SeqNumber

_END_OF_LIST, _NO_OPERATION, _FAST_OPEN = 0, 1, 34
_BARE: Final = {_END_OF_LIST: "eol", _NO_OPERATION: "nop", SACK_PERMITTED: "sackOK"}
_KINDS: Final = {name: kind for kind, name in _BARE.items()}
_PAIR: Final = struct.Struct("!II")  # one SACK block, or the two timestamps
_ZERO: Final = SeqNumber(0)
_MODULUS: Final = 1 << 32
_MAX_OPTION: Final = 253  # octets that an option's one-octet length leaves for data


def format_segment(
    segment: Segment,
    *,
    isn: SeqNumber | None,
    peer_isn: SeqNumber | None,
    window: bool = False,
    options: bool = False,
) -> str:
    """The segment as text, its numbers relative to its sender's and its peer's initial numbers.

    Relative numbers are signed distances, so what lies before the initial number is negative.
    Where a base is None (the SYN was not seen) the numbers stay absolute. END is SEQ plus the
    payload: SYN and FIN are not counted in it.
    """
    start = _relative(segment.seq, isn)
    end = start + segment.payload_len
    if isn is None:
        end %= _MODULUS
    parts = [segment.flags.letters, f"{start}:{end}({segment.payload_len})"]
    if segment.ack is not None:
        parts.append(f"ack {_relative(segment.ack, peer_isn)}")
    if window:
        parts.append(f"win {segment.window}")
    if options and segment.options:
        parts.append(f"<{','.join(_format_option(o, peer_isn) for o in segment.options)}>")
    return " ".join(parts)


def parse_segment(text: str, *, isn: SeqNumber = _ZERO, peer_isn: SeqNumber = _ZERO) -> Segment:
    """The inverse of `format_segment`; tcpdump's ``S.``, ``.`` and ``F.`` are understood too.

    Without ``win`` the window is a Segment's default. Raises ValueError, with the column (from 1)
    of the fault, where the text is not a segment.
    """
    scanner = _Scanner(text)
    flags = _parse_flags(scanner)
    seq, payload_len = _parse_range(scanner, isn)
    ack = None
    if flags & Flags.ACK:
        scanner.take(r"ack\b", "'ack', as the ACK flag is set")
        ack = peer_isn + scanner.number()
    elif scanner.accept(r"ack\b"):
        raise scanner.fault("'ack' without the ACK flag", scanner.start)
    segment = Segment(seq, ack, flags, payload_len=payload_len)
    if scanner.accept(r"win\b"):
        segment = replace(segment, window=scanner.number(0, 0xFFFF))
    if scanner.accept("<"):
        segment = replace(segment, options=_parse_options(scanner, peer_isn))
    scanner.end()
    return segment


def _relative(number: SeqNumber, base: SeqNumber | None) -> int:
    return number.value if base is None else number - base


def _format_option(option: Option, peer_isn: SeqNumber | None) -> str:
    kind, data = option.kind, option.data
    if kind in _BARE and not data:
        text = _BARE[kind]
    elif (kind, len(data)) == (MSS, 2):
        text = f"mss {int.from_bytes(data)}"
    elif (kind, len(data)) == (WINDOW_SCALE, 1):
        text = f"wscale {data[0]}"
    elif (kind, len(data)) == (TIMESTAMPS, _PAIR.size):
        text = "TS val {} ecr {}".format(*_PAIR.unpack(data))
    elif kind == SACK and data and len(data) % _PAIR.size == 0:
        text = "sack " + " ".join(
            f"{_relative(SeqNumber(left), peer_isn)}:{_relative(SeqNumber(right), peer_isn)}"
            for left, right in _PAIR.iter_unpack(data)
        )
    elif kind == _FAST_OPEN:
        text = f"FO {data.hex()}"
    else:
        # Of a kind without a name here, or of a length that its kind does not have.
        text = f"kind {kind} {data.hex()}"
    return text.rstrip()


def _parse_flags(scanner: _Scanner) -> Flags:
    word = scanner.take(r"[^\s:<>]+", "flags such as S, SA, PA, FA, R or none")
    try:
        return Flags.from_letters(word)
    except ValueError as error:
        raise scanner.fault(str(error), scanner.start) from None


def _parse_range(scanner: _Scanner, isn: SeqNumber) -> tuple[SeqNumber, int]:
    start = scanner.number()
    scanner.take(":", "':' and the end of the payload")
    end = scanner.number()
    end_at = scanner.start
    scanner.take(r"\(", "'(' and the payload's length")
    payload_len = scanner.number(0)
    scanner.take(r"\)", "')'")
    if (start + payload_len - end) % _MODULUS:
        raise scanner.fault(f"the payload ends at {start + payload_len}, not at {end}", end_at)
    return isn + start, payload_len


def _parse_options(scanner: _Scanner, peer_isn: SeqNumber) -> tuple[Option, ...]:
    """What stands after ``<``, through ``>``."""
    options = [_parse_option(scanner, peer_isn)]
    while not scanner.accept(">"):
        scanner.take(",", "',' or '>'")
        options.append(_parse_option(scanner, peer_isn))
    return tuple(options)


def _parse_option(scanner: _Scanner, peer_isn: SeqNumber) -> Option:
    match name := scanner.take(r"[A-Za-z]+", "the name of an option"):
        case "eol" | "nop" | "sackOK":
            return Option(_KINDS[name])
        case "mss":
            return Option(MSS, scanner.number(0, 0xFFFF).to_bytes(2))
        case "wscale":
            return Option(WINDOW_SCALE, scanner.number(0, 0xFF).to_bytes())
        case "TS":
            scanner.take(r"val\b", "'val'")
            value = scanner.number(0)
            scanner.take(r"ecr\b", "'ecr'")
            return Option(TIMESTAMPS, _PAIR.pack(value, scanner.number(0)))
        case "sack":
            return Option(SACK, _parse_blocks(scanner, peer_isn))
        case "FO":
            return Option(_FAST_OPEN, _parse_octets(scanner))
        case "kind":
            return Option(scanner.number(0, 0xFF), _parse_octets(scanner))
        case _:
            raise scanner.fault(f"{name!r} is not an option that has a name", scanner.start)


def _parse_blocks(scanner: _Scanner, peer_isn: SeqNumber) -> bytes:
    blocks = b""
    while not blocks or not scanner.peek("[,>]"):
        left = peer_isn + scanner.number()
        scanner.take(":", "':' and the block's right edge")
        right = peer_isn + scanner.number()
        blocks += _PAIR.pack(left.value, right.value)
    return blocks


def _parse_octets(scanner: _Scanner) -> bytes:
    digits = scanner.accept(r"[0-9A-Fa-f]+") or ""
    if len(digits) % 2:
        raise scanner.fault("an odd number of hexadecimal digits", scanner.start)
    if len(digits) > 2 * _MAX_OPTION:
        raise scanner.fault(f"more than the {_MAX_OPTION} octets an option can hold", scanner.start)
    return bytes.fromhex(digits)


class _Scanner:
    """A place in the text. Spaces mean nothing; ``start`` is where the last token began."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self.start = 0

    def accept(self, pattern: str) -> str | None:
        """The token that stands here, stepped over; None, and nothing changes, if another does."""
        found = self._match(pattern)
        if found is None:
            return None
        self.start, self._at = found.span(1)
        return found[1]

    def take(self, pattern: str, expected: str) -> str:
        """As `accept`, but another token is a fault."""
        token = self.accept(pattern)
        if token is None:
            raise self._unexpected(expected)
        return token

    def peek(self, pattern: str) -> bool:
        """Whether such a token stands here."""
        return self._match(pattern) is not None

    def number(self, low: int = -(1 << 31), high: int = _MODULUS - 1) -> int:
        """A decimal number within these bounds."""
        digits = self.take(r"-?[0-9]{1,10}\b", f"a number from {low} to {high}")
        if not low <= int(digits) <= high:
            raise self.fault(f"{digits} is not from {low} to {high}", self.start)
        return int(digits)

    def end(self) -> None:
        """Nothing but spaces may be left."""
        if not self.peek(r"\Z"):
            raise self._unexpected("the end of the segment")

    def fault(self, what: str, at: int) -> ValueError:
        """The error to raise for a fault at that offset."""
        return ValueError(f"column {at + 1}: {what}")

    def _match(self, pattern: str) -> re.Match[str] | None:
        return re.compile(rf"\s*({pattern})").match(self._text, self._at)

    def _unexpected(self, expected: str) -> ValueError:
        rest = self._text[self._at :].lstrip()
        found = repr(rest.split()[0]) if rest else "the end"
        return self.fault(f"expected {expected}, found {found}", len(self._text) - len(rest))
