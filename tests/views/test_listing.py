"""`tcpwatch list` and `tcpwatch doctor` as text."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from tcpwatch.model.witness import Availability
from tcpwatch.views.listing import doctor_report, list_scenarios


@dataclass(frozen=True)
class Listed:
    """A scenario as the listing needs it."""

    name: str
    topic: str = "the-five"
    claim: str = "what it claims."
    expect: dict[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()


CLOSE = Listed(
    "normal-close",
    claim="one end closes, the other reads the end of the stream and closes too.",
    expect={
        "client": "CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > (FIN-WAIT-2 | CLOSING) >"
        " TIME-WAIT",
        "server": "LISTEN > SYN-RECEIVED > ... > CLOSED",
    },
)
REFUSED = Listed(
    "connect-refused",
    topic="edges",
    claim="nobody listens.",
    expect={"client": "... > CLOSED"},
    needs=("namespaces", "root"),
)
WITNESSES = (
    Availability("lab", available=True, detail="namespaces, as root, wire by tun"),
    Availability(
        "kernel",
        available=False,
        detail="tracefs is root's",
        remedy="run as root",
        blind_spots=("TIME-WAIT: the minisocket that holds it has no tracepoint",),
    ),
)


def test_scenarios_stand_under_their_topics() -> None:
    assert (
        list_scenarios([CLOSE, REFUSED, Listed("echo")], 80)
        == """\
the-five
  normal-close     one end closes, the other reads the end of the stream and
                   closes too
    client  CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1
            > (FIN-WAIT-2 | CLOSING) > TIME-WAIT
    server  LISTEN > SYN-RECEIVED > ... > CLOSED
  echo             what it claims

edges
  connect-refused  nobody listens
    client  ... > CLOSED
    needs   namespaces, root"""
    )


def test_witnesses_say_what_they_can_and_cannot_see() -> None:
    assert (
        doctor_report(WITNESSES, 60)
        == """\
  lab     available: namespaces, as root, wire by tun
  kernel  not available: tracefs is root's
          remedy: run as root
          blind to TIME-WAIT: the minisocket that holds it
          has no tracepoint

not available: kernel
what a missing witness alone could settle is INCONCLUSIVE,
never PASS"""
    )


def test_it_says_when_nothing_is_missing() -> None:
    assert doctor_report([WITNESSES[0]], 80).splitlines()[-2:] == [
        "all are available",
        "what a missing witness alone could settle is INCONCLUSIVE, never PASS",
    ]


def test_it_says_when_there_is_no_scenario() -> None:
    assert list_scenarios([], 80) == "there are no scenarios"


@pytest.mark.parametrize("width", [40, 80, 132])
def test_nothing_is_wider_than_the_page(width: int) -> None:
    long = Listed(
        "a-name-that-is-longer-than-a-third-of-any-page-that-is-narrow", needs=("x" * 30,)
    )

    lines = list_scenarios([CLOSE, REFUSED], width) + "\n" + doctor_report(WITNESSES, width)
    assert max(map(len, lines.splitlines())) <= width
    assert max(map(len, list_scenarios([long], 80).splitlines())) <= 80


def test_nothing_from_outside_reaches_the_terminal_raw() -> None:
    evil = "\x1b]0;owned\x07"
    text = list_scenarios([Listed(evil, evil, evil, {evil: evil}, (evil,))], 80)
    text += doctor_report([Availability(evil, available=False, detail=evil, remedy=evil)], 80)

    assert "\x1b" not in text
    assert "\\x1b" in text
