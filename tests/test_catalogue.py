"""The whole catalogue, played once as `tcpwatch run --all` plays it."""

from __future__ import annotations

import pytest

from tcpwatch.lab.scenario import catalogue
from tests.played import played

pytestmark = [pytest.mark.needs("lab", "kernel", "table"), pytest.mark.timeout(300)]


@pytest.mark.parametrize("name", catalogue())
def test_a_scenario_passes_and_its_witnesses_agree(name: str) -> None:
    run = played()[name].document
    assert (run["verdict"], run["reasons"]) == ("pass", [])
    assert [finding["message"] for finding in run["findings"]] == []
    assert {source["name"] for source in run["sources"] if source["available"]} == {
        "kernel",
        "table",
        "wire",
    }


@pytest.mark.parametrize("name", catalogue())
def test_a_scenario_expects_something_of_the_end_that_begins(name: str) -> None:
    expectations = played()[name].document["expectations"]
    assert "client" in {expected["endpoint"].split()[0] for expected in expectations}
