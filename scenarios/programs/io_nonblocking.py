"""Nonblocking I/O: recv() always comes back at once, and the process asks again and again.

Usage: python3 io_nonblocking.py HOST PORT
"""

import socket
import sys

from other_work import do_other_work


def main(host: str, port: int) -> None:
    with socket.create_connection((host, port)) as connection:
        connection.sendall(b"request")
        connection.setblocking(False)
        answer = b""
        while not answer:
            try:
                answer = connection.recv(4096)
            except BlockingIOError:  # EWOULDBLOCK: nothing is here yet
                do_other_work()
        print(answer.decode())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
