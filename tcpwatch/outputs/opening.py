"""Opening all outputs of a command before anything is done: what cannot be written is told at once.

Owns: which document goes to which file, and who may have standard output for itself.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.outputs.reports import open_reports, read_baseline
from tcpwatch.outputs.settings import Settings
from tcpwatch.outputs.telling import Outputs
from tcpwatch.views.table import CsvTable, ParquetTable, Table, require_parquet


@contextmanager
def open_outputs(settings: Settings) -> Iterator[Outputs]:
    """Opens every output before anything is played: one that cannot be written is told at once."""
    # First, since it may be the very file that --json is to write.
    baseline = read_baseline(settings.baseline) if settings.baseline is not None else None
    if settings.parquet is not None:
        require_parquet()
    with ExitStack() as stack:

        def text(name: str | None) -> TextIO | None:
            if name is None or name == "-":
                return sys.stdout if name else None
            return stack.enter_context(Path(name).open("w", encoding="utf-8"))

        try:
            json, jsonl = text(settings.json), text(settings.jsonl)
            pcap: BinaryIO | None = None
            if settings.pcap == "-":
                pcap = sys.stdout.buffer
            elif settings.pcap is not None:
                pcap = stack.enter_context(Path(settings.pcap).open("wb"))
            tables = _tables(settings, stack)
        except OSError as error:
            raise TcpwatchError(
                f"cannot write {error.filename}: {error.strerror}",
                "name a file in a folder that you may write to",
                ExitCode.USAGE,
            ) from error
        if settings.documents.count("-") > 1:
            raise TcpwatchError(
                "standard output can take only one of "
                "--json, --jsonl, --pcap, --junit, --csv and --parquet",
                "name files for the others",
                ExitCode.USAGE,
            )
        reports = stack.enter_context(
            open_reports(settings.junit, settings.keep, quiet=settings.quiet)
        )
        yield Outputs(settings, json, jsonl, pcap, reports, baseline, tables)


def _tables(settings: Settings, stack: ExitStack) -> list[Table]:
    """Raises TcpwatchError, or OSError, where one cannot be written."""
    tables: list[Table] = []
    if settings.csv == "-":
        tables.append(CsvTable(sys.stdout))
    elif settings.csv is not None:
        path = Path(settings.csv)
        tables.append(CsvTable(stack.enter_context(path.open("w", encoding="utf-8", newline=""))))
    if settings.parquet == "-":
        tables.append(ParquetTable(sys.stdout.buffer))
    elif settings.parquet is not None:
        path = Path(settings.parquet)
        tables.append(ParquetTable(stack.enter_context(path.open("wb"))))
    return tables
