"""So many megabytes from one process to another, in large writes; and how many a second."""

import os
import socket
import sys
import time

server = socket.create_server(("127.0.0.1", 8080))
child = os.fork()
if child == 0:
    with server.accept()[0] as peer:
        buffer = bytearray(1 << 20)
        while peer.recv_into(buffer):
            pass
    server.close()
    sys.exit()
server.close()
megabyte, count = bytes(1 << 20), int(sys.argv[1])
began = time.monotonic()
with socket.create_connection(("127.0.0.1", 8080)) as client:
    for _ in range(count):
        client.sendall(megabyte)
os.waitpid(child, 0)
print(count / (time.monotonic() - began))
