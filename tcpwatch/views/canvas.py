"""Text on a grid of cells: spans, words, wrapping, and one line to draw on.

Owns: how wide text is, and that nothing from outside reaches a terminal raw: control characters,
escape sequences, bidirectional marks and combining marks are shown by their number.
Must not know what is drawn.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

from tcpwatch.views.palette import PLAIN, in_ascii, paint


class Span(NamedTuple):
    """A piece of text in one style (SGR parameters)."""

    text: str
    style: str = PLAIN


Word = tuple[Span, ...]
"""What a line is not broken within."""

_PART = re.compile(r".+?(?:[ (,]+|$)", re.DOTALL)
"""A part of a word that is too long: up to a blank, a bracket or a comma."""


def visible(text: str, *, ascii_only: bool = False) -> str:
    r"""Text from outside, safe to print: what is not printable as ``\x1b`` or ``\u202e``."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible_character(character, ascii_only=ascii_only) for character in text)


def _visible_character(character: str, *, ascii_only: bool) -> str:
    shown = character.isprintable() and not unicodedata.category(character).startswith("M")
    if shown and (character.isascii() or not ascii_only):
        return character
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def width_of(text: str) -> int:
    """How many cells a terminal uses for it (UAX 11: wide and fullwidth characters take two)."""
    if text.isascii():
        return len(text)
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def shortened(text: str, width: int) -> str:
    """The text within that many cells; where it is cut, a ``…`` says so."""
    if width_of(text) <= width:
        return text
    return f"{_cut(text, max(width - 1, 1))[0].rstrip()}…"


def words(text: str, style: str = PLAIN) -> list[Word]:
    """The words of a text, each in the same style."""
    return [(Span(word, style),) for word in text.split()]


def wrap(content: Sequence[Word], width: int, indent: int = 0) -> list[list[Span]]:
    """The words on as few lines as they need; the second and later ones indented.

    A word that fits a line only without the indent gets it; one that no line can hold is cut into
    pieces: between its spans, else after a blank or a bracket, else anywhere.
    """
    indent = min(indent, width // 2)
    lines: list[list[Span]] = []
    line: list[Span] = []
    used = 0
    for whole in content:
        pieces = [whole] if _length(whole) <= width else _pieces(whole, width, indent)
        for number, word in enumerate(pieces):
            length = _length(word)
            if line and (number or used + 1 + length > width):
                lines.append(line)
                used = max(min(indent, width - length), 0)
                line = [Span(" " * used), *word] if used else [*word]
            else:
                line.extend([Span(" "), *word] if line else word)
                used += 1 if used else 0
            used += length
    return [*lines, line] if line else lines


def _length(word: Sequence[Span]) -> int:
    return sum(width_of(span.text) for span in word)


def _pieces(word: Word, width: int, indent: int) -> list[Word]:
    """The word in pieces that leave room for the indent, or at least fit the width."""
    room = max(width - indent, 2)
    pieces: list[list[Span]] = []
    for text, style in word:
        for part in _PART.findall(text):
            length = width_of(part.rstrip(" "))
            if pieces and _length(pieces[-1]) + length <= room:
                pieces[-1].append(Span(part, style))
            elif length <= width:
                pieces.append([Span(part, style)])
            else:
                pieces += [[Span(cut, style)] for cut in _cut(part, room)]
    for piece in pieces:
        piece[-1] = piece[-1]._replace(text=piece[-1].text.rstrip(" "))
    return [tuple(piece) for piece in pieces]


def _cut(text: str, width: int) -> list[str]:
    cuts = [""]
    for character in text:
        if cuts[-1] and width_of(cuts[-1] + character) > width:
            cuts.append("")
        cuts[-1] += character
    return cuts


def joined(spans: Iterable[Span], *, colour: bool, ascii_only: bool) -> str:
    """A line of spans as it is printed, without blanks at its end."""
    line = list(spans)
    canvas = Canvas(sum(width_of(span.text) for span in line))
    canvas.write(0, line)
    return canvas.render(colour=colour, ascii_only=ascii_only)


class Canvas:
    """One line of cells. What is drawn beyond its edges is not seen."""

    def __init__(self, width: int) -> None:
        self.width = width
        self._cells = [Span(" ")] * width

    def put(self, column: int, text: str, style: str = PLAIN) -> int:
        """Draws the text from that column on; returns the column after it."""
        for character in text:
            length = width_of(character)
            if column >= 0 and column + length <= self.width:
                self._cells[column] = Span(character, style)
                for covered in range(column + 1, column + length):
                    self._cells[covered] = Span("", style)
            column += length
        return column

    def write(self, column: int, spans: Iterable[Span]) -> int:
        """Draws the spans from that column on; returns the column after them."""
        for text, style in spans:
            column = self.put(column, text, style)
        return column

    def at(self, column: int) -> str:
        """The character in that cell, a blank beyond the edges."""
        return self._cells[column].text if 0 <= column < self.width else " "

    def spans(self) -> list[Span]:
        """The line as spans, without blanks at its end."""
        cells = [cell for cell in self._cells if cell.text]
        while cells and cells[-1].text == " ":
            cells.pop()
        runs = groupby(cells, key=lambda cell: cell.style)
        return [Span("".join(cell.text for cell in run), style) for style, run in runs]

    def render(self, *, colour: bool, ascii_only: bool) -> str:
        """The line as it is printed, without blanks at its end."""
        runs: list[tuple[str, str]] = []
        for text, style in self._cells:
            # A blank looks the same in any of our styles, so it ends no run.
            if runs and (runs[-1][1] == style or text == " "):
                runs[-1] = (runs[-1][0] + text, runs[-1][1])
            else:
                runs.append((text, style))
        if ascii_only:
            runs = [(in_ascii(text), style) for text, style in runs]
        if not colour:
            return "".join(text for text, _ in runs).rstrip()
        return "".join(
            paint(text.rstrip(), style) + " " * (len(text) - len(text.rstrip()))
            for text, style in runs
        ).rstrip()
