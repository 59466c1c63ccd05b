"""How tcpwatch, the lab's supervisor and its actors talk: framed messages that carry descriptors.

Owns: the framing, and who may block. Must not know what any message means.
A byte stream with a length in front, not SOCK_SEQPACKET: macOS has none, and a message may be long.
"""

from __future__ import annotations

import array
import json
import os
import socket
import struct
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from tcpwatch.lab.stamps import Cell, new_cell

_HEADER = struct.Struct("!III")  # octets of JSON, octets of the blob, descriptors
_UCRED = struct.Struct("iII")  # struct ucred: pid, uid, gid
_SCM_CREDENTIALS = 2  # include/linux/socket.h
_CHUNK = 1 << 16
_MAX_DESCRIPTORS = 64
_NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)  # an actor may have SIGPIPE at its default
_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
_LINUX = sys.platform.startswith("linux")


class Message(NamedTuple):
    """One message. ``fds`` belong to whoever received it.

    ``pid`` is the sender's as the receiver sees it, across PID namespaces; None where the kernel
    does not tell.
    """

    body: dict[str, Any]
    blob: bytes = b""
    fds: tuple[int, ...] = ()
    pid: int | None = None


def new_line() -> tuple[list[int], Channel]:
    """For a process about to be forked: descriptors for who is to hear of it, and its channel.

    The descriptors go through `open_line`, in whatever process they get to.
    """
    theirs, mine = channel_pair()
    made = new_cell()
    cell, fds = (None, []) if made is None else (made[0], [made[1]])
    return [theirs.detach(), *fds], Channel(mine, cell)


def open_line(fds: Sequence[int]) -> Channel:
    """The other end of a `new_line`. Takes over the descriptors."""
    sock = socket.socket(fileno=fds[0])
    if len(fds) == 1:
        return Channel(sock)
    cell = Cell(fds[1])
    os.close(fds[1])
    return Channel(sock, cell)


def channel_pair() -> tuple[socket.socket, socket.socket]:
    """A connected pair: the first is for the reader who wants to know the sender's pid."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    if _LINUX:
        # Set before the other end can send: credentials are attached when a message is sent.
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    return ours, theirs


class Channel:
    """One end. A thread may send while another receives; neither by two at once.

    ``cell`` is the actor's, at both ends of its line.
    """

    def __init__(self, sock: socket.socket, cell: Cell | None = None) -> None:
        self.sock = sock
        self.cell = cell
        self._buffer = bytearray()
        self._fds: deque[int] = deque()
        self._pid: int | None = None
        self._ended = False

    def fileno(self) -> int:
        return self.sock.fileno()

    def send(self, body: dict[str, Any], blob: bytes = b"", fds: Sequence[int] = ()) -> None:
        """Sends one message, waiting for room. Raises OSError when the other end is gone."""
        text = json.dumps(body, separators=(",", ":")).encode()
        data = _HEADER.pack(len(text), len(blob), len(fds)) + text + blob
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        sent = self.sock.sendmsg([data], ancillary, _NO_SIGNAL)
        if sent < len(data):
            self.sock.sendall(memoryview(data)[sent:], _NO_SIGNAL)

    def telling(self) -> AbstractContextManager[None]:
        """Around taking a stamp and sending it: see `Cell`."""
        return nullcontext() if self.cell is None else self.cell.telling()

    def receive(self) -> Message | None:
        """The next message, waiting for it; None when the other end is gone."""
        while True:
            message = self._next()
            if message is not None or self._ended:
                return message
            self._fill(0)

    def receive_available(self) -> tuple[list[Message], bool]:
        """All messages that are here, without waiting, and whether the other end is gone."""
        messages = []
        while not self._ended:
            try:
                self._fill(socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            while (message := self._next()) is not None:
                messages.append(message)
        return messages, self._ended

    def close(self) -> None:
        """Closes this end and every descriptor that came and was not claimed. Idempotent."""
        self.sock.close()
        if self.cell is not None:
            self.cell.close()
        while self._fds:
            os.close(self._fds.popleft())

    def _fill(self, flags: int) -> None:
        space = socket.CMSG_SPACE(4 * _MAX_DESCRIPTORS) + socket.CMSG_SPACE(_UCRED.size)
        try:
            data, ancillary, _, _ = self.sock.recvmsg(_CHUNK, space, flags | _CLOSE_ON_EXEC)
        except ConnectionError:
            data, ancillary = b"", []
        for level, kind, content in ancillary:
            if level != socket.SOL_SOCKET:
                continue
            if kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
                for fd in fds:
                    os.set_inheritable(fd, False)
                self._fds.extend(fds)
            elif _LINUX and kind == _SCM_CREDENTIALS and data:
                self._pid = _UCRED.unpack(content[: _UCRED.size])[0] or None
        self._ended = not data
        self._buffer += data

    def _next(self) -> Message | None:
        if len(self._buffer) < _HEADER.size:
            return None
        text, blob, count = _HEADER.unpack_from(self._buffer)
        middle = _HEADER.size + text
        if len(self._buffer) < middle + blob:
            return None
        body = json.loads(bytes(self._buffer[_HEADER.size : middle]))
        content = bytes(self._buffer[middle : middle + blob])
        del self._buffer[: middle + blob]
        fds = tuple(self._fds.popleft() for _ in range(count))
        return Message(body, content, fds, self._pid)
