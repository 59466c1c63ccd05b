"""The line at the top: which run, what time it is there, and what is known of its end.

Owns: that line. Pure. Must not know widgets.
"""

from __future__ import annotations

from bisect import bisect_right

from tcpwatch.model.timeline import Verdict
from tcpwatch.tui.pace import Mode, Pace
from tcpwatch.tui.reel import Reel
from tcpwatch.tui.scene import Scene
from tcpwatch.views.canvas import Span, shortened, visible, width_of
from tcpwatch.views.palette import BAD, BOLD, DIM, GOOD, WARN
from tcpwatch.views.summary import VERDICT_STYLES
from tcpwatch.views.wording import title

_MS = 1_000_000


def heading_line(
    reel: Reel,
    scene: Scene,
    pace: Pace,
    width: int,
    number: int | None = None,
    place: tuple[int, int] = (1, 1),
) -> list[Span]:
    """Name and claim at the left, time and verdict at the right. ``place``: which run of how many.

    ``number``: of that connection alone.
    """
    right = [*_time(reel, scene, pace, number), *_verdict(reel, pace)]
    taken = sum(width_of(span.text) for span in right)
    name = visible(reel.record.scenario) or "tcpwatch"
    room = max(width - taken - 3, 8)
    left = [Span(f" {shortened(name, room)}", BOLD)]
    if place[1] > 1:
        which = f"  run {place[0]} of {place[1]}"
        left = [Span(f" {shortened(name, max(room - len(which), 8))}", BOLD), Span(which, DIM)]
        name += which
    claim = visible(title(reel.record.claim))
    left_room = room - width_of(name) - 2
    if claim and left_room > 12:
        left.append(Span(f"  {shortened(claim, left_room)}", DIM))
    gap = width - taken - sum(width_of(span.text) for span in left) - 1
    return [*left, Span(" " * max(gap, 1)), *right]


def _time(reel: Reel, scene: Scene, pace: Pace, number: int | None) -> list[Span]:
    if not reel.begun:
        return [Span("the lab is being built", WARN)]
    now = f"{max(scene.t_ns, 0) / _MS:,.0f} ms".replace(",", " ")
    many = len(reel.timeline.connections)
    which = [Span(f"connection {scene.number} of {many}  ", DIM)] if many > 1 else []
    match pace.mode:
        case Mode.LIVE:
            return [*which, Span("● live ", GOOD), Span(now, BOLD)]
        case Mode.FILM:
            tempo = "" if pace.tempo == 1 else f" ×{pace.tempo:g}"
            return [*which, Span(f"▶ slowly{tempo} ", BOLD), Span(now, BOLD)]
        case Mode.STILL:
            stops = reel.stops(number)
            at = bisect_right(stops, scene.t_ns)
            where = Span(f"  event {at} of {len(stops)}", DIM)
            return [*which, Span("■ ", WARN), Span(now, BOLD), where]


def _verdict(reel: Reel, pace: Pace) -> list[Span]:
    if reel.judged is None:
        return [Span("  playing", DIM)] if reel.begun else []
    if pace.mode is Mode.FILM:
        return []  # it is told where the film ends
    if not reel.record.expect and reel.judged.verdict is Verdict.PASS:
        return []  # nothing was expected of it
    verdict = reel.judged.verdict
    style = VERDICT_STYLES.get(verdict, BAD)
    return [Span("  "), Span(f" {verdict.name} ", f"{style};7")]
