"""I/O multiplexing: the process sleeps in select(), which could watch many sockets, not in recv().

Usage: python3 io_multiplexing.py HOST PORT
"""

import select
import socket
import sys


def main(host: str, port: int) -> None:
    with socket.create_connection((host, port)) as connection:
        connection.sendall(b"request")
        select.select([connection], [], [])
        answer = connection.recv(4096)  # which select() says will not block
        print(answer.decode())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
