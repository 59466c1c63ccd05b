"""`tcpwatch watch` on a screen: the watching in a thread of its own, and its exit status.

Owns: that thread, the recording beside the screen, and that nothing of either stays behind. Must
not know what the screen shows.
"""

from __future__ import annotations

import gc
import threading
import time
from contextlib import ExitStack

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.interruption import signals
from tcpwatch.outputs.files import open_text
from tcpwatch.sources.sniffer import Sniffer
from tcpwatch.tui.host import HostScreen
from tcpwatch.tui.host_capture import SegmentList
from tcpwatch.verbs.watch import Recorder, WatchSettings
from tcpwatch.watching.filter import read_filter_argument
from tcpwatch.watching.watch import TICK_S, Watch


class Watching:
    """A host that is watched in a thread, beginning with `start`."""

    def __init__(
        self,
        watch: Watch,
        recorder: Recorder | None,
        duration_s: float | None,
        over: threading.Event,
    ) -> None:
        self.error: TcpwatchError | None = None
        self.interrupted = True
        self._over = over
        self._watch, self._recorder = watch, recorder
        self._until_s = None if duration_s is None else time.monotonic() + duration_s
        self._thread = threading.Thread(target=self._go_on, name="tcpwatch-watch", daemon=True)

    def start(self) -> None:
        self._watch.look_first()
        gc.freeze()  # ten thousand sockets that stay need not be looked through again and again
        self._thread.start()

    def end(self) -> None:
        """Ends it, and returns when it has ended."""
        self._watch.stop()
        if self._thread.ident is not None:
            self._thread.join()

    def _go_on(self) -> None:
        try:
            while not self._watch.wait(TICK_S):
                self._watch.step()
                if self._recorder is not None:
                    self._recorder.flush()
                if self._until_s is not None and time.monotonic() >= self._until_s:
                    self.interrupted = False
                    break
        except TcpwatchError as error:
            self.error, self.interrupted = error, False
        finally:
            self._over.set()


def watch_on_screen(settings: WatchSettings) -> int:
    """Shows the host until somebody quits. Raises TcpwatchError where nobody can see."""
    wanted = read_filter_argument(settings.filter)
    with ExitStack() as stack:
        out = None if settings.jsonl is None else open_text(settings.jsonl, stack)
        watch = Watch(settings.options)
        stack.callback(watch.close)
        recorder = Recorder(watch, wanted, out) if out is not None else None
        if recorder is not None:
            recorder.begin()
            stack.callback(recorder.end)
        over = stack.enter_context(signals())
        watching = Watching(watch, recorder, settings.duration_s, over)
        stack.callback(watching.end)
        watching.start()
        screen = HostScreen(
            watch,
            filter_text=" ".join(settings.filter),
            begin_capture=lambda sock: SegmentList(Sniffer(sock.tuple)),
            over=over,
        )
        screen.run()
        interrupted = over.is_set() and watching.interrupted
        watching.end()
        if watching.error is not None:
            raise watching.error
    return ExitCode.INTERRUPTED if interrupted else ExitCode.OK
