"""The first server: socket, bind, listen, accept, then read and write until EOF, and close.

    python3 echo_server.py PORT
"""

import socket
import sys


def main(port: int) -> None:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # Or the port stays taken for as long as a connection of the server's last life is in TIME-WAIT.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("", port))
    listener.listen()
    connection, _peer = listener.accept()
    while data := connection.recv(4096):
        connection.sendall(data)
    connection.close()
    listener.close()


if __name__ == "__main__":
    main(int(sys.argv[1]))
