"""Text on cells: width, wrapping, and nothing from outside raw."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from tcpwatch.views.canvas import Canvas, Span, joined, visible, width_of, words, wrap


@given(st.text())
def test_visible_text_has_nothing_that_moves_a_cursor(text: str) -> None:
    shown = visible(text)
    assert shown.isprintable()
    assert not any(unicodedata.category(character).startswith("M") for character in shown)


@given(st.text())
def test_visible_text_for_ascii_is_ascii(text: str) -> None:
    assert visible(text, ascii_only=True).isascii()


def test_what_is_printable_stays_as_it_is() -> None:
    assert visible("grüße 軟件") == "grüße 軟件"
    assert visible("\x1b[2J\u202e\r\n\udc80") == r"\x1b[2J\u202e\x0d\x0a\udc80"


@given(st.lists(st.text(st.characters(exclude_categories=["C", "M", "Z"]))), st.integers(2, 40))
def test_no_wrapped_line_is_wider_than_asked(texts: list[str], width: int) -> None:
    content = [word for text in texts for word in words(text)]
    indent = 2 if width > 6 else 0
    lines = wrap(content, width, indent)
    assert all(sum(width_of(span.text) for span in line) <= width for line in lines)
    shown = "".join(span.text for line in lines for span in line)
    assert shown.replace(" ", "") == "".join(texts).replace(" ", "")


def test_a_word_that_fits_the_first_line_only_is_not_cut() -> None:
    assert wrap([(Span("0123456789"),)], 10, 2) == [[Span("0123456789")]]


def test_the_pieces_of_a_cut_word_are_not_parted_by_blanks() -> None:
    lines = wrap(words("ab 0123456789ab"), 8, 2)
    assert ["".join(s.text for s in line) for line in lines] == ["ab", "  012345", "  6789ab"]


def texts(lines: list[list[Span]]) -> list[str]:
    return ["".join(span.text for span in line) for line in lines]


def test_a_word_that_fits_without_the_indent_is_not_cut() -> None:
    assert texts(wrap(words("a SYN-RECEIVED"), 12, 2)) == ["a", "SYN-RECEIVED"]
    assert texts(wrap(words("a SYN-RECEIVED"), 13, 2)) == ["a", " SYN-RECEIVED"]


def test_a_word_too_long_is_cut_between_its_spans_first_then_where_it_reads_well() -> None:
    content = [(Span("LISTEN"),), (Span("> "), Span("SYN-RECEIVED"))]
    assert texts(wrap(content, 13, 2)) == ["LISTEN >", " SYN-RECEIVED"]
    assert texts(wrap([(Span("send(b'are you there?')"),)], 13, 2)) == [
        "send(b'are",
        "  you",
        "  there?')",
    ]


def test_a_line_without_colour_is_the_one_with_colour_less_its_escapes() -> None:
    line = [Span("PASS", "1;38;5;71"), Span(" in "), Span("0.3 s", "2")]
    assert joined(line, colour=False, ascii_only=False) == "PASS in 0.3 s"
    expected = "\x1b[1;38;5;71mPASS\x1b[0m in \x1b[2m0.3 s\x1b[0m"
    assert joined(line, colour=True, ascii_only=False).replace("71mPASS in\x1b[0m ", "") == expected


def test_wide_characters_take_two_cells_and_are_cut_whole_at_the_edge() -> None:
    canvas = Canvas(3)
    canvas.put(0, "軟件")
    assert canvas.render(colour=False, ascii_only=False) == "軟"


def test_our_signs_have_stand_ins_in_ascii() -> None:
    canvas = Canvas(8)
    canvas.put(0, "─╮│╰▶✗║┼")
    assert canvas.render(colour=False, ascii_only=True) == "-.|'>xH+"
