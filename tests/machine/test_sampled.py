"""The socket table alone on a fast network: what its samples prove, and what they leave open."""

from __future__ import annotations

import pytest

from tcpwatch.machine.pattern import Pattern
from tcpwatch.machine.sampled import longest_unseen_ns, sampled_match, sampled_timeline
from tcpwatch.model.events import TABLE, Event, SocketSampled, Vantage
from tcpwatch.model.identity import SocketAddress
from tcpwatch.model.timeline import Endpoint, Timeline
from tcpwatch.tcp.state import TcpState

CLIENT, SERVER = SocketAddress("127.0.0.1", 40000), SocketAddress("127.0.0.1", 80)
MS = 1_000_000


def timeline(*samples: tuple[int, str, str | None], wait_ms: int = 1) -> Timeline:
    """At so many ms, of the client or the server, the state it was seen in, or that it had gone."""
    events = []
    for number, (t_ms, whose, state) in enumerate(samples, 1):
        ends = (CLIENT, SERVER) if whose == "client" else (SERVER, CLIENT)
        found = None if state is None else TcpState.parse(state)
        sampled = SocketSampled(*ends, found, (t_ms - wait_ms) * MS)
        events.append(Event(number, t_ms * MS, Vantage(TABLE), sampled))
    return Timeline((), tuple(events), (), 2000 * MS)


def ends(of: Timeline) -> tuple[Endpoint, Endpoint]:
    (connection,) = sampled_timeline(of, {SERVER.port}).connections
    active, passive = connection.endpoints
    return active, passive


def test_who_listens_is_the_passive_end_whoever_is_seen_first() -> None:
    for whose in ("client", "server"):
        active, passive = ends(timeline((5, whose, "ESTABLISHED")))
        assert (active.address, passive.address) == (CLIENT, SERVER)


@pytest.mark.parametrize(
    "pattern, answer",
    [
        ("never CLOSE-WAIT[>1s]", True),  # it was looked at all the time
        ("never CLOSE-WAIT[>300ms]", False),
        ("never CLOSE-WAIT", False),
        ("never FIN-WAIT-2[>1s]", True),
        ("never FIN-WAIT-2", None),  # it may have been in between
        ("never FIN-WAIT-2[>1ms]", None),
        ("... > CLOSE-WAIT > LAST-ACK > CLOSED", None),
        ("... > CLOSE-WAIT > CLOSED", None),
        ("... > CLOSED", True),
        ("... > TIME-WAIT", False),  # it would be there
    ],
)
def test_what_the_samples_of_a_server_tell(pattern: str, answer: bool | None) -> None:  # noqa: FBT001
    told = timeline((5, "server", "CLOSE-WAIT"), (600, "server", None))
    _, passive = ends(told)
    unseen_ns = longest_unseen_ns(told.events)
    assert sampled_match(Pattern(pattern), passive, told.end_ns, unseen_ns) is answer


def test_an_end_that_was_never_sampled_tells_nothing() -> None:
    active, _ = ends(timeline((5, "server", "CLOSE-WAIT")))
    assert sampled_match(Pattern("..."), active, 2000 * MS, 1) is None


def test_what_is_still_held_did_not_end() -> None:
    told = timeline((5, "server", "CLOSE-WAIT"))
    _, passive = ends(told)
    assert sampled_match(Pattern("... > CLOSED"), passive, told.end_ns, MS) is False


def test_a_look_that_came_late_leaves_more_open() -> None:
    late = timeline((5, "server", "CLOSE-WAIT"), (1500, "server", None), wait_ms=1400)
    _, passive = ends(late)
    unseen_ns = longest_unseen_ns(late.events)
    assert sampled_match(Pattern("never FIN-WAIT-2[>1s]"), passive, late.end_ns, unseen_ns) is None
