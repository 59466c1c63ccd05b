"""What a user demands of connections: `--expect 'port:443 active: ... > TIME-WAIT'`.

Owns: its three parts, which connections (a filter, or none for all), which end, and the pattern of
its path. Must not know how the answer is reached (`verdict`) nor shown.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from tcpwatch.machine.fields import FIELDS
from tcpwatch.machine.filtering import FilterError, Node, parse_filter
from tcpwatch.machine.pattern import Pattern, PatternError

BOTH: Final = "both"
_ROLE: Final = re.compile(r"(active|passive|client|server|both)\s*:(?=\s|$)", re.IGNORECASE)
_SKIPPED: Final = re.compile(r"""\s+|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[^\s"']+|.""", re.DOTALL)


class DemandError(ValueError):
    """A demand that cannot be read; ``column`` (from 0) shows the place in ``text``."""

    def __init__(self, text: str, column: int, problem: str) -> None:
        super().__init__(f"bad expectation at column {column + 1}: {problem}")
        self.text, self.column, self.problem = text, column, problem


@dataclass(frozen=True, slots=True)
class Demand:
    """Every connection that ``selects`` matches, its end of that role, is to go as the pattern."""

    text: str
    selects: Node
    role: str
    pattern: Pattern

    def is_about(self, role: str) -> bool:
        """Whether an end of that role is to go so."""
        return self.role in (role, BOTH)


def parse_demand(
    text: str, *, source: str = "this source", has: Collection[str] = tuple(FIELDS)
) -> Demand:
    """``[FILTER] ROLE: PATTERN``. Raises DemandError, and nothing else."""
    found = _role(text)
    if found is None:
        raise DemandError(
            text, len(text), "an end and its path are needed: [FILTER] active: ... > TIME-WAIT"
        )
    try:
        selects = parse_filter(text[: found.start()], source=source, has=has)
        pattern = Pattern(text[found.end() :])
    except FilterError as error:
        raise DemandError(text, error.column, error.problem) from None
    except PatternError as error:
        raise DemandError(text, found.end() + error.column, error.problem) from None
    return Demand(text, selects, found[1].lower(), pattern)


def _role(text: str) -> re.Match[str] | None:
    """Where the role stands: the first word that is one, outside of quotes, with its colon."""
    at = 0
    while at < len(text):
        found = _ROLE.match(text, at)
        if found is not None:
            return found
        skipped = _SKIPPED.match(text, at)
        assert skipped is not None
        at = skipped.end()
    return None
