"""Whose the kernel's reports are, where several networks have the same addresses and ports."""

from __future__ import annotations

import time
from collections import defaultdict
from itertools import pairwise

import pytest

from tcpwatch.model.events import (
    KERNEL,
    TABLE,
    WIRE,
    Point,
    SegmentSeen,
    SocketSampled,
    StateReported,
    Vantage,
)
from tcpwatch.model.identity import FourTuple, SocketAddress
from tcpwatch.model.witness import Observation
from tcpwatch.observing.whose import Passed, lives, newer, ours, stood
from tcpwatch.sources import packetring
from tcpwatch.tcp.notation import parse_segment
from tcpwatch.tcp.state import TcpState as S

US = 1_000
CLIENT, SERVER = SocketAddress("127.0.0.1", 40000), SocketAddress("127.0.0.1", 8080)
UNBOUND = SocketAddress("127.0.0.1", 0)
CALLER = (S.CLOSED, S.SYN_SENT, S.ESTABLISHED, S.CLOSE_WAIT, S.LAST_ACK, S.CLOSED)
CALLED = (S.LISTEN, S.SYN_RECEIVED, S.ESTABLISHED, S.FIN_WAIT_1, S.FIN_WAIT_2, S.CLOSED)
SEGMENTS = [
    (True, "S 0:0(0)", 10),
    (False, "SA 0:0(0) ack 1", 12),
    (True, "A 1:1(0) ack 1", 15),
    (False, "FA 1:1(0) ack 1", 60),
    (True, "FA 1:1(0) ack 2", 90),
    (False, "A 2:2(0) ack 2", 95),
]


def segments(*, also: tuple[int, ...] = (), number: int = 0) -> list[Observation]:
    """What passes: ``also`` are the microseconds at which the SYN passes again."""
    told = [*SEGMENTS, *((True, "S 0:0(0)", at_us) for at_us in also)]
    seen = []
    for n, (calls, text, at_us) in enumerate(sorted(told, key=lambda each: each[2]), 1):
        ends = (CLIENT, SERVER) if calls else (SERVER, CLIENT)
        segment = parse_segment(text.replace("S 0:0", f"S {number}:{number}"))
        payload = SegmentSeen(n, Point.SENT, *ends, segment)
        seen.append(Observation(at_us * US, Vantage(WIRE), payload))
    return seen


def reports(skaddr: int, states: tuple[S, ...], *times_us: int) -> list[Observation]:
    """A socket's whole life."""
    seen = []
    for (before, after), at_us in zip(pairwise(states), times_us, strict=True):
        ends = (CLIENT, SERVER) if states is CALLER else (SERVER, CLIENT)
        if after is S.SYN_SENT:
            ends = (UNBOUND, SERVER)
        said = StateReported(skaddr, *ends, before, after, 1)
        seen.append(Observation(at_us * US, Vantage(KERNEL), said))
    return seen


def chosen(passing: list[Observation], *reported: list[Observation]) -> set[int]:
    """The sockets that are taken for ours."""
    passed: dict[FourTuple, Passed] = defaultdict(Passed)
    assert list(newer(passing, (), passed)) == passing
    return _chosen(passed, *reported)


def _chosen(passed: dict[FourTuple, Passed], *reported: list[Observation]) -> set[int]:
    together = sorted((seen for each in reported for seen in each), key=lambda seen: seen.t_ns)
    found = ours(lives(together), passed)
    return {seen.payload.skaddr for seen in found if isinstance(seen.payload, StateReported)}


OURS = (reports(1, CALLER, 8, 13, 61, 89, 97), reports(2, CALLED, 16, 17, 59, 91, 93))


@pytest.mark.parametrize("shift_us", [-33, -20, -1, 1, 20, 40])
def test_of_two_networks_at_the_same_moment_ours_stands_by_the_segments(shift_us: int) -> None:
    caller = [at_us + shift_us for at_us in (8, 13, 30, 60, 70)]
    called = [at_us + shift_us for at_us in (16, 17, 40, 62, 64)]
    theirs = (reports(3, CALLER, *caller), reports(4, CALLED, *called))
    assert chosen(segments(), *OURS, *theirs) == {1, 2}


def test_a_foreign_life_that_was_over_before_ours_was_called_is_not_ours() -> None:
    theirs = (reports(3, CALLER, 2, 3, 5, 6, 7), reports(4, CALLED, 4, 4, 5, 6, 7))
    assert chosen(segments(), *OURS, *theirs) == {1, 2}


def test_who_was_preempted_before_it_could_send_is_ours_all_the_same() -> None:
    preempted = reports(1, CALLER, -4000, 13, 61, 89, 97)
    theirs = (reports(3, CALLER, -60, -50, -20, 15, 18), reports(4, CALLED, -49, -48, -22, 16, 17))
    assert chosen(segments(), preempted, OURS[1], *theirs) == {1, 2}


def test_a_syn_that_is_sent_again_begins_no_other_life() -> None:
    theirs = (reports(4, CALLED, 4, 5, 6, 7, 8),)
    assert chosen(segments(also=(2,)), *OURS, *theirs) == {1, 2}


def test_each_of_a_tuples_lives_is_found() -> None:
    later = [
        Observation(seen.t_ns + 500 * US, seen.vantage, seen.payload)
        for seen in segments(number=7000)
    ]
    again = (
        reports(5, CALLER, 508, 513, 561, 589, 597),
        reports(6, CALLED, 516, 517, 559, 591, 593),
    )
    assert chosen([*segments(), *later], *OURS, *again) == {1, 2, 5, 6}


def test_where_no_segment_is_seen_who_stands_in_the_table_is_ours_and_so_is_its_peer() -> None:
    passed: dict[FourTuple, Passed] = defaultdict(Passed)
    sample = SocketSampled(SERVER, CLIENT, S.TIME_WAIT, 0)
    stood([Observation(100 * US, Vantage(TABLE), sample)], passed)
    assert _chosen(passed, *OURS) == {1, 2}


def test_who_is_preempted_between_two_clocks_is_not_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_ns, offset_ns = 0, 10**18
    durations = iter([50, 90_000, 70, 90_000, 60] + [100] * 100)

    def passing() -> int:
        nonlocal now_ns
        now_ns += next(durations)
        return now_ns

    monkeypatch.setattr(time, "monotonic_ns", passing)
    monkeypatch.setattr(time, "time_ns", lambda: passing() + offset_ns)
    assert abs(packetring.clock_offset_ns() - offset_ns) < 100
