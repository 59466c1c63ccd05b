"""The command line: one small function a command.

Owns: arguments, exit codes, where output goes. Must not conclude or draw anything itself.
Everything heavy is imported by the command that needs it: `tcpwatch --help` stays fast.
"""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, TextIO

from tcpwatch import __version__
from tcpwatch.errors import ExitCode, PlacedError, TcpwatchError

if TYPE_CHECKING:
    from tcpwatch.outputs.settings import Settings
    from tcpwatch.replaying.sifting import Wish

_EXIT_CODES = """\
exit status: 0 all as expected; 1 an expectation failed; 2 wrong usage;
3 could not observe (INCONCLUSIVE); 130 interrupted"""

_FILTERS = """\
FILTER is a list of terms, all of which must hold; quote it where the shell would take part:
  state:close-wait  state:fin-*  'age>5s'  port:443  sport:8080  dport:80,443
  ip:10.0.0.0/8  process:nginx*  pid:123  user:www-data  'recvq>10k'  was:syn-received
  not state:listen  (port:80 or port:443)  path:'... > CLOSE-WAIT[>5s]'
a bare word is searched for in states, addresses, ports, processes and users"""

_FILTER_HELP = """\
filters: terms side by side must all hold; `or`, `not` or -, (...), quotes
  state:close-wait port:443     FIELD:VALUE; it is enough that one end fits
  port:80,443 octets>10k        a list; = != < <= > >= with k, M, ms, s, m, h
  src:10.0.0.0/8 -reason:fin    a prefix; not; src is the end that opened
  path:'... > CLOSE-WAIT[>5s]'  the way an end went, as PATTERN
  zeek:S* missing>0             wildcards
  rst                           a bare word is searched for in all text
  state=time-wait               certainly; `state:` also where it may be
fields: state was path age duration start role ip src dst port sport dport id
  closed_by reason complete midstream segments octets retransmissions missing
  zero_windows findings zeek history completeness
patterns: A > B, `...` any states, (A | B), A?, A[>5s]; never A
  --expect 'port:443 active: ... > TIME-WAIT' --expect 'both: never CLOSING'"""

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""How an output refuses what is written to it once it is open."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; the exit status. ``argv`` None: as the whole of this process."""
    if argv is None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _stop)
    if sys.stdout is None:  # it was closed before we were started
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - it stays
    try:
        arguments = _parser().parse_args(_with_values(sys.argv[1:] if argv is None else argv))
        command: Callable[[argparse.Namespace], int] = arguments.command
        status = command(arguments)
        sys.stdout.flush()
    except TcpwatchError as error:
        return _complain(error)
    except KeyboardInterrupt:
        print("tcpwatch: interrupted", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Whoever read us has gone: nothing more to say.
        _forget_stdout()
        return ExitCode.INTERRUPTED
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        _forget_stdout()
        reason = f"cannot write the output: {error.strerror}"
        return _complain(TcpwatchError(reason, "make room, or name another file", ExitCode.USAGE))
    finally:
        if argv is None:  # the answer is given: a signal changes it no more
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
    return status


def _with_values(argv: Sequence[str]) -> list[str]:
    """A filter may begin with ``-`` (not), which argparse takes for an option of its own."""
    joined: list[str] = []
    for text in argv:
        if joined and joined[-1] in ("--filter", "--expect"):
            joined[-1] += f"={text}"
        else:
            joined.append(text)
    return joined


class _Stopped(KeyboardInterrupt):
    """SIGINT or SIGTERM.

    Once a KeyboardInterrupt itself, by class, has left an exec() (that is how a dataclass is made),
    Python kills itself with SIGINT at its end, whoever caught it (pythonrun.c, run_eval_code_obj).
    """


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)  # once is enough: what follows is our own clearing up
    raise _Stopped


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Signals wait until it is over: for imports.

    What a handler raises while a class is made, Python 3.11 turns into a RuntimeError
    (typeobject.c, type_new_set_names).
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _forget_stdout() -> None:
    """What it still holds must not be written at exit: that would fail again, with a traceback."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _complain(error: TcpwatchError) -> int:
    from tcpwatch.views.wording import escaped

    print(f"tcpwatch: {escaped(str(error))}", file=sys.stderr)
    if isinstance(error, PlacedError):
        _point(error.text, error.column)
    return error.exit_code


def _point(text: str, column: int) -> None:
    """The text, and a caret under the place; of a long text what is around it."""
    from tcpwatch.views.canvas import width_of
    from tcpwatch.views.wording import escaped

    room = _width() - 8
    first = max(0, min(column - room // 2, len(text) - room))
    before, after = escaped(text[first:column]), escaped(text[column : first + room])
    print(f"  {before}{after}\n  {' ' * width_of(before)}^", file=sys.stderr)


# ---------------------------------------------------------------------- commands


def _list(arguments: argparse.Namespace) -> int:
    with _undisturbed():
        from tcpwatch.lab.scenario import TOPICS, catalogue, of_topic
        from tcpwatch.views.listing import list_scenarios

    topic = arguments.topic
    scenarios = of_topic(topic) if topic is not None else list(catalogue().values())
    verbose = arguments.verbose or topic is not None
    print(list_scenarios(scenarios, TOPICS, _width(), verbose=verbose))
    return ExitCode.OK


def _run(arguments: argparse.Namespace) -> int:
    if arguments.tui or arguments.step:
        return _run_on_screen(arguments)
    if not _plays_side_by_side(arguments):
        from tcpwatch.prestart import prepare

        prepare()
    with _undisturbed():
        from tcpwatch.verbs.run import run_scenarios

    return run_scenarios(arguments.scenario, _settings(arguments))


def _run_on_screen(arguments: argparse.Namespace) -> int:
    _must_be_a_terminal()
    from tcpwatch.prestart import prepare

    prepare()
    with _undisturbed():
        from tcpwatch.tui.showing import run_on_screen

    return run_on_screen(arguments.scenario, _settings(arguments), stepped=arguments.step)


def _must_be_a_terminal() -> None:
    if os.environ.get("TEXTUAL_DRIVER"):
        return  # `textual serve`: a browser is the terminal
    # Textual reads the one and writes to the last; the first says whether anybody looks.
    if not all(map(_on_a_terminal, (sys.stdout, sys.stdin, sys.stderr))):
        raise TcpwatchError(
            "--tui needs a terminal, and there is none here",
            "leave it out: text, --json and --jsonl need none",
            ExitCode.USAGE,
        )


def _plays_side_by_side(arguments: argparse.Namespace) -> bool:
    """Whether other processes will play, which prepare their own labs."""
    several = arguments.all or arguments.topic is not None
    many = several or arguments.repeat * len(arguments.scenario) > 2
    return bool(many and arguments.jobs != 1)


def _exec(arguments: argparse.Namespace) -> int:
    with _undisturbed():
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
    return execute(request, _settings(arguments))


def _watch(arguments: argparse.Namespace) -> int:
    with _undisturbed():
        from tcpwatch.verbs.watch import WatchSettings, watch_without_screen
        from tcpwatch.watching.watch import WatchOptions

    on_terminal = _on_a_terminal(sys.stdout)
    settings = WatchSettings(
        filter=tuple(arguments.filter),
        options=WatchOptions(arguments.without, arguments.sampler),
        jsonl=arguments.jsonl,
        once=arguments.once,
        duration_s=arguments.duration,
        count=arguments.count,
        quiet=arguments.quiet,
        width=_width() if on_terminal else None,
        colour=_colourful(),
        ascii_only=_only_ascii(),
    )
    screen = on_terminal and not (arguments.text or arguments.once or arguments.quiet)
    if screen and arguments.count is None and arguments.jsonl != "-":
        with _undisturbed():
            from tcpwatch.tui.host_showing import watch_on_screen

        return watch_on_screen(settings)
    return watch_without_screen(settings)


def _replay(arguments: argparse.Namespace) -> int:
    if arguments.tui:
        _must_be_a_terminal()
        with _undisturbed():
            from tcpwatch.tui.showing import replay_on_screen

        return replay_on_screen(arguments.file, _settings(arguments))
    with _undisturbed():
        from tcpwatch.verbs.run import replay_recordings

    return replay_recordings(arguments.file, _settings(arguments))


def _coverage(arguments: argparse.Namespace) -> int:
    with _undisturbed():
        from tcpwatch.verbs.coverage import cover

    return cover(arguments.file, _settings(arguments), arguments.markdown)


def _explain(arguments: argparse.Namespace) -> int:
    with _undisturbed():
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
            print(explain_state(state, _width(), shown_by))
        case [before, after]:
            shown_by = [name for name, of in edges.items() if (before, after) in of]
            ascii_only = _only_ascii()
            print(explain_edge(before, after, _width(), shown_by, ascii_only=ascii_only))
        case _:
            raise TcpwatchError(
                f"{text!r} is more than one transition", "explain one at a time", ExitCode.USAGE
            )
    return ExitCode.OK


def _doctor(_arguments: argparse.Namespace) -> int:
    with _undisturbed():
        from tcpwatch.playing.staging import examine
        from tcpwatch.views.listing import doctor_report

    found = examine()
    print(doctor_report(found, _width()))
    lab = next(availability for availability in found if availability.name == "lab")
    return ExitCode.OK if lab.available else ExitCode.INCONCLUSIVE


# ---------------------------------------------------------------------- arguments


class _Parser(argparse.ArgumentParser):
    """Tells what is wrong as every error is told: in one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        raise TcpwatchError(message, f"see `{self.prog} --help`", ExitCode.USAGE)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="tcpwatch",
        description="A debugger for TCP's state machine on real kernels.",
        epilog=f"Begin with: tcpwatch run simultaneous-close\n\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tcpwatch {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    listing = commands.add_parser("list", help="the scenarios: name, claim, expected paths, needs")
    listing.add_argument(
        "topic", nargs="?", metavar="TOPIC", help="only this topic, with the expected paths"
    )
    listing.add_argument(
        "-v", "--verbose", action="store_true", help="the expected paths of all, and what they need"
    )
    listing.set_defaults(command=_list)

    run = commands.add_parser(
        "run",
        help="play scenarios on two real kernel stacks; ladder and verdict",
        description="Plays scenarios between two hosts, each with a kernel TCP stack of its own,\n"
        "shows both ends' states and the segments as they happen, and judges.",
        epilog=_EXIT_CODES,
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
    _add_output(run)
    _add_baseline(_add_reports(run))

    _add_exec(commands)

    _add_watch(commands)

    replay = commands.add_parser(
        "replay",
        help="show a capture, or a recording (--jsonl) again",
        description="Shows both ends' states from captures (pcap and pcapng, also packed with\n"
        "gzip or zstd) and from recordings. Several captures are one, in order of time.\n"
        "A few connections are drawn as a ladder; many are counted by the way they went.",
        epilog=f"{_FILTER_HELP}\n\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    replay.add_argument(
        "file", nargs="+", metavar="FILE", help="a capture or a recording, or - for stdin"
    )
    replay.set_defaults(command=_replay)
    replay.add_argument(
        "--tui", action="store_true", help="on a screen: walk back and forth through it"
    )
    _add_selection(replay)
    _add_way(replay)
    _add_output(replay, tables=True)
    _add_reports(replay)

    explain = commands.add_parser("explain", help="what a state or a transition means")
    explain.add_argument("what", nargs="+", metavar="STATE|'A>B'")
    explain.set_defaults(command=_explain)

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

    doctor = commands.add_parser("doctor", help="each witness: available here, or why not")
    doctor.set_defaults(command=_doctor)
    return parser


_EXEC_EPILOG = """\
An expectation is [ROLE] [FILTER]: PATTERN, as in
    --expect 'server port:8080: ... > CLOSE-WAIT > LAST-ACK > CLOSED'
where client (or active) is who called, server (or passive) who was called; a
pattern alone is of both ends of every connection.

exit status: the command's own, if it failed (128 + the signal that killed it;
127 not found, 126 not executable); else 0 all as expected; 1 an expectation
failed; 2 wrong usage; 3 could not observe (INCONCLUSIVE)"""


def _add_exec(commands: argparse._SubParsersAction[_Parser]) -> None:
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
        type=_witnesses,
        default=frozenset(),
        metavar="W,...",
        help="do without these witnesses: kernel, table, wire",
    )
    group.add_argument(
        "--grace",
        type=_seconds,
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
    group.add_argument("--latency", type=_milliseconds, metavar="MS", help="of the wire, one way")
    group.add_argument("--wire", choices=("auto", "tun", "veth"), default="auto")
    for verb, what in (
        ("drop", "lose these segments"),
        ("delay", "let them travel longer: WHAT=MS"),
        ("duplicate", "let each arrive twice"),
        ("reorder", "let the one behind overtake them"),
    ):
        group.add_argument(f"--{verb}", action="append", default=[], metavar="WHAT", help=what)
    _add_way(execute)
    _add_output(execute)
    _add_reports(execute)
    execute.add_argument("-o", "--output", metavar="FILE", help="the report, not to standard error")


def _add_way(command: argparse.ArgumentParser) -> None:
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


def _add_watch(commands: argparse._SubParsersAction[_Parser]) -> None:
    watch = commands.add_parser(
        "watch",
        help="the TCP connections of this host, live",
        description="Shows all TCP sockets of this host (of this network namespace) as their\n"
        "states move: on a terminal as a screen, else as a log, a line for each move.",
        epilog=f"{_FILTERS}\n\nexit status: 0 it ended by --once, --duration, --count or q;\n"
        "2 wrong usage; 3 nobody here can see; 130 interrupted",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    watch.add_argument("filter", nargs="*", metavar="FILTER", help="only these sockets, see below")
    shape = watch.add_argument_group("what is shown").add_mutually_exclusive_group()
    shape.add_argument("--text", action="store_true", help="a log also on a terminal")
    shape.add_argument("--once", action="store_true", help="the table as it is now, like ss")
    ending = watch.add_argument_group("when it ends (else by ctrl-C)")
    ending.add_argument("--duration", type=_seconds, metavar="S", help="after so many seconds")
    ending.add_argument("--count", type=_positive, metavar="N", help="after so many moves")
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


def _kernel(text: str) -> frozenset[str]:
    if text != "kernel":
        raise argparse.ArgumentTypeError(f"{text!r}: only the kernel can be left out")
    return frozenset({text})


def _add_choice(run: argparse.ArgumentParser) -> None:
    group = run.add_argument_group("what is played")
    group.add_argument("--all", action="store_true", help="every scenario there is")
    group.add_argument("--topic", metavar="T", help="every scenario of a topic")
    group.add_argument("--repeat", type=_positive, default=1, metavar="N", help="play each N times")
    group.add_argument(
        "-j",
        "--jobs",
        type=_positive,
        metavar="N",
        help="play N side by side (default: as many as is good; 1: one after another)",
    )
    group.add_argument(
        "--timeout",
        type=_seconds,
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
        type=_milliseconds,
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
        type=_witnesses,
        default=frozenset(),
        metavar="W,...",
        help="do without these witnesses: kernel, table, wire",
    )


def _add_selection(replay: argparse.ArgumentParser) -> None:
    group = replay.add_argument_group("which connections, and what of them")
    group.add_argument(
        "--filter", metavar="F", help="only those that the filter selects, see below"
    )
    group.add_argument(
        "--expect",
        action="append",
        default=[],
        metavar="'[F] ROLE: PATTERN'",
        help="judge them: the path of that end (active, passive or both; client, server in "
        "recordings) of those that F selects; may be repeated",
    )
    group.add_argument(
        "--top", type=_positive, metavar="N", help="the N oddest, and what is odd about each"
    )


def _add_output(command: argparse.ArgumentParser, *, tables: bool = False) -> None:
    group = command.add_argument_group("output (FILE may be -)")
    group.add_argument("--json", metavar="FILE", help="the result, one object")
    group.add_argument("--jsonl", metavar="FILE", help="the recording: every event, for `replay`")
    group.add_argument("--pcap", metavar="FILE", help="pcapng, with the states as comments")
    if tables:
        group.add_argument("--csv", metavar="FILE", help="one row a connection (RFC 4180)")
        group.add_argument("--parquet", metavar="FILE", help="the same, with types")
    group.add_argument("-q", "--quiet", action="store_true", help="only the exit status")


def _add_reports(command: argparse.ArgumentParser) -> argparse._ArgumentGroup:
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


def _add_baseline(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--baseline",
        metavar="FILE",
        help="compare with the runs that --json saved, of another kernel for example, and exit "
        "with 1 if anything goes otherwise now, 0 if nothing, 3 if that cannot be told",
    )


def _sysctl(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.replace("/", ".").startswith("net."):
        raise argparse.ArgumentTypeError(f"{text!r} is not net.SOMETHING=VALUE")
    return name.strip(), value.strip()


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def _seconds(text: str) -> float:
    number = _number(text)
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return number


def _milliseconds(text: str) -> float:
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


def _witnesses(text: str) -> frozenset[str]:
    names = frozenset(name.strip() for name in text.split(",") if name.strip())
    for name in sorted(names - {"kernel", "table", "wire"}):
        raise argparse.ArgumentTypeError(f"{name!r} is none of kernel, table, wire")
    return names


# ---------------------------------------------------------------------- settings


def _settings(arguments: argparse.Namespace) -> Settings:
    from tcpwatch.outputs.settings import Settings
    from tcpwatch.playing.staging import Options

    options = Options()
    if arguments.command is _run:
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
    return Settings(
        options=options,
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
        width=_width(),
        colour=_colourful(),
        ascii_only=_only_ascii(),
        progress=_on_a_terminal(sys.stderr),
        summary=getattr(arguments, "summary", None),
        wish=_wish(arguments),
        csv=getattr(arguments, "csv", None),
        parquet=getattr(arguments, "parquet", None),
    )


def _wish(arguments: argparse.Namespace) -> Wish:
    from tcpwatch.replaying.sifting import Wish, wish_of

    if arguments.command is not _replay:
        return Wish()
    return wish_of(arguments.filter, arguments.expect, arguments.top)


def _colourful() -> bool:
    """On a terminal that is not known to have none, unless nobody wants them (no-color.org)."""
    return not os.environ.get("NO_COLOR") and _on_a_terminal(sys.stdout)


def _on_a_terminal(stream: TextIO | None) -> bool:
    """Whether what is written there may be written over, and coloured. None: it is closed."""
    return stream is not None and os.environ.get("TERM") != "dumb" and stream.isatty()


def _width() -> int:
    import shutil

    return max(shutil.get_terminal_size((80, 24)).columns, 40)


def _only_ascii() -> bool:
    return _asks_for_ascii() or not _encodable("─╮▶")


def _asks_for_ascii() -> bool:
    """LC_ALL=C. Python writes UTF-8 even so (PEP 540), but it is the way to say: only ASCII."""
    chosen = os.environ.get("PYTHONIOENCODING") or os.environ.get("PYTHONUTF8")
    return os.environ.get("LC_ALL") in ("C", "POSIX") and not chosen


def _encodable(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
