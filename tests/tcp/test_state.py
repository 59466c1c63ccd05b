"""Every spelling of a state that other tools print."""

from __future__ import annotations

from importlib import import_module

import pytest

from tcpwatch.tcp.state import TcpState

# include/net/tcp_states.h; the tracepoint prints them with TCP_, /proc and Wireshark without.
LINUX = {
    1: "ESTABLISHED",
    2: "SYN_SENT",
    3: "SYN_RECV",
    4: "FIN_WAIT1",
    5: "FIN_WAIT2",
    6: "TIME_WAIT",
    7: "CLOSE",
    8: "CLOSE_WAIT",
    9: "LAST_ACK",
    10: "LISTEN",
    11: "CLOSING",
    12: "NEW_SYN_RECV",
}
psutil = import_module("psutil")  # has no types of its own
OTHERS = [
    # ss, as it prints and as its filters are written
    ("ESTAB", TcpState.ESTABLISHED),
    ("SYN-RECV", TcpState.SYN_RECEIVED),
    ("FIN-WAIT-1", TcpState.FIN_WAIT_1),
    ("FIN-WAIT-2", TcpState.FIN_WAIT_2),
    ("TIME-WAIT", TcpState.TIME_WAIT),
    ("UNCONN", TcpState.CLOSED),
    ("unconnected", TcpState.CLOSED),
    ("closed", TcpState.CLOSED),
    ("listening", TcpState.LISTEN),
    # Wireshark's dissector of sock_diag, in its own spelling
    ("NEW_SYNC_RECV", TcpState.SYN_RECEIVED),
    # BSD and macOS netstat
    ("SYN_RCVD", TcpState.SYN_RECEIVED),
    ("FIN_WAIT_1", TcpState.FIN_WAIT_1),
    ("FIN_WAIT_2", TcpState.FIN_WAIT_2),
    # Windows netstat
    ("SYN_RECEIVED", TcpState.SYN_RECEIVED),
    ("LISTENING", TcpState.LISTEN),
    # without separators
    ("FinWait1", TcpState.FIN_WAIT_1),
    ("TimeWait", TcpState.TIME_WAIT),
    ("  syn-sent \n", TcpState.SYN_SENT),
]


def test_there_are_eleven_states_and_each_displays_as_the_rfc_spells_it() -> None:
    assert [str(state) for state in TcpState] == [
        "LISTEN",
        "SYN-SENT",
        "SYN-RECEIVED",
        "ESTABLISHED",
        "FIN-WAIT-1",
        "FIN-WAIT-2",
        "CLOSE-WAIT",
        "CLOSING",
        "LAST-ACK",
        "TIME-WAIT",
        "CLOSED",
    ]


@pytest.mark.parametrize("state", TcpState)
@pytest.mark.parametrize("spell", [str.upper, str.lower, str.title])
@pytest.mark.parametrize("separator", ["-", "_"])
def test_a_state_is_parsed_in_any_case_and_with_either_separator(
    state: TcpState, spell: type[str], separator: str
) -> None:
    assert TcpState.parse(spell(state.value.replace("-", separator))) is state


@pytest.mark.parametrize("number", LINUX)
def test_the_kernels_number_and_both_of_its_names_are_the_same_state(number: int) -> None:
    name = LINUX[number]

    assert TcpState.parse(name) is TcpState.parse(f"TCP_{name}") is TcpState.from_linux(number)


def test_every_state_has_a_number_in_the_kernel() -> None:
    assert {TcpState.from_linux(number) for number in LINUX} == set(TcpState)


@pytest.mark.parametrize(
    "name", [n for n in dir(psutil) if n.startswith("CONN_") and n != "CONN_NONE"]
)
def test_what_psutil_prints_is_parsed(name: str) -> None:
    expected = name.removeprefix("CONN_").replace("SYN_RECV", "SYN_RECEIVED")
    expected = expected.replace("WAIT1", "WAIT_1").replace("WAIT2", "WAIT_2")
    expected = "CLOSED" if expected == "CLOSE" else expected

    assert TcpState.parse(getattr(psutil, name)) is TcpState[expected]


@pytest.mark.parametrize("text, state", OTHERS)
def test_what_other_tools_print_is_parsed(text: str, state: TcpState) -> None:
    assert TcpState.parse(text) is state


def test_a_name_that_is_nearly_right_is_answered_with_the_right_one() -> None:
    with pytest.raises(ValueError, match="'FIN-WAIT-3' is not a TCP state; did you mean FIN-WAIT"):
        TcpState.parse("FIN-WAIT-3")


@pytest.mark.parametrize("text", ["", "NONE", "17"])
def test_what_names_no_state_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a TCP state"):
        TcpState.parse(text)


@pytest.mark.parametrize("number", [-1, 0, 13])
def test_a_number_that_is_no_state_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match="is not a Linux TCP state"):
        TcpState.from_linux(number)
