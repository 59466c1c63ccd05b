"""Blocking I/O: recv() comes back when the answer is here, and until then the process sleeps in it.

Usage: python3 io_blocking.py HOST PORT
"""

import socket
import sys


def main(host: str, port: int) -> None:
    with socket.create_connection((host, port)) as connection:
        connection.sendall(b"request")
        answer = connection.recv(4096)
        print(answer.decode())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
