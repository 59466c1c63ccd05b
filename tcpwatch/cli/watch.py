"""`tcpwatch watch`: its arguments, and whether it has a screen.

Owns: the command's words and `--help`. Must not know how a host is watched.
"""

from __future__ import annotations

import argparse
import sys

from tcpwatch.cli.arguments import Commands, positive, seconds
from tcpwatch.cli.terminal import colourful, in_a_browser, on_a_terminal, only_ascii, width
from tcpwatch.interruption import undisturbed

_FILTERS = """\
FILTER is a list of terms, all of which must hold; quote it where the shell would take part:
  state:close-wait  state:fin-*  'age>5s'  port:443  sport:8080  dport:80,443
  ip:10.0.0.0/8  process:nginx*  pid:123  user:www-data  'recvq>10k'  was:syn-received
  not state:listen  (port:80 or port:443)  path:'... > CLOSE-WAIT[>5s]'
a bare word is searched for in states, addresses, ports, processes and users"""


def add_watch(commands: Commands) -> None:
    """`tcpwatch watch --help`."""
    watch = commands.add_parser(
        "watch",
        help="the TCP connections of this host, live",
        description="Shows all TCP sockets of this host (of this network namespace) as their\n"
        "states move: on a terminal as a screen, else as a log, a line for each move.\n"
        "In a browser: textual serve 'tcpwatch watch' (pip install textual-dev).",
        epilog=f"{_FILTERS}\n\nexit status: 0 it ended by --once, --duration, --count or q;\n"
        "2 wrong usage; 3 nobody here can see; 130 interrupted",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    watch.add_argument("filter", nargs="*", metavar="FILTER", help="only these sockets, see below")
    shape = watch.add_argument_group("what is shown").add_mutually_exclusive_group()
    shape.add_argument("--text", action="store_true", help="a log also on a terminal")
    shape.add_argument("--once", action="store_true", help="the table as it is now, like ss")
    ending = watch.add_argument_group("when it ends (else by ctrl-C)")
    ending.add_argument("--duration", type=seconds, metavar="S", help="after so many seconds")
    ending.add_argument("--count", type=positive, metavar="N", help="after so many moves")
    group = watch.add_argument_group("witnesses and output")
    group.add_argument(
        "--sampler",
        choices=("sockdiag", "psutil"),
        default="",
        help="what reads the socket table (default: sockdiag where there is netlink)",
    )
    group.add_argument(
        "--without", type=_kernel, default=frozenset(), metavar="kernel", help="do without it"
    )
    group.add_argument(
        "--jsonl", metavar="FILE", help="the recording: every event, for `replay` (FILE may be -)"
    )
    group.add_argument("-q", "--quiet", action="store_true", help="no log: only the recording")
    watch.set_defaults(command=_watch)


def _watch(arguments: argparse.Namespace) -> int:
    with undisturbed():
        from tcpwatch.verbs.watch import WatchSettings, watch_without_screen
        from tcpwatch.watching.watch import WatchOptions

    on_terminal = on_a_terminal(sys.stdout)
    settings = WatchSettings(
        filter=tuple(arguments.filter),
        options=WatchOptions(arguments.without, arguments.sampler),
        jsonl=arguments.jsonl,
        once=arguments.once,
        duration_s=arguments.duration,
        count=arguments.count,
        quiet=arguments.quiet,
        width=width() if on_terminal else None,
        colour=colourful(),
        ascii_only=only_ascii(),
    )
    screen = (on_terminal or in_a_browser()) and not (
        arguments.text or arguments.once or arguments.quiet
    )
    if screen and arguments.count is None and arguments.jsonl != "-":
        with undisturbed():
            from tcpwatch.tui.host_showing import watch_on_screen

        return watch_on_screen(settings)
    return watch_without_screen(settings)


def _kernel(text: str) -> frozenset[str]:
    if text != "kernel":
        raise argparse.ArgumentTypeError(f"{text!r}: only the kernel can be left out")
    return frozenset({text})
