"""A moment of a run: what held then, and how the wire looks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tcpwatch.model.events import Fate
from tcpwatch.model.timeline import SegmentTrace
from tcpwatch.tcp.segment import Flags, Segment
from tcpwatch.tcp.seq import SeqNumber
from tcpwatch.tcp.state import TcpState
from tcpwatch.tui.reel import Reel
from tcpwatch.tui.scene import Scene, Stage, scene_at
from tcpwatch.tui.wire import Gate, Waiting, wire_lines
from tcpwatch.views.canvas import joined

MS = 1_000_000
S = TcpState


def wire(scene: Scene, columns: int = 30, gate: Gate | None = None) -> list[str]:
    drawn = wire_lines(scene, columns, 14, gate)
    return [text for line in drawn if (text := joined(line, colour=False, ascii_only=False))]


def states(scene: Scene) -> tuple[frozenset[TcpState], ...]:
    return tuple(end.marks.current if end else frozenset() for end in scene.ends)


def trace(**known: object) -> SegmentTrace:
    plain = SegmentTrace(
        1, "client", Segment(SeqNumber(1), None, Flags.SYN, 100), 0, None, 0, None, "delivered"
    )
    return replace(plain, **known)  # type: ignore[arg-type]


def with_segments(reel: Reel, *traces: SegmentTrace) -> Reel:
    connection = replace(reel.timeline.connections[0], segments=traces)
    return replace(reel, timeline=replace(reel.timeline, connections=(connection,)))


def test_before_anything_there_are_two_closed_ends(reel: Reel) -> None:
    scene = scene_at(reel, -1)
    assert scene.flights == ()
    assert scene.latest is None
    assert S.CLOSED in states(scene)[0]


def test_who_has_called_listen_listens(reel: Reel) -> None:
    end = scene_at(reel, 10 * MS).ends[1]
    assert end is not None
    assert end.marks.current == {S.LISTEN}
    assert end.marks.cause == "listen()"


@pytest.mark.parametrize(
    "ms,client,server",
    [
        (20, S.SYN_SENT, S.LISTEN),
        (45, S.SYN_SENT, S.SYN_RECEIVED),
        (60, S.ESTABLISHED, S.SYN_RECEIVED),
        (79, S.ESTABLISHED, S.ESTABLISHED),
        (90, S.FIN_WAIT_1, S.FIN_WAIT_1),
        (110, S.CLOSING, S.CLOSING),
        (130, S.TIME_WAIT, S.TIME_WAIT),
    ],
)
def test_each_end_is_where_it_was_then(
    reel: Reel, ms: int, client: TcpState, server: TcpState
) -> None:
    assert states(scene_at(reel, ms * MS)) == (frozenset({client}), frozenset({server}))


def test_the_edge_just_taken_is_told_with_its_cause(reel: Reel) -> None:
    end = scene_at(reel, 110 * MS).ends[0]
    assert end is not None
    assert (end.marks.last, end.marks.cause) == ((S.FIN_WAIT_1, S.CLOSING), "FIN received")
    assert (S.CLOSED, S.SYN_SENT) in end.marks.edges


def test_two_fins_cross_on_the_wire(reel: Reel) -> None:
    assert wire(scene_at(reel, 91 * MS))[-3:] == [
        "─────FA 1:1(0)▶",
        "               ◀FA 1:1(0)─────",
        "         2 in flight",
    ]


def test_a_segment_is_nearer_the_later_it_is(reel: Reel) -> None:
    ways = [scene_at(reel, ms * MS).flights[0].progress for ms in (16, 20, 25, 30, 40)]
    assert ways == sorted(ways)
    assert ways[-1] == 1.0


def test_a_held_one_waits_at_its_receivers_door(reel: Reel) -> None:
    held = with_segments(reel, trace(marks=((20 * MS, Fate.HELD),)))
    assert scene_at(held, 50 * MS).flights[0].stage is Stage.WAITS
    assert wire(scene_at(held, 50 * MS))[0] == "── S 0:0(0) ─────────── held ║"


def test_the_gate_numbers_what_it_stops_and_counts_what_comes_again(reel: Reel) -> None:
    held = with_segments(reel, trace(marks=((20 * MS, Fate.HELD),)))
    gate = Gate((Waiting(1, again=2),), shut=True)
    line = wire(scene_at(held, 50 * MS), gate=gate)[0]
    assert line.startswith("1 ── S ")
    assert line.endswith(" held ×3 ║")


def test_what_is_stopped_stands_in_the_order_in_which_it_would_go_on(reel: Reel) -> None:
    held = ((20 * MS, Fate.HELD),)
    three = with_segments(reel, *(trace(n=n, sent_ns=n, marks=held) for n in (1, 2, 3)))
    gate = Gate((Waiting(1), Waiting(3), Waiting(2)), shut=True)
    assert [line[0] for line in wire(scene_at(three, 50 * MS), gate=gate)[:3]] == ["1", "2", "3"]


def test_a_dropped_one_falls_out(reel: Reel) -> None:
    lost = with_segments(reel, trace(marks=((10 * MS, Fate.DROPPED),), fate="dropped"))
    assert wire(scene_at(lost, 50 * MS)) == [
        "─ S 0:0(0) ────╮",
        "               ✗ dropped",
        "      the wire is empty",
    ]
    assert wire(scene_at(lost, 14 * MS))[0] == "─────S▶"
    at_the_door = ((10 * MS, Fate.HELD), (20 * MS, Fate.DROPPED))
    thrown = with_segments(reel, trace(marks=at_the_door, fate="dropped"))
    assert wire(scene_at(thrown, 50 * MS))[1] == "                     ✗ dropped"


def test_a_retransmission_that_the_gate_counted_has_no_line_of_its_own(reel: Reel) -> None:
    again = trace(n=2, marks=((10 * MS, Fate.DROPPED),), retransmission=True, fate="dropped")
    told = with_segments(reel, trace(marks=((5 * MS, Fate.HELD),)), again)
    shut = Gate((Waiting(1, again=1),), shut=True)
    assert not any("dropped" in line for line in wire(scene_at(told, 50 * MS), gate=shut))
    assert any("dropped" in line for line in wire(scene_at(told, 50 * MS)))


def test_what_is_under_way_is_shown_before_what_has_arrived(reel: Reel) -> None:
    old = [trace(n=n, sent_ns=n, delivered_ns=n + 1) for n in range(1, 40)]
    first = trace(n=0, marks=((1, Fate.HELD),))
    lines = wire(scene_at(with_segments(reel, first, *old), 51 * MS))
    assert "held" in lines[0]
    assert len(lines) == 13


@pytest.mark.parametrize("columns", [6, 12, 18, 34, 70])
def test_the_wire_is_never_wider_than_its_room(reel: Reel, columns: int) -> None:
    for ms in range(0, 140, 7):
        for gate in (None, Gate((Waiting(4), Waiting(5)), chosen=1, shut=True)):
            lines = wire(scene_at(reel, ms * MS), columns, gate)
            assert max(map(len, lines), default=0) <= columns
