"""So many megabytes one way, in large writes; and how many a second."""

import socket
import sys
import threading
import time

server = socket.create_server(("127.0.0.1", 8080))


def take() -> None:
    with server.accept()[0] as peer:
        buffer = bytearray(1 << 20)
        while peer.recv_into(buffer):
            pass


thread = threading.Thread(target=take)
thread.start()
megabyte, count = bytes(1 << 20), int(sys.argv[1])
began = time.monotonic()
with socket.create_connection(("127.0.0.1", 8080)) as client:
    for _ in range(count):
        client.sendall(megabyte)
thread.join()
server.close()
print(count / (time.monotonic() - began))
