"""An echo server of one process for many clients, by poll().

Usage: python3 poll_server.py HOST PORT

Each poll() is given all the descriptors to watch; Python keeps the list. They may be of any number,
where select() takes none above 1023.
"""

import select
import socket
import sys


def main(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family)
    clients: dict[int, socket.socket] = {}
    poller = select.poll()
    poller.register(listener, select.POLLIN)
    while True:
        for ready, _events in poller.poll():
            if ready == listener.fileno():
                client, _peer = listener.accept()
                clients[client.fileno()] = client
                poller.register(client, select.POLLIN)
            elif data := clients[ready].recv(4096):
                clients[ready].sendall(data)
            else:
                poller.unregister(ready)
                clients.pop(ready).close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
