"""Scenarios: the files that say what is played and what is expected.

Owns: finding them, reading what they declare without running them, and loading one to play.
Must not know how a play is run. A file that cannot be used is told with its own name and line.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

import tcpwatch
from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.machine.pattern import Pattern, PatternError

Play = Callable[[Any], None]
"""A scenario's ``play(lab)``; the lab is `tcpwatch.lab.Lab`, which this file need not know."""

TOPICS = {
    "the-five": "which between them show all eleven states",
    "concurrent-servers": "forking, and what waits before accept()",
    "sigpipe-and-rst": "writing to whom nobody reads any more",
    "close-and-shutdown": "which of the two sends the FIN, and when",
    "io-models": "one answer, awaited in five ways",
    "select": "select(), poll(), epoll and their timeouts",
    "talking": "what the segments carry, and what a program reads",
    "the-edges": "every other edge of the diagram",
    "operators": "what one meets on a live server",
}
"""The topics in the order in which they are listed and played, each in words; others come last."""

_OF_NAMESPACES = frozenset({"wire", "sysctl", "sockets", "entry", "counter", "destroy"})
"""The verbs that the lab on the loopback has not: who uses one needs namespaces."""

# "client 2": of the second connection; "every client": of each.
_ROLE = re.compile(r"(every )?(client|server)|(client|server) [1-9]\d*")


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario as its file declares it. ``expect`` maps an end's role to its pattern.

    ``slow`` says why it takes more than some 5 s; most do not. ``chance`` names what it measures,
    and which of its calls fail, as chance will have it: nothing to compare two runs by.
    """

    name: str
    topic: str
    claim: str
    description: str
    expect: dict[str, str]
    needs: tuple[str, ...]
    path: Path
    slow: str = ""
    chance: tuple[str, ...] = ()

    def load(self) -> Play:
        """Runs the file and gives its ``play``. Raises TcpwatchError with the file and line."""
        name = f"tcpwatch_scenario_{self.path.stem}".replace("-", "_")
        spec = importlib.util.spec_from_file_location(name, self.path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException as error:  # the user's own code may raise anything
            raise TcpwatchError(
                f"{place_of(error, self.path)}: {describe(error)}",
                "the scenario cannot be loaded",
                ExitCode.USAGE,
            ) from error
        play: Play | None = getattr(module, "play", None)
        if not callable(play):
            raise _unusable(self.path, 1, "there is no function play(lab) once the file has run")
        return play


def place_of(error: BaseException, path: Path) -> str:
    """``file:line`` of the innermost frame of the scenario's own file."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}:{error.lineno}"
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)
    ]
    return f"{path}:{frames[-1].lineno}" if frames else str(path)


def describe(error: BaseException) -> str:
    """An exception in one line: its type and the first line of what it says."""
    # A SyntaxError comes after the place and the text of the line, notes come after any other.
    lines = "".join(traceback.format_exception_only(error)).strip().splitlines()
    return lines[-1] if isinstance(error, SyntaxError) else lines[0]


def folder() -> Path:
    """The scenarios that came with tcpwatch: beside its modules, or above them in a checkout."""
    package = Path(tcpwatch.__file__).resolve().parent
    inside = package / "scenarios"
    return inside if inside.is_dir() else package.parent / "scenarios"


def programs_folder() -> Path:
    """The programs that the scenarios share, and that a user's own may run by their names."""
    return folder() / "programs"


def find_program(name: str, beside: Path) -> Path:
    """The program of that name, or in that file; a relative path counts from the folder ``beside``.

    Raises TcpwatchError where there is none.
    """
    if name.endswith(".py"):
        path = beside / name
    else:
        path = programs_folder() / f"{name.replace('-', '_')}.py"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in programs_folder().glob("*.py")))
        raise TcpwatchError(
            f"there is no program {name!r}",
            f"name a Python file (a path that ends in .py), or one of: {known}",
            ExitCode.USAGE,
        )
    return path


@lru_cache(maxsize=1)
def catalogue() -> dict[str, Scenario]:
    """Every scenario that came with tcpwatch, by name, in the order of their topics and files."""
    files = sorted(folder().glob("*/*.py"))
    found = (read(path) for path in files if path.parent != programs_folder())
    ordered = sorted(found, key=lambda scenario: (_order(scenario), scenario.name))
    return {scenario.name: scenario for scenario in ordered}


def _order(scenario: Scenario) -> tuple[int, str]:
    known = list(TOPICS)
    place = known.index(scenario.topic) if scenario.topic in TOPICS else len(known)
    return place, scenario.topic


def of_topic(topic: str) -> list[Scenario]:
    """The catalogue's scenarios of a topic. Raises TcpwatchError naming the topics."""
    wanted = topic.strip().lower().replace("_", "-")
    scenarios = [scenario for scenario in catalogue().values() if scenario.topic == wanted]
    if not scenarios:
        topics = ", ".join(dict.fromkeys(scenario.topic for scenario in catalogue().values()))
        raise TcpwatchError(f"there is no topic {topic!r}", f"there are: {topics}", ExitCode.USAGE)
    return scenarios


def find(name_or_file: str) -> Scenario:
    """The scenario of that name, or in that file. Raises TcpwatchError naming the nearest."""
    path = Path(name_or_file)
    if path.suffix == ".py" or os.path.isfile(path):  # noqa: PTH113 - Path.is_file may raise
        return read(path)
    wanted = name_or_file.strip().lower().replace("_", "-")
    known = catalogue()
    if wanted in known:
        return known[wanted]
    beside = Path(f"{name_or_file}.py")
    if os.path.isfile(beside):  # noqa: PTH113 - as above
        raise TcpwatchError(
            f"there is no scenario {name_or_file!r}",
            f"did you mean the file ./{beside}?",
            ExitCode.USAGE,
        )
    near = get_close_matches(wanted, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else "see `tcpwatch list`"
    raise TcpwatchError(f"there is no scenario {name_or_file!r}", hint, ExitCode.USAGE)


def read(path: Path) -> Scenario:
    """What a scenario's file declares, read from its text.

    Raises TcpwatchError with file and line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise TcpwatchError(
            f"cannot read the scenario {path}: {reason}", "give a scenario's file", ExitCode.USAGE
        ) from error
    try:
        tree = ast.parse(text, str(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # the last two: nesting
        line = getattr(error, "lineno", None) or 1
        raise TcpwatchError(
            f"{path}:{line}: {describe(error)}", "the scenario cannot be read", ExitCode.USAGE
        ) from error
    return _declared(path, tree)


def _declared(path: Path, tree: ast.Module) -> Scenario:
    docstring = ast.get_docstring(tree) or ""
    claim, _, description = docstring.partition("\n")
    _, colon, after = claim.partition(": ")
    if not any(isinstance(node, ast.FunctionDef) and node.name == "play" for node in tree.body):
        raise _unusable(path, 1, "there is no function play(lab)")
    expect: dict[str, str] = {}
    needs: tuple[str, ...] = ()
    slow = ""
    chance: tuple[str, ...] = ()
    for name, node in _constants(tree):
        try:
            value = ast.literal_eval(node)
        except (ValueError, TypeError, RecursionError, MemoryError):
            raise _unusable(path, node.lineno, f"{name} must be written out") from None
        if name == "EXPECT":
            expect = _expectations(path, node, value)
        elif name == "NEEDS":
            needs = _names(path, node, value, name)
        elif name == "SLOW":
            slow = _slow(path, node, value)
        elif name == "CHANCE":
            chance = _names(path, node, value, name)
    if not needs and _uses_namespaces(tree):
        needs = ("namespaces",)
    return Scenario(
        path.stem.replace("_", "-"),
        path.resolve().parent.name.replace("_", "-"),
        (after if colon else claim).strip().removesuffix("."),
        description.strip(),
        expect,
        needs,
        path.resolve(),
        slow,
        chance,
    )


def _constants(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if (
            isinstance(node, ast.Assign | ast.AnnAssign)
            and isinstance(target, ast.Name)
            and target.id in ("EXPECT", "NEEDS", "SLOW", "CHANCE")
            and node.value is not None
        ):
            yield target.id, node.value


def _expectations(path: Path, node: ast.expr, value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(
        isinstance(key, str) and isinstance(text, str) for key, text in value.items()
    ):
        raise _unusable(path, node.lineno, "EXPECT must map a role to a pattern")
    for role, text in value.items():
        if not _ROLE.fullmatch(role):
            raise _unusable(
                path, node.lineno, f"EXPECT has {role!r}, which is neither client nor server"
            )
        try:
            Pattern(text)
        except PatternError as error:
            raise _unusable(path, node.lineno, f"EXPECT[{role!r}]: {error}") from error
    return value


def _names(path: Path, node: ast.expr, value: object, constant: str) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
        raise _unusable(path, node.lineno, f"{constant} must be a name or a list of names")
    return tuple(names)


def _slow(path: Path, node: ast.expr, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _unusable(path, node.lineno, "SLOW must say why in words")
    return value.strip()


def _uses_namespaces(tree: ast.Module) -> bool:
    return any(
        isinstance(node, ast.Attribute) and node.attr in _OF_NAMESPACES for node in ast.walk(tree)
    )


def _unusable(path: Path, line: int, why: str) -> TcpwatchError:
    remedy = "the README shows a whole scenario in ten lines"
    return TcpwatchError(f"{path}:{line}: {why}", remedy, ExitCode.USAGE)
