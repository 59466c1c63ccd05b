"""An echo server of one process that may open only so many more descriptors, and bears it.

Usage: python3 fd_limit_server.py HOST PORT MORE
"""

import errno
import os
import resource
import select
import socket
import sys


def allow_only(more: int) -> None:
    """Lets this process open ``more`` descriptors than it has now."""
    free = [os.dup(0) for _ in range(more)]
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(free) + 1, hard))  # a bound of their numbers
    for descriptor in free:
        os.close(descriptor)


def main(host: str, port: int, more: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family)
    allow_only(more)
    watched = [listener]
    while True:
        readable, _, _ = select.select(watched, [], [])
        for ready in readable:
            if ready is listener:
                try:
                    client, _peer = listener.accept()
                except OSError as error:
                    if error.errno != errno.EMFILE:
                        raise
                    print("no descriptor left")
                    # Or select() would come back at once, again and again: somebody still waits.
                    watched.remove(listener)
                else:
                    watched.append(client)
            elif data := ready.recv(4096):
                ready.sendall(data)
            else:
                watched.remove(ready)
                ready.close()
                if listener not in watched:
                    watched.append(listener)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
