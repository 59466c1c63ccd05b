"""What `run --pcap` writes, replayed: both ends go the way that all witnesses saw, or may have."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest

from tcpwatch.lab.scenario import catalogue
from tcpwatch.machine.verdict import judge
from tcpwatch.model.timeline import Connection, Endpoint, Judged
from tcpwatch.replaying.files import read_file
from tcpwatch.replaying.replayed import tracker_of
from tcpwatch.views.pcap import write_pcapng
from tests.agreement import agrees_as_far_as_seen
from tests.played import played

pytestmark = [pytest.mark.needs("lab", "kernel", "table"), pytest.mark.timeout(300)]

INVISIBLE = {"time-wait-bucket-overflow": "that there is no TIME-WAIT left, no segment shows"}
NAMES = sorted(name for name, one in catalogue().items() if not one.slow)


def judged(name: str) -> Judged:
    record, tracker = tracker_of(played()[name].recording)
    for event in played()[name].recording.events:
        tracker.feed(event)
    return judge(record, tracker.timeline(record.end_ns))


def replayed(run: Judged, folder: Path) -> tuple[Connection, ...]:
    file = BytesIO()
    write_pcapng(run, file)
    (folder / "run.pcapng").write_bytes(file.getvalue())
    (recording,) = read_file(str(folder / "run.pcapng"))
    record, tracker = tracker_of(recording)
    for event in recording.events:
        tracker.feed(event)
    return tracker.timeline(record.end_ns).connections


def certain(endpoint: Endpoint) -> bool:
    """A state that the run itself leaves open cannot be held against the replay."""
    return all(belief.certain for belief in endpoint.path[1:])


@pytest.mark.parametrize("name", NAMES)
def test_a_replayed_capture_of_ours_shows_the_way_that_the_run_showed(
    name: str, tmp_path: Path
) -> None:
    run = judged(name)
    # What the wire crafted stands in the capture as if the stack had sent it.
    genuine = [c for c in run.timeline.connections if not any(t.injected for t in c.segments)]
    again = list(replayed(run, tmp_path))
    agreed = True
    for connection in (c for c in genuine if c.segments):
        ends = {end.address for end in connection.endpoints}
        shown = next(c for c in again if {end.address for end in c.endpoints} == ends)
        again.remove(shown)
        for endpoint in filter(certain, connection.endpoints):
            (other,) = [end for end in shown.endpoints if end.address == endpoint.address]
            path = [belief.certain for belief in endpoint.path[1:]]
            first = endpoint.path[0].certain or min(other.path[0].states, key=lambda s: s.value)
            went = [first, *(state for state in path if state)]
            agreed &= agrees_as_far_as_seen(other.path, went)
            shows = [" > ".join(map(str, one.path)) for one in (endpoint, other)]
            assert agreed or name in INVISIBLE, (connection.number, endpoint.role, *shows)
    assert agreed == (name not in INVISIBLE)
