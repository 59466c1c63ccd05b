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
    slow: str = ""


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


TOPICS = {"the-five": "which show all states"}


def listed(*scenarios: Listed, width: int = 80, verbose: bool = True) -> str:
    return list_scenarios(scenarios, TOPICS, width, verbose=verbose)


def test_scenarios_stand_under_their_topics_with_their_paths() -> None:
    assert (
        listed(CLOSE, REFUSED, Listed("echo"))
        == """\
the-five: which show all states
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


def test_in_the_brief_list_a_scenario_is_its_claim() -> None:
    slow = Listed("time-wait", claim="it lasts.", slow="60 s", needs=("root",))
    assert (
        listed(CLOSE, slow, REFUSED, width=90, verbose=False)
        == """\
the-five: which show all states
  normal-close     one end closes, the other reads the end of the stream and closes too
  time-wait        it lasts (slow)

edges
  connect-refused  nobody listens

with a topic, or -v, the path that is expected of each end, and what is needed to see it"""
    )


def test_why_one_is_slow_stands_beside_what_it_needs() -> None:
    slow = Listed("time-wait", claim="it lasts.", slow="60 s", needs=("root",))
    assert listed(slow).splitlines()[1:] == [
        "  time-wait  it lasts",
        "    needs  root",
        "    slow   60 s",
    ]


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
    assert listed() == "there are no scenarios"


@pytest.mark.parametrize("width", [40, 80, 132])
def test_nothing_is_wider_than_the_page(width: int) -> None:
    long = Listed(
        "a-name-that-is-longer-than-a-third-of-any-page-that-is-narrow", needs=("x" * 30,)
    )

    for verbose in (False, True):
        lines = listed(CLOSE, REFUSED, width=width, verbose=verbose).splitlines()
        lines += doctor_report(WITNESSES, width).splitlines()
        assert max(map(len, lines)) <= width
        assert max(map(len, listed(long, verbose=verbose).splitlines())) <= 80


def test_nothing_from_outside_reaches_the_terminal_raw() -> None:
    evil = "\x1b]0;owned\x07"
    text = listed(Listed(evil, evil, evil, {evil: evil}, (evil,), evil))
    text += doctor_report([Availability(evil, available=False, detail=evil, remedy=evil)], 80)

    assert "\x1b" not in text
    assert "\\x1b" in text
