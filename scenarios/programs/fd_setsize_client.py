"""A client whose socket has a descriptor that select() cannot take, and poll() can.

Usage: python3 fd_setsize_client.py HOST PORT

A set of descriptors of select() has FD_SETSIZE bits: 1024, whatever RLIMIT_NOFILE is. In C FD_SET()
writes beyond its end; Python refuses.
"""

import fcntl
import resource
import select
import socket
import sys

FD_SETSIZE = 1024


def main(host: str, port: int) -> None:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with socket.create_connection((host, port)) as low:
        number = fcntl.fcntl(low, fcntl.F_DUPFD, FD_SETSIZE)  # as in a process with many open
    with socket.socket(fileno=number) as connection:
        connection.sendall(b"request\n")
        try:
            select.select([connection], [], [])
        except ValueError as refusal:
            print(f"select() of descriptor {number}: {refusal}")
        poller = select.poll()
        poller.register(connection, select.POLLIN)
        poller.poll()
        print("poll():", connection.recv(4096).decode(), end="")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
