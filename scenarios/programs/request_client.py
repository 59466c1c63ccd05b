"""A client that asks several times: over one connection, or over a new one each time.

    python3 request_client.py HOST PORT COUNT long|short

Each request is a line, and so is its answer.
"""

import socket
import sys


def ask(connection: socket.socket, request: str) -> str:
    """Gives the answer. Raises EOFError where the server's FIN comes before it is whole."""
    connection.sendall(f"{request}\n".encode())
    answer = b""
    while not answer.endswith(b"\n"):
        piece = connection.recv(4096)
        if not piece:
            raise EOFError
        answer += piece
    return answer.decode()


def main(host: str, port: int, count: int, connections: str) -> None:
    requests = [f"request {number}" for number in range(1, count + 1)]
    if connections == "long":
        with socket.create_connection((host, port)) as connection:
            for request in requests:
                print(ask(connection, request), end="")
    else:
        for request in requests:
            with socket.create_connection((host, port)) as connection:
                print(ask(connection, request), end="")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
