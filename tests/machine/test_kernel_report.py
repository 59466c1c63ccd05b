"""The kernel's reports, joined to their sockets and translated."""

from __future__ import annotations

import pytest

from tcpwatch.machine.kernel_report import KernelReports, Report
from tcpwatch.model.events import KERNEL, Event, StateReported, Vantage
from tcpwatch.model.identity import FourTuple, SocketAddress
from tcpwatch.tcp.state import TcpState

S = TcpState
CLIENT, SERVER = SocketAddress("10.77.0.1", 40000), SocketAddress("10.77.0.2", 7000)
UNBOUND, NOBODY = SocketAddress("10.77.0.1", 0), SocketAddress("::", 0)
SOCKET, OTHER = 0xFFFF0001, 0xFFFF0002


def reports(
    *said: tuple[TcpState, TcpState],
    local: SocketAddress = CLIENT,
    remote: SocketAddress = SERVER,
    skaddr: int = SOCKET,
    of: KernelReports | None = None,
) -> list[Report]:
    """What becomes of these reports of one socket, a nanosecond apart."""
    kernel = of or KernelReports()
    return [
        report
        for number, (before, after) in enumerate(said, 1)
        for report in kernel.read(
            Event(
                number,
                number,
                Vantage(KERNEL),
                StateReported(skaddr, local, remote, before, after, pid=1),
            ),
            StateReported(skaddr, local, remote, before, after, pid=1),
        )
    ]


def test_a_report_is_joined_to_its_addresses() -> None:
    (report,) = reports((S.CLOSED, S.SYN_SENT))

    assert report == Report(
        FourTuple(CLIENT, SERVER), S.CLOSED, frozenset({S.SYN_SENT}), 1, 1, opens=True
    )


def test_a_report_without_a_port_waits_for_the_one_that_has_it() -> None:
    kernel = KernelReports()
    first = reports((S.CLOSED, S.SYN_SENT), local=UNBOUND, of=kernel)
    both = reports((S.SYN_SENT, S.ESTABLISHED), of=kernel)

    assert first == []
    assert [(report.before, report.opens) for report in both] == [
        (S.CLOSED, True),
        (S.SYN_SENT, False),
    ]
    assert {report.four_tuple for report in both} == {FourTuple(CLIENT, SERVER)}


def test_a_socket_that_connects_again_still_has_its_old_port_at_first() -> None:
    kernel = KernelReports()
    anew = SocketAddress("10.77.0.1", 40001)
    reports((S.CLOSED, S.SYN_SENT), (S.SYN_SENT, S.CLOSED), of=kernel)
    first = reports((S.CLOSED, S.SYN_SENT), of=kernel)
    both = reports((S.SYN_SENT, S.ESTABLISHED), local=anew, of=kernel)

    assert first == []
    assert [report.four_tuple for report in both] == [FourTuple(anew, SERVER)] * 2


def test_sockets_that_wait_for_their_ports_are_told_apart() -> None:
    kernel = KernelReports()
    reports((S.CLOSED, S.SYN_SENT), local=UNBOUND, of=kernel)
    reports((S.CLOSED, S.SYN_SENT), local=UNBOUND, skaddr=OTHER, of=kernel)
    joined = reports((S.SYN_SENT, S.ESTABLISHED), skaddr=OTHER, of=kernel)

    assert len(joined) == 2


def test_a_connect_that_fails_before_it_has_a_port_leaves_nothing_behind() -> None:
    kernel = KernelReports()
    failed = reports((S.CLOSED, S.SYN_SENT), (S.SYN_SENT, S.CLOSED), local=UNBOUND, of=kernel)
    next_one = reports((S.CLOSED, S.SYN_SENT), of=kernel)

    assert failed == []
    assert len(next_one) == 1


def test_a_self_transition_is_no_move() -> None:
    assert reports((S.FIN_WAIT_1, S.FIN_WAIT_1)) == []


@pytest.mark.parametrize("said", [(S.CLOSED, S.LISTEN), (S.LISTEN, S.CLOSED)])
def test_a_listener_is_no_connection(said: tuple[TcpState, TcpState]) -> None:
    assert reports(said, local=SERVER, remote=NOBODY) == []


@pytest.mark.parametrize(
    "before, meanings",
    [
        (S.FIN_WAIT_2, {S.TIME_WAIT, S.FIN_WAIT_2, S.CLOSED}),
        (S.CLOSING, {S.TIME_WAIT, S.CLOSED}),
        (S.LAST_ACK, {S.CLOSED}),
        (S.ESTABLISHED, {S.CLOSED}),
        (S.SYN_SENT, {S.CLOSED}),
        (S.CLOSE_WAIT, {S.CLOSED}),
    ],
)
def test_close_means_what_the_state_before_leaves_open(
    before: TcpState, meanings: set[TcpState]
) -> None:
    (report,) = reports((before, S.CLOSED))

    assert report.after == meanings


def test_a_socket_opens_once_until_it_is_closed() -> None:
    """The kernel uses its address again."""
    life = ((S.CLOSED, S.SYN_SENT), (S.SYN_SENT, S.ESTABLISHED), (S.ESTABLISHED, S.CLOSED))

    opens = [report.opens for report in reports(*life, *life)]
    assert opens == [True, False, False, True, False, False]


def test_a_socket_whose_end_was_lost_opens_again_at_closed() -> None:
    found = reports((S.CLOSED, S.SYN_SENT), (S.SYN_SENT, S.ESTABLISHED), (S.CLOSED, S.SYN_SENT))

    assert [report.opens for report in found] == [True, False, True]


def test_in_a_lab_a_socket_whose_birth_was_not_seen_is_an_earlier_labs() -> None:
    orphan = reports((S.LAST_ACK, S.CLOSED), of=KernelReports(newborn_only=True))
    child = reports(
        (S.LISTEN, S.SYN_RECEIVED),
        (S.SYN_RECEIVED, S.ESTABLISHED),
        of=KernelReports(newborn_only=True),
    )

    assert orphan == []
    assert [report.after for report in child] == [
        frozenset({S.SYN_RECEIVED}),
        frozenset({S.ESTABLISHED}),
    ]
