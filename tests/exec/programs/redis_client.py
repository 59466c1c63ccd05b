"""redis-server with redis-py: closed in order, or kept after the server has closed it."""

import os
import sys

import redis
from network import CLOSE_WAIT, idle, served, states, until, until_gone

command = [
    "redis-server",
    "--port",
    "6399",
    "--save",
    "",
    "--appendonly",
    "no",
    "--daemonize",
    "no",
]
server = served([*command, "--logfile", "/dev/null", "--bind", "127.0.0.1"], 6399)
client = redis.Redis(port=6399)
assert client.ping()
if sys.argv[1] == "kept":
    other = redis.Redis(port=6399)
    other.client_kill_filter(_type="normal", skipme=True)
    other.close()
    until(lambda: states(6399, peer=True).count(CLOSE_WAIT) == 1)
    server.terminate()
    server.wait()
    idle(1.1)
    os._exit(0)
client.close()
until_gone(6399)
server.terminate()
server.wait()
