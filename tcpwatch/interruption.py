"""An interruption as a wish: heeded between two steps, and never while modules are imported.

Owns: which signals are one. Must not know what is interrupted.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def signals() -> Iterator[threading.Event]:
    """SIGINT, SIGTERM and SIGHUP as a wish that is heeded between two steps, never within one.

    A KeyboardInterrupt between making something and remembering to unmake it would leave it behind.
    """
    stop = threading.Event()

    def wish(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)  # ignored: by nohup(1), which is to be heeded
    before = {number: signal.signal(number, wish) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Signals wait until it is over: for imports.

    What a handler raises while a class is made, Python 3.11 turns into a RuntimeError
    (typeobject.c, type_new_set_names).
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
