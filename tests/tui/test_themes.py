"""The themes: everything is legible on its ground, and no state is told by its colour alone."""

from __future__ import annotations

import pytest
from textual.theme import Theme

from tcpwatch.tcp.state import TcpState
from tcpwatch.tui.themes import THEMES, Inks, inks_of
from tcpwatch.views.palette import BAD, DIM, GOOD, LINE, WARN, state_style

LEGIBLE = 4.5  # WCAG 2.2, 1.4.3
VISIBLE = 2.4  # lines that are there, and not in the way


def contrast(style: str, theme: Theme) -> float:
    colour = Inks(theme).style(style).color
    assert colour is not None
    assert theme.background is not None
    lights = sorted((luminance(str(colour.name)), luminance(theme.background)))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2) of ``#rrggbb``."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
@pytest.mark.parametrize("state", TcpState)
def test_every_state_is_legible(theme: Theme, state: TcpState) -> None:
    assert contrast(state_style(state), theme) >= LEGIBLE


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_what_is_said_in_colour_is_legible(theme: Theme) -> None:
    assert all(contrast(style, theme) >= LEGIBLE for style in (GOOD, BAD, WARN))
    assert all(contrast(style, theme) >= VISIBLE for style in (DIM, LINE))


def test_where_it_is_reversed_the_ground_is_the_ink() -> None:
    dark = THEMES[0]
    style = Inks(dark).style(state_style(TcpState.CLOSING, bold=True) + ";7")
    assert style.color is not None
    assert style.color.name == dark.background


def test_a_style_that_is_not_ours_is_no_fault() -> None:
    assert Inks(THEMES[0]).style("38;5").color is None
    assert Inks(THEMES[0]).style("bogus").color is None


def test_a_theme_of_textuals_own_gets_our_colours_for_its_ground() -> None:
    light = Theme("some-light", primary="#000000", dark=False)
    assert inks_of(light) is inks_of(THEMES[1])
