"""`tcpwatch run` as a user runs it: the five scenarios, in every kind of lab, by every witness."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tcpwatch.tcp.state import TcpState

FIVE = ("normal-close", "simultaneous-close", "half-close", "time-wait", "rst-on-write")
WITNESSES = {"kernel", "table", "wire"}
Command = Callable[[list[str]], list[str]]
Document = dict[str, Any]

unprivileged_command: Command = runpy.run_path(str(Path(__file__).parent / "lab" / "conftest.py"))[
    "unprivileged_command"
]


class Done(NamedTuple):
    """A command that ended."""

    status: int
    out: str
    err: str


def tcpwatch(
    *arguments: str | Path, cwd: Path, command: Command = list, **environment: str
) -> Done:
    argv = command([sys.executable, "-P", "-m", "tcpwatch", *map(str, arguments)])
    clean = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}
    clean |= {"PYTHONIOENCODING": "utf-8", **environment}
    done = subprocess.run(argv, cwd=cwd, env=clean, capture_output=True, timeout=100, check=False)
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def run_the_five(folder: Path, *options: str, command: Command = list) -> tuple[Done, Document]:
    """All five in one command, and its one document of all runs by scenario."""
    done = tcpwatch("run", *FIVE, *options, "--json", "five.json", cwd=folder, command=command)
    document = json.loads((folder / "five.json").read_text(encoding="utf-8"))
    return done, {run["scenario"]: run for run in document["runs"]}


def assert_all_pass(done: Done, runs: Document) -> None:
    assert {name: (run["verdict"], run["reasons"]) for name, run in runs.items()} == {
        name: ("pass", []) for name in FIVE
    }
    assert (done.status, done.err) == (0, "")


def paths(run: Document) -> list[dict[str, Any]]:
    return [
        {end["role"]: end["path"] for end in connection["endpoints"]}
        for connection in run["connections"]
    ]


def transitions(run: Document) -> Iterator[Document]:
    for connection in run["connections"]:
        for end in connection["endpoints"]:
            yield from end["transitions"]


def attending(run: Document) -> set[str]:
    return {source["name"] for source in run["sources"] if source["available"]}


class Played(NamedTuple):
    """One run, with every output it was asked for."""

    done: Done
    run: Document


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Played]:
    """Each of the five in a command of its own, as we are."""
    folder = tmp_path_factory.mktemp("played")
    found = {}
    for name in FIVE:
        done = tcpwatch("run", name, "--json", f"{name}.json", cwd=folder)
        document = (folder / f"{name}.json").read_text(encoding="utf-8")
        found[name] = Played(done, json.loads(document))
    return found


# ---------------------------------------------------------------------- as we are


@pytest.mark.needs("lab")
@pytest.mark.parametrize("name", FIVE)
def test_it_passes(name: str, played: Mapping[str, Played]) -> None:
    done, run = played[name]
    assert (run["verdict"], run["reasons"], run["findings"]) == ("pass", [], [])
    assert all(expectation["met"] is True for expectation in run["expectations"])
    assert (done.status, done.err) == (0, "")
    assert "PASS in " in done.out.splitlines()[-1]


@pytest.mark.needs("lab")
@pytest.mark.parametrize("name", FIVE)
def test_a_witness_that_did_not_see_a_transition_has_a_reason(
    name: str, played: Mapping[str, Played]
) -> None:
    run = played[name].run
    for transition in transitions(run):
        seen, hidden = set(transition["witnesses"]), transition["hidden_from"]
        assert seen, transition
        assert not seen & set(hidden), transition
        assert seen | set(hidden) == attending(run), transition
        assert all(hidden.values()), transition


@pytest.mark.needs("lab", "kernel", "table")
def test_nothing_but_time_wait_of_a_simultaneous_close_is_hidden(
    played: Mapping[str, Played],
) -> None:
    run = played["simultaneous-close"].run
    assert attending(run) == WITNESSES
    for transition in transitions(run):
        hidden = dict(transition["hidden_from"])
        # A machine so busy that the sampler slept through 20 ms is no fault, and is told as this.
        if hidden.get("table") == "shorter than its polling interval":
            assert transition["to"] != "TIME-WAIT", "it lasts 60 s"
            del hidden["table"]
        blind = {"kernel": "cannot see TIME-WAIT"} if transition["to"] == "TIME-WAIT" else {}
        assert hidden == blind, transition


@pytest.mark.needs("lab")
def test_the_two_fins_of_a_simultaneous_close_cross(played: Mapping[str, Played]) -> None:
    (connection,) = played["simultaneous-close"].run["connections"]
    client, server = (
        next(s for s in connection["segments"] if s["from"] == role and "F" in s["flags"])
        for role in ("client", "server")
    )
    assert client["sent_ns"] < server["delivered_ns"]
    assert server["sent_ns"] < client["delivered_ns"]
    assert connection["closed_by"] == "both"


@pytest.mark.needs("lab")
def test_between_them_all_eleven_states_are_seen(played: Mapping[str, Played]) -> None:
    seen = {
        state
        for one in played.values()
        for ends in paths(one.run)
        for path in ends.values()
        for state in path
    }
    assert seen == {state.value for state in TcpState}


@pytest.mark.needs("lab")
def test_time_wait_answers_the_retransmitted_fin(played: Mapping[str, Played]) -> None:
    run = played["time-wait"].run
    (connection,) = run["connections"]
    assert [s["from"] for s in connection["segments"] if s["fate"] == "dropped"] == ["server"]
    fins = [s for s in connection["segments"] if s["from"] == "client" and "F" in s["flags"]]
    assert [fin["retransmission"] for fin in fins] == [False, True]
    binds = [call["errno"] for call in run["calls"] if call["call"] == "bind"]
    assert binds == [None, "EADDRINUSE", None]


@pytest.mark.needs("lab")
def test_only_the_second_write_to_the_dead_fails(played: Mapping[str, Played]) -> None:
    run = played["rst-on-write"].run
    sends = [call["errno"] for call in run["calls"] if call["call"] == "send"]
    assert sends == [None, "EPIPE"]
    (connection,) = run["connections"]
    assert [s["from"] for s in connection["segments"] if "R" in s["flags"]] == ["server"]


# ---------------------------------------------------------------------- the document

NUMBER, TEXT, TRUTH = (int,), (str,), (bool,)
SHAPE: Document = {
    "schema": TEXT,
    "scenario": TEXT,
    "verdict": TEXT,
    "reasons": [TEXT],
    "lab": {
        "kind": TEXT,
        "privilege": TEXT,
        "kernel": TEXT,
        "ip": NUMBER,
        "latency_ms": (int, float),
    },
    "sources": [{"name": TEXT, "available": TRUTH, "detail": TEXT, "lost": NUMBER}],
    "connections": [
        {
            "id": NUMBER,
            "complete": TRUTH,
            "closed_by": (str, type(None)),
            "close_reason": (str, type(None)),
            "endpoints": [
                {
                    "role": TEXT,
                    "address": TEXT,
                    "port": NUMBER,
                    "path": [TEXT],
                    "transitions": [
                        {
                            "t_ns": NUMBER,
                            "from": TEXT,
                            "to": TEXT,
                            "cause": TEXT,
                            "basis": TEXT,
                            "witnesses": [TEXT],
                            "segment": (int, type(None)),
                        }
                    ],
                }
            ],
            "segments": [
                {
                    "n": NUMBER,
                    "from": TEXT,
                    "sent_ns": NUMBER,
                    "delivered_ns": (int, type(None)),
                    "fate": TEXT,
                    "flags": TEXT,
                    "seq": NUMBER,
                    "ack": (int, type(None)),
                    "payload_len": NUMBER,
                }
            ],
        }
    ],
    "calls": [
        {
            "t_ns": NUMBER,
            "role": TEXT,
            "pid": NUMBER,
            "call": TEXT,
            "result": (int, str, type(None)),
            "errno": (str, type(None)),
        }
    ],
    "findings": [],
    "expectations": [{"endpoint": TEXT, "pattern": TEXT, "met": TRUTH}],
}
"""``--json`` as the interface has it; fields may be added to it."""


def misshapen(value: object, shape: object, where: str = "") -> Iterator[str]:
    """Where the value departs from the shape: a tuple of types, a list's element, a dict's keys."""
    if isinstance(shape, tuple):
        if type(value) not in shape:  # isinstance() would take True for a number
            yield f"{where} is {value!r}"
    elif isinstance(shape, list) and isinstance(value, list):
        for number, element in enumerate(value):
            yield from misshapen(element, shape[0] if shape else (), f"{where}[{number}]")
    elif isinstance(shape, dict) and isinstance(value, dict):
        for key, inside in shape.items():
            if key in value:
                yield from misshapen(value[key], inside, f"{where}.{key}")
            else:
                yield f"{where}.{key} is missing"
    else:
        yield f"{where} is {value!r}"


@pytest.mark.needs("lab")
@pytest.mark.parametrize("name", FIVE)
def test_the_document_is_as_the_interface_has_it(name: str, played: Mapping[str, Played]) -> None:
    run = played[name].run
    assert list(misshapen(run, SHAPE)) == []
    assert (run["schema"], run["scenario"]) == ("tcpwatch/1", name)
    assert [source["name"] for source in run["sources"]] == ["kernel", "table", "wire"]
    assert run["lab"]["kind"] == "namespace"
    assert run["lab"]["kernel"] == os.uname().release


@pytest.mark.needs("lab")
@pytest.mark.parametrize("name", FIVE)
def test_a_path_is_what_its_transitions_join(name: str, played: Mapping[str, Played]) -> None:
    run = played[name].run
    ends = [end for connection in run["connections"] for end in connection["endpoints"]]
    assert len(ends) == 2 * len(run["connections"]) > 0
    for end in ends:
        assert [end["path"][0], *(t["to"] for t in end["transitions"])] == end["path"]
        assert [t["from"] for t in end["transitions"]] == end["path"][:-1]
        times = [t["t_ns"] for t in end["transitions"]]
        assert times == sorted(times)
        assert 0 <= times[0] <= times[-1] <= run["end_ns"]


@pytest.mark.needs("lab")
@pytest.mark.parametrize("name", FIVE)
def test_a_segment_arrives_the_latency_after_it_was_sent(
    name: str, played: Mapping[str, Played]
) -> None:
    run = played[name].run
    latency_ns = run["lab"]["latency_ms"] * 1_000_000
    segments = [s for connection in run["connections"] for s in connection["segments"]]
    assert segments
    for segment in segments:
        assert segment["fate"] in {"delivered", "dropped", "duplicated", "lost"}
        if segment["fate"] == "delivered":
            assert segment["delivered_ns"] - segment["sent_ns"] >= latency_ns


# ---------------------------------------------------------------------- other labs and witnesses


@pytest.mark.needs("lab")
def test_the_wire_alone_tells_the_same_paths(played: Mapping[str, Played], tmp_path: Path) -> None:
    done, runs = run_the_five(tmp_path, "--without", "kernel,table")
    assert_all_pass(done, runs)
    for name, run in runs.items():
        assert attending(run) == {"wire"}
        assert all(transition["witnesses"] == ["wire"] for transition in transitions(run))
        assert paths(run) == paths(played[name].run)


@pytest.mark.needs("lab")
def test_the_five_pass_over_ipv6(tmp_path: Path) -> None:
    done, runs = run_the_five(tmp_path, "--ipv6")
    assert_all_pass(done, runs)
    for run in runs.values():
        assert run["lab"]["ip"] == 6
        ends = [end for connection in run["connections"] for end in connection["endpoints"]]
        assert all(end["address"].startswith("fd77:") for end in ends)


@pytest.mark.needs("lab")
def test_the_five_pass_over_veth(tmp_path: Path) -> None:
    done, runs = run_the_five(tmp_path, "--wire", "veth")
    assert_all_pass(done, runs)
    assert {run["lab"]["wire"] for run in runs.values()} == {"veth"}


@pytest.mark.needs("lab")
@pytest.mark.parametrize("wire", ["tun", "veth"])
def test_the_five_pass_without_privilege(wire: str, tmp_path: Path) -> None:
    done, runs = run_the_five(tmp_path, "--wire", wire, command=unprivileged_command)
    assert_all_pass(done, runs)
    for run in runs.values():
        assert (run["lab"]["privilege"], run["lab"]["wire"]) == ("user", wire)
        assert attending(run) == {"table", "wire"}
        kernel = next(source for source in run["sources"] if source["name"] == "kernel")
        assert "tracefs" in kernel["detail"]
    assert "without kernel: " in done.out


@pytest.mark.needs("lab")
def test_the_five_pass_sampled_by_psutil(tmp_path: Path) -> None:
    done, runs = run_the_five(tmp_path, "--sampler", "psutil", "--without", "kernel")
    assert_all_pass(done, runs)
    for run in runs.values():
        assert attending(run) == {"table", "wire"}
        assert any("table" in transition["witnesses"] for transition in transitions(run))


def test_on_the_loopback_nothing_fails_for_want_of_evidence(tmp_path: Path) -> None:
    done, runs = run_the_five(tmp_path, "--lab", "loopback")
    assert set(runs) == set(FIVE)
    assert {run["verdict"] for run in runs.values()} <= {"pass", "inconclusive"}
    assert (done.status, done.err) == (3, "")  # the two that need a wire cannot be told
    for name in ("simultaneous-close", "time-wait"):
        assert runs[name]["verdict"] == "inconclusive"
        assert "wire" in " ".join(runs[name]["reasons"])
    for run in runs.values():
        assert run["lab"]["kind"] == "loopback"
        assert "wire" not in attending(run)
        assert bool(run["reasons"]) == (run["verdict"] == "inconclusive")


@pytest.mark.needs("lab")
def test_without_any_witness_nothing_is_told(tmp_path: Path) -> None:
    done = tcpwatch("run", "normal-close", "--without", "kernel,table,wire", cwd=tmp_path)
    assert done.status == 3
    assert len(done.err.splitlines()) == 1
    assert done.err.startswith("tcpwatch: ")


# ---------------------------------------------------------------------- several runs, and outputs


@pytest.mark.needs("lab")
def test_repeated_runs_are_folded_to_a_line_each(tmp_path: Path) -> None:
    done = tcpwatch(
        *("run", "normal-close", "--repeat", "3", "--latency", "5", "--json", "runs.json"),
        cwd=tmp_path,
    )
    assert (done.status, done.err) == (0, "")
    document = json.loads((tmp_path / "runs.json").read_text(encoding="utf-8"))
    assert document["schema"] == "tcpwatch/1"
    assert [run["verdict"] for run in document["runs"]] == ["pass"] * 3
    assert {run["lab"]["latency_ms"] for run in document["runs"]} == {5}
    folded = [line.split() for line in done.out.splitlines()[:3]]
    assert [words[:2] for words in folded] == [[f"{n}/3", "PASS"] for n in (1, 2, 3)]
    assert {words[-1] for words in folded} == {"normal-close"}
    assert "ESTABLISHED" not in done.out


@pytest.mark.needs("lab")
def test_a_document_on_standard_output_stands_there_alone(tmp_path: Path) -> None:
    done = tcpwatch("run", "normal-close", "--json", "-", cwd=tmp_path)
    assert json.loads(done.out)["verdict"] == "pass"
    assert (done.status, done.err) == (0, "")


@pytest.mark.needs("lab")
def test_a_quiet_run_says_nothing(tmp_path: Path) -> None:
    assert tcpwatch("run", "normal-close", "--quiet", cwd=tmp_path) == Done(0, "", "")
