"""A server that is killed as soon as its client has closed: it had no time to close as well."""

import os
import signal
import socket

from network import CLOSE_WAIT, states, until

server = socket.create_server(("127.0.0.1", 8080))
pid = os.fork()
if pid == 0:
    peer, _ = server.accept()
    signal.pause()
client = socket.create_connection(("127.0.0.1", 8080))
until(lambda: len(states(8080)) == 2)
client.close()
server.close()
until(lambda: CLOSE_WAIT in states(8080))
os.kill(pid, signal.SIGTERM)
os.waitpid(pid, 0)
