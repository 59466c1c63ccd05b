"""The first server: socket, bind, listen, accept, then read and write until EOF, and close.

Usage: python3 echo_server.py HOST PORT
"""

import socket
import sys


def main(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    # Or the port stays taken for as long as a connection of the server's last life is in TIME-WAIT.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen()
    connection, _peer = listener.accept()
    while data := connection.recv(4096):
        connection.sendall(data)
    connection.close()
    listener.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
