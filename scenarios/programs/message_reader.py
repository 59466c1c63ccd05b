"""Reads messages from one client, and prints each on a line.

Usage: python3 message_reader.py HOST PORT none|fixed|crlf|length
"""

import socket
import sys

from framing import read


def main(host: str, port: int, framing: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listener:
        connection, _peer = listener.accept()
    with connection:
        while (message := read(connection, framing)) is not None:
            print(message.decode())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
