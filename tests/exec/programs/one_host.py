"""A server that says hello and closes, until it is told to end; and its client."""

import signal
import socket
import sys

if sys.argv[1] == "server":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with socket.create_server(("", 8080)) as server:
        while True:
            with server.accept()[0] as peer:
                peer.sendall(b"hello\n")
with socket.create_connection((sys.argv[2], 8080)) as client:
    while octets := client.recv(64):
        sys.stdout.buffer.write(octets)
