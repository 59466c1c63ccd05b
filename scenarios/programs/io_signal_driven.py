"""Signal-driven I/O: the process works on, and SIGIO tells it that there is something to read.

Usage: python3 io_signal_driven.py HOST PORT
"""

import contextlib
import fcntl
import os
import signal
import socket
import sys
from types import FrameType

from other_work import do_other_work


def main(host: str, port: int) -> None:
    answer = b""

    def read(_number: int, _frame: FrameType | None) -> None:
        nonlocal answer
        with contextlib.suppress(BlockingIOError):  # SIGIO does not say of what it tells
            answer = connection.recv(4096)

    with socket.create_connection((host, port)) as connection:
        signal.signal(signal.SIGIO, read)
        fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())  # whom to tell
        flags = fcntl.fcntl(connection, fcntl.F_GETFL)
        fcntl.fcntl(connection, fcntl.F_SETFL, flags | os.O_ASYNC | os.O_NONBLOCK)
        connection.sendall(b"request")
        while not answer:
            do_other_work()
        print(answer.decode())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
