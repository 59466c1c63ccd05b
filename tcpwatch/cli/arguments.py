"""What several commands take: the types of arguments, groups of options, and what they ask for.

Owns: their words in `--help`. Must not know what a command does.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from tcpwatch.cli.terminal import colourful, on_a_terminal, only_ascii, width
from tcpwatch.errors import ExitCode, TcpwatchError

if TYPE_CHECKING:
    from tcpwatch.outputs.settings import Settings


EXIT_CODES = """\
exit status: 0 all as expected; 1 an expectation failed; 2 wrong usage;
3 could not observe (INCONCLUSIVE); 130 interrupted"""


class Parser(argparse.ArgumentParser):
    """Tells what is wrong as every error is told: in one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        raise TcpwatchError(message, f"see `{self.prog} --help`", ExitCode.USAGE)


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"  # noqa: SLF001 - it has no public name
"""What a command adds its parser to."""


def add_way(command: argparse.ArgumentParser) -> None:
    """Whether connections are drawn or counted."""
    way = command.add_mutually_exclusive_group()
    way.add_argument(
        "--summary",
        action="store_true",
        default=None,
        help="count the connections by the way they went, however few they are",
    )
    way.add_argument(
        "--ladder",
        dest="summary",
        action="store_false",
        help="draw the connections, however many they are",
    )


def add_output(command: argparse.ArgumentParser, *, tables: bool = False) -> None:
    """The documents; ``tables``: also those with a row for each connection."""
    group = command.add_argument_group("output (FILE may be -)")
    group.add_argument("--json", metavar="FILE", help="the result, one object")
    group.add_argument("--jsonl", metavar="FILE", help="the recording: every event, for `replay`")
    group.add_argument("--pcap", metavar="FILE", help="pcapng, with the states as comments")
    if tables:
        group.add_argument("--csv", metavar="FILE", help="one row a connection (RFC 4180)")
        group.add_argument("--parquet", metavar="FILE", help="the same, with types")
    group.add_argument("-q", "--quiet", action="store_true", help="only the exit status")


def add_reports(command: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """What a CI service is given; the group, for what else belongs to it."""
    group = command.add_argument_group(
        "in CI",
        "Under GitHub Actions, what does not pass is annotated, and told in the step's summary.",
    )
    group.add_argument(
        "--junit",
        metavar="FILE",
        help="JUnit XML (FILE may be -): a failure, or where it is INCONCLUSIVE an error",
    )
    group.add_argument(
        "--keep-on-failure",
        metavar="DIR",
        help="keep recording, pcapng and ladder of each run that does not pass",
    )
    return group


def positive(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def seconds(text: str) -> float:
    """A time in seconds."""
    number = _number(text)
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return number


def milliseconds(text: str) -> float:
    """A time in milliseconds, at most a minute."""
    number = _number(text)
    if not 0 <= number <= 60_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not within 0 and 60000 ms")
    return number


def _number(text: str) -> float:
    """NaN, which is within no limits, where it is none."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def witnesses(text: str) -> frozenset[str]:
    """Names of witnesses, with commas between them."""
    names = frozenset(name.strip() for name in text.split(",") if name.strip())
    for name in sorted(names - {"kernel", "table", "wire"}):
        raise argparse.ArgumentTypeError(f"{name!r} is none of kernel, table, wire")
    return names


def settings_of(arguments: argparse.Namespace) -> Settings:
    """What was asked for that is none of a single command, nor of its options and wishes."""
    from tcpwatch.outputs.settings import Settings

    return Settings(
        every=getattr(arguments, "all", False),
        topic=getattr(arguments, "topic", None),
        repeat=getattr(arguments, "repeat", 1),
        jobs=getattr(arguments, "jobs", None),
        json=arguments.json,
        jsonl=arguments.jsonl,
        pcap=arguments.pcap,
        junit=getattr(arguments, "junit", None),
        keep=getattr(arguments, "keep_on_failure", None),
        baseline=getattr(arguments, "baseline", None),
        quiet=arguments.quiet,
        width=width(),
        colour=colourful(),
        ascii_only=only_ascii(),
        progress=on_a_terminal(sys.stderr),
        summary=getattr(arguments, "summary", None),
        csv=getattr(arguments, "csv", None),
        parquet=getattr(arguments, "parquet", None),
    )
