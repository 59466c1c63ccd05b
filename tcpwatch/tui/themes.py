"""The colours of the screens: dark, light, and one for every kind of colour blindness.

Owns: the themes, and which colour of a theme stands for which of the text views' styles, so that
ladder, figure and tables look alike here and there. What a colour says, words or signs say too.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.theme import Theme

from tcpwatch.tcp.state import TcpState
from tcpwatch.views.canvas import Span
from tcpwatch.views.palette import STATE_COLOURS

DARK, LIGHT, COLOUR_BLIND = "tcpwatch-dark", "tcpwatch-light", "tcpwatch-colour-blind"

_S = TcpState
_LINE, _GOOD, _BAD, _WARN = 245, 71, 167, 172  # palette.LINE, GOOD, BAD, WARN

# Each state's colour by theme: the opening cool, the open green, who closes first warm, who closes
# second red to violet, the long waits at the end in violet and yellow.
_ON_DARK: dict[TcpState, str] = {
    _S.CLOSED: "#9aa4b2",
    _S.LISTEN: "#7ab0df",
    _S.SYN_SENT: "#5aa9ff",
    _S.SYN_RECEIVED: "#45c8dc",
    _S.ESTABLISHED: "#7fd07f",
    _S.FIN_WAIT_1: "#f5a742",
    _S.FIN_WAIT_2: "#d9b95b",
    _S.CLOSING: "#f277d6",
    _S.TIME_WAIT: "#b79bff",
    _S.CLOSE_WAIT: "#ff7b72",
    _S.LAST_ACK: "#e58fb1",
}
_ON_LIGHT: dict[TcpState, str] = {
    _S.CLOSED: "#5b6472",
    _S.LISTEN: "#2f6496",
    _S.SYN_SENT: "#0b5cc4",
    _S.SYN_RECEIVED: "#056b7c",
    _S.ESTABLISHED: "#1f7a2e",
    _S.FIN_WAIT_1: "#a85a00",
    _S.FIN_WAIT_2: "#7d6200",
    _S.CLOSING: "#a5178b",
    _S.TIME_WAIT: "#6b3fc9",
    _S.CLOSE_WAIT: "#c02a20",
    _S.LAST_ACK: "#a3325f",
}
# Okabe and Ito's palette, which people with each of the three deficiencies tell apart.
_SKY, _GREEN, _ORANGE, _YELLOW, _VERMILION, _PURPLE = (
    "#56b4e9", "#2fc4a0", "#e69f00", "#f0e442", "#ff8c42", "#d699bd",
)  # fmt: skip
_FOR_ALL: dict[TcpState, str] = {
    _S.CLOSED: "#b0b0b0",
    _S.LISTEN: _SKY,
    _S.SYN_SENT: _SKY,
    _S.SYN_RECEIVED: _SKY,
    _S.ESTABLISHED: _GREEN,
    _S.FIN_WAIT_1: _ORANGE,
    _S.FIN_WAIT_2: _ORANGE,
    _S.CLOSING: _YELLOW,
    _S.TIME_WAIT: _YELLOW,
    _S.CLOSE_WAIT: _VERMILION,
    _S.LAST_ACK: _PURPLE,
}


def _variables(states: dict[TcpState, str], line: str, dim: str) -> dict[str, str]:
    """What the style sheets may use as ``$state-fin-wait-1``, ``$line`` and ``$dim``."""
    named = {f"state-{state.value.lower()}": colour for state, colour in states.items()}
    return {**named, "line": line, "dim": dim, "footer-key-foreground": states[_S.SYN_SENT]}


THEMES = (
    Theme(
        DARK,
        primary="#5aa9ff",
        secondary="#7ab0df",
        accent="#f5a742",
        warning="#f5a742",
        error="#ff7b72",
        success="#7fd07f",
        foreground="#dfe5ee",
        background="#10141b",
        surface="#161c26",
        panel="#1f2733",
        dark=True,
        variables=_variables(_ON_DARK, "#77839a", "#5a6578"),
    ),
    Theme(
        LIGHT,
        primary="#0b5cc4",
        secondary="#2f6496",
        accent="#a85a00",
        warning="#a85a00",
        error="#c02a20",
        success="#1f7a2e",
        foreground="#1b2330",
        background="#fbfaf7",
        surface="#f3f1ec",
        panel="#e6e3db",
        dark=False,
        variables=_variables(_ON_LIGHT, "#666f7d", "#8d95a3"),
    ),
    Theme(
        COLOUR_BLIND,
        primary=_SKY,
        secondary=_SKY,
        accent=_ORANGE,
        warning=_ORANGE,
        error=_VERMILION,
        success=_GREEN,
        foreground="#f2f2f2",
        background="#0d0d0d",
        surface="#171717",
        panel="#262626",
        dark=True,
        variables=_variables(_FOR_ALL, "#8c8c8c", "#6e6e6e"),
    ),
)


class Inks:
    """The styles of the text views (SGR parameters) in a theme's colours."""

    def __init__(self, theme: Theme) -> None:
        states = {STATE_COLOURS[state]: _variable(theme, state) for state in TcpState}
        self._line = theme.variables.get("line", "#808080")
        self._dim = theme.variables.get("dim", "#707070")
        # FIN-WAIT-1 has WARN's number, CLOSE-WAIT BAD's, ESTABLISHED GOOD's, CLOSED LINE's: in the
        # text views they share it, and so they do here.
        self._colours = states
        self._ground = theme.background or "#000000"
        self.style = lru_cache(maxsize=512)(self._style)

    def _style(self, sgr: str) -> Style:
        """``1;38;5;71`` as a style. What is not of our palette is left out."""
        numbers = [int(part) for part in sgr.split(";") if part.isdecimal()]
        colour: str | None = None
        bold = reverse = underline = False
        while numbers:
            number = numbers.pop(0)
            match number:
                case 1:
                    bold = True
                case 2:
                    colour = self._dim
                case 4:
                    underline = True
                case 7:
                    reverse = True
                case 38 if len(numbers) >= 2 and numbers[0] == 5:
                    colour = self._colours.get(numbers[1], colour)
                    if numbers[1] == _LINE and not bold:
                        colour = self._line
                    del numbers[:2]
        if (
            reverse and colour is not None
        ):  # the ground as ink: more legible than what a terminal does
            return Style(color=self._ground, bgcolor=colour, bold=True)
        return Style(
            color=colour, bold=bold or None, reverse=reverse or None, underline=underline or None
        )

    def strip(self, spans: Iterable[Span]) -> Strip:
        """A line of spans."""
        return Strip([Segment(text, self.style(sgr)) for text, sgr in spans])


def _variable(theme: Theme, state: TcpState) -> str:
    return theme.variables.get(f"state-{state.value.lower()}", theme.foreground or "#c0c0c0")


@lru_cache(maxsize=8)
def _known(name: str) -> Inks | None:
    found = next((theme for theme in THEMES if theme.name == name), None)
    return Inks(found) if found else None


def inks_of(theme: Theme) -> Inks:
    """A theme's inks; one of Textual's own themes gets the colours of ours for its ground."""
    known = _known(theme.name) or _known(DARK if theme.dark else LIGHT)
    assert known is not None
    return known
