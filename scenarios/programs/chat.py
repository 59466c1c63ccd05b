"""Two people talk over one connection: at either end one process sends, and one receives.

Usage: python3 chat.py listen|connect HOST PORT

Each waits where it has nothing else to do: the sender for its user, the receiver for the peer.
"""

import os
import signal
import socket
import sys


def meet(how: str, host: str, port: int) -> socket.socket:
    """The connection: whoever listens wants only one."""
    if how == "connect":
        return socket.create_connection((host, port))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listener:
        return listener.accept()[0]


def send(connection: socket.socket) -> None:
    """What the user types, until he is done. No close() says so: the receiver holds it too."""
    for line in sys.stdin:
        connection.sendall(line.encode())
    connection.shutdown(socket.SHUT_WR)


def receive(connection: socket.socket) -> None:
    """What the peer says, until EOF."""
    while data := connection.recv(4096):
        print(data.decode(), end="")


def main(how: str, host: str, port: int) -> None:
    connection = meet(how, host, port)
    sender = os.fork()
    if sender == 0:
        send(connection)
        os._exit(0)
    receive(connection)
    os.kill(sender, signal.SIGTERM)  # it may wait for its user still; if it has ended, no harm
    os.waitpid(sender, 0)
    connection.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
