"""A client that sends so many octets, and whenever there is no room for more waits in select().

Usage: python3 select_write_timeout.py HOST PORT OCTETS SECONDS
"""

import select
import socket
import sys


def main(host: str, port: int, octets: int, seconds: float) -> None:
    with socket.create_connection((host, port)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # soon full
        connection.setblocking(False)
        left = memoryview(b"x" * octets)
        timeouts = 0
        while left:
            if select.select([], [connection], [], seconds)[1]:
                left = left[connection.send(left) :]
            else:
                timeouts += 1
                print(f"{timeouts}: no room within {seconds:g} s, {len(left)} octets left")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
