"""The suite's own rules, on one worker or several: what goes together, and what a skip means."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scheduling import THE_PLAY, begins, unit

ROOT = Path(__file__).parents[1]
LACKING = """import pytest


@pytest.mark.needs("no-such-program")
def test_that_lacks_a_program() -> None:
    pass


def test_that_lacks_nothing() -> None:
    pass
"""


def test_all_that_reads_the_play_is_one_unit_and_begins_with_what_waits() -> None:
    # As they are distributed: pytest-xdist hands out units in the order of the tests.
    paths = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "tests").rglob("test_*.py"))]
    first, *others = [path for path in sorted(paths, key=begins) if unit(path) == THE_PLAY]
    assert first == "tests/test_coverage.py"
    assert {"tests/test_catalogue.py", "tests/test_wire_alone.py"} <= set(others)
    rest = [path for path in paths if unit(path) != THE_PLAY]
    assert max(map(begins, others)) < min(map(begins, rest))
    assert [unit(f"{path}::test_it[a::b]") for path in rest] == rest


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize(
    "required, summary", [("0", "1 passed, 1 skipped"), ("1", "1 passed, 1 error")]
)
def test_what_is_missing_is_told_and_fails_where_all_is_required(
    workers: str, required: str, summary: str, tmp_path: Path
) -> None:
    if workers != "0":
        pytest.importorskip("xdist")
    (tmp_path / "test_lacking.py").write_text(LACKING, encoding="utf-8")
    argv = ["-n", workers] if workers != "0" else []
    argv += ["-p", "tests.conftest", "-p", "no:cacheprovider", f"--rootdir={ROOT}"]
    # Else it would take itself for the worker that we may be in.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *argv, "-c", "pyproject.toml", str(tmp_path)],
        cwd=ROOT,
        env={**environment, "TCPWATCH_REQUIRE_ALL": required},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == int(required), done.stdout + done.stderr
    assert summary in done.stdout
    assert "no-such-program: not on the PATH; install it" in done.stdout
