"""The rules of the house that a linter does not know."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOP_LEVEL = {
    "CHANGELOG.md",
    "Dockerfile",
    "LICENSE",
    "Makefile",
    "README.md",
    "pyproject.toml",
    "scenarios",
    "tcpwatch",
    "tests",
}
GENERATED = {"build", "dist", "PKG-INFO"}
SLOW_TO_IMPORT = {"numpy", "pyroute2", "scapy", "textual"}
MODULES = sorted((ROOT / "tcpwatch").rglob("*.py"))
SCENARIOS = sorted((ROOT / "scenarios").rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text())) or ""


def imported_at_the_top(path: Path) -> set[str]:
    """The top-level names of the packages that importing this module imports."""
    names: set[str] = set()
    for statement in ast.parse(path.read_text()).body:
        match statement:
            case ast.Import(names=aliases):
                names |= {alias.name for alias in aliases}
            case ast.ImportFrom(module=str(module), level=0):
                names.add(module)
            case _:
                pass
    return {name.partition(".")[0] for name in names}


def test_the_root_folder_is_bare() -> None:
    visible = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert visible - GENERATED - TOP_LEVEL == set()


@pytest.mark.parametrize("path", MODULES, ids=map(relative, MODULES))
def test_a_module_says_what_it_owns_in_at_most_eight_lines(path: Path) -> None:
    text = docstring(path)
    assert text
    assert len(text.splitlines()) <= 8


@pytest.mark.parametrize("path", MODULES, ids=map(relative, MODULES))
def test_a_module_is_named_for_what_it_holds(path: Path) -> None:
    assert path.stem not in {"utils", "util", "helpers", "common", "manager", "misc"}


@pytest.mark.parametrize("path", MODULES, ids=map(relative, MODULES))
def test_a_module_imports_quickly(path: Path) -> None:
    package = str(path.parent.relative_to(ROOT / "tcpwatch"))
    allowed = {"tui": {"textual"}, "sources/capture": {"numpy"}}.get(package, set())
    assert imported_at_the_top(path) & SLOW_TO_IMPORT - allowed == set()


@pytest.mark.parametrize("path", SCENARIOS, ids=map(relative, SCENARIOS))
def test_a_scenario_states_its_claim(path: Path) -> None:
    assert docstring(path).partition("\n")[0].endswith(".")


def test_there_are_scenarios() -> None:
    assert len(SCENARIOS) >= 5


def test_dependencies_have_a_lower_bound_and_no_upper_one() -> None:
    lists = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    requirements = [text for texts in lists for text in texts if not text.startswith("tcpwatch[")]
    name_and_lower_bound = re.compile(r"[a-z0-9-]+>=[0-9.]+(; .*)?")
    assert [text for text in requirements if not name_and_lower_bound.fullmatch(text)] == []


def test_pytest_is_no_dependency_of_an_installed_tcpwatch() -> None:
    assert not any(requirement.startswith("pytest") for requirement in PROJECT["dependencies"])


def test_the_changelog_has_the_version() -> None:
    source = (ROOT / "tcpwatch" / "__init__.py").read_text()
    found = re.search(r'^__version__ = "(.+)"$', source, re.MULTILINE)
    assert found is not None
    assert f"\n## [{found[1]}] - " in (ROOT / "CHANGELOG.md").read_text()
