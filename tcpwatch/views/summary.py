"""A run in words: its head, both paths against what was expected, who saw what, the verdict.

Owns: the head and foot of the ladder. Several runs are `runs.py`'s.
Must not know how anything was concluded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from tcpwatch.model.events import KERNEL, TABLE, WIRE, Event, Measured
from tcpwatch.model.timeline import (
    CAPTURE,
    Connection,
    Endpoint,
    Expectation,
    Finding,
    Judged,
    RunRecord,
    Severity,
    Transition,
    Verdict,
)
from tcpwatch.views.accounts import account_lines
from tcpwatch.views.canvas import Span, Word, joined, visible, words, wrap
from tcpwatch.views.contrast import NONE, Row, contrast_lines
from tcpwatch.views.palette import BAD, BOLD, DIM, GOOD, WARN
from tcpwatch.views.processes import lives
from tcpwatch.views.wording import Wording, title

_NOTHING: Word = (Span(""),)  # sets what follows one blank further off
Lines = list[list[Span]]

VERDICT_STYLES = {Verdict.PASS: GOOD, Verdict.FAIL: BAD, Verdict.INCONCLUSIVE: WARN}
_KINDS = {
    "namespace": "namespaces",
    "private": "a network of its own",
    "wired": "a network of its own, a wire for its loopback",
    "pair": "two hosts and a wire",
    "shared": "this machine's network, with other programs' connections",
}
_NUMBERS = ("no", "one", "two", "three")
_ABLE = (KERNEL, TABLE, WIRE)  # the witnesses of states; calls are facts of their own


def head_lines(record: RunRecord, width: int, wording: Wording) -> Lines:
    """The scenario with its claim, the lab, the witnesses and those that are missing."""
    name = wording.safe(record.scenario)
    claim = words(wording.safe(title(record.claim if record.claim != record.scenario else "")))
    top = wrap([(Span(name, BOLD),), (Span(" "),), *claim], width)
    if len(top) > 1:
        top = [*wrap([(Span(name, BOLD),)], width), *wrap(claim, width)]
    if record.lab.get("kind") == CAPTURE:
        return top  # nobody made that lab, and there is one witness
    lab = [*words("lab:", DIM), *words(wording.safe(_lab(record.lab)), DIM)]
    seen = ", ".join(_names(record, available=True)) or "none"
    witnesses = f"witnesses: {seen}"
    line = joined([Span(" ".join(s.text for w in lab for s in w))], colour=False, ascii_only=False)
    if len(line) + 4 + len(witnesses) <= width:
        lines = [*top, [Span(f"{line}    {witnesses}", DIM)]]
    else:
        lines = [*top, *wrap(lab, width, 5), *wrap(words(witnesses, DIM), width, 5)]
    for source in record.sources:
        if source.get("name") in _ABLE and not source.get("available"):
            why = str(source.get("detail") or "not available")
            lines += wrap(
                words(wording.safe(f"without {source.get('name')}: {why}"), WARN), width, 2
            )
    return lines


def foot_lines(judged: Judged, width: int, wording: Wording) -> Lines:
    """Paths, zombies, measured values, counts, findings and the verdict."""
    return [
        *path_lines(judged, width, wording),
        *zombie_lines(judged.timeline.events, width, wording),
        *measured_lines(judged.timeline.events, width, wording),
        *count_lines(judged, width, wording),
        *finding_lines(judged.timeline.findings, width, wording),
        *verdict_lines(judged, width, wording),
    ]


def path_lines(judged: Judged, width: int, wording: Wording) -> Lines:
    """Each end's path and whether it is the expected one; the difference where it is not."""
    lines: Lines = []
    connections = judged.timeline.connections
    told: set[int] = set()
    for connection in connections:
        for endpoint in connection.endpoints:
            mine = [
                (index, expectation)
                for index, expectation in enumerate(judged.expectations)
                if _is_about(expectation, endpoint, connection, connections)
            ]
            told.update(index for index, _ in mine)
            number = f"#{connection.number} " if len(connections) > 1 else ""
            path: list[Word] = [(Span(f"{number}{wording.safe(endpoint.role)}", BOLD), Span(" "))]
            path += _path(endpoint, wording)
            if len(mine) == 1:
                path += _met(mine[0][1])
            lines += wrap(path, width, 8)
            for _, expectation in mine:
                if len(mine) > 1:  # which of them is meant is not clear of itself
                    asked = [*words(wording.safe(expectation.pattern)), *_met(expectation)]
                    lines += [[Span("    "), *spans] for spans in wrap(asked, max(width - 4, 4), 4)]
                lines += explanation_lines(expectation, wording, width)
        if judged.record.lab.get("kind") == CAPTURE:
            lines += account_lines(connection, judged, width, wording)
    others = [one for index, one in enumerate(judged.expectations) if index not in told]
    return [*lines, *expectation_lines(others, width, wording)]


def expectation_lines(expectations: Iterable[Expectation], width: int, wording: Wording) -> Lines:
    """Each with whom it is of, where no path stands beside it."""
    lines: Lines = []
    for expectation in expectations:
        who = (Span(wording.safe(expectation.endpoint), BOLD), Span(" "))
        pattern = words(wording.safe(expectation.pattern))
        lines += wrap([who, *pattern, *_met(expectation)], width, 8)
        lines += explanation_lines(expectation, wording, width)
    return lines


def zombie_lines(events: Sequence[Event], width: int, wording: Wording) -> Lines:
    """Of each process that left zombies, which: ``zombies of the server: child 1, child 2``."""
    left: dict[tuple[str | None, str], list[str]] = {}
    for life in lives(events):
        if life.zombie:
            left.setdefault((life.role, life.parent), []).append(wording.safe(life.process))
    lines: Lines = []
    for (role, parent), names in left.items():
        whose = role if parent == role or role is None else f"{role}'s {parent}"
        head = words(f"zombies of the {wording.safe(whose or parent)}:", WARN)
        lines += wrap([*head, *words(", ".join(names))], width, 8)
    return lines


def measured_lines(events: Iterable[Event], width: int, wording: Wording) -> Lines:
    """What the play has measured: ``what: value``, or several cases side by side."""
    values: dict[str, dict[str, list[str]]] = {}
    for event in events:
        if isinstance(event.payload, Measured):
            found = event.payload
            values.setdefault(found.what, {}).setdefault(found.case, []).append(str(found.value))
    lines: Lines = []
    contrasts: dict[tuple[str, ...], list[Row]] = {}
    for what, cases in values.items():
        if any(cases):
            row = what, [", ".join(found) for found in cases.values()]
            contrasts.setdefault(tuple(cases), []).append(row)
        else:
            said = wording.safe(f"{what}: {', '.join(cases['']) or NONE}")
            lines += wrap(words(said), width, 8)
    for names, rows in contrasts.items():
        lines += contrast_lines(names, rows, width, wording)
    return lines


def count_lines(judged: Judged, width: int, wording: Wording) -> Lines:
    """How many transitions each number of witnesses saw, and why others could not."""
    transitions = [
        transition
        for connection in judged.timeline.connections
        for endpoint in connection.endpoints
        for transition in endpoint.transitions
    ]
    if not transitions:
        return [[Span("no transitions were seen", WARN)]]
    able = len([name for name in _names(judged.record, available=True) if name in _ABLE])
    counts = Counter(len(transition.witnesses) for transition in transitions)
    parts = [
        f"{_counted(counts[number], number, able, first=index == 0)}"
        f"{_reasons([t for t in transitions if len(t.witnesses) == number and number], wording)}"
        for index, number in enumerate(sorted(counts, reverse=True))
    ]
    many = "transition" if len(transitions) == 1 else "transitions"
    return wrap(words(f"{len(transitions)} {many}: {', '.join(parts)}"), width, 2)


def finding_lines(findings: Iterable[Finding], width: int, wording: Wording) -> Lines:
    """The findings, each on its own line with whom it is about and the section it cites."""
    lines: Lines = []
    styles = {Severity.INFO: DIM, Severity.WARNING: WARN, Severity.ERROR: BAD}
    for finding in findings:
        about = [] if finding.connection is None else [f"#{finding.connection}"]
        about += [text for text in (finding.role, finding.section) if text]
        where = words(wording.safe(f"({', '.join(about)})"), DIM) if about else []
        said = wording.safe(f"{finding.code}: {finding.message}")
        severity = (Span(f"{finding.severity.value}:", styles[finding.severity]),)
        lines += wrap([severity, *words(said), *where], width, 2)
    return lines


def verdict_lines(judged: Judged, width: int, wording: Wording, *, brief: bool = False) -> Lines:
    """``PASS in 0.3 s``, or another verdict and its reasons; nothing where nothing was asked.

    ``brief``: those reasons that stand above, with the demands, are not told again.
    """
    captured = judged.record.lab.get("kind") == CAPTURE
    if captured and not (judged.expectations or judged.reasons):
        return []
    verdict = (Span(judged.verdict.value.upper(), VERDICT_STYLES[judged.verdict]),)
    lasted = [] if captured else words(f"in {seconds(judged)} s")
    failed = command_failed(judged.record)
    if failed:
        lasted = [*words(f"in {seconds(judged)} s;"), *words(failed, WARN)]
    lines = wrap([verdict, *lasted], width)
    shown, others = _shown_above(judged)
    if brief:
        about = tuple(f"{expectation.endpoint}: " for expectation in judged.expectations)
        others = [reason for reason in others if not reason.startswith(about)]
    elif shown:
        others = [f"{' and '.join(shown)}: NOT as expected, see above", *others]
    for reason in others:
        lines += [
            [Span("  "), *spans] for spans in wrap(words(wording.safe(reason)), max(width - 2, 4))
        ]
    return lines


def command_failed(record: RunRecord) -> str:
    """How the command of `exec` ended, where that was not well; that is no verdict."""
    status, name = record.lab.get("exit_status"), record.lab.get("signal")
    if isinstance(name, str):
        return f"the command was ended by {visible(name)}"
    failed = isinstance(status, int) and status
    return f"the command failed, with exit status {status}" if failed else ""


def _shown_above(judged: Judged) -> tuple[list[str], list[str]]:
    """The ends of whom a reason only sets path against pattern again, and the other reasons."""
    shown: list[str] = []
    others: list[str] = []
    unmet = [expectation for expectation in judged.expectations if expectation.met is False]
    for reason in judged.reasons:
        about = (e for e in unmet if reason.startswith(f"{e.endpoint}: ") and _repeats(reason, e))
        expectation = next(about, None)
        if expectation is None:
            others.append(reason)
        else:
            shown.append(expectation.endpoint)
    return shown, others


def _repeats(reason: str, expectation: Expectation) -> bool:
    return bool(expectation.explanation) and reason.endswith(f" {expectation.pattern}")


def render(lines: Lines, *, colour: bool = False, ascii_only: bool = False) -> str:
    """The lines as text, each with its newline."""
    return "".join(joined(line, colour=colour, ascii_only=ascii_only) + "\n" for line in lines)


def _lab(lab: dict[str, object]) -> str:
    kind = str(lab.get("kind", "unknown"))
    parts = [_KINDS.get(kind, kind)]
    privilege = str(lab.get("privilege", ""))
    if privilege:
        parts.append({"root": "as root", "user": "as a user"}.get(privilege, privilege))
    latency = lab.get("latency_ms")
    if isinstance(latency, int | float) and kind != "loopback":  # which has no wire
        parts.append(f"{latency:g} ms one way")
    return ", ".join(parts)


def _names(record: RunRecord, *, available: bool) -> list[str]:
    return [
        str(source.get("name"))
        for source in record.sources
        if bool(source.get("available")) is available and source.get("name") in _ABLE
    ]


def _path(endpoint: Endpoint, wording: Wording) -> list[Word]:
    content: list[Word] = []
    for belief in endpoint.path:
        states = wording.belief(belief)
        content += [(Span("> ", DIM), *states[0]), *states[1:]] if content else states
    return content


def _is_about(
    expectation: Expectation,
    endpoint: Endpoint,
    connection: Connection,
    connections: Sequence[Connection],
) -> bool:
    """Whether an expectation is of this end; of several connections it names the number too."""
    names = {f"{endpoint.role} {connection.number}", f"{endpoint.role}#{connection.number}"}
    if connection is connections[0]:
        names.add(endpoint.role)
    return expectation.endpoint in names


def _met(expectation: Expectation) -> list[Word]:
    match expectation.met:
        case True:
            return [_NOTHING, (Span("as expected", GOOD),)]
        case False:
            legend: Word = (Span("(- expected, + witnessed)", DIM),)
            told = [_NOTHING, (Span("NOT as expected", BAD),)]
            return [*told, legend] if expectation.explanation else told
        case None:
            return [_NOTHING, (Span("cannot be told", WARN),)]


def explanation_lines(expectation: Expectation, wording: Wording, width: int) -> Lines:
    """The lines of the difference, indented as they are."""
    if expectation.met:
        return []
    lines: Lines = []
    for text in expectation.explanation.splitlines():
        line = wording.safe(text.rstrip())
        style = {"-": BAD, "+": GOOD}.get(line[:1], DIM)
        indent = min(4 + len(line) - len(line.lstrip()), width // 2)
        for spans in wrap(words(line, style), max(width - indent - 2, 4), 2):
            lines.append([Span(" " * indent), *spans])
    return lines


def _counted(count: int, number: int, able: int, *, first: bool) -> str:
    """``9 seen by all three witnesses``, then ``2 by two``."""
    if number == 0:
        return f"{count} assumed"
    if number == able and able > 1:
        by = f"all {_NUMBERS[able]} witnesses" if able > 2 else "both witnesses"
    else:
        by = _NUMBERS[number] + ((" witness" if number == 1 else " witnesses") if first else "")
    return f"{count} {'seen ' if first else ''}by {by}"


def _reasons(transitions: Iterable[Transition], wording: Wording) -> str:
    found: dict[str, None] = {}
    for transition in transitions:
        for witness, reason in transition.hidden_from:
            text = f"{witness} {reason}" if reason.startswith("cannot") else f"{witness}: {reason}"
            found[wording.safe(text)] = None
    return f" ({'; '.join(found)})" if found else ""


def seconds(judged: Judged) -> str:
    """How long the run was."""
    return f"{(judged.record.end_ns or judged.timeline.end_ns) / 1e9:.1f}"
