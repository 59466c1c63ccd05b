"""What a test may need of this machine, asked of the same probes that users see.

Owns: the marker ``needs``, what a skip means in CI, who runs what where pytest-xdist distributes.
Knows nothing of what is tested.
"""

from __future__ import annotations

import os
import shutil
from functools import cache
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from tcpwatch.model.witness import Availability
from tests.scheduling import arrange, unit

if TYPE_CHECKING:
    from collections.abc import Generator

TIMEOUT_S = 120
"""When a test hangs: far beyond what any takes on a slow machine. ``timeout(...)`` overrides it."""

REQUIRE_ALL = os.environ.get("TCPWATCH_REQUIRE_ALL", "0") not in ("", "0")
"""CI sets it: there a skipped test is a failed one, since it would pass on missing evidence."""

# A busy machine makes no test wrong, so no example is timed (pytest-timeout ends a hang). CI judges
# a change by the same examples each time; elsewhere each run looks for new ones.
hypothesis.settings.register_profile(
    "tcpwatch",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize=REQUIRE_ALL,
)
hypothesis.settings.load_profile("tcpwatch")


@cache
def availability(name: str) -> Availability:
    """What the machine offers, probed when the first test asks and once in a session."""
    # Imported here: a test of the pure layers asks for no witness, and must run without any.
    match name:
        case "lab":
            from tcpwatch.lab.namespace import probe_namespaces

            return probe_namespaces()
        case "kernel":
            from tcpwatch.sources import kernel

            return kernel.probe()
        case "table":
            from tcpwatch.sources import sockdiag

            return sockdiag.probe()
        case _:
            found = shutil.which(name)
            return Availability(
                name, available=found is not None, detail="not on the PATH", remedy="install it"
            )


@pytest.hookimpl(optionalhook=True)  # pytest-xdist's
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class ByUnit(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return unit(nodeid)

    config.option.loadscopereorder = False  # nothing but the number of tests would decide
    return ByUnit(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    arrange(items)
    # A marker and not the plugin's own option: the tests also run where only pytest is installed.
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        for name in marker.args:
            answer = availability(name)
            if not answer.available:
                pytest.skip(f"{name}: {answer.detail}; {answer.remedy}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    expected_failure = hasattr(report, "wasxfail")
    if REQUIRE_ALL and report.skipped and not expected_failure:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} may not be skipped with TCPWATCH_REQUIRE_ALL: {reason}"
    return report
