"""A client that waits for its answer in select(), which gives up after so many seconds.

Usage: python3 select_read_timeout.py HOST PORT SECONDS
"""

import select
import socket
import sys


def main(host: str, port: int, seconds: float) -> None:
    with socket.create_connection((host, port)) as connection:
        connection.sendall(b"request")
        while not select.select([connection], [], [], seconds)[0]:
            print(f"nothing within {seconds:g} s")
        print(connection.recv(4096).decode())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
