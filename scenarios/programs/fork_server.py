"""A concurrent server: a child for each connection, and what becomes of the children that end.

    python3 fork_server.py HOST PORT ignored|sig-ign|wait-once|waitpid-loop

A child that has ended is a zombie until its parent has waited for it. Only the last two wait, and
only the last waits for each; with SIG_IGN the parent says that it never will, and there are none.
"""

import os
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType


def wait_once(_signal: int, _frame: FrameType | None) -> None:
    """Wrong: of the children that end while a signal is still on its way only one is waited for."""
    os.wait()


def wait_for_all(_signal: int, _frame: FrameType | None) -> None:
    """Right: as many as have ended by now."""
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        pass  # not one is left, living or dead


REAPING: dict[str, Callable[[int, FrameType | None], None] | signal.Handlers] = {
    "ignored": signal.SIG_DFL,
    "sig-ign": signal.SIG_IGN,
    "wait-once": wait_once,
    "waitpid-loop": wait_for_all,
}


def serve(connection: socket.socket) -> None:
    while data := connection.recv(4096):
        connection.sendall(data)
    connection.close()


def main(host: str, port: int, reaping: str) -> None:
    signal.signal(signal.SIGCHLD, REAPING[reaping])
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family)
    while True:
        connection, _peer = listener.accept()
        if os.fork() == 0:
            listener.close()  # the child is there for this one connection
            serve(connection)
            os._exit(0)
        connection.close()  # the child has it; were it open here too, its close() would send no FIN


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
