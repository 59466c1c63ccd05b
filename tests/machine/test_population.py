"""The lean road for hosts goes the same ways as the exact tracker, and forgets what has ended."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import pytest

from tcpwatch.machine.population import ENDED_AT_MOST, HostMove, Population
from tcpwatch.machine.tracker import Tracker
from tcpwatch.model.events import (
    KERNEL,
    TABLE,
    Event,
    Gap,
    KernelNote,
    KernelNoted,
    Payload,
    SocketSampled,
    StateReported,
    Vantage,
)
from tcpwatch.model.identity import FourTuple, SocketAddress
from tcpwatch.model.recording import read_recordings
from tcpwatch.tcp.state import TcpState as S

DATA = Path(__file__).parents[1] / "data" / "recordings"
HERE = SocketAddress("10.0.0.1", 40000)
THERE = SocketAddress("10.0.0.2", 80)
ENDS = FourTuple(HERE, THERE)
WAYS = {
    "closes first": (S.CLOSED, S.SYN_SENT, S.ESTABLISHED, S.FIN_WAIT_1, S.FIN_WAIT_2, S.CLOSED),
    "closes last": (S.LISTEN, S.SYN_RECEIVED, S.ESTABLISHED, S.CLOSE_WAIT, S.LAST_ACK, S.CLOSED),
    "both at once": (S.CLOSED, S.SYN_SENT, S.ESTABLISHED, S.FIN_WAIT_1, S.CLOSING, S.CLOSED),
    "is refused": (S.CLOSED, S.SYN_SENT, S.CLOSED),
    "was there": (S.ESTABLISHED, S.CLOSE_WAIT, S.LAST_ACK, S.CLOSED),
}


class Host:
    """Events of a host's witnesses, one after another."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.t_ns = 0

    def say(self, payload: Payload, source: str, after_ns: int = 1_000_000) -> None:
        self.t_ns += after_ns
        self.events.append(Event(len(self.events) + 1, self.t_ns, Vantage(source), payload))

    def kernel(self, *path: S, ends: FourTuple = ENDS, skaddr: int = 1, pid: int = 7) -> Host:
        for before, after in pairwise(path):
            self.say(StateReported(skaddr, ends.local, ends.remote, before, after, pid), KERNEL)
        return self

    def table(self, state: S | None, since_ns: int | None = None, ends: FourTuple = ENDS) -> Host:
        since = self.t_ns if since_ns is None else since_ns
        self.say(SocketSampled(ends.local, ends.remote, state, since, inode=5), TABLE)
        return self


def fed(events: Iterable[Event], attending: Iterable[str] = (KERNEL, TABLE)) -> Population:
    population = Population(attending)
    for event in events:
        population.feed(event)
    return population


def exact(events: Iterable[Event], attending: Iterable[str]) -> dict[FourTuple, list[str]]:
    """Each end's last path by the exact tracker, as text."""
    tracker = Tracker(attending=attending, of_host=True)
    events = list(events)
    for event in events:
        tracker.feed(event)
    return {
        FourTuple(end.address, other.address): [str(belief) for belief in end.path]
        for connection in tracker.timeline(events[-1].t_ns).connections
        for end, other in zip(connection.endpoints, connection.endpoints[::-1], strict=True)
        if end.transitions
    }


def lean(events: Iterable[Event], attending: tuple[str, ...]) -> dict[FourTuple, list[str]]:
    """The same by the population, of each socket that moved."""
    population = Population(attending)
    found = {move.socket.tuple: move.socket for event in events for move in population.feed(event)}
    paths = {}
    for ends, socket in found.items():
        path = [states_text(step.states) for step in socket.history.steps]
        if attending == (KERNEL,) and socket.states != socket.history.last.states:
            path.append(states_text(socket.states))
        paths[ends] = path
    return paths


def states_text(states: frozenset[S]) -> str:
    return " or ".join(state.value for state in S if state in states)


@pytest.mark.parametrize("attending", [(KERNEL, TABLE), (KERNEL,), (TABLE,)])
def test_a_recorded_run_goes_the_same_way_on_both_roads(attending: tuple[str, ...]) -> None:
    for path in sorted(DATA.glob("*.jsonl")):
        for recording in read_recordings(path.read_text(encoding="utf-8").splitlines()):
            events = [e for e in recording.events if e.vantage.source in attending]
            assert lean(events, attending) == exact(events, attending)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("looked_after", range(5))
def test_a_look_at_the_table_anywhere_gives_the_same_way_on_both_roads(
    way: tuple[S, ...], looked_after: int
) -> None:
    host = Host()
    for place, pair in enumerate(pairwise(way)):
        host.kernel(*pair)
        if place == looked_after and pair[1] is not S.CLOSED:
            host.table(pair[1])
    host.table(S.TIME_WAIT if way[-2] in (S.FIN_WAIT_2, S.CLOSING) else None)
    host.table(None)
    assert lean(host.events, (KERNEL, TABLE)) == exact(host.events, (KERNEL, TABLE))


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_the_table_alone_gives_the_same_way_on_both_roads(way: tuple[S, ...]) -> None:
    host = Host()
    for state in way[1:-1]:
        host.table(state)
    host.table(None)
    assert lean(host.events, (TABLE,)) == exact(host.events, (TABLE,))


def test_what_was_there_before_begins_with_the_state_found() -> None:
    host = Host().table(S.CLOSE_WAIT, since_ns=-1)
    (socket,) = fed(host.events).sockets()
    assert socket.state is S.CLOSE_WAIT
    assert socket.found
    assert socket.age_is_least
    host.kernel(S.CLOSE_WAIT, S.LAST_ACK)
    (socket,) = fed(host.events).sockets()
    assert [states_text(step.states) for step in socket.history.steps] == ["CLOSE-WAIT", "LAST-ACK"]
    assert not socket.age_is_least
    assert socket.since_ns == host.t_ns


def test_the_kernels_last_words_stay_open_until_the_table_is_looked_at() -> None:
    host = Host().kernel(*WAYS["closes first"])
    population = fed(host.events)
    (socket,) = population.in_doubt()
    assert socket.states == {S.TIME_WAIT, S.FIN_WAIT_2, S.CLOSED}
    host.table(S.TIME_WAIT)
    population.feed(host.events[-1])
    assert socket.state is S.TIME_WAIT
    assert not population.in_doubt()
    assert population.counts == {frozenset({S.TIME_WAIT}): 1}


def test_counts_follow_every_socket_and_end_with_it() -> None:
    host = Host().table(S.ESTABLISHED, since_ns=-1)
    other = FourTuple(SocketAddress("10.0.0.1", 40001), THERE)
    host.kernel(S.CLOSED, S.SYN_SENT, S.ESTABLISHED, ends=other, skaddr=2)
    population = fed(host.events)
    assert population.counts == {frozenset({S.ESTABLISHED}): 2}
    host.kernel(S.ESTABLISHED, S.CLOSED, ends=other, skaddr=2)
    population.feed(host.events[-1])
    assert population.counts == {frozenset({S.ESTABLISHED}): 1}
    assert len(population) == 1


def test_a_tuple_used_again_is_another_socket() -> None:
    host = Host().kernel(*WAYS["is refused"]).kernel(*WAYS["is refused"][:2], skaddr=2)
    population = Population((KERNEL, TABLE))
    moves = [move for event in host.events for move in population.feed(event)]
    assert len({move.socket.number for move in moves}) == 2
    (socket,) = population.sockets()
    assert socket.generation == 1
    # The table had the first one: that it is gone says nothing of the second.
    host.table(None)
    population.feed(host.events[-1])
    assert population.sockets() == [socket]


def test_what_has_ended_is_forgotten_in_the_end() -> None:
    host = Host()
    for port in range(1, ENDED_AT_MOST + 51):
        ends = FourTuple(SocketAddress("10.0.0.1", port), THERE)
        host.kernel(S.CLOSED, S.SYN_SENT, S.CLOSED, ends=ends, skaddr=port)
    population = fed(host.events)
    assert len(population) == 0
    assert population.counts == {}
    assert len(population.ended()) == ENDED_AT_MOST


def test_a_look_that_is_older_than_the_end_brings_nobody_back() -> None:
    host = Host().kernel(S.CLOSED, S.SYN_SENT, S.ESTABLISHED)
    began_ns = host.t_ns
    host.kernel(S.ESTABLISHED, S.CLOSED).table(S.ESTABLISHED, since_ns=began_ns)
    assert len(fed(host.events)) == 0


def test_a_listener_is_there_or_not() -> None:
    anybody = FourTuple(SocketAddress("::", 80), SocketAddress("::", 0))
    host = Host().table(S.LISTEN, since_ns=-1, ends=anybody)
    population = fed(host.events)
    (socket,) = population.sockets()
    assert socket.is_listener
    assert population.counts == {frozenset({S.LISTEN}): 1}
    host.table(None, ends=anybody)
    population.feed(host.events[-1])
    assert population.sockets() == []
    assert population.counts == {}


def test_a_reset_that_the_kernel_tells_of_is_the_cause() -> None:
    host = Host().kernel(S.CLOSED, S.SYN_SENT, S.ESTABLISHED)
    host.say(KernelNoted(KernelNote.RETRANSMITTED, 1, HERE, THERE), KERNEL)
    host.say(KernelNoted(KernelNote.RESET_RECEIVED, 1, HERE, THERE), KERNEL)
    host.kernel(S.ESTABLISHED, S.CLOSED)
    population = Population((KERNEL, TABLE))
    moves = [move for event in host.events for move in population.feed(event)]
    assert [told(move) for move in moves] == [
        "CLOSED > SYN-SENT: active OPEN",
        "SYN-SENT > ESTABLISHED: SYN,ACK received",
        "ESTABLISHED > CLOSED: RST received",
    ]
    assert moves[0].socket.retransmits == 1
    assert moves[0].socket.opener == 7


def told(move: HostMove) -> str:
    return f"{states_text(move.before)} > {states_text(move.after)}: {move.cause}"


def test_after_lost_evidence_more_may_have_happened() -> None:
    host = Host().table(S.ESTABLISHED, since_ns=-1)
    host.say(Gap("the trace buffer was full", 3, 0), KERNEL)
    host.table(None)
    population = Population((KERNEL, TABLE))
    moves = [move for event in host.events for move in population.feed(event)]
    assert [move.gap for move in moves] == [True]


def test_what_the_table_never_shows_can_be_asked_for() -> None:
    host = Host().kernel(S.CLOSED, S.SYN_SENT, S.ESTABLISHED)
    population = fed(host.events)
    assert population.unconfirmed(host.t_ns) == []
    (socket,) = population.unconfirmed(host.t_ns + 1)
    host.table(S.ESTABLISHED)
    population.feed(host.events[-1])
    assert population.unconfirmed(host.t_ns + 1) == []
    assert socket.inode == 5
