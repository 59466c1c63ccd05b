"""Many short connections, one after the other, as fast as they go; and how many a second."""

import socket
import sys
import threading
import time

count = int(sys.argv[1])
server = socket.create_server(("127.0.0.1", 8080), backlog=64)


def serve() -> None:
    for _ in range(count):
        with server.accept()[0] as peer:
            peer.sendall(peer.recv(64))


thread = threading.Thread(target=serve)
thread.start()
began = time.monotonic()
for _ in range(count):
    with socket.create_connection(("127.0.0.1", 8080)) as client:
        client.sendall(b"hello")
        while client.recv(64):
            pass
thread.join()
server.close()
print(count / (time.monotonic() - began))
