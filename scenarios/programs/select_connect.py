"""A client whose connect() does not block: select() waits for it, and SO_ERROR says how it went.

Usage: python3 select_connect.py HOST PORT SECONDS [USER_TIMEOUT_MS]

SECONDS is how long select() waits, USER_TIMEOUT_MS when the kernel gives up by itself: by default
after two minutes.
"""

import errno
import select
import socket
import sys


def main(host: str, port: int, seconds: float, user_timeout_ms: int = 0) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, user_timeout_ms)
        connection.setblocking(False)
        code = connection.connect_ex((host, port))
        print("connect():", errno.errorcode.get(code, "connected"))
        if not select.select([], [connection], [], seconds)[1]:
            print(f"not writable within {seconds:g} s")
            return
        # Writable means that connect() is over, not that it went well.
        error = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        print("writable:", errno.errorcode.get(error, "connected"))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), *map(int, sys.argv[4:]))
