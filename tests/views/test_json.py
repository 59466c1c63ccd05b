"""The document of --json, field by field: the contract with scripts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tcpwatch.model.events import ProcessChange
from tcpwatch.views.json import dump, run_document, runs

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.views.telling import Story

    Stories = dict[str, Callable[[], Story]]
OPTIONAL_TEXT = (str, type(None))
OPTIONAL_INT = (int, type(None))
CONTRACT: dict[str, dict[str, Any]] = {
    "run": {
        "schema": str,
        "scenario": str,
        "verdict": str,
        "reasons": list,
        "lab": dict,
        "sources": list,
        "connections": list,
        "calls": list,
        "processes": list,
        "measurements": list,
        "findings": list,
        "expectations": list,
    },
    "lab": {"kind": str, "privilege": str, "kernel": str, "ip": int, "latency_ms": int},
    "source": {"name": str, "available": bool, "detail": str, "lost": int},
    "connection": {
        "id": int,
        "complete": bool,
        "closed_by": OPTIONAL_TEXT,
        "close_reason": OPTIONAL_TEXT,
        "endpoints": list,
        "segments": list,
    },
    "endpoint": {"role": str, "address": str, "port": int, "path": list, "transitions": list},
    "transition": {
        "t_ns": int,
        "from": (str, list),
        "to": (str, list),
        "cause": str,
        "basis": str,
        "witnesses": list,
        "segment": OPTIONAL_INT,
    },
    "segment": {
        "n": int,
        "from": str,
        "sent_ns": OPTIONAL_INT,
        "delivered_ns": OPTIONAL_INT,
        "fate": str,
        "flags": str,
        "seq": int,
        "ack": OPTIONAL_INT,
        "payload_len": int,
    },
    "call": {
        "t_ns": int,
        "role": OPTIONAL_TEXT,
        "pid": int,
        "call": str,
        "result": (int, str, type(None)),
        "errno": OPTIONAL_TEXT,
    },
    "process": {
        "pid": int,
        "process": str,
        "role": OPTIONAL_TEXT,
        "parent": OPTIONAL_TEXT,
        "started_ns": int,
        "exited_ns": OPTIONAL_INT,
        "exit_status": OPTIONAL_INT,
        "signal": OPTIONAL_TEXT,
        "reaped_ns": OPTIONAL_INT,
        "zombie": bool,
    },
    "measurement": {"t_ns": int, "what": str, "value": (int, str), "case": str},
    "expectation": {"endpoint": str, "pattern": str, "met": (bool, type(None))},
}


def fits(kind: str, value: Any) -> None:
    for field, types in CONTRACT[kind].items():
        assert field in value, (kind, field)
        assert isinstance(value[field], types), (kind, field, value[field])


def read(story: Story) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(dump(run_document(story.judged())))
    return document


def test_every_field_of_the_contract_is_there(story: Story) -> None:
    run = read(story)
    fits("run", run)
    fits("lab", run["lab"])
    for source in run["sources"]:
        fits("source", source)
    for connection in run["connections"]:
        fits("connection", connection)
        for endpoint in connection["endpoints"]:
            fits("endpoint", endpoint)
            for transition in endpoint["transitions"]:
                fits("transition", transition)
        for segment in connection["segments"]:
            fits("segment", segment)
    for call in run["calls"]:
        fits("call", call)
    for process in run["processes"]:
        fits("process", process)
    for measurement in run["measurements"]:
        fits("measurement", measurement)
    for expectation in run["expectations"]:
        fits("expectation", expectation)


def test_the_same_run_gives_the_same_bytes(story: Story) -> None:
    judged = story.judged()
    assert dump(run_document(judged)) == dump(run_document(judged))


def test_a_simultaneous_close_reads_as_the_contract_says(stories: Stories) -> None:
    run = read(stories["simultaneous-close"]())
    connection = run["connections"][0]
    client = connection["endpoints"][0]
    assert run["schema"] == "tcpwatch/1"
    assert run["verdict"] == "pass"
    assert (connection["closed_by"], connection["close_reason"]) == ("both", "fin")
    assert connection["complete"] is True
    assert (client["role"], client["address"], client["port"]) == ("client", "10.77.0.1", 40000)
    assert client["path"] == [
        "CLOSED",
        "SYN-SENT",
        "ESTABLISHED",
        "FIN-WAIT-1",
        "CLOSING",
        "TIME-WAIT",
    ]
    first = client["transitions"][0]
    assert (first["from"], first["to"], first["cause"]) == ("CLOSED", "SYN-SENT", "connect()")
    assert first["witnesses"] == ["kernel", "table", "wire"]
    assert (first["basis"], first["segment"]) == ("reported", 1)


def test_what_is_not_certain_is_a_list(stories: Stories) -> None:
    path = read(stories["odd-wire"]())["connections"][0]["endpoints"][0]["path"]
    assert path[-1] == ["FIN-WAIT-1", "FIN-WAIT-2", "CLOSED"]


def test_a_call_and_its_return_are_one_entry(stories: Stories) -> None:
    calls = read(stories["normal-close"]())["calls"]
    received = [call for call in calls if call["call"] == "recv"]
    assert [call["result"] for call in received] == [4, 4, 0]
    assert received[0]["t_ns"] == 65_000_000
    assert received[0]["returned_ns"] == 84_700_000
    assert [call["t_ns"] for call in calls] == sorted(call["t_ns"] for call in calls)


def test_processes_are_told_in_the_order_in_which_they_began(stories: Stories) -> None:
    server, client, first, second = read(stories["fork-server"]())["processes"]
    assert (server["role"], server["parent"], server["started_ns"]) == ("server", None, 0)
    assert (server["exited_ns"], server["reaped_ns"], server["zombie"]) == (None, None, False)
    assert (client["process"], client["exit_status"]) == ("client", 0)
    assert (first["process"], first["parent"]) == ("child 1", "server")
    assert (first["exited_ns"], first["exit_status"]) == (112_000_000, 3)
    assert (first["reaped_ns"], first["zombie"]) == (120_200_000, False)
    assert (second["signal"], second["exit_status"]) == ("SIGKILL", None)
    assert (second["reaped_ns"], second["zombie"]) == (None, True)


def test_who_is_reaped_only_because_its_parent_ended_was_a_zombie(new_story: type[Story]) -> None:
    story = new_story("parents", "Whoever inherits a zombie reaps it.")
    fork, end, reap = ProcessChange.FORKED, ProcessChange.EXITED, ProcessChange.REAPED
    for child in ("left", "orphan", "waited for"):
        story.process(1, "server", fork, child, parent="server")
    story.process(2, "server", end, "waited for", parent="server", exit_status=0)
    story.process(3, "server", reap, "waited for", parent="server")
    story.process(4, "server", end, "left", parent="server", exit_status=0)
    story.process(5, "server", end, exit_status=0)
    story.process(5.1, "server", reap, "left", parent="server")
    story.process(6, "server", end, "orphan", parent="server", exit_status=0)
    story.process(6.1, "server", reap, "orphan", parent="server")
    zombies = [life["process"] for life in read(story)["processes"] if life["zombie"]]
    assert zombies == ["left"]


def test_what_was_measured_is_told_as_it_was(stories: Stories) -> None:
    assert read(stories["fork-server"]())["measurements"] == [
        {"t_ns": 150_000_000, "what": "zombies left", "value": 1, "case": "wait() once"},
        {"t_ns": 150_100_000, "what": "zombies left", "value": 0, "case": "waitpid() in a loop"},
        {"t_ns": 150_200_000, "what": "clients", "value": 1, "case": ""},
    ]


@pytest.mark.parametrize("name", ["fin-lost"])
def test_fates_are_told(stories: Stories, name: str) -> None:
    segments = read(stories[name]())["connections"][0]["segments"]
    assert [s["fate"] for s in segments][3:6] == ["dropped", "delivered", "duplicated"]
    assert segments[3]["delivered_ns"] is None
    assert segments[4]["retransmission"] is True


def test_several_runs_stand_in_one_document(stories: Stories) -> None:
    told = [stories[name]().judged() for name in ("normal-close", "fin-lost")]
    document = json.loads(dump(runs([run_document(judged) for judged in told])))
    assert set(document) == {"schema", "runs"}
    assert [run["scenario"] for run in document["runs"]] == ["normal-close", "fin-lost"]


def test_hostile_text_stays_within_its_string(stories: Stories) -> None:
    text = dump(run_document(stories["two-connections"]().judged()))
    assert text.isascii()
    assert "\x1b" not in text
