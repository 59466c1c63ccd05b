"""Many short connections between two processes, one after the other; and how many a second."""

import os
import socket
import sys
import time

count = int(sys.argv[1])
server = socket.create_server(("127.0.0.1", 8080), backlog=64)
child = os.fork()
if child == 0:
    for _ in range(count):
        with server.accept()[0] as peer:
            peer.sendall(peer.recv(64))
    server.close()
    sys.exit()
server.close()
began = time.monotonic()
for _ in range(count):
    with socket.create_connection(("127.0.0.1", 8080)) as client:
        client.sendall(b"hello")
        while client.recv(64):
            pass
os.waitpid(child, 0)
print(count / (time.monotonic() - began))
