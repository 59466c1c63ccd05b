"""Entries of one moment onto as few lines as they need, without untrue neighbours.

Owns: which entries may share a line. Within a moment each end's order is kept, and that of the
arrows; what the two ends did at once stands side by side.
Must not know which lanes are taken or how wide a column is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from tcpwatch.views.canvas import Word
from tcpwatch.views.lanes import Mark
from tcpwatch.views.moment import Deed, Entry


@dataclass(slots=True)
class Line:
    """Entries that share a line: at most one text a side, and arrows that do not meet."""

    texts: dict[int, list[Word]] = field(default_factory=dict)
    arrows: list[Entry] = field(default_factory=list)
    note: list[Word] = field(default_factory=list)
    mark: Mark | None = None  # what became of the launched segment at once
    taken: set[int] = field(default_factory=set)  # sides into whose column a mark's word reaches

    def takes_text(self, side: int) -> bool:
        """Whether that side's column is free."""
        return not self.note and side not in self.texts and side not in self.taken


class Layout:
    """Places entries one by one; `lines` is the result."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self._arrow = -1  # the last line with an arrow
        self._text = [-1, -1]  # each side's last line with a text
        self._landed = [-1, -1]  # each side's last line on which a segment arrived
        self._sends: tuple[list[int], list[int]] = ([], [])  # the lines of calls that gave data

    def place(self, entries: Iterable[Entry]) -> list[Line]:
        """Places all entries; returns the lines."""
        for entry in entries:
            match entry.deed:
                case Deed.LAUNCH | Deed.WHOLE:
                    self._launch(entry)
                case Deed.LAND:
                    self._land(entry)
                case Deed.MARK:
                    self._mark(entry)
                case None if entry.side is None:
                    self._note(entry)
                case None:
                    self._say(entry, entry.side)
        return self.lines

    def _line(self, at_least: int, *, text_of: int | None, bare: bool) -> int:
        """The first line from there on with that side's column free (and, if bare, no arrow)."""
        for index in range(max(at_least, 0), len(self.lines)):
            line = self.lines[index]
            blocked = line.note or (bare and line.arrows)
            if not blocked and (text_of is None or line.takes_text(text_of)):
                return index
        self.lines.append(Line())
        return len(self.lines) - 1

    def _write(self, index: int, side: int, words: list[Word]) -> None:
        if words:
            self.lines[index].texts[side] = words
            self._text[side] = index

    def _say(self, entry: Entry, side: int) -> None:
        # Beside an arriving segment a text tells what came of it; beside a leaving one it would
        # claim to be its cause.
        index = max(self._text[side] + 1, self._landed[side])
        if entry.sends:
            # The segment it gives rise to shall stand beside it.
            index = self._line(max(index, self._arrow + 1), text_of=side, bare=True)
            self._sends[side].append(index)
        while not entry.sends:
            index = self._line(index, text_of=side, bare=False)
            arrows = self.lines[index].arrows
            if not any(arrow.deed is not Deed.LAND and arrow.side == side for arrow in arrows):
                break
            index += 1
        self._write(index, side, entry.words)

    def _note(self, entry: Entry) -> None:
        self.lines.append(Line(note=entry.words))
        index = len(self.lines) - 1
        self._arrow = index
        self._text = [index, index]

    def _launch(self, entry: Entry) -> None:
        side = entry.side or 0
        index = self._cause_of(entry, side)
        if index is None:
            index = self._line(max(self._text[side], self._arrow) + 1, text_of=side, bare=True)
        self.lines[index].arrows.append(entry)
        self._write(index, side, entry.words)
        self._arrow = index

    def _cause_of(self, entry: Entry, side: int) -> int | None:
        """The line of the call that gave the data, where the arrow may stand beside it."""
        if entry.words or entry.trace is None or not entry.trace.segment.payload_len:
            return None
        fit = [i for i in self._sends[side] if i > self._arrow and not self.lines[i].arrows]
        return fit[0] if fit else None

    def _land(self, entry: Entry) -> None:
        side = entry.side or 0
        if self._fused(entry, side):
            return
        first = self._text[side] + 1 if entry.words else max(self._text[side], 0)
        index = self._arrow
        meets = index < 0 or any(
            arrow.deed is not Deed.LAND or arrow.side == side for arrow in self.lines[index].arrows
        )
        unfit = index < first or (bool(entry.words) and not self.lines[index].takes_text(side))
        if meets or unfit or not self.lines[index].arrows:
            index = self._line(max(first, self._arrow + 1), text_of=side, bare=True)
        self.lines[index].arrows.append(entry)
        self._write(index, side, entry.words)
        self._arrow = self._landed[side] = index

    def _fused(self, entry: Entry, side: int) -> bool:
        """Draws a segment that leaves and arrives within the moment on one line, if it can be."""
        if self._arrow < 0:
            return False
        line = self.lines[self._arrow]
        fits = self._text[side] < self._arrow if entry.words else True
        same = (
            len(line.arrows) == 1
            and line.arrows[0].deed is Deed.LAUNCH
            and line.arrows[0].numbers == entry.numbers
        )
        if not (same and fits and line.mark is None and line.takes_text(side)):
            return False
        line.arrows[0].deed = Deed.WHOLE
        self._write(self._arrow, side, entry.words)
        self._landed[side] = self._arrow
        return True

    def _mark(self, entry: Entry) -> None:
        assert entry.arrow is not None
        receiver = 1 if entry.arrow.forward else 0
        line = self.lines[self._arrow] if self._arrow >= 0 else Line()
        launched = [a for a in line.arrows if a.deed is Deed.LAUNCH and a.numbers == entry.numbers]
        if launched and line.mark is None and line.takes_text(receiver):
            line.mark = entry.mark
            launched[0].arrow = replace(launched[0].arrow or entry.arrow, copy=entry.arrow.copy)
            line.taken.add(receiver)
            return
        index = self._line(self._arrow + 1, text_of=receiver, bare=True)
        self.lines[index].arrows.append(entry)
        self.lines[index].taken.add(receiver)
        self._arrow = index
