"""The command line: which command it is, how an error is told, the exit status.

Each command has its arguments in a module beside this one. Must not conclude or draw anything.
Everything heavy is imported by the command that needs it: `tcpwatch --help` stays fast.
"""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

from tcpwatch import __version__
from tcpwatch.cli.arguments import EXIT_CODES, Parser
from tcpwatch.cli.exec import add_exec
from tcpwatch.cli.reference import add_doctor, add_explain, add_list
from tcpwatch.cli.replay import add_replay
from tcpwatch.cli.run import add_coverage, add_run
from tcpwatch.cli.terminal import width
from tcpwatch.cli.watch import add_watch
from tcpwatch.errors import ExitCode, PlacedError, TcpwatchError

_COMMANDS = (
    add_list,
    add_run,
    add_exec,
    add_watch,
    add_replay,
    add_explain,
    add_coverage,
    add_doctor,
)
"""In the order of `tcpwatch --help`."""

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

    room = width() - 8
    first = max(0, min(column - room // 2, len(text) - room))
    before, after = escaped(text[first:column]), escaped(text[column : first + room])
    print(f"  {before}{after}\n  {' ' * width_of(before)}^", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="tcpwatch",
        description="A debugger for TCP's state machine on real kernels.",
        epilog=f"Begin with: tcpwatch run simultaneous-close\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tcpwatch {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in _COMMANDS:
        add(commands)
    return parser
