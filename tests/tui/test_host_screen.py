"""The host's screen without a terminal: how it looks at three sizes, and what its keys do.

The golden screens are in tests/data/screens; TCPWATCH_NEW_SCREENS=1 writes them anew, to be looked
at before they are kept.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from tcpwatch.errors import TcpwatchError
from tcpwatch.lab.inject import craft
from tcpwatch.machine.population import HostSocket
from tcpwatch.model.events import SegmentSeen
from tcpwatch.model.identity import SocketAddress
from tcpwatch.replaying.files import read_file
from tcpwatch.sources.sniffer import Captured
from tcpwatch.tcp.header import TcpPacket, parse_ip
from tcpwatch.tcp.state import TcpState as S
from tcpwatch.tui.help import Help
from tcpwatch.tui.host import HostScreen
from tcpwatch.tui.host_capture import SegmentList
from tcpwatch.tui.host_page import SocketPage
from tcpwatch.tui.host_table import RowTable
from tcpwatch.tui.pane import Pane
from tests.tui.hostscene import BEGAN_UNIX_NS, SECOND_NS, Scene, busy_host, ends

if TYPE_CHECKING:
    from tests.tui.conftest import Play, TextOf

SCREENS = Path(__file__).parents[1] / "data" / "screens"
SIZES = [(80, 24), (120, 40), (200, 50)]


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return busy_host(tmp_path)


async def drawn(pilot: Pilot[Any]) -> None:
    app = pilot.app
    assert isinstance(app, HostScreen)
    await pilot.pause()
    app.draw_all()
    await pilot.pause()


def rows(app: HostScreen) -> list[str]:
    return app.query_one(RowTable).text().splitlines()[1:]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_screen_is_as_it_was_looked_at(
    scene: Scene, play: Play, text_of: TextOf, size: tuple[int, int]
) -> None:
    app = HostScreen(scene.host)

    async def look(pilot: Pilot[Any]) -> None:
        moments: dict[str, tuple[str, tuple[str, ...]]] = {
            "all": ("", ()),
            "filter": ("state:close-wait recvq>600", ("slash",)),
            "wrong": ("state:close-wait port:", ("slash",)),
            "page": ("", ("escape", "end", "enter")),
            "path": ("203.0.113.10", ("escape", "slash", "enter", "enter")),
        }
        for moment, (text, keys) in moments.items():
            await pilot.press(*keys[:2])
            if text:
                app.query_one("#asked", Input).value = text
            await pilot.press(*keys[2:])
            await drawn(pilot)
            golden = SCREENS / f"host-{moment}-{size[0]}x{size[1]}.txt"
            shown = f"{text_of(app)}\n"
            if os.environ.get("TCPWATCH_NEW_SCREENS"):
                golden.write_text(shown, encoding="utf-8")
            assert shown == golden.read_text(encoding="utf-8")

    play(app, size, look)


@pytest.mark.parametrize("size", [(20, 5), (40, 12), (79, 23), (300, 80)])
def test_any_size_has_a_screen(scene: Scene, play: Play, size: tuple[int, int]) -> None:
    app = HostScreen(scene.host)

    async def look(pilot: Pilot[Any]) -> None:
        await drawn(pilot)
        await pilot.press("v", "end", "enter", "escape", "slash")
        await pilot.resize_terminal(120, 40)
        await drawn(pilot)
        assert len(app.query(RowTable)) == 1

    play(app, size, look)


def test_a_filter_is_applied_while_one_types(scene: Scene, play: Play, text_of: TextOf) -> None:
    app = HostScreen(scene.host)

    async def type_it(pilot: Pilot[Any]) -> None:
        await pilot.press("slash", *"state:close-wait")
        await drawn(pilot)
        assert len(rows(app)) == 7
        assert all("CLOSE-WAIT" in row for row in rows(app))
        # What cannot be read, or is only a field's name so far, changes nothing.
        await pilot.press(*" age>")
        await drawn(pilot)
        assert len(rows(app)) == 7
        assert "age> needs a value" in text_of(app)
        await pilot.press(*"12s", "enter")
        await drawn(pilot)
        assert len(rows(app)) == 3
        assert not isinstance(app.focused, Input)
        await pilot.press("escape")
        await drawn(pilot)
        assert len(rows(app)) > 7

    play(app, (120, 60), type_it)


def test_a_filter_selects_moves_too(scene: Scene, play: Play) -> None:
    app = HostScreen(scene.host, filter_text="state:fin-wait-1")

    async def look(pilot: Pilot[Any]) -> None:
        await drawn(pilot)
        told = app.query_one("#moves", Pane).text.splitlines()
        assert len(told) == 2  # into FIN-WAIT-1 and out of it, though it is there no more
        assert all("FIN-WAIT-1" in line for line in told)

    play(app, (120, 40), look)


def test_columns_decide_the_order_by_key_and_by_mouse(scene: Scene, play: Play) -> None:
    app = HostScreen(scene.host)

    async def sort(pilot: Pilot[Any]) -> None:
        await drawn(pilot)
        assert "LISTEN" in rows(app)[0]
        await pilot.press("s")  # age, the oldest first
        await drawn(pilot)
        assert ">22s" in rows(app)[0]
        await pilot.press("r")
        await drawn(pilot)
        assert ">22s" in rows(app)[-1]
        await pilot.press("s")  # Recv-Q, the longest first
        await drawn(pilot)
        assert "2561" in rows(app)[0]
        await pilot.click(RowTable, offset=(66, 0))  # the head of Remote
        await drawn(pilot)
        assert "LISTEN" in rows(app)[0]  # nobody's address is before all
        assert "[2001:db8" in rows(app)[-1]

    play(app, (120, 60), sort)


def test_the_selected_row_stays_selected_and_in_its_place(scene: Scene, play: Play) -> None:
    app = HostScreen(scene.host)
    table = RowTable

    async def select(pilot: Pilot[Any]) -> None:
        await drawn(pilot)
        await pilot.press("pagedown", "pagedown", "up")
        chosen = app.query_one(table).current
        await pilot.press("s", "r", "s")
        await drawn(pilot)
        assert app.query_one(table).current == chosen
        # Another one is gone, and one comes: the selection keeps to its own.
        scene.is_in(ends("10.0.0.5:443", "203.0.113.200:1"), S.SYN_RECEIVED, since_ns=1)
        scene.later(1)
        await drawn(pilot)
        assert app.query_one(table).current == chosen
        await pilot.click(table, offset=(10, 1))
        assert app.query_one(table).current != chosen

    play(app, (80, 24), select)


def test_only_rows_in_sight_are_ever_drawn(tmp_path: Path, play: Play) -> None:
    scene = Scene(tmp_path)
    for number in range(3_000):
        pair = ends("10.0.0.5:443", f"10.1.{number // 250}.{number % 250}:4000")
        scene.is_in(pair, S.ESTABLISHED)
    app = HostScreen(scene.host)

    async def scroll(pilot: Pilot[Any]) -> None:
        await drawn(pilot)
        before = app.rows_drawn
        await pilot.press(*["pagedown"] * 10, "end", "home")
        await pilot.pause()
        assert app.rows_drawn - before < 13 * 5 * 24
        assert app.query_one(RowTable).virtual_size.height == 3_001

    play(app, (80, 24), scroll)


def test_hostile_names_are_shown_as_text(scene: Scene, play: Play, text_of: TextOf) -> None:
    app = HostScreen(scene.host, filter_text="port:6667")

    async def look(pilot: Pilot[Any]) -> None:
        await drawn(pilot)
        assert "\\x1b[31m[b]x[6667]" in text_of(app)
        await pilot.press("enter")
        await drawn(pilot)
        shown = text_of(app)
        assert "\\x1b]0;owned\\x07" in shown
        assert "[link=https://x]click[/link]" in shown
        assert "\x1b" not in shown
        assert "\x07" not in shown

    play(app, (120, 40), look)


def test_the_page_tells_the_path_with_its_times(scene: Scene, play: Play) -> None:
    app = HostScreen(scene.host, filter_text="203.0.113.10")

    async def look(pilot: Pilot[Any]) -> None:
        await drawn(pilot)
        await pilot.press("enter")
        await drawn(pilot)
        page = app.screen
        assert isinstance(page, SocketPage)
        text = page.query_one("#facts", Pane).text
        assert "ESTABLISHED" in text
        assert "by CLOSE, lasted 3 ms" in text
        assert "FIN-WAIT-2 or TIME-WAIT or CLOSED" in text
        assert "not settled" in text
        assert "held by 2 processes" in text
        # The table of the screen below cannot be sorted from here.
        await pilot.press("s", "slash")
        assert app.screen is page
        await pilot.press("escape")
        await drawn(pilot)
        assert not isinstance(app.screen, SocketPage)

    play(app, (120, 40), look)


def test_the_page_of_what_has_ended_stays(scene: Scene, play: Play) -> None:
    app = HostScreen(scene.host, filter_text="203.0.113.11")

    async def look(pilot: Pilot[Any]) -> None:
        await drawn(pilot)
        await pilot.press("enter")
        pair = ends("10.0.0.5:443", "203.0.113.11:50007")
        scene.moves(pair, S.CLOSE_WAIT, S.LAST_ACK, S.CLOSED, skaddr=11)
        await drawn(pilot)
        page = app.screen
        assert isinstance(page, SocketPage)
        page.show_now()
        text = page.query_one("#facts", Pane).text
        assert "it has ended" in text
        assert "LAST-ACK" in text

    play(app, (120, 40), look)


def test_a_capture_that_is_refused_is_told(scene: Scene, play: Play, text_of: TextOf) -> None:
    def refuse(_socket: HostSocket) -> Any:
        raise TcpwatchError("cannot capture [b]here[/b]", "run as root")

    app = HostScreen(scene.host, filter_text="203.0.113.11", begin_capture=refuse)

    async def look(pilot: Pilot[Any]) -> None:
        await drawn(pilot)
        await pilot.press("enter", "c")
        await pilot.pause()
        told = " ".join(text_of(app).split())
        assert "cannot capture [b]here[/b]; run as root" in told

    play(app, (120, 40), look)


class Passing:
    """A source that gives two segments at once: one sent, one received."""

    def __init__(self, sock: HostSocket) -> None:
        now_ns = BEGAN_UNIX_NS + 3600 * SECOND_NS
        self._left = [
            self._one(now_ns, sock.local, sock.remote, sent=True),
            self._one(now_ns + 1, sock.remote, sock.local, sent=False),
        ]
        self.closed = 0

    @staticmethod
    def _one(unix_ns: int, src: SocketAddress, dst: SocketAddress, *, sent: bool) -> Captured:
        octets = craft(src, dst, "A", 7, 9)
        packet = parse_ip(octets)
        assert isinstance(packet, TcpPacket)
        return Captured(unix_ns, sent, packet.segment, octets)

    def read(self) -> list[Captured]:
        found, self._left = self._left, []
        return found

    def dropped(self) -> int:
        return 3

    def close(self) -> None:
        self.closed += 1


def test_captured_segments_are_saved_with_the_state_they_met(
    scene: Scene, play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sources: list[Passing] = []

    def begin(sock: HostSocket) -> SegmentList:
        sources.append(Passing(sock))
        return SegmentList(sources[-1])

    app = HostScreen(scene.host, filter_text="203.0.113.11", begin_capture=begin)

    async def look(pilot: Pilot[Any]) -> None:
        await drawn(pilot)
        await pilot.press("enter", "c")
        await drawn(pilot)
        shown = app.screen.query_one("#segments", Pane).text
        assert (
            "2 segments since you asked; offload may have joined several in one; 3 were lost"
            in shown
        )
        await pilot.press("c")  # no more: what there is stays
        assert sources[0].closed == 1
        await pilot.press("ctrl+s")
        await pilot.pause()
        await pilot.press("escape")

    play(app, (120, 40), look)
    assert sources[0].closed == 1
    (capture,) = tmp_path.glob("*.pcapng")
    (recording,) = read_file(str(capture))
    seen = [one.payload for one in recording.events if isinstance(one.payload, SegmentSeen)]
    assert [str(one.src) for one in seen] == ["10.0.0.5:443", "203.0.113.11:50007"]
    octets = capture.read_bytes()
    assert b"sent by 10.0.0.5:443 in CLOSE-WAIT" in octets
    assert b"received by 10.0.0.5:443 in CLOSE-WAIT" in octets
    (page,) = tmp_path.glob("*.txt")
    assert "CLOSE-WAIT" in page.read_text(encoding="utf-8")


def test_pause_stands_still_while_the_watching_goes_on(scene: Scene, play: Play) -> None:
    app = HostScreen(scene.host)

    async def pause(pilot: Pilot[Any]) -> None:
        await drawn(pilot)
        before = app.query_one("#moves", Pane).text
        await pilot.press("p")
        pair = ends("10.0.0.5:443", "203.0.113.12:50014")
        scene.moves(pair, S.ESTABLISHED, S.CLOSE_WAIT, skaddr=12)
        await drawn(pilot)
        assert app.query_one("#moves", Pane).text == before
        await pilot.press("p")
        await drawn(pilot)
        assert "203.0.113.12" in app.query_one("#moves", Pane).text

    play(app, (120, 40), pause)


def test_help_copy_and_save(
    scene: Scene, play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    app = HostScreen(scene.host, filter_text="state:close-wait")

    async def look(pilot: Pilot[Any]) -> None:
        await drawn(pilot)
        await pilot.press("question_mark")
        assert isinstance(app.screen, Help)
        await pilot.press("escape")
        await pilot.press("y")
        assert "CLOSE-WAIT" in app.clipboard
        await pilot.press("ctrl+s")
        await pilot.pause()

    play(app, (80, 24), look)
    (table,) = tmp_path.glob("*.txt")
    assert len(table.read_text(encoding="utf-8").splitlines()) == 8
    assert list(tmp_path.glob("*.svg"))


def test_a_missing_witness_is_told(tmp_path: Path, play: Play, text_of: TextOf) -> None:
    scene = Scene(tmp_path, attending=("table",))
    app = HostScreen(scene.host)

    async def look(pilot: Pilot[Any]) -> None:
        await drawn(pilot)
        assert "no kernel" in text_of(app).splitlines()[0]

    play(app, (80, 24), look)
