"""A client that listens to two at once: whoever types, and the server.

Usage: python3 select_client.py HOST PORT

When the input ends it says so to the server, and still prints all that comes. When the server ends
first it knows at once, though nobody has typed anything.
"""

import os
import select
import socket
import sys

STDIN = 0


def main(host: str, port: int) -> int:
    with socket.create_connection((host, port)) as connection:
        watched: list[int | socket.socket] = [STDIN, connection]
        while True:
            readable, _, _ = select.select(watched, [], [])
            if connection in readable:
                data = connection.recv(4096)
                if not data:
                    return 1 if STDIN in watched else 0
                print(data.decode(), end="")
            if STDIN in readable:
                # Not by sys.stdin, which may keep a second line where select() cannot see it.
                line = os.read(STDIN, 4096)
                if line:
                    connection.sendall(line)
                else:
                    watched.remove(STDIN)  # it stays readable for ever
                    connection.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
