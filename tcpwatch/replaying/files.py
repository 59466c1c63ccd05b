"""What can be replayed: a file that is a recording of ours or a capture of anybody's, as runs.

Owns: telling them apart by content, what captures are as one run (its record and its events), and
that standard input, which can be read once, is read as often as needed. Must not conclude or draw.
"""

from __future__ import annotations

import heapq
import ipaddress
import os
import select
import stat
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.model.events import WIRE, Event, SegmentSeen
from tcpwatch.model.identity import FourTuple
from tcpwatch.model.recording import Recording, read_recordings
from tcpwatch.model.timeline import CAPTURE, RunRecord
from tcpwatch.model.witness import Observation
from tcpwatch.sources.capture.octets import open_octets

if TYPE_CHECKING:
    from tcpwatch.sources.capture.octets import Octets
    from tcpwatch.sources.capture.rows import Progress
    from tcpwatch.sources.capture.segments import Capture, Tally

STDIN: Final = "-"
_STDIN_CALLED: Final = "standard input"
_PIECE: Final = 1 << 20
_TOLD_BY: Final = 4  # octets
_READ: Final = "Ethernet, Linux cooked, raw IP, loopback, PPP, IEEE 802.11: capture there"
_RECORDING_BEGINS: Final = (b"{", b" ", b"\t", b"\r", b"\n")  # blank lines mean nothing
_PASSED_OVER_AT_MOST: Final = 16
"""Four-tuples that a frame's octets are searched for; with more, to read it is no slower."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file that can be read as often as needed. ``name`` is what the user calls it."""

    name: str
    path: str

    def called(self, error: TcpwatchError) -> TcpwatchError:
        """The error in the user's words."""
        if self.path == self.name:
            return error
        message, remedy = (
            text.replace(self.path, self.name) for text in (error.message, error.remedy)
        )
        return TcpwatchError(message, remedy, error.exit_code)


@contextmanager
def sources(names: Sequence[str], stop: Callable[[], bool]) -> Iterator[list[Source]]:
    """The files named, each once; standard input, for ``-``, as far as it comes until ``stop``.

    Raises TcpwatchError where that is named twice.
    """
    if names.count(STDIN) > 1:
        raise TcpwatchError("standard input can be read only once", "name - once", ExitCode.USAGE)
    with ExitStack() as stack:
        found = []
        for name in told_apart(names)[0]:
            given = _stream(name)
            if given is None:
                found.append(Source(name, name))
                continue
            kept = stack.enter_context(tempfile.NamedTemporaryFile(prefix="tcpwatch-"))
            try:
                _fill(kept.fileno(), given, stop)
            finally:
                if name != STDIN:
                    os.close(given)
            found.append(Source(_STDIN_CALLED if name == STDIN else name, kept.name))
        yield found


def _stream(name: str) -> int | None:
    """A descriptor of what can be read only once: standard input, a pipe, a device."""
    if name == STDIN:
        if sys.stdin is None:
            raise TcpwatchError("standard input is closed", "name a file", ExitCode.USAGE)
        return sys.stdin.fileno()
    try:
        mode = Path(name).stat().st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
            return os.open(name, os.O_RDONLY | os.O_NONBLOCK)  # nobody may be there to write yet
    except (OSError, ValueError):  # that is told where it is read
        pass
    return None


def told_apart(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those that name a file first, and those that name one which another did before."""
    found: set[object] = set()
    first, again = list[str](), list[str]()
    for name in names:
        file: object = name
        with suppress(OSError, ValueError):  # that is told where it is opened
            status = Path(name).stat() if name != STDIN else None
            file = name if status is None else (status.st_dev, status.st_ino)
        (again if file in found else first).append(name)
        found.add(file)
    return first, again


def _fill(kept: int, given: int, stop: Callable[[], bool]) -> None:
    """Copies a stream, as far as it may be what we read.

    It is waited for in turns, so that a wish to stop is heeded.
    """
    from tcpwatch.sources.capture.container import may_begin

    begins = b""
    while not stop():
        if not select.select([given], [], [], 0.2)[0]:
            continue
        piece = os.read(given, _PIECE)
        if not piece:
            return
        if len(begins) < _TOLD_BY:
            begins += piece[:_TOLD_BY]
            none = begins[:1] not in _RECORDING_BEGINS and not may_begin(begins)
            if len(begins) >= _TOLD_BY and none:
                os.write(kept, begins)
                return
        try:
            while piece:
                piece = piece[os.write(kept, piece) :]
        except OSError as error:
            raise TcpwatchError(
                f"cannot keep what is read in {tempfile.gettempdir()}: {error.strerror}",
                "make room there, name another folder by TMPDIR, or name a file",
            ) from error


def is_capture(source: Source) -> bool:
    """Whether it begins as a capture does. Raises TcpwatchError where no more of it can be read."""
    from tcpwatch.sources.capture.container import is_capture as begins_so
    from tcpwatch.sources.capture.segments import Capture

    try:
        with open_octets(source.path) as octets:
            return begins_so(octets) and Capture(octets) is not None
    except TcpwatchError as error:
        raise source.called(error) from error


def read_file(name: str, *, keep_octets: bool = False) -> Iterator[Recording]:
    """The runs in a file, or in standard input for ``-``.

    ``keep_octets``: the packets of a capture stay with its segments, for outputs that write them.

    Raises TcpwatchError where the file is neither a capture nor a recording, or, after all that
    could be read, where it breaks off.
    """
    with sources([name], lambda: False) as (source,):
        if is_capture(source):
            captures = Captures([source], keep_octets=keep_octets)
            yield captures.recording()
            captures.raise_broken()
        else:
            yield from recordings_in(source)


def recordings_in(source: Source) -> Iterator[Recording]:
    """The runs of a recording. Raises as `read_file`."""
    with open_octets(source.path) as octets:
        from tcpwatch.sources.capture.container import no_capture

        if octets.peek(1) not in _RECORDING_BEGINS:
            raise source.called(no_capture(octets))
        try:
            yield from read_recordings(octets.lines())
        except UnicodeDecodeError as error:
            raise TcpwatchError(
                f"{source.name} is neither a capture nor a recording: it is not text",
                "replay reads pcap and pcapng, and what `tcpwatch run --jsonl FILE` wrote",
                ExitCode.USAGE,
            ) from error
        except TcpwatchError as error:
            message = f"{source.name}: {error.message}"
            raise source.called(TcpwatchError(message, error.remedy, error.exit_code)) from error


class Captures:
    """Some captures as one, in order of time.

    ``broken`` are the errors of those that could not be read, or not to their end, once all that
    could be was given.
    """

    def __init__(self, given: Sequence[Source], *, keep_octets: bool = False) -> None:
        """``keep_octets``: each segment's packet stays with it."""
        self._given = given
        self._keep_octets = keep_octets
        self.broken: list[TcpwatchError] = []

    def raise_broken(self) -> None:
        """Raises the first error, where there is one."""
        if self.broken:
            raise self.broken[0]

    def recording(
        self,
        only: Collection[FourTuple] | None = None,
        *,
        until_ns: int | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> Recording:
        """All that they hold, or what is of those connections, as far as ``until_ns``.

        ``progress`` is told now and then how far it is. Raises TcpwatchError where nothing at all
        can be read.
        """
        from tcpwatch.sources.capture.rows import progress_of, size_of
        from tcpwatch.sources.capture.segments import Capture

        opened: list[Octets] = []
        sizes: list[int | None] = []

        def tell() -> None:
            if progress is not None:
                progress(progress_of(opened, sizes, captures))

        tuples = None if only is None else {*only, *(one.flipped for one in only)}
        wanted = None if only is None else _searched(only)
        events: list[Event] = []
        read: list[tuple[Source, Capture]] = []
        self.broken = []
        with ExitStack() as stack:
            for source in self._given:
                try:
                    octets = stack.enter_context(open_octets(source.path))
                    capture = Capture(
                        octets, keep_octets=self._keep_octets, wanted=wanted, tell=tell
                    )
                except TcpwatchError as error:
                    self.broken.append(source.called(error))
                    continue
                capture.name = source.name
                opened.append(octets)
                sizes.append(size_of(source.path, octets))
                read.append((source, capture))
            captures = [capture for _, capture in read]
            streams = [
                self._stream(source, capture, (place, len(read)))
                for place, (source, capture) in enumerate(read)
            ]
            for one in heapq.merge(*streams, key=_time):
                t_ns = one.t_ns - first_ns(captures)
                if until_ns is not None and t_ns > until_ns:
                    break
                if tuples is None or _tuple(one) in tuples:
                    events.append(Event(len(events) + 1, t_ns, one.vantage, one.payload))
        if not read or (self.broken and not events):
            self.raise_broken()
        return Recording(record_of(captures), tuple(events), complete=True)

    def _stream(
        self, source: Source, capture: Capture, numbered: tuple[int, int]
    ) -> Iterator[Observation]:
        """Its segments, numbered so that those of several captures differ."""
        place, count = numbered
        try:
            for one in capture.observations():
                seen = one.payload
                if count > 1 and isinstance(seen, SegmentSeen):
                    copy_of = None if seen.copy_of is None else seen.copy_of * count + place
                    renumbered = replace(seen, n=seen.n * count + place, copy_of=copy_of)
                    yield replace(one, payload=renumbered)
                else:
                    yield one
        except TcpwatchError as error:
            self.broken.append(source.called(error))


def _time(one: Observation) -> int:
    return one.t_ns


def _tuple(one: Observation) -> FourTuple | None:
    seen = one.payload
    return FourTuple(seen.src, seen.dst) if isinstance(seen, SegmentSeen) else None


def _searched(only: Collection[FourTuple]) -> Callable[[bytes], bool] | None:
    """Whether both addresses of one of them stand in a frame, wherever its headers are."""
    if len(only) > _PASSED_OVER_AT_MOST:
        return None
    pairs = {
        (ipaddress.ip_address(one.local.ip).packed, ipaddress.ip_address(one.remote.ip).packed)
        for one in only
    }
    return lambda frame: any(one in frame and other in frame for one, other in pairs)


# ---------------------------------------------------------------------- the record


def first_ns(captures: Sequence[Capture]) -> int:
    """When the first frame of all was captured, since 1970."""
    return min((c.tally.first_ns for c in captures if c.tally.first_ns is not None), default=0)


def record_of(captures: Sequence[Capture]) -> RunRecord:
    """What captures are as a run, as far as they were read."""
    tally = _together([capture.tally for capture in captures])
    started_ns = tally.first_ns or 0
    end_ns = tally.last_ns - started_ns
    names = [capture.name for capture in captures]
    lab: dict[str, object] = {
        "kind": CAPTURE,
        "file": names[0] if len(names) == 1 else names,
        "container": _one_of(capture.kind for capture in captures),
        "packed": _one_of(capture.packed for capture in captures),
        "links": _links(captures),
        "started_unix_ns": started_ns,
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
    name = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more, as one"
    claim = describe(captures, tally)
    return RunRecord(name, claim, lab, (wire,), expect={}, roles={}, end_ns=end_ns)


def _together(tallies: Sequence[Tally]) -> Tally:
    """The tallies of several captures as one."""
    from tcpwatch.sources.capture.segments import Tally

    if len(tallies) == 1:
        return tallies[0]
    whole = Tally()
    for one in tallies:
        for name in ("frames", "segments", "cut", "incomplete", "dropped", "backwards"):
            setattr(whole, name, getattr(whole, name) + getattr(one, name))
        for name in ("links", "other", "unread", "malformed"):
            getattr(whole, name).update(getattr(one, name))
        if one.first_ns is not None:
            whole.first_ns = min(
                one.first_ns, one.first_ns if whole.first_ns is None else whole.first_ns
            )
        whole.last_ns = max(whole.last_ns, one.last_ns)
    return whole


def _one_of(names: Iterator[str]) -> str:
    return ", ".join(dict.fromkeys(filter(None, names)))


def _links(captures: Sequence[Capture]) -> list[str]:
    return list(dict.fromkeys(link for capture in captures for link in capture.links))


def describe(captures: Sequence[Capture], tally: Tally) -> str:
    """What the captures hold and what of it was read."""
    duration_ns = tally.last_ns - (tally.first_ns or 0)
    packed = _one_of(capture.packed for capture in captures)
    kind = [
        _one_of(capture.kind for capture in captures),
        *([f"packed with {packed}"] * bool(packed)),
    ]
    frames, segments = _counted(tally.frames, "frame"), _counted(tally.segments, "segment")
    span = f"{frames} in {duration_ns / 1e9:.3f} s"
    told = [", ".join([*kind, *_links(captures), span]), segments]
    if tally.other:
        told.append(f"not TCP: {_listed(tally.other)}")
    return "; ".join([*told, *_doubts(tally)])


def _doubts(tally: Tally) -> Iterator[str]:
    """What may be missing from the picture."""
    if tally.unread:
        yield f"NOT READ: {_listed(tally.unread)}"
    if any(reason.startswith("link type ") for reason in tally.unread):
        yield f"what is read: {_READ}"
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
