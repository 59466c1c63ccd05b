"""A client that only writes: each line of its standard input. SIGPIPE's action is its choice.

    python3 writer.py HOST PORT default|ignored

By default the signal ends the process, and it cannot even tell why. Ignored, it leaves the write
to fail with EPIPE. Python ignores it from the beginning; a C program has to ask for that.
"""

import signal
import socket
import sys


def main(host: str, port: int, action: str) -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL if action == "default" else signal.SIG_IGN)
    connection = socket.create_connection((host, port))
    for line in sys.stdin:
        try:
            connection.sendall(line.encode())
            print("sent", line, end="")
        except BrokenPipeError:
            print("EPIPE for", line, end="")
    connection.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
