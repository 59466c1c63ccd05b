"""Measured values side by side."""

from __future__ import annotations

import pytest

from tcpwatch.views.canvas import width_of
from tcpwatch.views.contrast import contrast_lines
from tcpwatch.views.summary import render
from tcpwatch.views.wording import Wording

COLUMNS = ("tcp_abort_on_overflow 0", "tcp_abort_on_overflow 1")
ROWS = (
    ("client's state", ("ESTABLISHED", "CLOSED")),
    ("what the client's next call gets", ("nothing: it waits", "ECONNRESET")),
    ("queue", ("2 of 1", "2 of 1")),
)


def drawn(width: int, columns: tuple[str, ...] = COLUMNS) -> str:
    rows = [(what, values[: len(columns)]) for what, values in ROWS]
    return render(contrast_lines(columns, rows, width, Wording()))


def test_each_case_is_a_column() -> None:
    assert drawn(100) == (
        "                                  tcp_abort_on_overflow 0  tcp_abort_on_overflow 1\n"
        "client's state                    ESTABLISHED              CLOSED\n"
        "what the client's next call gets  nothing: it waits        ECONNRESET\n"
        "queue                             2 of 1                   2 of 1\n"
    )


def test_the_widest_columns_are_narrowed_between_words() -> None:
    assert drawn(63) == (
        "                   tcp_abort_on_overflow  tcp_abort_on_overflow\n"
        "                   0                      1\n"
        "client's state     ESTABLISHED            CLOSED\n"
        "what the client's  nothing: it waits      ECONNRESET\n"
        "next call gets\n"
        "queue              2 of 1                 2 of 1\n"
    )


def test_what_would_cut_a_word_is_a_list() -> None:
    assert drawn(40) == (
        "client's state\n"
        "  tcp_abort_on_overflow 0: ESTABLISHED\n"
        "  tcp_abort_on_overflow 1: CLOSED\n"
        "what the client's next call gets\n"
        "  tcp_abort_on_overflow 0: nothing: it\n"
        "    waits\n"
        "  tcp_abort_on_overflow 1: ECONNRESET\n"
        "queue\n"
        "  tcp_abort_on_overflow 0: 2 of 1\n"
        "  tcp_abort_on_overflow 1: 2 of 1\n"
    )


def test_one_column_without_a_name_has_no_head() -> None:
    assert drawn(80, ("",)) == (
        "client's state                    ESTABLISHED\n"
        "what the client's next call gets  nothing: it waits\n"
        "queue                             2 of 1\n"
    )


def test_a_value_that_is_missing_has_a_sign() -> None:
    lines = contrast_lines(("a", "b"), [("state", ("", "CLOSED"))], 80, Wording())
    assert render(lines) == "       a  b\nstate  -  CLOSED\n"


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
def test_no_line_is_wider_than_the_page(width: int) -> None:
    columns = ("x" * 30, "one", "two and three", "four")
    rows = [("what it is", ("y" * 50, "", "z z z " * 20, "漢字" * 9))]
    text = render(contrast_lines(columns, rows, width, Wording()))
    assert max(map(width_of, text.splitlines())) <= width


def test_what_comes_from_outside_is_escaped() -> None:
    evil = "\x1b]0;owned\x07"
    text = render(contrast_lines((evil, evil), [(evil, (evil, evil))], 80, Wording()))
    assert "\x1b" not in text
    assert "\\x1b" in text
