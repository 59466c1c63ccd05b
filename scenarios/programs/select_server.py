"""An echo server of one process for many clients, by select().

Usage: python3 select_server.py HOST PORT

Each select() is given all the descriptors to watch. (Compare poll_server.py and epoll_server.py.)
"""

import select
import socket
import sys


def main(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family)
    clients: list[socket.socket] = []
    while True:
        readable, _, _ = select.select([listener, *clients], [], [])
        for ready in readable:
            if ready is listener:
                client, _peer = listener.accept()
                clients.append(client)
            elif data := ready.recv(4096):
                ready.sendall(data)
            else:
                clients.remove(ready)
                ready.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
