"""`tcpwatch exec`: its arguments, and the request they make.

Owns: the command's words and `--help`. Must not know how a command is run or watched.
"""

from __future__ import annotations

import argparse

from tcpwatch.cli.arguments import (
    Commands,
    add_output,
    add_reports,
    add_way,
    milliseconds,
    seconds,
    settings_of,
    witnesses,
)
from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.interruption import undisturbed

_EXEC_EPILOG = """\
An expectation is [ROLE] [FILTER]: PATTERN, as in
    --expect 'server port:8080: ... > CLOSE-WAIT > LAST-ACK > CLOSED'
where client (or active) is who called, server (or passive) who was called; a
pattern alone is of both ends of every connection.

exit status: the command's own, if it failed (128 + the signal that killed it;
127 not found, 126 not executable); else 0 all as expected; 1 an expectation
failed; 2 wrong usage; 3 could not observe (INCONCLUSIVE)"""


def add_exec(commands: Commands) -> None:
    """`tcpwatch exec --help`."""
    execute = commands.add_parser(
        "exec",
        help="run a command in a network of its own and watch every connection it makes",
        usage="tcpwatch exec [options] -- COMMAND [ARGUMENT ...]\n"
        "       tcpwatch exec [options] --server COMMAND --client COMMAND",
        description="Runs any command in a network of its own, with nothing but a loopback (no\n"
        "root needed), and witnesses every TCP connection that it and its children make.\n"
        "What it reads and prints passes through; the report goes to standard error.",
        epilog=_EXEC_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    execute.add_argument(
        "command_line", nargs="*", metavar="COMMAND", help="and its arguments, behind --"
    )
    execute.set_defaults(command=_exec)
    group = execute.add_argument_group("what is demanded")
    group.add_argument(
        "--expect",
        action="append",
        default=[],
        metavar="WHAT",
        help="the path of an end of those connections that match",
    )
    group.add_argument(
        "--never",
        action="append",
        default=[],
        metavar="WHAT",
        help="a state that none may be in, such as 'CLOSE-WAIT[>1s]'",
    )
    group.add_argument(
        "--no-leaks",
        action="store_true",
        help="nothing may outlive the command, be held in CLOSE-WAIT to the end, or never be "
        "closed. TIME-WAIT is healthy",
    )
    group = execute.add_argument_group("where it runs")
    group.add_argument(
        "--share-network",
        action="store_true",
        help="stay on this machine's network; other programs' connections are then seen too",
    )
    group.add_argument(
        "--sysctl",
        action="append",
        default=[],
        type=_sysctl,
        metavar="NAME=VALUE",
        help="of its network, such as net.ipv4.tcp_fin_timeout=5",
    )
    group.add_argument(
        "--without",
        type=witnesses,
        default=frozenset(),
        metavar="W,...",
        help="do without these witnesses: kernel, table, wire",
    )
    group.add_argument(
        "--grace",
        type=seconds,
        default=2,
        metavar="S",
        help="how long what the command leaves may take to end (default 2)",
    )
    group.add_argument(
        "--no-ptrace",
        action="store_true",
        help="for a command that traces others itself; what they leave open is not seen then",
    )
    group = execute.add_argument_group(
        "a wire",
        "WHAT is [client|server] SEGMENT[:COUNT], as in --drop 'client SYN:1'; segments\n"
        "are SYN, SYN-ACK, FIN, RST, PSH, ACK, PURE-ACK, DATA. Without --server it is the\n"
        "loopback itself that is led through the wire (IPv4 only).",
    )
    group.add_argument(
        "--server",
        metavar="COMMAND",
        help="run it on a host of its own; it gets SIGTERM when the client has ended",
    )
    group.add_argument(
        "--client",
        metavar="COMMAND",
        help="run it on the other host, once the server listens. {server} and {client} in either "
        "stand for the hosts' addresses",
    )
    group.add_argument("--latency", type=milliseconds, metavar="MS", help="of the wire, one way")
    group.add_argument("--wire", choices=("auto", "tun", "veth"), default="auto")
    for verb, what in (
        ("drop", "lose these segments"),
        ("delay", "let them travel longer: WHAT=MS"),
        ("duplicate", "let each arrive twice"),
        ("reorder", "let the one behind overtake them"),
    ):
        group.add_argument(f"--{verb}", action="append", default=[], metavar="WHAT", help=what)
    add_way(execute)
    add_output(execute)
    add_reports(execute)
    execute.add_argument("-o", "--output", metavar="FILE", help="the report, not to standard error")


def _exec(arguments: argparse.Namespace) -> int:
    with undisturbed():
        import shlex

        from tcpwatch.confining.wire import Fault
        from tcpwatch.verbs.exec import Request, execute

    pair = arguments.server is not None and arguments.client is not None
    if pair == bool(arguments.command_line) or (arguments.server is None) != (
        arguments.client is None
    ):
        raise TcpwatchError(
            "a command is needed, or both --server and --client",
            "for example tcpwatch exec -- pytest; see `tcpwatch exec --help`",
            ExitCode.USAGE,
        )
    faults = [
        Fault.parse(verb, text)
        for verb in ("drop", "delay", "duplicate", "reorder")
        for text in getattr(arguments, verb)
    ]
    wired = faults or arguments.latency is not None or pair
    if arguments.share_network and wired:
        raise TcpwatchError(
            "there is no wire in this machine's own network",
            "leave out --share-network, or the latency and the faults",
            ExitCode.USAGE,
        )
    request = Request(
        command=tuple(arguments.command_line),
        server=tuple(shlex.split(arguments.server)) if pair else (),
        client=tuple(shlex.split(arguments.client)) if pair else (),
        latency_ms=arguments.latency,
        faults=tuple(faults),
        wire=arguments.wire,
        expect=tuple(arguments.expect),
        never=tuple(arguments.never),
        no_leaks=arguments.no_leaks,
        share_network=arguments.share_network,
        sysctls=dict(arguments.sysctl),
        without=arguments.without,
        grace_s=arguments.grace,
        trace=not arguments.no_ptrace,
        output=arguments.output,
    )
    return execute(request, settings_of(arguments))


def _sysctl(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.replace("/", ".").startswith("net."):
        raise argparse.ArgumentTypeError(f"{text!r} is not net.SOMETHING=VALUE")
    return name.strip(), value.strip()
