"""Patterns over paths: what they mean, in three values, and where one cannot be read."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpwatch.machine.pattern import Dwell, PathElement, Pattern, PatternError
from tcpwatch.tcp.state import TcpState

SECOND_NS = 1_000_000_000
STATES = st.sampled_from(TcpState)


def path(text: str) -> tuple[PathElement, ...]:
    """``A B|C ~D E``: B or C, a gap before D; the last element has not ended."""
    words = text.split()
    return tuple(
        PathElement(
            frozenset(TcpState.parse(name) for name in word.removeprefix("~").split("|")),
            ended=index < len(words) - 1,
            gap_before=word.startswith("~"),
        )
        for index, word in enumerate(words)
    )


def lasting(state: TcpState, seconds: float, *, ended: bool = True) -> tuple[PathElement, ...]:
    return (PathElement(frozenset({state}), int(seconds * SECOND_NS), ended),)


@pytest.mark.parametrize(
    "pattern, witnessed, answer",
    [
        ("CLOSED > SYN-SENT", "CLOSED SYN-SENT", True),
        ("CLOSED > SYN-SENT", "CLOSED SYN-SENT ESTABLISHED", False),
        ("CLOSED > SYN-SENT", "CLOSED", False),
        ("CLOSED > SYN-SENT", "", False),
        ("closed > syn_sent > ESTAB", "CLOSED SYN-SENT ESTABLISHED", True),
        ("...", "", True),
        ("...", "CLOSED", True),
        ("… > CLOSED", "SYN-SENT CLOSED", True),
        ("... > CLOSED", "CLOSED", True),
        ("... > CLOSED", "CLOSED LISTEN", False),
        ("CLOSED > ...", "CLOSED", True),
        ("CLOSED > ...", "CLOSED SYN-SENT ESTABLISHED", True),
        ("CLOSED > ... > TIME-WAIT", "CLOSED TIME-WAIT", True),
        ("CLOSED > ... > TIME-WAIT", "CLOSED SYN-SENT TIME-WAIT", True),
        ("CLOSED > ... > TIME-WAIT", "CLOSED SYN-SENT", False),
        ("... > CLOSING > ...", "FIN-WAIT-1 CLOSING TIME-WAIT", True),
        ("... > CLOSING > ...", "FIN-WAIT-1 FIN-WAIT-2 TIME-WAIT", False),
        ("FIN-WAIT-1 > (CLOSING | FIN-WAIT-2) > TIME-WAIT", "FIN-WAIT-1 CLOSING TIME-WAIT", True),
        (
            "FIN-WAIT-1 > (CLOSING | FIN-WAIT-2) > TIME-WAIT",
            "FIN-WAIT-1 FIN-WAIT-2 TIME-WAIT",
            True,
        ),
        ("FIN-WAIT-1 > (CLOSING | FIN-WAIT-2) > TIME-WAIT", "FIN-WAIT-1 TIME-WAIT", False),
        ("(SYN-SENT > ESTABLISHED | LISTEN) > CLOSED", "SYN-SENT ESTABLISHED CLOSED", True),
        ("(SYN-SENT > ESTABLISHED | LISTEN) > CLOSED", "LISTEN CLOSED", True),
        ("(SYN-SENT > ESTABLISHED | LISTEN) > CLOSED", "SYN-SENT CLOSED", False),
        ("(CLOSING | FIN-WAIT-2)? > TIME-WAIT", "TIME-WAIT", True),
        ("FIN-WAIT-1 > FIN-WAIT-2? > TIME-WAIT", "FIN-WAIT-1 TIME-WAIT", True),
        ("FIN-WAIT-1 > FIN-WAIT-2? > TIME-WAIT", "FIN-WAIT-1 FIN-WAIT-2 TIME-WAIT", True),
        ("FIN-WAIT-1 > FIN-WAIT-2? > TIME-WAIT", "FIN-WAIT-1 CLOSING TIME-WAIT", False),
        ("never CLOSE-WAIT", "ESTABLISHED FIN-WAIT-1", True),
        ("never CLOSE-WAIT", "ESTABLISHED CLOSE-WAIT LAST-ACK", False),
        ("NEVER CLOSE-WAIT > LAST-ACK", "ESTABLISHED CLOSE-WAIT CLOSED", True),
        ("never CLOSE-WAIT", "", True),
    ],
)
def test_a_certain_path_fits_or_does_not(pattern: str, witnessed: str, *, answer: bool) -> None:
    assert Pattern(pattern).match(path(witnessed)) is answer


@pytest.mark.parametrize(
    "pattern, witnessed, answer",
    [
        ("CLOSED > SYN-SENT", "CLOSED|LISTEN SYN-SENT", None),
        ("(CLOSED | LISTEN) > SYN-SENT", "CLOSED|LISTEN SYN-SENT", True),
        ("ESTABLISHED > SYN-SENT", "CLOSED|LISTEN SYN-SENT", False),
        ("... > SYN-SENT", "CLOSED|LISTEN SYN-SENT", True),
        ("never LISTEN", "CLOSED|LISTEN SYN-SENT", None),
        ("never CLOSING", "CLOSED|LISTEN SYN-SENT", True),
        ("FIN-WAIT-2 > (TIME-WAIT | CLOSED)", "FIN-WAIT-2 TIME-WAIT|CLOSED", True),
        ("FIN-WAIT-2 > TIME-WAIT", "FIN-WAIT-2 TIME-WAIT|CLOSED", None),
    ],
)
def test_an_uncertain_element_counts_in_each_of_its_readings(
    pattern: str, witnessed: str, *, answer: bool | None
) -> None:
    assert Pattern(pattern).match(path(witnessed)) is answer


@pytest.mark.parametrize(
    "pattern, witnessed, answer",
    [
        ("ESTABLISHED > FIN-WAIT-1 > TIME-WAIT", "ESTABLISHED ~TIME-WAIT", None),
        ("ESTABLISHED > TIME-WAIT", "ESTABLISHED ~TIME-WAIT", None),
        ("ESTABLISHED > ... > TIME-WAIT", "ESTABLISHED ~TIME-WAIT", True),
        ("LISTEN > ... > TIME-WAIT", "ESTABLISHED ~TIME-WAIT", False),
        ("... > CLOSED", "ESTABLISHED ~TIME-WAIT", False),
        ("never CLOSE-WAIT", "ESTABLISHED ~TIME-WAIT", None),
        ("never TIME-WAIT", "ESTABLISHED ~TIME-WAIT", False),
        ("ESTABLISHED > FIN-WAIT-1[>1s] > TIME-WAIT", "ESTABLISHED ~TIME-WAIT", None),
    ],
)
def test_a_gap_may_hold_anything(pattern: str, witnessed: str, *, answer: bool | None) -> None:
    assert Pattern(pattern).match(path(witnessed)) is answer


@pytest.mark.parametrize(
    "pattern, answer",
    [
        ("SYN-SENT", None),
        ("SYN-SENT > CLOSED", None),
        ("SYN-SENT > ...", True),
        ("SYN-SENT > SYN-SENT", False),
        ("never CLOSED", None),
        ("never LISTEN", True),
    ],
)
def test_what_may_never_have_been_counts_with_and_without_it(
    pattern: str, *, answer: bool | None
) -> None:
    sent, gone = path("SYN-SENT CLOSED")

    assert Pattern(pattern).match((sent, replace(gone, perhaps=True))) is answer


@pytest.mark.parametrize(
    "pattern, seconds, ended, answer",
    [
        ("FIN-WAIT-2[<1s]", 0.5, True, True),
        ("FIN-WAIT-2[<1s]", 1.0, True, False),
        ("FIN-WAIT-2[<=1s]", 1.0, True, True),
        ("FIN-WAIT-2[>1000ms]", 1.0, True, False),
        ("FIN-WAIT-2[>=1s]", 1.0, True, True),
        ("FIN-WAIT-2[ >= 1.5 s ]", 1.5, True, True),
        ("FIN-WAIT-2[<1m]", 59, True, True),
        ("FIN-WAIT-2[>999999us]", 1.0, True, True),
        # What goes on may become longer, and not shorter.
        ("FIN-WAIT-2[<1s]", 0.5, False, None),
        ("FIN-WAIT-2[<1s]", 2, False, False),
        ("FIN-WAIT-2[>1s]", 0.5, False, None),
        ("FIN-WAIT-2[>1s]", 2, False, True),
        ("never FIN-WAIT-2[>5s]", 6, False, False),
        ("never FIN-WAIT-2[>5s]", 4, False, None),
        ("never FIN-WAIT-2[>5s]", 4, True, True),
        ("FIN-WAIT-2?[<1s]", 0.5, True, True),
        ("FIN-WAIT-2[<1s]?", 0.5, True, True),
    ],
)
def test_a_time_is_judged_when_it_is_known(
    pattern: str, seconds: float, *, ended: bool, answer: bool | None
) -> None:
    assert Pattern(pattern).match(lasting(TcpState.FIN_WAIT_2, seconds, ended=ended)) is answer


@pytest.mark.parametrize(
    "text, column, problem",
    [
        ("", 1, "a state, '(' or '...' is needed here, not the end"),
        ("CLOSED >", 9, "a state, '(' or '...' is needed here, not the end"),
        ("> CLOSED", 1, "a state, '(' or '...' is needed here, not '>'"),
        ("CLOSED > > CLOSED", 10, "not '>'"),
        ("CLOSED > ESTABLISHD", 10, "did you mean ESTABLISHED?"),
        ("CLOSED SYN-SENT", 8, "unexpected 'SYN-SENT'"),
        ("(CLOSED | LISTEN", 1, "this '(' is never closed"),
        ("CLOSED > (LISTEN > CLOSED", 10, "this '(' is never closed"),
        ("CLOSED)", 7, "unexpected ')'"),
        ("CLOSED | LISTEN", 8, "unexpected '|'"),
        ("TIME-WAIT[60s]", 10, "'[60s]' is no time"),
        ("TIME-WAIT[<1h]", 10, "'[<1h]' is no time"),
        ("TIME-WAIT[<1s", 10, "'[<1s' is no time"),
        ("CLOSED > ]", 10, "unexpected ']'"),
        ("CLOSED . LISTEN", 8, "unexpected '.'"),
        ("never", 6, "a state, '(' or '...' is needed here, not the end"),
        ("never > CLOSED", 7, "not '>'"),
    ],
)
def test_a_fault_is_told_with_its_column(text: str, column: int, problem: str) -> None:
    with pytest.raises(PatternError) as caught:
        Pattern(text)

    assert f"at column {column}: " in str(caught.value)
    assert problem in str(caught.value)


@given(st.text(alphabet="CLOSEDtimewa-_ ()|?[<>=]1s.…never"))
def test_any_text_is_a_pattern_or_a_fault_with_its_column(text: str) -> None:
    try:
        Pattern(text)
    except PatternError as error:
        column = error.column
    else:
        column = 0

    assert 0 <= column <= len(text)


@given(st.lists(STATES, min_size=1))
def test_a_path_fits_itself_and_nothing_longer(states: list[TcpState]) -> None:
    pattern = Pattern(" > ".join(map(str, states)))
    witnessed = tuple(PathElement(frozenset({state})) for state in states)

    assert pattern.match(witnessed) is True
    assert pattern.match((*witnessed, witnessed[0])) is False


@given(st.lists(st.tuples(STATES, STATES, st.booleans()), max_size=5), st.lists(STATES, max_size=5))
def test_a_certain_answer_holds_in_every_reading(
    elements: list[tuple[TcpState, TcpState, bool]], wanted: list[TcpState]
) -> None:
    """One reading is the first state of each element, without anything in the gaps."""
    text = " > ".join(["...", *map(str, wanted)])
    uncertain = tuple(
        PathElement(frozenset({one, other}), gap_before=gap) for one, other, gap in elements
    )
    reading = tuple(PathElement(frozenset({one})) for one, _, _ in elements)

    for pattern in (Pattern(text), Pattern(f"never {text}")):
        assert pattern.match(uncertain) in (None, pattern.match(reading))


def test_a_patterns_elements_are_its_parts_as_written() -> None:
    pattern = Pattern("CLOSED > ... > (CLOSING | FIN-WAIT-2)? > time_wait[>=59s]")

    assert pattern.elements == ("CLOSED", "...", "(CLOSING | FIN-WAIT-2)?", "time_wait[>=59s]")


@pytest.mark.parametrize(
    "pattern, witnessed, place",
    [
        ("CLOSED > SYN-SENT > ESTABLISHED", "CLOSED SYN-SENT CLOSED", 2),
        ("CLOSED > SYN-SENT > ESTABLISHED", "LISTEN", 0),
        ("CLOSED > SYN-SENT > ESTABLISHED", "CLOSED SYN-SENT", 2),
        ("CLOSED > (SYN-SENT | LISTEN)", "CLOSED LISTEN CLOSED", 2),
    ],
)
def test_a_path_agrees_up_to_the_first_element_that_cannot_fit(
    pattern: str, witnessed: str, place: int
) -> None:
    assert Pattern(pattern).agrees_up_to(path(witnessed)) == place


@pytest.mark.parametrize("comparison", ["<", "<=", ">", ">="])
@pytest.mark.parametrize("dwell_ns", [9, 10, 11])
def test_what_is_settled_before_the_end_stays_so(comparison: str, dwell_ns: int) -> None:
    dwell = Dwell(comparison, 10)
    so_far = dwell.holds(dwell_ns, ended=False)

    assert so_far is None or all(
        dwell.holds(later, ended=True) is so_far for later in range(dwell_ns, 20)
    )
