"""The colours of the text views: one for each state, readable on a dark and on a light ground.

Owns: SGR parameters (ECMA-48 8.3.117), and ASCII stand-ins for our own signs. A colour never says
what the words beside it do not say too.
"""

from __future__ import annotations

from tcpwatch.tcp.state import TcpState

PLAIN = ""
BOLD = "1"
DIM = "2"
LINE = "38;5;245"  # the wire's lines: there, and not in the way
GOOD = "1;38;5;71"
BAD = "1;38;5;167"
WARN = "1;38;5;172"

STATE_COLOURS: dict[TcpState, int] = {
    TcpState.CLOSED: 245,
    TcpState.LISTEN: 67,
    TcpState.SYN_SENT: 33,
    TcpState.SYN_RECEIVED: 38,
    TcpState.ESTABLISHED: 71,
    TcpState.FIN_WAIT_1: 172,
    TcpState.FIN_WAIT_2: 136,
    TcpState.CLOSING: 163,
    TcpState.TIME_WAIT: 98,
    TcpState.CLOSE_WAIT: 167,
    TcpState.LAST_ACK: 132,
}
"""A state's colour in the 256-colour palette: of middle luminance, for either ground."""

_ASCII = str.maketrans(
    {
        "─": "-",
        "│": "|",
        "┆": ":",
        "║": "H",
        "╭": ".",
        "╮": ".",
        "╰": "'",
        "╯": "'",
        "├": "+",
        "┤": "+",
        "┼": "+",
        "┬": "+",
        "┴": "+",
        "━": "=",
        "┃": "H",
        "╫": "H",
        "┄": ".",
        "▶": ">",
        "◀": "<",
        "▲": "^",
        "▼": "v",
        "▷": ">",
        "◁": "<",
        "△": "^",
        "▽": "v",
        "✗": "x",
        "✓": "+",
        "✦": "*",
        "×": "x",
        "∅": "0",
        "…": "~",
        **dict.fromkeys("┏┓┗┛┣┫┳┻╋", "#"),
    }
)


def state_style(state: TcpState, *, bold: bool = False) -> str:
    """The SGR parameters that draw a state's name."""
    return f"{'1;' if bold else ''}38;5;{STATE_COLOURS[state]}"


def in_ascii(text: str) -> str:
    """Our own signs for an output that is not UTF-8; what else is there is replaced by ``?``."""
    return text.translate(_ASCII).encode("ascii", "replace").decode("ascii")


def paint(text: str, style: str) -> str:
    """The text within its escape sequences; the text itself where it has no style."""
    return f"\x1b[{style}m{text}\x1b[0m" if style else text
