"""The first client: socket, connect, then a line from standard input at a time, and its echo back.

Usage: python3 echo_client.py HOST PORT
"""

import socket
import sys


def main(host: str, port: int) -> None:
    connection = socket.create_connection((host, port))
    for line in sys.stdin:
        connection.sendall(line.encode())
        # What comes back may come in pieces: TCP keeps the octets in order, not the lines.
        echo = b""
        while not echo.endswith(b"\n"):
            piece = connection.recv(4096)
            if not piece:
                raise EOFError("the server closed in the middle of a line")
            echo += piece
        print(echo.decode(), end="")
    connection.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
