"""What the terminal can show: its width, colours, characters.

Owns: the environment's and the streams' say in that. Must not know what is shown.
"""

from __future__ import annotations

import os
import shutil
import sys
from typing import TextIO

from tcpwatch.errors import ExitCode, TcpwatchError


def colourful() -> bool:
    """On a terminal that is not known to have none, unless nobody wants them (no-color.org)."""
    return not os.environ.get("NO_COLOR") and on_a_terminal(sys.stdout)


def on_a_terminal(stream: TextIO | None) -> bool:
    """Whether what is written there may be written over, and coloured. None: it is closed."""
    return stream is not None and os.environ.get("TERM") != "dumb" and stream.isatty()


def width() -> int:
    """In columns; where nobody knows, 80."""
    return max(shutil.get_terminal_size((80, 24)).columns, 40)


def only_ascii() -> bool:
    """Whether lines and arrows must be drawn with ASCII."""
    return _asks_for_ascii() or not _encodable("─╮▶")


def _asks_for_ascii() -> bool:
    """LC_ALL=C. Python writes UTF-8 even so (PEP 540), but it is the way to say: only ASCII."""
    chosen = os.environ.get("PYTHONIOENCODING") or os.environ.get("PYTHONUTF8")
    return os.environ.get("LC_ALL") in ("C", "POSIX") and not chosen


def _encodable(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def in_a_browser() -> bool:
    """Whether `textual serve` has started us: a browser is the terminal."""
    return bool(os.environ.get("TEXTUAL_DRIVER"))


def must_be_a_terminal() -> None:
    """Raises TcpwatchError where a screen could not be shown."""
    if in_a_browser():
        return
    # Textual reads the one and writes to the last; the first says whether anybody looks.
    if not all(map(on_a_terminal, (sys.stdout, sys.stdin, sys.stderr))):
        raise TcpwatchError(
            "--tui needs a terminal, and there is none here",
            "leave it out: text, --json and --jsonl need none",
            ExitCode.USAGE,
        )
