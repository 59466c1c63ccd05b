"""What stands below the figures, as lines of spans: the ladder, script, calls, evidence.

Owns: what each page says of a moment. Pure but for the ladder's page, which keeps what it has
drawn. Texts from outside are made visible here. Must not know widgets.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tcpwatch.model.events import (
    CallPhase,
    Event,
    Gap,
    KernelNoted,
    MalformedSeen,
    Measured,
    Point,
    ProcessChanged,
    SegmentFate,
    SegmentSeen,
    SocketSampled,
    StateReported,
    UserCall,
)
from tcpwatch.model.timeline import Basis, Judged, SegmentTrace, Transition
from tcpwatch.tui.reel import Reel
from tcpwatch.tui.scene import Scene
from tcpwatch.views.canvas import Span, Word, shortened, visible, words, wrap
from tcpwatch.views.ladder import LONGEST_MOMENT_NS, Ladder
from tcpwatch.views.palette import BAD, BOLD, DIM, GOOD, WARN
from tcpwatch.views.wording import Wording, labels

Lines = list[list[Span]]
Drawn = tuple[Span, ...]

_SGR = re.compile(r"\x1b\[([0-9;]*)m")
_MS = 1_000_000
_WORDING = Wording()


def spans_of(text: str) -> list[Span]:
    """A painted line of the text views as spans again."""
    pieces = _SGR.split(text)
    found = [Span(pieces[0])] if pieces[0] else []
    for style, piece in zip(pieces[1::2], pieces[2::2], strict=True):
        if piece:
            found.append(Span(piece, "" if style == "0" else style))
    return found


# ---------------------------------------------------------------------- the ladder


@dataclass
class LadderPage:
    """The ladder for a width, drawn once; each line has the time from which it is to be seen.

    ``number``: of that connection alone; None: of all.
    """

    width: int
    number: int | None = None
    _times: list[int] = field(default_factory=list)
    _lines: list[Drawn] = field(default_factory=list)
    _dimmed: list[Drawn] = field(default_factory=list)
    _fed: int = 0
    _last_ns: int = 0
    _ladder: Ladder | None = None
    _finished: bool = False
    _heading: bool = False

    def at(self, reel: Reel, t_ns: int, *, future: bool) -> tuple[list[Drawn], int | None]:
        """The lines until then, and which is the last of them. ``future``: later ones, dimly."""
        self._draw(reel)
        until = bisect_right(self._times, t_ns)
        lines = self._lines[:until]
        if future:
            lines = [*lines, *self._dimmed[until:]]
        return lines, (until - 1 if until else None)

    def time_of(self, line: int) -> int | None:
        """The moment that a line tells of."""
        return self._times[line] if 0 <= line < len(self._times) else None

    def _draw(self, reel: Reel) -> None:
        if not reel.begun or self._finished:
            return
        if self._ladder is None:
            self._ladder = Ladder(self._write, width=self.width, colour=True)
            self._heading = True
            self._ladder.begin(reel.record)
            self._heading = False
        for happening in reel.happenings[self._fed :]:
            if self.number is not None and happening.connection not in (None, self.number):
                continue
            self._ladder.feed(happening)
            self._last_ns = happening.event.t_ns
        self._fed = len(reel.happenings)
        if reel.judged is not None:
            self._ladder.tick()
            self._ladder.drawing_ns = reel.end_ns
            self._ladder.finish(_of_one(reel.judged, self.number))
            self._finished = True
        elif reel.told_ns - self._last_ns > LONGEST_MOMENT_NS:
            self._ladder.tick()

    def _write(self, text: str) -> None:
        if self._heading or self._ladder is None:
            return  # the screen has a head of its own
        for line in text.splitlines():
            spans = tuple(spans_of(line))
            self._lines.append(spans)
            self._dimmed.append(tuple(Span(text, DIM) for text, _ in spans))
            # A later line is never seen before an earlier one.
            since = self._ladder.drawing_ns
            self._times.append(max(since, self._times[-1] if self._times else since))


def _of_one(judged: Judged, number: int | None) -> Judged:
    """A capture's judgement as far as it is on one connection; None: on all."""
    if number is None:
        return judged
    timeline = judged.timeline
    connections = tuple(one for one in timeline.connections if one.number == number)
    findings = tuple(one for one in timeline.findings if one.connection in (None, number))
    timeline = replace(timeline, connections=connections, findings=findings)
    return replace(judged, timeline=timeline)


# ---------------------------------------------------------------------- the script


def script_lines(source: Sequence[str], line: int | None, width: int) -> tuple[Lines, int | None]:
    """The scenario's file from its first function on, and where ``line`` (from 1) stands in it."""
    found: Lines = []
    quoted = False
    begins = next((n for n, text in enumerate(source) if text.startswith(("def ", "class "))), 0)
    for number, text in enumerate(source[begins:], begins + 1):
        here = number == line
        told = shortened(visible(text.expandtabs(4)), max(width - 6, 8))
        quotes = text.count('"""')
        prose = quoted or quotes > 0 or text.lstrip().startswith("#")
        quoted ^= quotes % 2 == 1
        sign = Span("▶" if here else " ", WARN)
        style = BOLD if here else (DIM if prose else "")
        found.append([sign, Span(f"{number:>3} ", BOLD if here else DIM), Span(told, style)])
    return found, (line - 1 - begins if line and line > begins else None)


def read_script(path: Path | None) -> tuple[str, ...]:
    """The lines of a scenario's file; none where it cannot be read."""
    if path is None:
        return ()
    try:
        return tuple(path.read_text(encoding="utf-8", errors="replace").splitlines())
    except OSError:
        return ()


# ---------------------------------------------------------------------- the calls


def call_lines(reel: Reel, t_ns: int, width: int, most: int) -> Lines:
    """The calls made until then, the latest at the bottom: what each gave, or that it waits."""
    made: dict[int, tuple[int, UserCall, int | None, UserCall | None]] = {}
    for event in reel.timeline.events:
        if event.t_ns > t_ns:
            break
        call = event.payload
        if not isinstance(call, UserCall):
            continue
        if call.phase is CallPhase.CALLED:
            made[call.call_id] = event.t_ns, call, None, None
        elif call.call_id in made:
            began, first, _, _ = made[call.call_id]
            made[call.call_id] = began, first, event.t_ns, call
        else:
            made[call.call_id] = event.t_ns, call, event.t_ns, call
    return [_call_line(*one, t_ns=t_ns, width=width) for one in list(made.values())[-most:]]


def _call_line(
    began: int, call: UserCall, ended: int | None, back: UserCall | None, *, t_ns: int, width: int
) -> list[Span]:
    head = f"{round(began / _MS):>5} "
    who = shortened(visible(call.process), 8)
    if back is None:
        result, style = f"waits {_duration(t_ns - began)}", WARN
    elif back.errno is not None:
        result, style = visible(back.errno), BAD
    else:
        result = "" if back.result is None else f"= {visible(str(back.result))}"
        style = GOOD if ended is not None and t_ns - ended < _MS else DIM
    name = f"{visible(call.call)}({visible(call.arguments)})"
    room = width - len(head) - 9 - min(len(result), width // 3) - 1
    return [
        Span(head, DIM),
        Span(f"{who:<8} ", DIM),
        Span(shortened(name, max(room, 8))),
        Span(" "),
        Span(shortened(result, max(width // 3, 6)), style),
    ]


def _duration(ns: int) -> str:
    return f"{ns / 1e9:.1f} s" if ns >= 10**9 else f"{round(ns / _MS)} ms"


# ---------------------------------------------------------------------- the evidence


def evidence_lines(reel: Reel, scene: Scene, width: int) -> Lines:
    """How the transition made last is known: by whom, from which segment or call, who was blind."""
    if scene.latest is None:
        return [[Span("no end has moved yet", DIM)]]
    role, moved = scene.latest
    events = {event.id: event for event in _evidence(reel, moved)}
    lines: Lines = [[*_flat(_WORDING.transition(moved))]]
    lines += wrap(
        [
            *words(role, BOLD),
            *words(f"at {moved.t_ns / _MS:.3f} ms, by", DIM),
            *words(visible(moved.cause) or "a cause nobody saw", BOLD),
        ],
        width,
    )
    lines.append([])
    if moved.basis is Basis.ASSUMED:
        lines += wrap(words("assumed: it must have happened, and nobody saw it", WARN), width)
    trace = _trace(reel, scene, moved.segment)
    if trace is not None:
        lines += wrap(_told(f"segment {trace.n}", _of_trace(trace)), width, 2)
    for witness in moved.witnesses:
        seen = [event for event in events.values() if event.vantage.source == witness]
        for said in map(_of_event, seen) if seen else ["it follows from what it saw"]:
            lines += wrap(_told(witness, said, GOOD), width, 2)
    others = [e for e in events.values() if e.vantage.source not in moved.witnesses]
    for event in others:
        lines += wrap(_told(event.vantage.source, _of_event(event)), width, 2)
    for witness, spot in moved.hidden_from:
        lines += wrap(_told(witness, f"did not: {spot}", DIM), width, 2)
    if moved.gap:
        lines += wrap(words("evidence was lost here: more may have happened", WARN), width)
    return lines


def _evidence(reel: Reel, moved: Transition) -> Iterator[Event]:
    events = reel.timeline.events
    for wanted in moved.evidence:
        if 0 < wanted <= len(events) and events[wanted - 1].id == wanted:
            yield events[wanted - 1]


def _trace(reel: Reel, scene: Scene, n: int | None) -> SegmentTrace | None:
    connection = reel.connection(scene.number)
    if n is None or connection is None:
        return None
    return next((trace for trace in connection.segments if trace.n == n), None)


def _flat(content: Sequence[Word]) -> list[Span]:
    found: list[Span] = []
    for word in content:
        found += [Span(" "), *word] if found else word
    return found


def _told(what: str, said: str, style: str = "") -> list[Word]:
    return [(Span(f"{what:<7}", style or BOLD),), *words(said, DIM if style == DIM else "")]


def _of_trace(trace: SegmentTrace) -> str:
    parts = [labels(trace)[0], f"from {trace.sender}"]
    if trace.sent_ns is not None:
        parts.append(f"sent at {trace.sent_ns / _MS:.3f}")
    parts += [f"{fate.value} at {when / _MS:.3f}" for when, fate in trace.marks]
    if trace.delivered_ns is not None:
        parts.append(f"delivered at {trace.delivered_ns / _MS:.3f} ms")
    return ", ".join(parts)


def _of_event(event: Event) -> str:
    """One fact in a line."""
    when = f"{event.t_ns / _MS:.3f} ms"
    match event.payload:
        case SegmentSeen(n=n, point=point, segment=segment):
            where = {Point.SENT: "leave", Point.DELIVERED: "arrive", Point.MIDWAY: "pass"}[point]
            return f"saw segment {n} ({segment.flags.letters}) {where} at {when}"
        case SegmentFate(n=n, fate=fate):
            return f"segment {n} {fate.value} at {when}"
        case StateReported(before=before, after=after):
            return f"reported {before} > {after} at {when}"
        case KernelNoted(note=note):
            return f"noted {note.value} at {when}"
        case SocketSampled(state=None):
            return f"found it gone at {when}"
        case SocketSampled(state=state, since_ns=since):
            return f"showed {state} at {when}, the look before was at {since / _MS:.3f} ms"
        case UserCall(call=call, phase=phase, process=process):
            return f"{visible(process)} {phase.value} {visible(call)}() at {when}"
        case ProcessChanged(process=process, change=change):
            return f"{visible(process)} {change.value} at {when}"
        case Measured(what=what, value=value):
            return f"measured {visible(what)}: {visible(str(value))}"
        case Gap(reason=reason):
            return f"lost evidence: {visible(reason)} at {when}"
        case MalformedSeen(reason=reason):
            return f"malformed: {visible(reason)} at {when}"
