"""The way out when the terminal is gone: whatever the screen's library then waits for, we end.

Owns: that a wish to end (SIGHUP, SIGTERM) is the end, after all was cleared up. Must not know what
there is to clear up.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tcpwatch.errors import ExitCode

_LAST_S = 5.0


@contextmanager
def surely_ends(stop: threading.Event, clear_up: Callable[[], object]) -> Iterator[None]:
    """Once ``stop`` is set, ``clear_up`` runs, and the block has a few seconds to end by itself.

    Textual's writer dies with its terminal, and its queue, once full, is waited on for ever
    (textual/drivers/_writer_thread.py): then nothing but leaving at once is left.
    """
    over = threading.Event()

    def watch() -> None:
        stop.wait()
        if over.is_set():
            return
        clear_up()
        if not over.wait(_LAST_S):
            os._exit(ExitCode.INTERRUPTED)

    watcher = threading.Thread(target=watch, name="tcpwatch-leaving", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
