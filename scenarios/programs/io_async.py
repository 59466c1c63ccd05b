"""Asynchronous I/O: a read is ordered, and a signal tells that it has been done, the data in place.

Usage: python3 io_async.py HOST PORT [aio|thread]

By aio_read() of the C library, or without one by a thread of our own; it prints which. glibc has
that thread in itself: it makes the blocking call, and the process is told when it is back.
"""

import ctypes
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

from other_work import do_other_work

LIBC = ctypes.CDLL(None, use_errno=True)
HAS_AIO = hasattr(LIBC, "aio_read") and ctypes.sizeof(ctypes.c_void_p) == 8  # as laid out below
SIGEV_SIGNAL = 0


class SigEvent(ctypes.Structure):
    """struct sigevent: how to tell that it is done."""

    _fields_ = (
        ("sigev_value", ctypes.c_void_p),
        ("sigev_signo", ctypes.c_int),
        ("sigev_notify", ctypes.c_int),
        ("reserved", ctypes.c_char * 48),
    )


class ControlBlock(ctypes.Structure):
    """struct aiocb: what is to be read, and where to."""

    _fields_ = (
        ("aio_fildes", ctypes.c_int),
        ("aio_lio_opcode", ctypes.c_int),
        ("aio_reqprio", ctypes.c_int),
        ("aio_buf", ctypes.c_void_p),
        ("aio_nbytes", ctypes.c_size_t),
        ("aio_sigevent", SigEvent),
        ("internal", ctypes.c_char * 32),
        ("aio_offset", ctypes.c_int64),
        ("reserved", ctypes.c_char * 32),
    )


def order_from_libc(connection: socket.socket, buffer: Any) -> Callable[[], int]:
    """Orders the read by aio_read(); gives what to call for its result once it is done."""
    block = ControlBlock(aio_fildes=connection.fileno())
    block.aio_buf, block.aio_nbytes = ctypes.addressof(buffer), len(buffer)
    block.aio_sigevent = SigEvent(sigev_signo=signal.SIGUSR1, sigev_notify=SIGEV_SIGNAL)
    if LIBC.aio_read(ctypes.byref(block)):
        raise OSError(ctypes.get_errno(), "aio_read")

    def result() -> int:
        if error := LIBC.aio_error(ctypes.byref(block)):
            raise OSError(error, os.strerror(error))
        return int(LIBC.aio_return(ctypes.byref(block)))

    return result


def order_from_thread(connection: socket.socket, buffer: Any) -> Callable[[], int]:
    """The same by a thread."""
    counts: list[int] = []

    def read() -> None:
        counts.append(connection.recv_into(buffer))
        os.kill(os.getpid(), signal.SIGUSR1)

    threading.Thread(target=read).start()
    return lambda: counts[0]


def main(host: str, port: int, how: str = "aio" if HAS_AIO else "thread") -> None:
    done = threading.Event()
    signal.signal(signal.SIGUSR1, lambda *_: done.set())
    buffer = ctypes.create_string_buffer(4096)
    order = order_from_libc if how == "aio" else order_from_thread
    print("asynchronous by", "aio_read() of libc" if how == "aio" else "a thread of our own")
    with socket.create_connection((host, port)) as connection:
        connection.sendall(b"request")
        result = order(connection, buffer)
        while not done.is_set():
            do_other_work()
        print(buffer.raw[: result()].decode())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
