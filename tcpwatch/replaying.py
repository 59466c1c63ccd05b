"""What can be replayed: a file that is a recording of ours or a capture of anybody's, as runs.

Owns: telling them apart by content, and what a capture is as a run: its record and its events.
Must not conclude or draw.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.model.events import WIRE, Event
from tcpwatch.model.recording import Recording, read_recordings
from tcpwatch.model.timeline import RunRecord
from tcpwatch.sources.capture.octets import Octets, open_octets

if TYPE_CHECKING:
    from tcpwatch.sources.capture.segments import Capture, Tally


def read_file(name: str, *, keep_octets: bool = False) -> Iterator[Recording]:
    """The runs in a file, or in standard input for ``-``.

    ``keep_octets``: the packets of a capture stay with its segments, for outputs that write them.
    Raises TcpwatchError where the file is neither, or, after all that could be read, where it
    breaks off.
    """
    with open_octets(name) as octets:
        from tcpwatch.sources.capture.container import is_capture

        if is_capture(octets):
            yield from _capture(octets, keep_octets=keep_octets)
            return
        try:
            yield from read_recordings(octets.lines())
        except UnicodeDecodeError as error:
            raise TcpwatchError(
                f"{octets.name} is neither a capture nor a recording: it is not text",
                "replay reads pcap and pcapng, and what `tcpwatch run --jsonl FILE` wrote",
                ExitCode.USAGE,
            ) from error
        except TcpwatchError as error:
            message = f"{octets.name}: {error.message}"
            raise TcpwatchError(message, error.remedy, error.exit_code) from error


def _capture(octets: Octets, *, keep_octets: bool) -> Iterator[Recording]:
    from tcpwatch.sources.capture.segments import Capture

    capture = Capture(octets, keep_octets=keep_octets)
    events: list[Event] = []
    broken: TcpwatchError | None = None
    start_ns = None
    try:
        for observation in capture.observations():
            start_ns = capture.tally.first_ns or 0
            t_ns = observation.t_ns - start_ns
            events.append(Event(len(events) + 1, t_ns, observation.vantage, observation.payload))
    except TcpwatchError as error:
        broken = error
    if events or broken is None:
        yield Recording(_record(capture), tuple(events), complete=True)
    if broken is not None:
        raise broken


def _record(capture: Capture) -> RunRecord:
    tally = capture.tally
    duration_ns = tally.last_ns - (tally.first_ns or 0)
    lab: dict[str, object] = {
        "kind": "capture",
        "file": capture.name,
        "container": capture.kind,
        "packed": capture.packed,
        "links": capture.links,
        "started_unix_ns": tally.first_ns or 0,
        "frames": tally.frames,
        "segments": tally.segments,
        "cut": tally.cut,
        "other": dict(tally.other),
        "unread": dict(tally.unread),
        "malformed": dict(tally.malformed),
        "incomplete_datagrams": tally.incomplete,
        "out_of_order": tally.backwards,
    }
    wire: dict[str, object] = {
        "name": WIRE,
        "available": True,
        "detail": "a capture",
        "lost": tally.dropped,
    }
    return RunRecord(
        capture.name,
        describe(capture, duration_ns),
        lab,
        (wire,),
        expect={},
        roles={},
        end_ns=duration_ns,
    )


def describe(capture: Capture, duration_ns: int) -> str:
    """What the capture holds and what of it was read."""
    tally = capture.tally
    kind = [capture.kind, *([f"packed with {capture.packed}"] if capture.packed else [])]
    frames, segments = _counted(tally.frames, "frame"), _counted(tally.segments, "segment")
    told = [", ".join([*kind, *capture.links, f"{frames} in {duration_ns / 1e9:.3f} s"]), segments]
    if tally.other:
        told.append(f"not TCP: {_listed(tally.other)}")
    return "; ".join([*told, *_doubts(tally)])


def _doubts(tally: Tally) -> Iterator[str]:
    """What may be missing from the picture."""
    if tally.unread:
        yield f"NOT READ: {_listed(tally.unread)}"
    if tally.malformed:
        yield f"malformed: {_listed(tally.malformed)}"
    if tally.incomplete:
        yield f"{_counted(tally.incomplete, 'datagram')} without all fragments"
    if tally.cut:
        yield f"{_counted(tally.cut, 'segment')} cut by the capture"
    if tally.dropped:
        yield f"{_counted(tally.dropped, 'frame')} lost by the capturing program"
    if tally.backwards:
        yield f"{_counted(tally.backwards, 'frame')} dated before the one in front of it"


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in counts.most_common())


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")
