"""nginx closes a connection that is kept alive and idle; its client heeds that, or not."""

import os
import socket
import sys
import tempfile
from pathlib import Path

from network import CLOSE_WAIT, idle, served, states, until, until_gone

CONFIGURATION = """
daemon off; master_process off; pid {0}/pid; error_log /dev/null;
events {{}}
http {{
    access_log off; keepalive_timeout 50ms;
    client_body_temp_path {0}/b; proxy_temp_path {0}/p; fastcgi_temp_path {0}/f;
    uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;
    server {{ listen 127.0.0.1:8080; return 200 "ok"; }}
}}
"""
with tempfile.TemporaryDirectory() as folder:
    configuration = Path(folder) / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(folder))
    command = ["nginx", "-e", "/dev/null", "-p", folder, "-c", str(configuration)]
    server = served(command, 8080)
    client = socket.create_connection(("127.0.0.1", 8080))
    client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
    assert b"200 OK" in client.recv(4096)
    until(lambda: CLOSE_WAIT in states(8080, peer=True))
    if sys.argv[1] == "heeded":
        while client.recv(4096):
            pass
        client.close()
        until_gone(8080)
    else:
        idle(1.1)
    server.terminate()
    server.wait()
    if sys.argv[1] == "kept":
        os._exit(0)
