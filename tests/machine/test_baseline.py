"""A saved result as a baseline: what counts as a change, and what only may be one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tcpwatch.machine.baseline import Baseline, Change, Comparison
from tcpwatch.model.timeline import Verdict

Document = dict[str, Any]
CLIENT = ["CLOSED", "SYN-SENT", "ESTABLISHED", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT"]


def run(
    *path: str | list[str],
    name: str = "normal-close",
    verdict: str = "pass",
    errno: str | None = None,
    measured: object = None,
    seen: tuple[str, ...] = ("table", "wire"),
    gap: bool = False,
    **lab: object,
) -> Document:
    moves = [{"segment": None, "gap": gap} for _ in path[1:]]
    end = {"role": "client", "path": [*path] or CLIENT, "transitions": moves}
    return {
        "schema": "tcpwatch/1",
        "scenario": name,
        "verdict": verdict,
        "reasons": [] if verdict == "pass" else ["a reason"],
        "lab": {"kind": "namespace", "kernel": "6.1", "ip": 4, "latency_ms": 20, **lab},
        "sources": [{"name": name, "available": True} for name in seen],
        "connections": [
            {
                "id": 1,
                "endpoints": [end],
                "segments": [{}] if "wire" in seen else [],
                "closed_by": "client" if "wire" in seen else None,
                "close_reason": "fin",
            }
        ],
        "calls": [{"process": "client", "call": "recv", "errno": errno}],
        "measurements": [{"case": "", "what": "queue", "value": measured}] if measured else [],
    }


def baseline(*runs: Document) -> Baseline:
    return Baseline.parse(json.dumps({"schema": "tcpwatch/1", "runs": runs}))


def changes(comparison: Comparison) -> list[Change]:
    return [change for one in comparison.scenarios for change in one.changes]


def test_the_same_is_no_change() -> None:
    comparison = baseline(run()).compare([run()])
    assert changes(comparison) == []
    assert comparison.verdict is Verdict.PASS


def test_the_document_of_one_run_is_a_baseline() -> None:
    assert Baseline.parse(json.dumps(run())).compare([run()]).verdict is Verdict.PASS


def test_another_path_is_a_change_and_told_as_a_diff() -> None:
    now = run(*CLIENT[:4], "CLOSING", "TIME-WAIT", kernel="6.9")
    comparison = baseline(run()).compare([now])
    (change,) = changes(comparison)
    assert (change.what, change.certain) == ("client", True)
    assert [*change.diff()][4:] == [("-", "FIN-WAIT-2"), ("+", "CLOSING"), (" ", "TIME-WAIT")]
    assert comparison.verdict is Verdict.FAIL
    assert (comparison.before, comparison.after) == ("6.1", "6.9")


@pytest.mark.parametrize(
    "now, what",
    [
        (run(verdict="fail"), "verdict"),
        (run(errno="ECONNRESET"), "errno"),
        (run(measured=3), "measured queue"),
    ],
)
def test_a_verdict_an_errno_and_a_measured_value_are_compared(now: Document, what: str) -> None:
    comparison = baseline(run()).compare([now])
    assert [change.what for change in changes(comparison)] == [what]
    assert comparison.verdict is Verdict.FAIL


def test_states_that_are_uncertain_may_be_the_same() -> None:
    now = run(*CLIENT[:5], ["TIME-WAIT", "CLOSED"])
    assert baseline(run()).compare([now]).verdict is Verdict.PASS


def test_whether_the_end_of_time_wait_was_still_watched_is_chance() -> None:
    assert baseline(run()).compare([run(*CLIENT, "CLOSED")]).verdict is Verdict.PASS


def test_a_gap_could_explain_another_path() -> None:
    comparison = baseline(run()).compare([run(*CLIENT[:4], "TIME-WAIT", gap=True)])
    (change,) = changes(comparison)
    assert not change.certain
    assert comparison.verdict is Verdict.INCONCLUSIVE


def test_the_table_alone_could_have_missed_a_state() -> None:
    now = run(*CLIENT[:3], "TIME-WAIT", seen=("table",))
    comparison = baseline(run()).compare([now])
    assert [(change.what, change.certain) for change in changes(comparison)] == [("client", False)]
    assert comparison.verdict is Verdict.INCONCLUSIVE


def test_what_is_inconclusive_cannot_be_compared() -> None:
    doubtful = run(verdict="inconclusive")
    for before, after in ((run(), doubtful), (doubtful, run())):
        comparison = baseline(before).compare([after])
        assert changes(comparison) == []
        assert comparison.scenarios[0].incomparable.endswith("INCONCLUSIVE now: a reason") or (
            comparison.scenarios[0].incomparable == "the baseline's is INCONCLUSIVE: a reason"
        )
        assert comparison.verdict is Verdict.INCONCLUSIVE


def test_what_only_one_side_has_cannot_be_compared() -> None:
    old, new = run(name="old"), run(name="new")
    assert [one.incomparable for one in baseline(old).compare([new], every=True).scenarios] == [
        "it is not in the baseline",
        "it was not played now",
    ]
    assert len(baseline(old, run()).compare([run()]).scenarios) == 1


def test_all_the_ways_it_went_in_the_baseline_are_as_before() -> None:
    before = baseline(run(measured=2), run(measured=3, errno="EAGAIN"))
    assert before.compare([run(measured=3), run(measured=2)]).verdict is Verdict.PASS
    assert before.compare([run(measured=4)]).verdict is Verdict.FAIL


def test_what_a_scenario_declares_to_be_chance_is_no_change() -> None:
    chance = {"normal-close": ("queue", "recv() EAGAIN")}
    now = [run(measured=3, errno="EAGAIN")]
    assert baseline(run(measured=2)).compare(now, chance=chance).verdict is Verdict.PASS
    assert baseline(run(measured=2)).compare(now).verdict is Verdict.FAIL
    assert baseline(run()).compare([run(errno="EPIPE")], chance=chance).verdict is Verdict.FAIL


def test_the_number_of_a_lab_is_no_difference() -> None:
    before = baseline(run(measured="10.77.0.1 to fd77::2"))
    assert before.compare([run(measured="10.77.14.1 to fd77:0:0:e::2")]).verdict is Verdict.PASS


def test_another_lab_is_told() -> None:
    comparison = baseline(run()).compare([run(latency_ms=5, ip=6)])
    assert comparison.notes == (
        "ip was 4 in the baseline, and is 6 now",
        "latency was 20 in the baseline, and is 5 now",
    )


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"schema": "other/1"}', '{"schema": "tcpwatch/1", "runs": [{}]}', "[" * 9999]
    + [json.dumps(run() | {key: 3}) for key in ("lab", "sources", "connections", "calls")],
)
def test_what_is_no_result_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Baseline.parse(text)
