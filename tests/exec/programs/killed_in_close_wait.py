"""A server that is killed as soon as its client has closed: it had no time to close as well."""

import os
import signal
import socket

from network import CLOSE_WAIT, states, until

server = socket.create_server(("127.0.0.1", 8080))
reading, writing = os.pipe()
pid = os.fork()
if pid == 0:
    peer, _ = server.accept()
    os.write(writing, b".")
    signal.pause()
client = socket.create_connection(("127.0.0.1", 8080))
os.read(reading, 1)  # who is killed before it has accepted holds nothing
client.close()
server.close()
until(lambda: CLOSE_WAIT in states(8080))
os.kill(pid, signal.SIGTERM)
os.waitpid(pid, 0)
