"""`tcpwatch run` and `tcpwatch coverage`: their arguments, and how they are begun.

Owns: the commands' words and `--help`. Must not know how a scenario is played.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from tcpwatch.cli.arguments import (
    EXIT_CODES,
    Commands,
    add_output,
    add_reports,
    milliseconds,
    positive,
    seconds,
    settings_of,
    witnesses,
)
from tcpwatch.cli.terminal import must_be_a_terminal
from tcpwatch.interruption import undisturbed

if TYPE_CHECKING:
    from tcpwatch.outputs.settings import Settings


def _run(arguments: argparse.Namespace) -> int:
    if arguments.tui or arguments.step:
        return _run_on_screen(arguments)
    if not _plays_side_by_side(arguments):
        from tcpwatch.prestart import prepare

        prepare()
    with undisturbed():
        from tcpwatch.verbs.run import run_scenarios

    return run_scenarios(arguments.scenario, _settings(arguments))


def _run_on_screen(arguments: argparse.Namespace) -> int:
    must_be_a_terminal()
    from tcpwatch.prestart import prepare

    prepare()
    with undisturbed():
        from tcpwatch.tui.showing import run_on_screen

    return run_on_screen(arguments.scenario, _settings(arguments), stepped=arguments.step)


def _settings(arguments: argparse.Namespace) -> Settings:
    from tcpwatch.playing.options import Options

    options = Options(
        latency_ms=arguments.latency,
        ipv6=arguments.ipv6,
        lab=arguments.lab,
        wire=arguments.wire,
        sampler=arguments.sampler,
        without=arguments.without,
        timeout_s=arguments.timeout,
        wait_time_wait=arguments.wait_time_wait,
    )
    return replace(settings_of(arguments), options=options)


def _plays_side_by_side(arguments: argparse.Namespace) -> bool:
    """Whether other processes will play, which prepare their own labs."""
    several = arguments.all or arguments.topic is not None
    many = several or arguments.repeat * len(arguments.scenario) > 2
    return bool(many and arguments.jobs != 1)


def _add_choice(run: argparse.ArgumentParser) -> None:
    group = run.add_argument_group("what is played")
    group.add_argument("--all", action="store_true", help="every scenario there is")
    group.add_argument("--topic", metavar="T", help="every scenario of a topic")
    group.add_argument("--repeat", type=positive, default=1, metavar="N", help="play each N times")
    group.add_argument(
        "-j",
        "--jobs",
        type=positive,
        metavar="N",
        help="play N side by side (default: as many as is good; 1: one after another)",
    )
    group.add_argument(
        "--timeout",
        type=seconds,
        default=30,
        metavar="S",
        help="how long a play may last (default 30)",
    )
    group.add_argument(
        "--wait-time-wait", action="store_true", help="follow TIME-WAIT to CLOSED (60 s)"
    )


def _add_lab(run: argparse.ArgumentParser) -> None:
    group = run.add_argument_group("the lab and its witnesses")
    group.add_argument(
        "--latency",
        type=milliseconds,
        default=20,
        metavar="MS",
        help="of the wire, one way (default 20: the socket table then shows every state)",
    )
    group.add_argument("--ipv6", action="store_true", help="play over IPv6")
    group.add_argument("--lab", choices=("auto", "namespace", "loopback"), default="auto")
    group.add_argument("--wire", choices=("auto", "tun", "veth"), default="auto")
    group.add_argument("--sampler", choices=("sockdiag", "psutil"), default="sockdiag")
    group.add_argument(
        "--without",
        type=witnesses,
        default=frozenset(),
        metavar="W,...",
        help="do without these witnesses: kernel, table, wire",
    )


def _add_baseline(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--baseline",
        metavar="FILE",
        help="compare with the runs that --json saved, of another kernel for example, and exit "
        "with 1 if anything goes otherwise now, 0 if nothing, 3 if that cannot be told",
    )


def _coverage(arguments: argparse.Namespace) -> int:
    with undisturbed():
        from tcpwatch.verbs.coverage import cover

    return cover(arguments.file, settings_of(arguments), arguments.markdown)


def add_run(commands: Commands) -> None:
    """`tcpwatch run --help`."""
    run = commands.add_parser(
        "run",
        help="play scenarios on two real kernel stacks; ladder and verdict",
        description="Plays scenarios between two hosts, each with a kernel TCP stack of its own,\n"
        "shows both ends' states and the segments as they happen, and judges.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument(
        "scenario", nargs="*", metavar="NAME|FILE", help="a name from `tcpwatch list`, or your file"
    )
    run.set_defaults(command=_run)
    run.add_argument(
        "--tui", action="store_true", help="on a screen: both ends' figures, the wire between"
    )
    run.add_argument(
        "--step",
        action="store_true",
        help="a debugger: --tui, and the wire stops for every segment",
    )
    _add_choice(run)
    _add_lab(run)
    add_output(run)
    _add_baseline(add_reports(run))


def add_coverage(commands: Commands) -> None:
    """`tcpwatch coverage --help`."""
    coverage = commands.add_parser(
        "coverage",
        help="what of the machine the scenarios, recordings or captures exercise",
        description="Which arrows of TCP's state machine were exercised: the figure of RFC 9293,\n"
        "and a table. Without FILE it plays every scenario, and waits a minute for one\n"
        "TIME-WAIT to end.",
        epilog="exit status: 0 every arrow that Linux's calls can produce; 1 some are missing;\n"
        "2 wrong usage; 3 some are, and not all could be observed; 130 interrupted",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    coverage.add_argument(
        "file", nargs="*", metavar="FILE", help="a recording, a capture, or - for stdin"
    )
    coverage.add_argument("--json", metavar="FILE", help="the result, one object (FILE may be -)")
    coverage.add_argument("--markdown", metavar="FILE", help="the table as the README has it")
    coverage.add_argument("-q", "--quiet", action="store_true", help="only the exit status")
    coverage.set_defaults(command=_coverage, jsonl=None, pcap=None)
