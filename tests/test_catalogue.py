"""The whole catalogue, played once as `tcpwatch run --all` plays it."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from typing import Any

import pytest

from tcpwatch.lab.scenario import catalogue

pytestmark = [pytest.mark.needs("lab", "kernel", "table"), pytest.mark.timeout(300)]


@cache
def played() -> dict[str, dict[str, Any]]:
    """Every scenario's document, by name."""
    done = subprocess.run(
        [sys.executable, "-m", "tcpwatch", "run", "--all", "--json", "-"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return {run["scenario"]: run for run in json.loads(done.stdout)["runs"]}


@pytest.mark.parametrize("name", catalogue())
def test_a_scenario_passes_and_its_witnesses_agree(name: str) -> None:
    run = played()[name]
    assert (run["verdict"], run["reasons"]) == ("pass", [])
    assert [finding["message"] for finding in run["findings"]] == []
    assert {source["name"] for source in run["sources"] if source["available"]} == {
        "kernel",
        "table",
        "wire",
    }


@pytest.mark.parametrize("name", catalogue())
def test_a_scenario_expects_something_of_the_end_that_begins(name: str) -> None:
    assert "client" in {expected["endpoint"] for expected in played()[name]["expectations"]}
