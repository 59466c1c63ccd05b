"""`tcpwatch coverage` as text, as a document and as the README's table."""

from __future__ import annotations

import json

import pytest

from tcpwatch.machine.coverage import Arrow, Coverage, Edge, Sighting, arrows, survey
from tcpwatch.machine.stimulus import Stimulus
from tcpwatch.model.timeline import Belief
from tcpwatch.tcp.state import TcpState
from tcpwatch.views.canvas import width_of
from tcpwatch.views.coverage import coverage_document, coverage_lines, coverage_markdown
from tcpwatch.views.json import dump
from tcpwatch.views.summary import render

S, T = TcpState, Stimulus
ALL = ("kernel", "table", "wire")


def arrow(before: TcpState, stimulus: Stimulus, after: TcpState) -> Arrow:
    wanted = (before, stimulus, after)
    (found,) = (one for one in arrows() if (one.before, one.stimulus, one.after) == wanted)
    return found


CLOSING = arrow(S.FIN_WAIT_1, T.FIN, S.CLOSING)
ENDS = [one for one in arrows() if one.edge == (S.ESTABLISHED, S.CLOSED)]


def sighting(
    *possible: Arrow, scenario: str = "simultaneous-close", certain: bool = True
) -> Sighting:
    first = possible[0]
    return Sighting(
        scenario,
        "client",
        1,
        101_000_000,
        Belief.of(first.before),
        Belief.of(first.after),
        first.stimulus.value if len(possible) == 1 else "",
        ALL,
        possible,
        certain,
    )


def everything() -> Coverage:
    return survey(sighting(one) for one in arrows() if one.row.linux)


def text(coverage: Coverage, width: int = 80, *, ascii_only: bool = False) -> str:
    return render(coverage_lines(coverage, ["simultaneous-close"], width), ascii_only=ascii_only)


def line_with(text: str, part: str) -> str:
    (found,) = (line for line in text.splitlines() if part in line)
    return found


# ------------------------------------------------------------------ text


def test_an_arrow_has_its_row_its_section_how_often_and_by_whom() -> None:
    coverage = survey([sighting(CLOSING), sighting(CLOSING, scenario="self-connect")])

    row = line_with(text(coverage), "  CLOSING       3.10")
    assert row.split(maxsplit=6) == [
        *("✓", "FIN", "CLOSING", "3.10.7.4", "2", "3"),
        "simultaneous-close +1",
    ]
    row = line_with(text(coverage, 120), "  CLOSING       3.10")
    assert row.endswith("simultaneous-close, self-connect")


def test_what_nobody_exercised_is_named_and_marked() -> None:
    shown = text(survey([sighting(CLOSING)]))

    assert "├──── FIN / ACK ✓ ─────╮" in shown
    assert "├┄┄ 2 MSL ✗ ┄┄▷│" in shown
    assert "✗ 2 MSL       CLOSED        3.10.8        0     -     -" in shown
    assert "exercised: 1 of the 48 arrows" in shown
    assert "TIME-WAIT > CLOSED by 2 MSL" in " ".join(shown.split("missing: ")[1].split())


def test_when_all_is_exercised_nothing_is_missing() -> None:
    shown = text(everything())

    assert "exercised: all of the 48 arrows" in shown
    assert "missing" not in shown
    assert "✗" not in shown.replace("✗ was not", "")


def test_what_linux_cannot_do_has_its_reason() -> None:
    shown = text(everything())

    assert "┄ active OPEN ∅ ┄" in shown
    said = " ".join(shown.split("not by socket calls on Linux\n")[1].split())
    assert "LISTEN > SYN-SENT by active OPEN (3.10.1): OPEN or SEND on a listener" in said
    assert "SYN-RECEIVED > CLOSE-WAIT by FIN received (3.10.7.4): every FIN carries an ACK" in said


def test_what_cannot_be_told_is_perhaps_each_and_is_named() -> None:
    shown = text(survey([sighting(*ENDS)]))

    assert "? abort       CLOSED        3.10.5        0     -     perhaps" in shown
    assert "R? A? T?" in shown
    assert (
        "which arrow it was cannot be told\n"
        "  simultaneous-close, client of connection 1: ESTABLISHED > CLOSED: abort or RST\n"
        "    or timeout\n"
    ) in shown


@pytest.mark.parametrize("width", [40, 71, 72, 80, 120])
def test_nothing_is_wider_than_the_page(width: int) -> None:
    shown = text(survey([sighting(CLOSING), sighting(*ENDS)]), width)

    assert max(width_of(line) for line in shown.splitlines()) <= width


def test_a_narrow_page_has_the_table_only() -> None:
    assert "▶" not in text(everything(), 77)
    assert "✓ FIN         CLOSING" in text(everything(), 77)


def test_ascii_is_only_ascii() -> None:
    shown = text(survey([sighting(CLOSING), sighting(*ENDS)]), ascii_only=True)

    assert shown.isascii()


def test_a_name_from_outside_cannot_speak_to_the_terminal() -> None:
    shown = text(survey([sighting(CLOSING, scenario="\x1b[2Jmine"), sighting(*ENDS)]))

    assert "\x1b" not in shown


# ------------------------------------------------------------------ the document


def test_the_document_has_every_arrow_with_its_sightings() -> None:
    document = json.loads(
        dump(coverage_document(survey([sighting(CLOSING)]), ["simultaneous-close"]))
    )
    (closing,) = (one for one in document["arrows"] if one["to"] == "CLOSING")

    assert (document["schema"], document["runs"]) == ("tcpwatch/1", ["simultaneous-close"])
    assert (document["reachable"], document["exercised"]) == (48, 1)
    assert len(document["arrows"]) == len(arrows())
    assert closing == {
        "from": "FIN-WAIT-1",
        "to": "CLOSING",
        "stimulus": "FIN received",
        "kind": "segment",
        "section": "3.10.7.4",
        "sends": "ACK",
        "note": "",
        "in_figure": True,
        "reachable": True,
        "exercised": True,
        "witnesses": 3,
        "scenarios": ["simultaneous-close"],
        "seen": [
            {
                "scenario": "simultaneous-close",
                "role": "client",
                "connection": 1,
                "t_ns": 101_000_000,
                "from": ["FIN-WAIT-1"],
                "to": ["CLOSING"],
                "cause": "FIN received",
                "witnesses": ["kernel", "table", "wire"],
            }
        ],
        "perhaps": [],
    }


def test_the_document_says_what_cannot_be_told() -> None:
    document = coverage_document(survey([sighting(*ENDS)]), ["mine"])
    (untold,) = json.loads(dump(document))["untold"]

    assert untold["cause"] == ""
    assert [one["stimulus"] for one in untold["arrows"]] == ["ABORT", "RST received", "timeout"]


# ------------------------------------------------------------------ the README's table


def row_of(markdown: str, state: str) -> str:
    return line_with(markdown, f"| {state} |")


def test_the_table_has_a_row_a_state_and_the_reasons_of_the_rest() -> None:
    markdown = coverage_markdown(
        everything(), {"simultaneous-close": [one.edge for one in arrows()]}
    )

    assert [line.split(" |")[0] for line in markdown.splitlines()[2:13]] == [
        "| CLOSED", "| LISTEN", "| SYN-SENT", "| SYN-RECEIVED", "| ESTABLISHED", "| FIN-WAIT-1",
        "| FIN-WAIT-2", "| CLOSE-WAIT", "| CLOSING", "| LAST-ACK", "| TIME-WAIT",
    ]  # fmt: skip
    assert row_of(markdown, "FIN-WAIT-2") == (
        "| FIN-WAIT-2 | TIME-WAIT by FIN: `simultaneous-close`<br>"
        "CLOSED by abort: `simultaneous-close`; RST: `simultaneous-close`;"
        " timeout: `simultaneous-close` | 3.10.5, 3.10.7.4, 3.10.8 |"
    )
    last = row_of(markdown, "not by Linux's calls")
    assert "LISTEN > SYN-SENT by active OPEN: OPEN or SEND on a listener" in last
    assert last.endswith(" | 3.10.1, 3.10.7.4 |")


def test_of_those_that_showed_an_arrow_two_that_promise_it_are_named() -> None:
    promised: dict[str, list[Edge]] = {
        "by-chance": [],
        "first": [CLOSING.edge],
        "second": [CLOSING.edge],
        "about-fin-wait-1": [CLOSING.edge],
        "never-played": [CLOSING.edge],
    }
    names = ["second", "by-chance", "about-fin-wait-1", "first"]
    coverage = survey(sighting(CLOSING, scenario=name) for name in names)

    shown = row_of(coverage_markdown(coverage, promised), "FIN-WAIT-1")
    assert "CLOSING by FIN: `about-fin-wait-1`, `first`<br>" in shown


def test_what_no_pattern_names_has_whoever_showed_it() -> None:
    markdown = coverage_markdown(survey([sighting(CLOSING)]), {"simultaneous-close": []})

    assert "CLOSING by FIN: `simultaneous-close`<br>" in markdown
    assert "CLOSED by 2 MSL: nothing yet" in markdown
