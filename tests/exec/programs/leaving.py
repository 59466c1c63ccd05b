"""One connection within one process, and a way to leave it."""

import os
import signal
import socket
import sys

how = sys.argv[1]
port = int(sys.argv[2]) if len(sys.argv) > 2 else 8080
server = socket.create_server(("127.0.0.1", port))
client = socket.create_connection(server.getsockname())
peer, _ = server.accept()
match how:
    case "all-closed":
        client.close()
        assert peer.recv(1) == b""
        peer.close()
        server.close()
    case "never-closed":
        pass
    case "close-wait":
        client.close()
        assert peer.recv(1) == b""
    case "listening":
        pass  # until its process ends, which is what servers do
    case "listener-left" | "connection-left":
        if how == "listener-left":
            client.close()
            peer.recv(1)
            peer.close()
        if os.fork() == 0:
            os.setsid()
            signal.pause()
        client.close()
        peer.close()
    case "killed":
        os.kill(os.getpid(), signal.SIGKILL)
if how == "listening":
    client.close()
    assert peer.recv(1) == b""
    peer.close()
os._exit(0)
