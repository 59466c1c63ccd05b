"""requests keeps its connection; the server closes what is idle, and nobody tells the pool."""

import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests
from network import CLOSE_WAIT, idle, states, until


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 0.05  # of an idle connection

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        """Nothing."""


server = ThreadingHTTPServer(("127.0.0.1", 8080), Handler)
server.daemon_threads = False  # else the process may end before a handler has closed
threading.Thread(target=server.serve_forever).start()
session = requests.Session()
assert session.get("http://127.0.0.1:8080/").text == "ok"
until(lambda: CLOSE_WAIT in states(8080, peer=True))
if sys.argv[1] == "kept":
    idle(1.1)
    os._exit(0)
session.close()
server.shutdown()
server.server_close()
