"""The built distribution: complete, and enough by itself on a machine that has nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.timeout(400)  # pip fetches every dependency on a machine's first run


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs to the end, with nothing of this process's own Python or checkout in the environment."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return subprocess.run(
        command,
        cwd=cwd,
        env=clean | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def build_wheel(source: Path, folder: Path) -> Path:
    built = run(
        *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"),
        *("--wheel-dir", folder, source),
        cwd=folder,
    )
    assert built.returncode == 0, built.stdout
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    built = run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT)
    assert built.returncode == 0, built.stdout
    (archive,) = folder.glob("*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of an environment that had nothing in it before the wheel."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    done = run(python, "-m", "pip", "install", "--quiet", "--no-compile", wheel, cwd=folder)
    assert done.returncode == 0, done.stdout
    return python.parent


def shipped(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if name.startswith("tcpwatch/")}


def test_the_wheel_has_every_module_and_every_scenario(wheel: Path) -> None:
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "tcpwatch").rglob("*.py")}
    scenarios = {
        f"tcpwatch/{path.relative_to(ROOT)}" for path in (ROOT / "scenarios").rglob("*.py")
    }
    assert shipped(wheel) >= modules | scenarios | {"tcpwatch/py.typed"}


def test_the_wheel_has_no_tests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        folders = {name.partition("/")[0] for name in archive.namelist()}
    assert {name for name in folders if not name.endswith(".dist-info")} == {"tcpwatch"}


def test_the_sdist_builds_the_same_wheel(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    assert shipped(build_wheel(sdist, tmp_path)) == shipped(wheel)


def test_the_sdist_has_what_its_makefile_and_tests_need(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= {"Makefile", "LICENSE", "README.md", "pyproject.toml", "tests/conftest.py"}


def test_an_installed_tcpwatch_finds_its_scenarios(installed: Path, tmp_path: Path) -> None:
    listed = run(installed / "tcpwatch", "list", cwd=tmp_path)
    assert listed.returncode == 0, listed.stdout
    assert "simultaneous-close" in listed.stdout


@pytest.mark.needs("lab")
def test_an_installed_tcpwatch_plays_a_scenario(installed: Path, tmp_path: Path) -> None:
    played = run(installed / "tcpwatch", "run", "normal-close", cwd=tmp_path)
    assert played.returncode == 0, played.stdout
