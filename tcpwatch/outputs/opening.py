"""Opening all outputs of a command before anything is done: what cannot be written is told at once.

Owns: which document goes to which file, and who may have standard output for itself.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.outputs.files import open_text, writable
from tcpwatch.outputs.reports import open_reports, read_baseline
from tcpwatch.outputs.settings import Settings
from tcpwatch.outputs.telling import Outputs

if TYPE_CHECKING:
    from tcpwatch.views.table import Table


@contextmanager
def open_outputs(settings: Settings) -> Iterator[Outputs]:
    """Opens every output before anything is played: one that cannot be written is told at once."""
    # First, since it may be the very file that --json is to write.
    baseline = read_baseline(settings.baseline) if settings.baseline is not None else None
    if settings.parquet is not None:
        from tcpwatch.views.table import require_parquet

        require_parquet()
    with ExitStack() as stack:
        json, jsonl = (
            None if name is None else open_text(name, stack)
            for name in (settings.json, settings.jsonl)
        )
        pcap = None if settings.pcap is None else _open_octets(settings.pcap, stack)
        tables = _tables(settings, stack)
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


def _open_octets(name: str, stack: ExitStack) -> BinaryIO:
    if name == "-":
        return sys.stdout.buffer
    with writable():
        return stack.enter_context(Path(name).open("wb"))


def _tables(settings: Settings, stack: ExitStack) -> list[Table]:
    if not settings.has_tables:
        return []
    from tcpwatch.views.table import CsvTable, ParquetTable

    tables: list[Table] = []
    if settings.csv is not None:
        tables.append(CsvTable(open_text(settings.csv, stack, newline="")))
    if settings.parquet is not None:
        tables.append(ParquetTable(_open_octets(settings.parquet, stack)))
    return tables
