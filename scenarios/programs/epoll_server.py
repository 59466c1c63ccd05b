"""An echo server of one process for many clients, by epoll of Linux.

Usage: python3 epoll_server.py HOST PORT

The kernel keeps the list: each descriptor is given to it once, and epoll_wait() says which of them
are ready. What it costs does not grow with those that are silent.
"""

import select
import socket
import sys


def main(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family)
    clients: dict[int, socket.socket] = {}
    poller = select.epoll()
    poller.register(listener, select.EPOLLIN)
    while True:
        for ready, _events in poller.poll():
            if ready == listener.fileno():
                client, _peer = listener.accept()
                clients[client.fileno()] = client
                poller.register(client, select.EPOLLIN)
            elif data := clients[ready].recv(4096):
                clients[ready].sendall(data)
            else:
                poller.unregister(ready)
                clients.pop(ready).close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
