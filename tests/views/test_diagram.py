"""The figure in text: lines, heads, labels and signs, by the ink that each arrow has."""

from __future__ import annotations

import pytest

from tcpwatch.machine.coverage import Arrow, arrows
from tcpwatch.machine.stimulus import Stimulus
from tcpwatch.tcp.state import TcpState
from tcpwatch.views.canvas import Span, joined, width_of
from tcpwatch.views.diagram import NAMES, Ink, Line, draw, in_box
from tcpwatch.views.figure import figure

S, T = TcpState, Stimulus
DRAWN = [arrow for arrow in arrows() if arrow.row.linux or arrow.row.in_figure]


def arrow_of(before: TcpState, stimulus: Stimulus, after: TcpState) -> Arrow:
    (found,) = (a for a in DRAWN if (a.before, a.stimulus, a.after) == (before, stimulus, after))
    return found


def lines(
    inks: dict[Arrow, Ink],
    width: int = 80,
    lit: dict[TcpState, str] | None = None,
    *,
    ascii_only: bool = False,
) -> list[str]:
    drawn = figure(width)
    assert drawn is not None
    return [joined(line, colour=False, ascii_only=ascii_only) for line in draw(drawn, inks, lit)]


EVERY = {arrow: Ink(Line.PLAIN, "✓") for arrow in DRAWN}
CLOSING = arrow_of(S.FIN_WAIT_1, T.FIN, S.CLOSING)


def test_the_figure_at_eighty_columns_is_this() -> None:
    """Its middle: from SYN-RECEIVED to the second row of the closing states."""
    assert lines(EVERY)[12:28] == [
        "    ╭───┴──────────╮                                            ╭───────┴──────╮",
        " ╭─▶│ SYN-RECEIVED │◀───────────── SYN / SYN,ACK ✓ ─────────────┤   SYN-SENT   │",
        " │  │   R✓ A✓ T✓   ├── ACK of SYN ✓ ──╮      ╭─── SYN,ACK ✓ ────┤   R✓ A✓ T✓   │",
        " │  ╰───┬──────────╯                  │      │                  ╰──────────────╯",
        " │      │ close() / FIN ✓             │      │",
        " │      │                             ▼      ▼",
        " │      │                         ╭──────────────╮",
        " │      │      ╭─── close() ✓ ────┤ ESTABLISHED  ├──── FIN / ACK ✓ ─────╮",
        " │      │      │                  │   R✓ A✓ T✓   │                      │",
        " │      │      │                  ╰──────────────╯                      │",
        " │      │      │                                                        │",
        " │      ▼      ▼                                                        ▼",
        " │  ╭──────────────╮                                            ╭──────────────╮",
        " │  │  FIN-WAIT-1  ├──── FIN / ACK ✓ ─────╮                     │  CLOSE-WAIT  │",
        " │  │   R✓ A✓ T✓   │                      │                     │   R✓ A✓ T✓   │",
        " │  ╰───┬──────────╯                      │                     ╰───────┬──────╯",
    ]


@pytest.mark.parametrize("width", [78, 80, 104, 120])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_every_arrow_that_is_drawn_is_named(width: int, *, ascii_only: bool) -> None:
    text = "\n".join(lines(EVERY, width, ascii_only=ascii_only))
    own = [arrow for arrow in DRAWN if not in_box(arrow)]
    names = [NAMES[a.stimulus] if a.row.linux else a.stimulus.value for a in own]

    for name in set(names):
        assert text.count(f"{name} ") >= names.count(name)


@pytest.mark.parametrize("width", [78, 80, 104, 120])
def test_no_line_is_wider_than_the_figure_nor_ends_in_a_blank(width: int) -> None:
    for line in lines(EVERY, width):
        assert width_of(line) <= width
        assert line == line.rstrip()


def test_ascii_is_only_ascii() -> None:
    heavy = {arrow: Ink(Line.HEAVY, "∅") for arrow in DRAWN}

    assert "\n".join(lines(heavy, lit={S.LISTEN: ""}, ascii_only=True)).isascii()
    assert "?" not in "\n".join(lines(heavy, lit={S.LISTEN: ""}, ascii_only=True))


@pytest.mark.parametrize(
    "line, drawn",
    [
        (Line.PLAIN, ("├──── FIN / ACK ? ─────╮", "│", "▼")),
        (Line.DASHED, ("├┄┄┄┄ FIN / ACK ? ┄┄┄┄┄╮", "┆", "▽")),
        (Line.HEAVY, ("├━━━━ FIN / ACK ? ━━━━━┓", "┃", "▼")),
    ],
)
def test_a_line_tells_its_kind_without_a_colour(line: Line, drawn: tuple[str, str, str]) -> None:
    level, upright, head = drawn
    found = lines({CLOSING: Ink(line, "?")})

    assert level in found[25]
    assert found[26][42] == upright
    assert found[29][42] == head


def test_a_way_with_several_arrows_names_each_and_is_drawn_as_the_best_of_them() -> None:
    reset = arrow_of(S.SYN_RECEIVED, T.RST, S.LISTEN)
    another = arrow_of(S.SYN_RECEIVED, T.SYN, S.LISTEN)
    found = lines({reset: Ink(Line.PLAIN, "✓"), another: Ink(Line.DASHED, "✗")})

    assert "╭───── RST ✓, SYN ✗ ─────▶│" in found[7]


def test_what_leads_to_closed_from_everywhere_is_a_sign_in_its_box() -> None:
    inks = {
        arrow_of(S.ESTABLISHED, T.RST, S.CLOSED): Ink(Line.PLAIN, "✓"),
        arrow_of(S.ESTABLISHED, T.USER_TIMEOUT, S.CLOSED): Ink(Line.DASHED, "✗"),
    }

    assert "│    R✓ T✗     │" in lines(inks)[20]
    assert "│    RST✓ timeout✗     │" in lines(inks, 120)[20]


def test_what_has_no_ink_is_not_drawn() -> None:
    text = "\n".join(lines({}))

    assert not set("▲▼◀▶△▽◁▷├┤┬┴┼✓") & set(text)
    assert all(state.value in text for state in TcpState)


def test_a_state_that_is_lit_has_a_heavy_frame() -> None:
    found = lines(EVERY, lit={S.ESTABLISHED: "1"})

    assert found[18][34:50] == "┏━━━━━━━━━━━━━━┓"
    assert found[12][4] == "╭"


def test_colours_come_from_the_ink() -> None:
    drawn = figure(80)
    assert drawn is not None
    spans = draw(drawn, {CLOSING: Ink(Line.PLAIN, "✓", "38;5;71")})[25]

    assert Span("─────╮", "38;5;71") in spans
