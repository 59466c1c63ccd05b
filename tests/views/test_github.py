"""GitHub's pages: annotations that no text can break out of, and a summary that fits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tcpwatch.views.cases import Case
from tcpwatch.views.github import annotation_lines, markdown, summary
from tcpwatch.views.runs import Unplayed

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.views.telling import Story

    Stories = dict[str, Callable[[], Story]]

HERE = Path("/home/runner/work")
MINE = HERE / "tests" / "mine,1.py"


@pytest.fixture
def failed(stories: Stories) -> Case:
    return Case("the-five", "fin-lost", stories["fin-lost"]().judged(), MINE, 4)


def test_what_passed_is_not_annotated(stories: Stories) -> None:
    assert annotation_lines([Case("s", "n", stories["normal-close"]().judged())], HERE) == []


def test_an_annotation_stands_at_the_expectation(failed: Case) -> None:
    (line,) = annotation_lines([failed], HERE)
    assert line.startswith(
        "::error file=tests/mine%2C1.py,line=4,title=FAIL fin-lost::"
        "server: the witnessed path ends in CLOSE-WAIT, LAST-ACK was expected%0A"
    )
    assert "%0A  - LAST-ACK%0A" in line
    assert "\n" not in line


def test_an_error_stands_at_the_line_that_it_names() -> None:
    broken = Unplayed("mine", "", f"{MINE}:12: ValueError: 100%\r\n::set-env name=x::y")
    (line,) = annotation_lines([Case("s", "a:b,c%", broken, MINE)], HERE)
    assert line == (
        "::error file=tests/mine%2C1.py,line=12,title=ERROR a%3Ab%2Cc%25::"
        f"{MINE}:12: ValueError: 100%25\\x0d\\x0a::set-env name=x::y"
    )


def test_a_file_outside_the_repository_is_not_named(failed: Case) -> None:
    (line,) = annotation_lines([failed], Path("/elsewhere"))
    assert line.startswith("::error title=FAIL fin-lost::")


def test_the_summary_has_totals_a_table_and_the_ladders(failed: Case, stories: Stories) -> None:
    passed = Case("the-five", "normal-close", stories["normal-close"]().judged())
    text = summary([passed, failed], ["kept/fin-lost.jsonl"])
    assert text.startswith(
        "### tcpwatch: 2 runs: 1 passed, 1 failed\n\n| | run | why |\n|---|---|---|\n"
        "| FAIL | fin-lost | server&#58; the witnessed path ends in CLOSE-WAIT, "
        "LAST-ACK was expected |\n\nkept: kept/fin-lost.jsonl\n\n"
        "<details><summary>FAIL fin-lost</summary>\n\n```text\n"
    )
    assert text.endswith("\n```\n\n</details>\n\n")


def test_markup_from_outside_is_text() -> None:
    assert markdown("a|b`<i>\n@me [x](y) #1 \x1b") == (
        "a&#124;b&#96;&#60;i&#62;&#92;x0a&#64;me &#91;x&#93;(y) &#35;1 &#92;x1b"
    )


def test_no_text_ends_the_fence_of_a_ladder(failed: Case) -> None:
    assert not isinstance(failed.run, Unplayed)
    run = replace(failed.run, reasons=("``````text",))
    assert "\n```````text\n``````text\n" in summary([replace(failed, run=run)])


def test_a_summary_that_would_be_too_long_says_so(failed: Case) -> None:
    text = summary([failed] * 20, room=8000)
    assert len(text.encode()) <= 8000
    assert text.endswith("The rest is left out: a summary has no more room.\n")
