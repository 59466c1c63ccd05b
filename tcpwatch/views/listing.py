"""The lists: which scenarios (`tcpwatch list`) and which witnesses (`tcpwatch doctor`) there are.

Owns: their layout, within a width. Must not know where a scenario's file stands, nor how a witness
was asked.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Protocol

from tcpwatch.model.witness import Availability
from tcpwatch.views.canvas import visible

_NARROWEST = 40  # columns
_INDENT = " " * 6  # of what stands under a scenario: a whole path then fits 80 columns


class ScenarioLike(Protocol):
    """What there is to list of a scenario. ``edges`` are pairs of states; ``needs`` in words."""

    @property
    def name(self) -> str: ...

    @property
    def topic(self) -> str: ...

    @property
    def claim(self) -> str: ...

    @property
    def edges(self) -> tuple[tuple[str, str], ...]: ...

    @property
    def needs(self) -> tuple[str, ...]: ...


def list_scenarios(scenarios: Sequence[ScenarioLike], width: int) -> str:
    """Each scenario by topic: name and claim, and under it what it covers and needs."""
    if not scenarios:
        return "there are no scenarios"
    width = max(width, _NARROWEST)
    name_width = min(max(len(visible(scenario.name)) for scenario in scenarios), width // 3)
    lines: list[str] = []
    for topic, group in _by_topic(scenarios):
        lines += ["", topic] if lines else [topic]
        for scenario in group:
            lines += _scenario(scenario, name_width, width)
    return "\n".join(lines)


def doctor_report(availabilities: Sequence[Availability], width: int) -> str:
    """Each witness and the lab: available or not and why, the remedy, what it cannot see."""
    width = max(width, _NARROWEST)
    name_width = min(max((len(visible(one.name)) for one in availabilities), default=0), width // 3)
    lines: list[str] = []
    for one in availabilities:
        verdict = "available" if one.available else "not available"
        detail = f"{verdict}: {one.detail}" if one.detail else verdict
        lines += _entry(one.name, name_width, detail, width)
        indent = " " * (name_width + 4)
        if one.remedy:
            lines += _paragraph(f"remedy: {one.remedy}", indent, width)
        for spot in one.blind_spots:
            lines += _paragraph(f"blind to {spot}", indent, width)
    missing = [visible(one.name) for one in availabilities if not one.available]
    lines += ["", f"not available: {', '.join(missing)}" if missing else "all are available"]
    return "\n".join(lines)


def _by_topic(scenarios: Iterable[ScenarioLike]) -> Iterable[tuple[str, list[ScenarioLike]]]:
    """In the order in which the topics first appear."""
    topics: dict[str, list[ScenarioLike]] = {}
    for scenario in scenarios:
        topics.setdefault(visible(scenario.topic), []).append(scenario)
    return topics.items()


def _scenario(scenario: ScenarioLike, name_width: int, width: int) -> list[str]:
    lines = _entry(scenario.name, name_width, scenario.claim, width)
    for chain in _chains(scenario.edges):
        lines += _paragraph(chain, _INDENT, width)
    if scenario.needs:
        lines += _paragraph(f"needs {', '.join(scenario.needs)}", _INDENT, width)
    return lines


def _chains(edges: Iterable[tuple[str, str]]) -> list[str]:
    """The edges ``A > B``, ``B > C`` and ``D > E`` as ``A > B > C`` and ``D > E``."""
    chains: list[list[str]] = []
    for before, after in edges:
        if chains and chains[-1][-1] == before:
            chains[-1].append(after)
        else:
            chains.append([before, after])
    return [" > ".join(chain) for chain in chains]


def _entry(name: str, name_width: int, text: str, width: int) -> list[str]:
    """A name in its column, the text beside it; a name that is too long gets a line of its own."""
    indent = " " * (name_width + 4)
    name = visible(name)
    lines = _paragraph(text, indent, width) or [indent]
    if len(name) > name_width:
        return [f"  {name}", *lines]
    lines[0] = f"  {name:<{name_width}}  {lines[0].lstrip()}".rstrip()
    return lines


def _paragraph(text: str, indent: str, width: int) -> list[str]:
    return textwrap.wrap(
        visible(text),
        width,
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )
