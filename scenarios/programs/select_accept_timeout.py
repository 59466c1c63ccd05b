"""A server that waits for its client in select(), which gives up after so many seconds.

Usage: python3 select_accept_timeout.py HOST PORT SECONDS
"""

import select
import socket
import sys


def main(host: str, port: int, seconds: float) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listener:
        timeouts = 0
        while not select.select([listener], [], [], seconds)[0]:
            timeouts += 1
            print(f"{timeouts}: nobody within {seconds:g} s")
        connection, _peer = listener.accept()  # which select() says will not block
    with connection:
        while data := connection.recv(4096):
            connection.sendall(data)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
