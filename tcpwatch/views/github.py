"""GitHub Actions: annotations of what did not pass, and the step's summary.

Owns: the escaping of workflow commands (a message may hold no line end, a property no ``,`` or
``:`` either) and of markdown. Must not know where they are written.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from tcpwatch.model.timeline import Judged
from tcpwatch.views.canvas import visible
from tcpwatch.views.cases import Case, Outcome, numbered
from tcpwatch.views.summary import command_failed

_ROOM = 900_000
"""Octets of one summary: GitHub drops one of more than 1 MiB as a whole."""

_MARKDOWN = re.compile(r"[\\`*_{}\[\]<>#|~&$@:]")
_COUNTED = (("PASS", "passed"), ("FAIL", "failed"), ("INCONCLUSIVE", "inconclusive"))
_UNPLAYED = "could not be played"


def annotation_lines(cases: Sequence[Case], workspace: Path | None) -> list[str]:
    """A line for each run that did not pass. ``workspace``: what files are named relative to."""
    return [_annotation(case, workspace) for case in numbered(cases) if _worth_telling(case)]


def _annotation(case: Case, workspace: Path | None) -> str:
    properties: dict[str, str] = {}
    place = _place(case, workspace)
    if place is not None:
        properties = {"file": place[0], "line": str(place[1])}
    properties["title"] = f"{case.kind} {visible(case.name)}"
    told = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
    message = "\n".join([case.message or case.kind, *case.diffs])
    return f"::error {told}::{_data(message.rstrip())}"


def _place(case: Case, workspace: Path | None) -> tuple[str, int] | None:
    """Where it stands in the repository: the line that its message names, else the case's own."""
    if case.file is None or workspace is None or not case.file.is_relative_to(workspace):
        return None
    named = re.match(r":(\d+): ", case.message.removeprefix(str(case.file)))
    line = int(named[1]) if named and case.message.startswith(str(case.file)) else case.line
    return case.file.relative_to(workspace).as_posix(), line


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


# ---------------------------------------------------------------------- the summary


def summary(cases: Sequence[Case], kept: Sequence[str] = (), room: int = _ROOM) -> str:
    """Markdown: the totals, what did not pass as a table, and under it the ladders.

    ``kept`` are the files that a failing run left; ``room`` is in octets.
    """
    cases = numbered(cases)
    telling = [case for case in cases if _worth_telling(case)]
    text = f"### tcpwatch: {_totals(cases)}\n\n"
    if telling:
        text += "| | run | why |\n|---|---|---|\n"
        for case in telling:
            text += f"| {case.kind} | {markdown(case.name)} | {markdown(case.message)} |\n"
        text += "\n"
    for case in cases:
        failed = command_failed(case.run.record) if isinstance(case.run, Judged) else ""
        if failed:
            text += f"{markdown(case.name)}: {markdown(failed)}\n\n"
    if kept:
        text += "kept: " + ", ".join(markdown(name) for name in kept) + "\n\n"
    left_out = "The rest is left out: a summary has no more room.\n"
    for case in telling:
        block = _block(case)
        if len((text + block + left_out).encode()) > room:
            return _cut(text, room - len(left_out)) + left_out
        text += block
    return text


def _block(case: Case) -> str:
    details = case.details
    longest = max((len(run) for run in re.findall("`+", details)), default=0)
    fence = "`" * max(3, longest + 1)
    head = f"<details><summary>{markdown(case.kind)} {markdown(case.name)}</summary>"
    return f"{head}\n\n{fence}text\n{details}\n{fence}\n\n</details>\n\n"


def markdown(text: str) -> str:
    """Text from outside as it stands, never as markup, in a cell of a table too."""
    entities = _MARKDOWN.sub(lambda found: f"&#{ord(found[0])};", visible(text))
    return entities.replace("\n", " ")


def _cut(text: str, room: int) -> str:
    """Whole lines of it within that many octets."""
    if len(text.encode()) <= room:
        return text
    return text.encode()[:room].decode(errors="ignore").rpartition("\n")[0] + "\n\n"


def _totals(cases: Iterable[Case]) -> str:
    counts = Counter(case.kind for case in cases)
    told = [f"{counts[kind]} {word}" for kind, word in (*_COUNTED, ("ERROR", _UNPLAYED))]
    parts = [part for part in told if not part.startswith("0 ")]
    total = counts.total()
    return f"{total} run{'' if total == 1 else 's'}: {', '.join(parts) or 'none'}"


def _worth_telling(case: Case) -> bool:
    return case.outcome is not Outcome.PASSED
