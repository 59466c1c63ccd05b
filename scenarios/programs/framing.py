"""Messages over a stream of octets, which knows none: three ways to mark where one ends.

readn, writen and readline of the courses, and with them how a message is packed and read back.
"""

import socket
import struct

RECORD = 2000  # octets of a fixed record
_LENGTH = struct.Struct("!I")


def writen(connection: socket.socket, data: bytes) -> None:
    """Writes all of it, though send() may take less than it is given."""
    while data:
        data = data[connection.send(data) :]


def readn(connection: socket.socket, count: int) -> bytes:
    """Reads as many octets, though recv() may give less than it is asked for; fewer only at EOF."""
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            break
        data += piece
    return data


def readline(connection: socket.socket) -> bytes:
    """Reads to the end of a line and no octet more: it looks with MSG_PEEK how far that is."""
    line = b""
    while not line.endswith(b"\r\n"):
        seen = connection.recv(4096, socket.MSG_PEEK)
        if not seen:
            break
        end = (line + seen).find(b"\r\n")
        line += readn(connection, len(seen) if end < 0 else end + 2 - len(line))
    return line


def pack(message: bytes, framing: str) -> bytes:
    """The octets that a message is written as."""
    match framing:
        case "fixed":
            return message.ljust(RECORD, b"\0")
        case "crlf":
            return message + b"\r\n"
        case "length":
            return _LENGTH.pack(len(message)) + message
        case _:
            return message


def read(connection: socket.socket, framing: str) -> bytes | None:
    """The next message; None at EOF. Without a framing: whatever has arrived."""
    match framing:
        case "fixed":
            record = readn(connection, RECORD)
            return record.rstrip(b"\0") if record else None
        case "crlf":
            line = readline(connection)
            return line.removesuffix(b"\r\n") if line else None
        case "length":
            head = readn(connection, _LENGTH.size)
            return readn(connection, *_LENGTH.unpack(head)) if head else None
        case _:
            return connection.recv(4096) or None
