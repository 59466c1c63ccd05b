"""`tcpwatch list`, `explain` and `doctor`: what there is to know without playing anything.

Owns: the commands' words and `--help`.
"""

from __future__ import annotations

import argparse

from tcpwatch.cli.arguments import Commands
from tcpwatch.cli.terminal import only_ascii, width
from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.interruption import undisturbed


def _list(arguments: argparse.Namespace) -> int:
    with undisturbed():
        from tcpwatch.lab.scenario import TOPICS, catalogue, of_topic
        from tcpwatch.views.listing import list_scenarios

    topic = arguments.topic
    scenarios = of_topic(topic) if topic is not None else list(catalogue().values())
    verbose = arguments.verbose or topic is not None
    print(list_scenarios(scenarios, TOPICS, width(), verbose=verbose))
    return ExitCode.OK


def _explain(arguments: argparse.Namespace) -> int:
    with undisturbed():
        from tcpwatch.lab.scenario import catalogue
        from tcpwatch.machine.coverage import declared
        from tcpwatch.tcp.state import TcpState
        from tcpwatch.views.explain import explain_edge, explain_state

    text = " ".join(arguments.what)
    try:
        states = [TcpState.parse(name) for name in text.split(">")]
    except ValueError as error:
        raise TcpwatchError(
            str(error), "write a state, or a transition as 'A>B' in quotes", ExitCode.USAGE
        ) from error
    edges = {name: declared(one.expect) for name, one in catalogue().items()}
    match states:
        case [state]:
            shown_by = [name for name, of in edges.items() if any(state in edge for edge in of)]
            print(explain_state(state, width(), shown_by))
        case [before, after]:
            shown_by = [name for name, of in edges.items() if (before, after) in of]
            ascii_only = only_ascii()
            print(explain_edge(before, after, width(), shown_by, ascii_only=ascii_only))
        case _:
            raise TcpwatchError(
                f"{text!r} is more than one transition", "explain one at a time", ExitCode.USAGE
            )
    return ExitCode.OK


def _doctor(_arguments: argparse.Namespace) -> int:
    with undisturbed():
        from tcpwatch.playing.staging import examine
        from tcpwatch.views.listing import doctor_report

    found = examine()
    print(doctor_report(found, width()))
    lab = next(availability for availability in found if availability.name == "lab")
    return ExitCode.OK if lab.available else ExitCode.INCONCLUSIVE


def add_list(commands: Commands) -> None:
    """`tcpwatch list --help`."""
    listing = commands.add_parser("list", help="the scenarios: name, claim, expected paths, needs")
    listing.add_argument(
        "topic", nargs="?", metavar="TOPIC", help="only this topic, with the expected paths"
    )
    listing.add_argument(
        "-v", "--verbose", action="store_true", help="the expected paths of all, and what they need"
    )
    listing.set_defaults(command=_list)


def add_explain(commands: Commands) -> None:
    """`tcpwatch explain --help`."""
    explain = commands.add_parser("explain", help="what a state or a transition means")
    explain.add_argument("what", nargs="+", metavar="STATE|'A>B'")
    explain.set_defaults(command=_explain)


def add_doctor(commands: Commands) -> None:
    """`tcpwatch doctor --help`."""
    doctor = commands.add_parser("doctor", help="each witness: available here, or why not")
    doctor.set_defaults(command=_doctor)
