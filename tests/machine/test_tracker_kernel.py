"""From the kernel's reports to a path, and the five meanings of its CLOSE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcpwatch.model.events import (
    KERNEL,
    TABLE,
    WIRE,
)
from tests.machine.bench import (
    ACCEPTED,
    ACTIVE_CLOSE,
    ESTABLISHED,
    MS,
    Bench,
    S,
)

if TYPE_CHECKING:
    pass


# ------------------------------------------------------------------ the kernel alone


def test_an_unbound_connect_is_joined_by_its_socket() -> None:
    bench = Bench(KERNEL)
    bench.kernel("client", *ESTABLISHED)

    assert bench.path("client") == "CLOSED > SYN-SENT > ESTABLISHED"
    assert [each.t_ns for each in bench.end("client").transitions] == [1 * MS, 2 * MS]
    assert len(bench.timeline.connections) == 1


def test_both_ends_reports_make_one_connection() -> None:
    bench = Bench(KERNEL)
    bench.kernel("client", *ESTABLISHED)
    bench.kernel("server", *ACCEPTED)

    assert len(bench.timeline.connections) == 1
    assert bench.path("server") == "LISTEN > SYN-RECEIVED > ESTABLISHED"


def test_a_self_transition_is_no_part_of_a_path() -> None:
    bench = Bench(KERNEL)
    bench.kernel("client", *ESTABLISHED, S.FIN_WAIT_1, S.FIN_WAIT_1, S.FIN_WAIT_2)

    assert bench.path("client").endswith("ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2")


def test_alone_the_kernel_leaves_open_what_close_after_fin_wait_2_means() -> None:
    bench = Bench(KERNEL)
    bench.kernel("client", *ACTIVE_CLOSE, S.CLOSED)

    assert bench.path("client").endswith("FIN-WAIT-2 > FIN-WAIT-2 or TIME-WAIT or CLOSED")


def test_a_socket_address_used_again_is_another_connection() -> None:
    bench = Bench(KERNEL)
    for _ in range(2):
        bench.kernel("client", *ESTABLISHED, S.CLOSED)

    first, second = bench.timeline.connections
    assert (first.id.generation, second.id.generation) == (0, 1)
    assert bench.path("client", 1) == bench.path("client", 2)


# ------------------------------------------------------------------ the five meanings of CLOSE


def closed_in_fin_wait_2(*attending: str) -> Bench:
    """Up to the kernel's last word on the client."""
    bench = Bench(KERNEL, *attending)
    for state in ACTIVE_CLOSE[1:]:
        if TABLE in attending:
            bench.table("client", state)
    if WIRE in attending:
        bench.handshake()
        bench.wire("client", "FA 1:1(0) ack 1")
        bench.wire("server", "A 1:1(0) ack 2")
    bench.kernel("client", *ACTIVE_CLOSE, S.CLOSED)
    return bench


def test_a_fin_settles_that_it_was_time_wait() -> None:
    bench = closed_in_fin_wait_2(WIRE)
    bench.wire("server", "FA 1:1(0) ack 2")

    assert bench.path("client").endswith("FIN-WAIT-2 > TIME-WAIT")
    assert bench.end("client").transitions[-1].hidden_from == ((KERNEL, "cannot see TIME-WAIT"),)
    assert bench.findings("client") == []


def test_the_table_settles_that_it_was_time_wait() -> None:
    bench = closed_in_fin_wait_2(TABLE)
    bench.table("client", S.TIME_WAIT)

    assert bench.path("client").endswith("FIN-WAIT-2 > TIME-WAIT")


def test_a_table_that_still_shows_it_settles_that_it_was_an_orphan() -> None:
    bench = closed_in_fin_wait_2(TABLE)

    assert bench.path("client").endswith("FIN-WAIT-1 > FIN-WAIT-2")


def test_an_orphan_that_goes_from_the_table_timed_out() -> None:
    bench = closed_in_fin_wait_2(TABLE, WIRE)
    bench.table("client", None)

    assert bench.path("client").endswith("FIN-WAIT-2 > CLOSED")
    assert bench.causes("client")[-1] == "timeout"


def test_a_reset_settles_that_it_was_gone() -> None:
    bench = closed_in_fin_wait_2(WIRE)
    bench.wire("client", "R 2:2(0)")

    assert bench.path("client").endswith("FIN-WAIT-2 > CLOSED")


def test_after_closing_the_kernels_close_is_time_wait_where_the_wire_says_so() -> None:
    bench = Bench(KERNEL, WIRE)
    bench.handshake()
    bench.wire("client", "FA 1:1(0) ack 1", delivered=False)
    bench.wire("server", "FA 1:1(0) ack 1")
    bench.kernel("client", *ESTABLISHED, S.FIN_WAIT_1, S.CLOSING, S.CLOSED)
    bench.wire("server", "A 2:2(0) ack 2")

    assert bench.path("client").endswith("CLOSING > TIME-WAIT")
    assert bench.findings("client") == []
