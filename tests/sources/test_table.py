"""What the table witness makes of one sample after another."""

from __future__ import annotations

import socket
import threading

import pytest

from tcpwatch.errors import TcpwatchError
from tcpwatch.model.events import Gap, SocketSampled
from tcpwatch.model.witness import Observation
from tcpwatch.sources.sockdiag import Row, Rows, row_id
from tcpwatch.sources.table import TableSource

ESTABLISHED, SYN_RECEIVED, FIN_WAIT_1, TIME_WAIT, LISTEN = 1, 3, 4, 6, 10


def row(
    state: int,
    *,
    port: int = 4000,
    cookie: int = 1,
    queue: int = 0,
    inode: int = 9,
    expires: int = 0,
) -> Row:
    ident = row_id(("10.0.0.1", port), ("10.0.0.2", 80), socket.AF_INET, cookie)
    return Row(socket.AF_INET, state, 0, 0, ident, expires, queue, 0, 0, inode)


def observed(*samples: Rows, ports: range = range(65536)) -> list[list[Observation]]:
    """What each of these samples, taken one after the other, leads to."""
    polls: list[list[Observation]] = []
    closers: list[threading.Thread] = []

    def sampler() -> Rows:
        polls.append([])
        if len(polls) == len(samples) + 1:
            closers.append(threading.Thread(target=source.close))
            closers[0].start()
        return samples[min(len(polls), len(samples)) - 1]

    source = TableSource([("client", sampler)], 0, lambda local, _remote: local.port in ports)
    for observation in source.observations():
        polls[-1].append(observation)
    closers[0].join()
    assert source.lost == sum(isinstance(o.payload, Gap) for poll in polls for o in poll)
    return polls[: len(samples)]


def told(*samples: Rows, ports: range = range(65536)) -> list[list[str]]:
    return [[text(o) for o in poll] for poll in observed(*samples, ports=ports)]


def text(observation: Observation) -> str:
    payload = observation.payload
    if isinstance(payload, Gap):
        return f"gap: {payload.reason}"
    assert isinstance(payload, SocketSampled)
    return f"{payload.local.port} {payload.state}"


def test_a_socket_is_told_when_it_comes_changes_state_and_goes() -> None:
    assert told(
        Rows([row(ESTABLISHED)]),
        Rows([row(FIN_WAIT_1)]),
        Rows([row(TIME_WAIT, inode=0)]),
        Rows([]),
    ) == [["4000 ESTABLISHED"], ["4000 FIN-WAIT-1"], ["4000 TIME-WAIT"], ["4000 None"]]


def test_what_stays_as_it_was_is_not_told_again_though_its_timer_runs() -> None:
    assert told(Rows([row(TIME_WAIT, expires=60_000)]), Rows([row(TIME_WAIT, expires=59_000)])) == [
        ["4000 TIME-WAIT"],
        [],
    ]


def test_an_other_queue_or_inode_is_told_in_the_same_state() -> None:
    polls = observed(
        Rows([row(ESTABLISHED, inode=0)]),
        Rows([row(ESTABLISHED, inode=9)]),
        Rows([row(ESTABLISHED, inode=9, queue=3)]),
    )
    payloads = [o.payload for poll in polls for o in poll]
    assert [
        (payload.inode, payload.receive_queue)
        for payload in payloads
        if isinstance(payload, SocketSampled)
    ] == [(0, 0), (9, 0), (9, 3)]


def test_a_successor_on_the_same_addresses_is_told_after_the_end_of_the_first() -> None:
    assert told(Rows([row(TIME_WAIT, cookie=1)]), Rows([row(ESTABLISHED, cookie=2)])) == [
        ["4000 TIME-WAIT"],
        ["4000 None", "4000 ESTABLISHED"],
    ]


@pytest.mark.parametrize(
    "before, after", [(SYN_RECEIVED, ESTABLISHED), (SYN_RECEIVED, TIME_WAIT), (FIN_WAIT_1, 6)]
)
def test_a_request_or_a_socket_that_was_dumped_as_it_became_another_has_not_gone(
    before: int, after: int
) -> None:
    once = Rows([row(before, cookie=1, inode=0)], atomic=False)
    then = Rows([row(after, cookie=2, inode=0)], atomic=False)
    states = {SYN_RECEIVED: "SYN-RECEIVED", ESTABLISHED: "ESTABLISHED", TIME_WAIT: "TIME-WAIT"}
    changes = [[f"4000 {states.get(state, 'FIN-WAIT-1')}"] for state in (before, after)]
    assert told(once, then, then, then) == [*changes, [], []]
    # Dumped twice, it has its cookie for life.
    assert told(once, once, then)[2] == ["4000 None", *changes[1]]


def test_listeners_that_share_a_port_are_two_sockets() -> None:
    shared = [row(LISTEN, cookie=1), row(LISTEN, cookie=2)]
    assert told(Rows(shared), Rows(shared[1:])) == [["4000 LISTEN"] * 2, ["4000 None"]]


def test_a_sample_in_pieces_must_lack_a_socket_twice() -> None:
    pieces = [row(ESTABLISHED, port=1), row(ESTABLISHED, port=2)]
    assert told(
        Rows(pieces, atomic=False),
        Rows(pieces[:1], atomic=False),
        Rows(pieces, atomic=False),
        Rows(pieces[:1], atomic=False),
        Rows(pieces[:1], atomic=False),
        Rows(pieces[:1], atomic=False),
    ) == [["1 ESTABLISHED", "2 ESTABLISHED"], [], [], [], ["2 None"], []]


def test_a_socket_lacking_from_a_sample_in_pieces_is_gone_where_it_has_a_successor() -> None:
    assert told(
        Rows([row(TIME_WAIT, cookie=1)], atomic=False),
        Rows([row(ESTABLISHED, cookie=2)], atomic=False),
    ) == [["4000 TIME-WAIT"], ["4000 None", "4000 ESTABLISHED"]]


def test_an_incomplete_sample_is_a_gap_and_ends_no_socket() -> None:
    one = Rows([row(ESTABLISHED)])
    assert told(one, Rows([], problem="interrupted"), Rows([], problem="interrupted"), one) == [
        ["4000 ESTABLISHED"],
        ["gap: interrupted"],
        ["gap: interrupted"],
        [],
    ]


def test_what_does_not_matter_is_left_out() -> None:
    both = Rows([row(ESTABLISHED, port=1), row(ESTABLISHED, port=2)])
    assert told(both, Rows([]), ports=range(2)) == [["1 ESTABLISHED"], ["1 None"]]


def test_an_observation_says_from_when_on_it_could_have_been_missed() -> None:
    polls = observed(Rows([row(ESTABLISHED)]), Rows([]), Rows([row(ESTABLISHED)]))
    (first,), (second,), (third,) = polls
    times = []
    for observation in (first, second, third):
        assert isinstance(observation.payload, SocketSampled)
        times.append((observation.payload.since_ns, observation.t_ns))
    assert all(since_ns < t_ns for since_ns, t_ns in times)
    assert times[1][0] < times[0][1] < times[1][1]  # the first poll began before it ended
    assert times[0][1] < times[2][0] < times[1][1]


def test_the_watermark_stands_still_from_the_beginning_of_a_poll_until_all_is_taken() -> None:
    during: list[int] = []

    def sampler() -> Rows:
        during.append(source.watermark())
        during.append(source.watermark())
        return Rows([row(ESTABLISHED, port=1), row(ESTABLISHED, port=2)])

    source = TableSource([(None, sampler)], 0, lambda _local, _remote: True)
    stream = source.observations()
    taken = next(stream)
    assert during[0] == during[1] == source.watermark() < taken.t_ns
    next(stream)
    assert source.watermark() == during[0]
    source.close()
    assert source.watermark() == during[0]
    assert list(stream) == []
    assert source.watermark() > taken.t_ns


def test_each_side_has_a_table_of_its_own() -> None:
    tables = [
        (side, lambda port=port: Rows([row(ESTABLISHED, port=port)]))
        for side, port in (("client", 1), ("server", 2))
    ]
    source = TableSource(tables, 0, lambda _local, _remote: True)
    stream = source.observations()
    seen = [next(stream), next(stream)]
    source.close()
    assert [(o.vantage.side, text(o)) for o in seen] == [
        ("client", "1 ESTABLISHED"),
        ("server", "2 ESTABLISHED"),
    ]


def test_a_sampler_that_fails_is_heard_of_and_its_resources_are_still_closed() -> None:
    def sampler() -> Rows:
        raise TcpwatchError("the namespace is gone")

    left, right = socket.socketpair()
    with right:
        source = TableSource([(None, sampler)], 0, lambda _local, _remote: True, resources=[left])
        with pytest.raises(TcpwatchError, match="gone"):
            next(source.observations())
        source.close()
        assert left.fileno() == -1
