"""Writes each line of its standard input as a message.

Usage: python3 message_writer.py HOST PORT none|fixed|crlf|length
"""

import socket
import sys

from framing import pack, writen


def main(host: str, port: int, framing: str) -> None:
    with socket.create_connection((host, port)) as connection:
        for line in sys.stdin:
            writen(connection, pack(line.removesuffix("\n").encode(), framing))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
