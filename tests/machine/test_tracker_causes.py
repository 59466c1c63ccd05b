"""Which call, segment, signal or timer a transition is put down to."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tcpwatch.model.events import (
    CALLS,
    KERNEL,
    WIRE,
    CallPhase,
    ProcessChange,
    ProcessChanged,
    UserCall,
)
from tcpwatch.model.identity import SocketAddress
from tests.machine.bench import (
    ESTABLISHED,
    UNBOUND,
    Bench,
    S,
    call,
)

if TYPE_CHECKING:
    pass


def test_the_call_behind_a_transition_is_its_cause() -> None:
    bench = Bench(WIRE)
    bench.feed(call("connect", local=UNBOUND), CALLS, "client")
    bench.handshake()
    bench.feed(call("shutdown", "SHUT_WR"), CALLS, "client")
    bench.wire("client", "FA 1:1(0) ack 1")

    assert bench.causes("client") == ["connect()", "SYN,ACK received", "shutdown(SHUT_WR)"]
    assert bench.causes("server")[-1] == "FIN received"


def test_a_call_on_another_connection_is_not_its_cause() -> None:
    bench = Bench(WIRE)
    bench.handshake()
    bench.feed(call("close", local=SocketAddress("10.77.0.1", 40001)), CALLS, "client")
    bench.wire("client", "FA 1:1(0) ack 1")

    assert bench.causes("client")[-1] == "CLOSE"


def test_the_signal_that_ended_its_process_is_the_cause_of_a_fin() -> None:
    bench = Bench(WIRE)
    bench.handshake()
    killed = ProcessChanged(7, "server", ProcessChange.SIGNALLED, signal="SIGKILL")
    bench.feed(killed, CALLS, "server")
    bench.wire("server", "FA 1:1(0) ack 1")

    assert bench.causes("server")[-1] == "SIGKILL"


def returned(name: str) -> UserCall:
    return replace(call(name), phase=CallPhase.RETURNED)


def test_the_call_in_whose_time_the_kernel_reports_is_the_cause() -> None:
    bench = Bench(KERNEL, WIRE)
    bench.wire("client", "S 0:0(0)", delivered=False)
    bench.feed(call("close"), CALLS, "client")
    bench.kernel("client", S.CLOSED, S.SYN_SENT, S.CLOSED)
    bench.feed(returned("close"), CALLS, "client")

    assert bench.causes("client") == ["active OPEN", "close()"]


def test_a_call_that_had_come_back_is_not_the_cause() -> None:
    bench = Bench(KERNEL, WIRE)
    bench.handshake()
    bench.feed(call("close"), CALLS, "client")  # another process holds the socket too
    bench.feed(returned("close"), CALLS, "client")
    bench.kernel("client", *ESTABLISHED, S.CLOSED)

    assert bench.causes("client")[-1] == "timeout"


@pytest.mark.parametrize("told, cause", [(True, "timeout"), (False, "")])
def test_who_does_not_know_the_calls_does_not_know_why_syn_sent_ended(
    *, told: bool, cause: str
) -> None:
    bench = Bench(KERNEL, WIRE)
    if told:
        bench.feed(call("connect", local=UNBOUND), CALLS, "client")
    bench.wire("client", "S 0:0(0)", delivered=False)
    bench.kernel("client", S.CLOSED, S.SYN_SENT, S.CLOSED)

    assert bench.causes("client")[-1] == cause


def test_what_moved_a_connection_once_is_no_cause_again() -> None:
    """Data for an orphan is answered by a RST: neither close() nor the process's end did that."""
    bench = Bench(WIRE)
    bench.handshake()
    bench.feed(call("close"), CALLS, "client")
    bench.wire("client", "FA 1:1(0) ack 1")
    bench.wire("server", "A 1:1(0) ack 2")
    bench.wire("server", "PA 1:5(4) ack 2")
    bench.wire("client", "R 2:2(0)")

    assert bench.causes("client")[-3:] == ["close()", "ACK of FIN received", "ABORT"]


def test_the_reset_of_a_socket_that_is_still_held_is_a_timers() -> None:
    """As when keepalive finds nobody."""
    bench = Bench(WIRE)
    bench.feed(call("connect", local=UNBOUND), CALLS, "client")
    bench.handshake()
    bench.wire("client", "RA 1:1(0) ack 1")

    assert bench.causes("client")[-1] == "timeout"


def test_shutdown_of_the_other_direction_sends_no_fin() -> None:
    bench = Bench(WIRE)
    bench.handshake()
    bench.feed(call("shutdown", "SHUT_RD"), CALLS, "client")
    bench.wire("client", "FA 1:1(0) ack 1")

    assert bench.causes("client")[-1] == "CLOSE"
