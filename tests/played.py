"""The whole catalogue, played once in a test session as `tcpwatch run --all` plays it.

Owns: the one play that every test of the catalogue shares, as documents and as recordings.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tcpwatch.model.recording import read_recordings

if TYPE_CHECKING:
    from tcpwatch.model.recording import Recording


@dataclass(frozen=True, slots=True)
class Played:
    """One scenario's run: its document (--json) and its recording (--jsonl)."""

    document: dict[str, Any]
    recording: Recording


@cache
def _play() -> tuple[str, str, str]:
    """What it said on stderr, its document and its recordings: once, also where the play failed."""
    with TemporaryDirectory() as name:
        document, recordings = Path(name) / "all.json", Path(name) / "all.jsonl"
        document.touch()
        recordings.touch()
        argv = [sys.executable, "-m", "tcpwatch", "run", "--all", "--quiet"]
        argv += ["--json", str(document), "--jsonl", str(recordings)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return done.stderr, document.read_text("utf-8"), recordings.read_text("utf-8")


@cache
def played() -> dict[str, Played]:
    """Every scenario of the catalogue, by name. Needs a lab; it takes as long as the catalogue."""
    said, document, recordings = _play()
    assert said == ""
    documents = {run["scenario"]: run for run in json.loads(document)["runs"]}
    recorded = {one.record.scenario: one for one in read_recordings(StringIO(recordings))}
    assert documents.keys() == recorded.keys()
    return {name: Played(documents[name], recorded[name]) for name in documents}
