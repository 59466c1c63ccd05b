"""The lists: which scenarios (`tcpwatch list`) and which witnesses (`tcpwatch doctor`) there are.

Owns: their layout, within a width. Must not know where a scenario's file stands, nor how a witness
was asked.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from tcpwatch.model.witness import Availability
from tcpwatch.views.canvas import Span, Word, joined, visible, words, wrap
from tcpwatch.views.wording import title

_NARROWEST = 40  # columns
_UNSETTLED = "what a missing witness alone could settle is INCONCLUSIVE, never PASS"
_MORE = "with a topic, or -v, the path that is expected of each end, and what is needed to see it"
_INDENT = " " * 4  # of what stands under a scenario


class ScenarioLike(Protocol):
    """What there is to list of a scenario.

    ``expect``: role to pattern; ``needs`` and why it is ``slow`` in words.
    """

    @property
    def name(self) -> str: ...

    @property
    def topic(self) -> str: ...

    @property
    def claim(self) -> str: ...

    @property
    def expect(self) -> dict[str, str]: ...

    @property
    def needs(self) -> tuple[str, ...]: ...

    @property
    def slow(self) -> str: ...


def list_scenarios(
    scenarios: Sequence[ScenarioLike], topics: Mapping[str, str], width: int, *, verbose: bool
) -> str:
    """Each scenario by topic: name and claim; ``verbose``: both ends' paths and what it needs.

    ``topics`` says of each topic in words what it is about.
    """
    if not scenarios:
        return "there are no scenarios"
    width = max(width, _NARROWEST)
    name_width = min(max(len(visible(scenario.name)) for scenario in scenarios), width // 3)
    lines: list[str] = []
    for topic, group in _by_topic(scenarios):
        about = f"{topic}: {topics[topic]}" if topic in topics else topic
        lines += [*([""] if lines else []), *_paragraph(about, "", width)]
        for scenario in group:
            if verbose:
                lines += _scenario(scenario, name_width, width)
            else:
                lines += _entry(scenario.name, name_width, _claim(scenario), width)
    return "\n".join(lines if verbose else [*lines, "", *_paragraph(_MORE, "", width)])


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
    return "\n".join([*lines, *_paragraph(_UNSETTLED, "", width)])


def _by_topic(scenarios: Iterable[ScenarioLike]) -> Iterable[tuple[str, list[ScenarioLike]]]:
    """In the order in which the topics first appear."""
    topics: dict[str, list[ScenarioLike]] = {}
    for scenario in scenarios:
        topics.setdefault(visible(scenario.topic), []).append(scenario)
    return topics.items()


def _claim(scenario: ScenarioLike) -> str:
    claim = title(scenario.claim)
    return f"{claim} (slow)" if scenario.slow else claim


def _scenario(scenario: ScenarioLike, name_width: int, width: int) -> list[str]:
    lines = _entry(scenario.name, name_width, title(scenario.claim), width)
    marks = {"needs": ", ".join(scenario.needs), "slow": scenario.slow}
    labels = [*scenario.expect, *(label for label, text in marks.items() if text)]
    label_width = min(max((len(visible(label)) for label in labels), default=0), width // 4)
    for role, pattern in scenario.expect.items():
        lines += _labelled(role, label_width, _steps(pattern), width)
    for label, text in marks.items():
        if text:
            lines += _labelled(label, label_width, words(visible(text)), width)
    return lines


def _labelled(label: str, label_width: int, content: Sequence[Word], width: int) -> list[str]:
    """A label in its column, what it labels beside it."""
    head: Word = (Span(_INDENT + visible(label).ljust(label_width) + " "),)
    lines = wrap([head, *content], width, len(_INDENT) + label_width + 2)
    return [joined(line, colour=False, ascii_only=False) for line in lines]


def _steps(pattern: str) -> list[Word]:
    """What a pattern may be broken between: a ``>`` stays with the state that it leads to."""
    first, *others = re.split(r"\s+>\s+", visible(pattern))
    return [(Span(first),), *((Span(f"> {other}"),) for other in others)]


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
