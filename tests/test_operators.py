"""What operators meet: what a scenario's own EXPECT cannot say of its run."""

from __future__ import annotations

from typing import Any

import pytest

from tcpwatch.model.events import SocketSampled
from tcpwatch.tcp.state import TcpState
from tests.played import played

pytestmark = [pytest.mark.needs("lab", "kernel", "table"), pytest.mark.timeout(300)]

CONTRASTS: dict[str, dict[str, list[object]]] = {
    "accept-queue-overflow": {
        "the client's state": ["ESTABLISHED", "CLOSED"],
        "the server's state": ["SYN-RECEIVED", "CLOSED"],
    },
    "close-wait-leak": {"Recv-Q in CLOSE-WAIT": [4, 0]},
    "never-accepted": {
        "state": ["CLOSE-WAIT", "CLOSE-WAIT"],
        "held by a process": ["no", "yes"],
        "Recv-Q of the listener": [1, 0],
    },
    "defer-accept": {"the server's state": ["SYN-RECEIVED", "ESTABLISHED"]},
    "fast-open": {
        "round trips before the request": [1, 0],
        "state in which it is accepted": ["ESTABLISHED", "SYN-RECEIVED"],
    },
    "reuseport-reload": {"TCPMigrateReqSuccess": [0, 1]},
    "syn-cookies": {
        "request sockets after the SYN": [1, 0],
        "window scaling": ["agreed", "lost"],
        "SACK": ["agreed", "lost"],
    },
    "time-wait-bucket-overflow": {"answer to the FIN sent again": ["ACK", "RST"]},
}


def document(name: str) -> dict[str, Any]:
    return played()[name].document


@pytest.mark.parametrize("name", CONTRASTS)
def test_right_and_wrong_are_told_side_by_side(name: str) -> None:
    told: dict[str, dict[str, object]] = {}
    for one in document(name)["measurements"]:
        told.setdefault(one["what"], {})[one["case"]] = one["value"]
    found = {what: list(told[what].values()) for what in CONTRASTS[name]}
    assert found == CONTRASTS[name]
    cases = {tuple(told[what]) for what in CONTRASTS[name]}
    assert len(cases) == 1  # one column a case, the same for all


def test_both_families_tables_show_one_connection() -> None:
    (connection,) = document("dual-stack")["connections"]
    ends = {end["role"]: end for end in connection["endpoints"]}
    assert ends.keys() == {"client", "server"}
    assert not any(":" in end["address"] for end in ends.values())
    for end in ends.values():
        (opened,) = (move for move in end["transitions"] if move["to"] == "ESTABLISHED")
        assert "table" in opened["witnesses"]


def test_a_connect_without_a_port_is_told_and_is_no_connection() -> None:
    run = document("port-exhaustion")
    failed = [call["call"] for call in run["calls"] if call["errno"] == "EADDRNOTAVAIL"]
    assert failed == ["connect"]
    assert len(run["connections"]) == 6


def test_where_no_room_is_left_in_time_wait_the_path_has_none() -> None:
    paths = [
        end["path"][-2:]
        for connection in document("time-wait-bucket-overflow")["connections"]
        for end in connection["endpoints"]
        if end["role"] == "client"
    ]
    assert paths == [["FIN-WAIT-2", "TIME-WAIT"], ["FIN-WAIT-2", "CLOSED"]]


def test_the_administrators_call_is_the_cause_of_the_end() -> None:
    (connection,) = document("socket-destroyed")["connections"]
    ends = {end["role"]: end["transitions"][-1] for end in connection["endpoints"]}
    assert {role: move["cause"] for role, move in ends.items()} == {
        "client": "RST received",
        "server": "destroy()",
    }


def test_the_table_witness_too_sees_the_orphan_on_its_persist_timer() -> None:
    played_events = played()["zero-window-close"].recording.events
    timers = {
        event.payload.timer
        for event in played_events
        if isinstance(event.payload, SocketSampled)
        and (event.vantage.side, event.payload.inode) == ("client", 0)
        and event.payload.state is TcpState.FIN_WAIT_1
    }
    assert 4 in timers  # zero window probes; once the window opens it is 1, retransmission
