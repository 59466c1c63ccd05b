"""`tcpwatch replay`: its arguments, and what is wished of the connections.

Owns: the command's words and `--help`. Must not know what a capture is.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from tcpwatch.cli.arguments import (
    EXIT_CODES,
    Commands,
    add_output,
    add_reports,
    add_way,
    positive,
    settings_of,
)
from tcpwatch.cli.terminal import must_be_a_terminal
from tcpwatch.interruption import undisturbed

if TYPE_CHECKING:
    from tcpwatch.outputs.settings import Settings

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


def _replay(arguments: argparse.Namespace) -> int:
    # Nothing is multiplied: the threads that numpy's algebra starts would only take up processors.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if arguments.tui:
        must_be_a_terminal()
        with undisturbed():
            from tcpwatch.tui.showing import replay_on_screen

        return replay_on_screen(arguments.file, _settings(arguments))
    with undisturbed():
        from tcpwatch.verbs.replay import replay_recordings

    return replay_recordings(arguments.file, _settings(arguments))


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
        "--top", type=positive, metavar="N", help="the N oddest, and what is odd about each"
    )


def _settings(arguments: argparse.Namespace) -> Settings:
    from tcpwatch.replaying.sifting import wish_of

    wish = wish_of(arguments.filter, arguments.expect, arguments.top)
    return replace(settings_of(arguments), wish=wish)


def add_replay(commands: Commands) -> None:
    """`tcpwatch replay --help`."""
    replay = commands.add_parser(
        "replay",
        help="show a capture, or a recording (--jsonl) again",
        description="Shows both ends' states from captures (pcap and pcapng, also packed with\n"
        "gzip or zstd) and from recordings. Several captures are one, in order of time.\n"
        "A few connections are drawn as a ladder; many are counted by the way they went.",
        epilog=f"{_FILTER_HELP}\n\n{EXIT_CODES}",
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
    add_way(replay)
    add_output(replay, tables=True)
    add_reports(replay)
