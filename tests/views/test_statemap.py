"""The small figures: whole at every size, and what is marked is told without colours."""

from __future__ import annotations

from itertools import combinations

import pytest

from tcpwatch.machine.coverage import arrows
from tcpwatch.tcp.state import TcpState
from tcpwatch.views.canvas import Span, joined
from tcpwatch.views.figure import Box, Point, Shape, small_figure
from tcpwatch.views.statemap import Lines, StateMap, draw_map, fitting, tell

S = TcpState
SHAPES = [(30, 13, 0), (36, 19, 0), (44, 20, 0), (64, 28, 0), (96, 40, 0), (60, 14, 5), (96, 42, 6)]
CLOSING = StateMap(
    current=frozenset({S.CLOSING}),
    visited=frozenset({S.ESTABLISHED, S.FIN_WAIT_1, S.CLOSING}),
    edges=frozenset({(S.ESTABLISHED, S.FIN_WAIT_1), (S.FIN_WAIT_1, S.CLOSING)}),
    last=(S.FIN_WAIT_1, S.CLOSING),
    cause="FIN received",
)


def shape_for(columns: int, lines: int, aside: int = 0) -> Shape:
    found = fitting(columns, lines, aside)
    assert found is not None
    return found


def text_of(lines: Lines) -> list[str]:
    return [joined(line, colour=False, ascii_only=False) for line in lines]


def cells_of(box: Box) -> set[Point]:
    return {Point(x, y) for x in range(box.x, box.right + 1) for y in range(box.y, box.bottom + 1)}


@pytest.mark.parametrize("room", SHAPES)
def test_it_is_no_larger_than_its_room(room: tuple[int, int, int]) -> None:
    drawn = text_of(draw_map(shape_for(*room), CLOSING))
    assert len(drawn) <= room[1]
    assert max(map(len, drawn)) <= room[0]


@pytest.mark.parametrize("room", SHAPES)
def test_no_box_touches_another(room: tuple[int, int, int]) -> None:
    for one, other in combinations(small_figure(shape_for(*room)).boxes, 2):
        assert not cells_of(one) & cells_of(other)


@pytest.mark.parametrize("room", SHAPES)
def test_every_state_stands_there_by_its_name(room: tuple[int, int, int]) -> None:
    drawn = "\n".join(text_of(draw_map(shape_for(*room), StateMap())))
    assert all(state.value in drawn for state in S)
    assert drawn.count("CLOSED") == 2


@pytest.mark.parametrize("room", SHAPES)
def test_every_arrow_of_the_figure_has_a_way(room: tuple[int, int, int]) -> None:
    figure = small_figure(shape_for(*room))
    wanted = {arrow.edge for arrow in arrows() if arrow.row.in_figure}
    assert wanted
    # The one that leads to CLOSED by a RST is a mark at the state: there is no room for its way.
    assert [e for e in wanted if not figure.route(e)] == [(S.SYN_RECEIVED, S.CLOSED)]


def test_what_is_too_small_has_no_figure() -> None:
    assert fitting(29, 40) is None
    assert fitting(120, 12) is None


def test_at_thirty_columns_it_is_this() -> None:
    assert text_of(draw_map(shape_for(30, 13), CLOSING)) == [
        "            CLOSED◀─────┬─╮",
        "             ▼   ▲      │ │",
        "    ╭───┬──▶LISTEN────╮ │ │",
        "    │   ▼             ▼ │ ▼",
        "SYN-RECEIVED◀┬───┬──SYN-SENT",
        "    │        ▼   ▼",
        "    │   ┏━ESTABLISHED───╮",
        "    ▼   ▼               ▼",
        " FIN-WAIT-1━━━━┓   CLOSE-WAIT",
        "    ▼          ▼        ▼",
        " FIN-WAIT-2 CLOSING LAST-ACK",
        "        │      ▼        ▼",
        "        ╰─▶TIME-WAIT▶CLOSED",
    ]


def test_a_connection_that_was_reset_has_a_mark_where_it_was() -> None:
    reset = StateMap(frozenset({S.CLOSED}), last=(S.ESTABLISHED, S.CLOSED), ended=True)
    assert "ESTABLISHED ✗" in "\n".join(text_of(draw_map(shape_for(30, 13), reset)))


def test_the_state_it_is_in_is_reversed_and_has_pointers_where_there_is_room() -> None:
    drawn = draw_map(shape_for(64, 28), CLOSING)
    (span,) = (span for line in drawn for span in line if "CLOSING" in span.text)
    assert span.text == "▸ CLOSING ◂"
    assert span.style.endswith(";7")


def test_a_doubt_is_marked_as_one_at_each_of_its_states() -> None:
    doubt = StateMap(current=frozenset({S.TIME_WAIT, S.CLOSED}), ended=True)
    for room in ((64, 28), (30, 13)):
        drawn = "\n".join(text_of(draw_map(shape_for(*room), doubt)))
        assert "TIME-WAIT ?" in drawn or "TIME-WAIT?" in drawn
        assert "CLOSED ?" in drawn or "CLOSED?" in drawn


def test_of_the_two_boxes_of_closed_the_one_is_lit_where_it_is() -> None:
    def row_of(marks: StateMap) -> list[int]:
        drawn = draw_map(shape_for(30, 13), marks)
        return [y for y, line in enumerate(drawn) for span in line if span.style.endswith(";7")]

    at = frozenset({S.CLOSED})
    assert row_of(StateMap(current=at)) == [0]
    assert row_of(StateMap(current=at, ended=True)) == [12]


def test_a_count_stands_with_its_state() -> None:
    marks = StateMap(notes={S.CLOSE_WAIT: (Span("17"), Span(" ▲3"))})
    assert "CLOSE-WAIT 17 ▲3" in "\n".join(text_of(draw_map(shape_for(60, 14, 5), marks)))
    framed = text_of(draw_map(shape_for(96, 42, 6), marks))
    assert any("17 ▲3" in line and "CLOSE-WAIT" not in line for line in framed)


def test_below_it_the_edge_just_taken_is_told_with_its_cause() -> None:
    assert joined(tell(CLOSING, 60), colour=False, ascii_only=False) == (
        "FIN-WAIT-1 > CLOSING  FIN received"
    )
