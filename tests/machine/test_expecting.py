"""Demands: which connections, which end, which path; and where one cannot be read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpwatch.machine.expecting import DemandError, parse_demand


@pytest.mark.parametrize(
    "text, parts",
    [
        ("port:443 active: ... > TIME-WAIT", ("port:443", "active", "... > TIME-WAIT")),
        ("passive: ...>CLOSED", ("", "passive", "...>CLOSED")),
        ("Both : never CLOSE-WAIT[>5s]", ("", "both", "never CLOSE-WAIT[>5s]")),
        ("role:active client: CLOSED", ("role:active", "client", "CLOSED")),
        ("'active: x' or rst server:\nLISTEN", ('"active: x" or rst', "server", "LISTEN")),
        ("-state:closed,listen passive: ...", ("not state:closed,listen", "passive", "...")),
    ],
)
def test_a_demand_has_a_filter_a_role_and_a_pattern(text: str, parts: tuple[str, ...]) -> None:
    found = parse_demand(text)
    assert (str(found.selects), found.role, found.pattern.text.strip()) == parts


@pytest.mark.parametrize(
    "text, shown",
    [
        ("port:443", "port:443^: an end and its path are needed"),
        ("", "^: an end and its path are needed"),
        ("prot:443 active: ...", "^prot:443 active: ...: there is no field 'prot'"),
        ("active: ... > CLOSDE", "active: ... > ^CLOSDE: 'CLOSDE' is not a TCP state"),
        ("port:443 active:", "port:443 active:^: a state, '(' or '...' is needed here"),
        ("pid:3 active: ...", "^pid:3 active: ...: a capture has no pid"),
        ("'active: ...", "^'active: ...: this ' is never closed"),
    ],
)
def test_a_demand_that_cannot_be_read_shows_the_place(text: str, shown: str) -> None:
    with pytest.raises(DemandError) as caught:
        parse_demand(text, source="a capture", has=("port", "state"))
    found = caught.value
    assert f"{text[: found.column]}^{text[found.column :]}: {found.problem}".startswith(shown)


@given(
    st.text()
    | st.lists(st.sampled_from(["active:", "'x", '"', "...", ">", "(", "|", "CLOSED"])).map(
        " ".join
    )
)
def test_no_text_raises_anything_else(text: str) -> None:
    try:
        parse_demand(text)
    except DemandError as error:
        assert 0 <= error.column <= len(text)  # noqa: PT017 - which text is refused is not the point
