"""What CI is given of a command's runs: JUnit XML, GitHub's pages, what is kept of failures.

Owns: where each of them is written, that this is known before anything is played, and reading the
saved result that runs are compared with. Must not know how a run looks in any of them.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from json import JSONDecodeError
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.model.recording import encode_event, encode_foot, encode_head
from tcpwatch.model.timeline import Judged
from tcpwatch.outputs.files import open_text, writable
from tcpwatch.views.canvas import visible
from tcpwatch.views.cases import Case, Outcome, ladder_text, numbered

if TYPE_CHECKING:
    from tcpwatch.machine.baseline import Baseline

_NO_NAME = re.compile(r"[^\w.#-]+")
_INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class GitHub:
    """The runner of GitHub Actions that we are under. ``summary``: the step's file, if it has one.

    ``workspace``: where the repository is checked out.
    """

    summary: Path | None
    workspace: Path | None

    @classmethod
    def detect(cls, environment: Mapping[str, str]) -> GitHub | None:
        """None: we are under none."""
        if environment.get("GITHUB_ACTIONS") != "true":
            return None
        summary = environment.get("GITHUB_STEP_SUMMARY")
        workspace = environment.get("GITHUB_WORKSPACE")
        return cls(
            Path(summary) if summary else None, Path(workspace).resolve() if workspace else None
        )


class Reports:
    """The reports of one command, all of them open. `write` is called once, at its end."""

    def __init__(
        self,
        junit: TextIO | None = None,
        keep: Path | None = None,
        github: GitHub | None = None,
        *,
        quiet: bool = False,
    ) -> None:
        self._junit, self._keep, self._github = junit, keep, github
        self._quiet = quiet

    def write(self, cases: Sequence[Case]) -> list[str]:
        """Writes them all; the paths of the files that were kept of runs that did not pass."""
        kept = _keep_failures(cases, self._keep) if self._keep is not None else []
        if self._junit is not None:
            from tcpwatch.views.junit import junit

            document = junit(cases, socket.gethostname())
            if self._junit is sys.stdout:  # which need not take UTF-8
                document = document.encode("ascii", "xmlcharrefreplace").decode()
            self._junit.write(document)
            self._junit.flush()
        if self._github is not None:
            _tell_github(self._github, cases, kept, quiet=self._quiet)
        return kept


@contextmanager
def open_reports(junit: str | None, keep: str | None, *, quiet: bool = False) -> Iterator[Reports]:
    """Opens what they are written to. ``junit`` may be ``-``; ``keep`` is a folder, or to be one.

    Raises TcpwatchError where one of them cannot be written.
    """
    with ExitStack() as stack:
        file: TextIO | None = None
        folder: Path | None = None
        if keep is not None:
            folder = Path(keep)
            with writable():
                folder.mkdir(parents=True, exist_ok=True)
        if junit is not None:
            file = open_text(junit, stack)
        yield Reports(file, folder, GitHub.detect(os.environ), quiet=quiet)


def read_baseline(name: str) -> Baseline:
    """The saved result in that file. Raises TcpwatchError where there is none."""
    from tcpwatch.machine.baseline import Baseline

    try:
        return Baseline.parse(Path(name).read_text(encoding="utf-8"))
    except OSError as error:
        why = error.strerror or str(error)
    except ValueError as error:
        bare = isinstance(error, UnicodeDecodeError | JSONDecodeError)
        why = "it is no JSON" if bare else str(error)
    raise TcpwatchError(
        f"cannot compare with {name}: {why}",
        "give a file that `tcpwatch run --json FILE` wrote",
        ExitCode.USAGE,
    )


# ---------------------------------------------------------------------- what is kept


def _keep_failures(cases: Sequence[Case], folder: Path) -> list[str]:
    """Recording, pcapng and ladder of each run that did not pass, unless it was interrupted."""
    kept: list[str] = []
    for case in numbered(cases):
        run = case.run
        if case.outcome is Outcome.PASSED or not isinstance(run, Judged):
            continue
        if _INTERRUPTED in run.record.inconclusive:
            continue
        name = _NO_NAME.sub("-", case.name).strip(".-") or "run"
        with writable():
            kept += keep_run(run, folder / name)
    return kept


def keep_run(judged: Judged, path: str | os.PathLike[str]) -> list[str]:
    """Writes ``path.jsonl``, ``path.pcapng`` if there are segments, and ``path.txt``: their names.

    Raises OSError.
    """
    from tcpwatch.views.pcap import write_pcapng

    stem = os.fspath(path)
    recording, ladder = Path(f"{stem}.jsonl"), Path(f"{stem}.txt")
    events = map(encode_event, judged.timeline.events)
    lines = [encode_head(judged.record), *events, encode_foot(judged.record)]
    recording.write_text("\n".join(lines) + "\n", encoding="utf-8")
    ladder.write_text(ladder_text(judged), encoding="utf-8")
    written = [recording, ladder]
    if any(connection.segments for connection in judged.timeline.connections):
        written.append(Path(f"{stem}.pcapng"))
        with written[-1].open("wb") as file:
            write_pcapng(judged, file)
    return [str(file) for file in written]


# ---------------------------------------------------------------------- GitHub


def _tell_github(
    github: GitHub, cases: Sequence[Case], kept: Sequence[str], *, quiet: bool
) -> None:
    """Annotations on standard error, which the runner reads too; the summary into its file."""
    from tcpwatch.views.github import annotation_lines, summary

    if not quiet:
        cases = [replace(case, line=_expectation_line(case.file)) for case in cases]
        for line in annotation_lines(cases, github.workspace):
            sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    if github.summary is None:
        return
    try:
        with github.summary.open("a", encoding="utf-8") as file:
            file.write(summary(cases, kept))
    except OSError as error:  # the runs are what matters: the step does not fail for its page
        name = visible(str(github.summary))
        sys.stderr.write(f"tcpwatch: cannot write the summary {name}: {error.strerror}\n")


def _expectation_line(file: Path | None) -> int:
    """The line of a scenario's file where its EXPECT begins; the first where there is none."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines() if file is not None else []
    except (OSError, UnicodeDecodeError):
        return 1
    return next((number for number, line in enumerate(lines, 1) if line.startswith("EXPECT")), 1)
