"""Python's http.server with urllib (a connection a request) or a client that keeps it alive."""

import http.client
import os
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

how = sys.argv[1]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0" if how == "urllib" else "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        """Nothing."""


server = ThreadingHTTPServer(("127.0.0.1", 8080), Handler)
server.daemon_threads = False  # else the process may end before a handler has closed
thread = threading.Thread(target=server.serve_forever)
thread.start()
if how == "urllib":
    for _ in range(3):
        with urllib.request.urlopen("http://127.0.0.1:8080/") as answer:
            assert answer.read() == b"ok"
else:
    client = http.client.HTTPConnection("127.0.0.1", 8080)
    for _ in range(3):
        client.request("GET", "/")
        assert client.getresponse().read() == b"ok"
    if how == "forgotten":
        os._exit(0)  # as a C program ends: nothing is closed
    client.close()
server.shutdown()
server.server_close()
thread.join()
