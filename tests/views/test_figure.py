"""The figure's geometry: every arrow has its place, and nothing is in another's way."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest

from tcpwatch.machine.coverage import arrows
from tcpwatch.tcp.state import TcpState
from tcpwatch.views.diagram import NAMES, in_box
from tcpwatch.views.figure import NARROWEST, Box, Figure, Point, figure

WIDTHS = [NARROWEST, 80, 103, 104, 120, 200]


def drawn(width: int) -> Figure:
    found = figure(width)
    assert found is not None
    return found


def cells_of(box: Box) -> set[Point]:
    return {Point(x, y) for x in range(box.x, box.right + 1) for y in range(box.y, box.bottom + 1)}


@pytest.mark.parametrize("width", WIDTHS)
def test_it_is_no_wider_than_the_page(width: int) -> None:
    assert drawn(width).width <= width


def test_it_fills_eighty_columns() -> None:
    assert drawn(80).width == 80


def test_a_page_that_is_too_narrow_has_no_figure() -> None:
    assert figure(NARROWEST - 1) is None


def test_every_state_has_a_box_and_closed_two() -> None:
    states = [box.state for box in drawn(80).boxes]

    assert set(states) == set(TcpState)
    assert len(states) == len(TcpState) + 1
    assert states.count(TcpState.CLOSED) == 2


def test_every_edge_of_the_table_has_a_way_or_a_sign_in_its_box() -> None:
    """But for what is neither in the RFC's figure nor done by Linux."""
    edges = {
        arrow.edge
        for arrow in arrows()
        if not in_box(arrow) and (arrow.row.in_figure or arrow.row.linux)
    }

    assert {route.edge for route in drawn(80).routes} == edges


@pytest.mark.parametrize("width", WIDTHS)
def test_no_box_touches_another(width: int) -> None:
    for one, other in combinations(drawn(width).boxes, 2):
        assert not cells_of(one) & cells_of(other)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_way_leads_from_its_states_frame_to_the_cell_before_the_others(width: int) -> None:
    found = drawn(width)
    boxes: dict[TcpState, list[Box]] = {}
    for box in found.boxes:
        boxes.setdefault(box.state, []).append(box)
    for route in found.routes:
        before, after = route.edge
        assert any(route.points[0] in cells_of(box) for box in boxes[before])
        x, y = route.points[-1]
        around = {Point(x + 1, y), Point(x - 1, y), Point(x, y + 1), Point(x, y - 1)}
        assert any(around & cells_of(box) for box in boxes[after])


@pytest.mark.parametrize("width", WIDTHS)
def test_a_way_goes_by_rows_and_columns_within_the_figure(width: int) -> None:
    found = drawn(width)
    for route in found.routes:
        for here, there in pairwise(route.points):
            assert (here.x == there.x) is not (here.y == there.y)
        for cell in route.cells:
            assert 0 <= cell.x < found.width
            assert 0 <= cell.y < found.height


@pytest.mark.parametrize("width", WIDTHS)
def test_no_way_crosses_another_or_a_box(width: int) -> None:
    found = drawn(width)
    taken = set[Point]().union(*(cells_of(box) for box in found.boxes))
    for route in found.routes:
        cells = set(route.cells[1:])  # the first is its own frame's
        assert not cells & taken, route.edge
        taken |= cells


@pytest.mark.parametrize("width", WIDTHS)
def test_a_label_beside_its_line_has_room_until_the_next_line(width: int) -> None:
    """Room for the longest label that a table without sends can give: ``ACK of FIN`` and a mark."""
    found = drawn(width)
    taken = set[Point]().union(
        *(cells_of(box) for box in found.boxes), *(route.cells for route in found.routes)
    )
    longest = len("ACK of FIN ✓")
    for route in found.routes:
        place = route.label
        if not place.inline:
            step = -1 if place.leftwards else 1
            cells = {Point(place.start.x + step * at, place.start.y) for at in range(longest)}
            assert place.room >= longest
            assert not cells & taken, route.edge


@pytest.mark.parametrize("width", WIDTHS)
def test_a_label_in_its_line_leaves_a_piece_of_it_on_either_side(width: int) -> None:
    for route in drawn(width).routes:
        own = [one for one in arrows() if one.edge == route.edge and not in_box(one)]
        names = [NAMES[one.stimulus] if one.row.linux else one.stimulus.value for one in own]
        length = len(", ".join(f"{name} ✓" for name in names)) + len("  ")
        if route.label.inline:
            assert length + 2 <= route.label.room, route.edge
