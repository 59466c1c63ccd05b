"""How the arguments and results of calls are spelt: ``SO_REUSEADDR``, ``[fd77::2]:7000``.

Owns: the text of each kind of value in an event. Must not know who made the call.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
from collections.abc import Iterable
from types import ModuleType
from typing import Any

SHOWN = 40  # characters of data
_MESSAGE_FLAGS = ("MSG_PEEK", "MSG_DONTWAIT", "MSG_WAITALL", "MSG_OOB", "MSG_MORE")
_FILE_FLAGS = ("O_NONBLOCK", "O_ASYNC", "O_APPEND")
_POLLED = (
    ("readable", select.POLLIN | select.POLLPRI),
    ("writable", select.POLLOUT),
    ("hung up", select.POLLHUP),
    ("in error", select.POLLERR),
    ("not open", select.POLLNVAL),
)
"""The events of poll(2); epoll's have the same numbers (Linux: include/uapi/linux/eventpoll.h)."""


def place(address: Any) -> str:
    """A socket's address: ``10.77.0.2:7000``, ``[fd77::2]:7000``, or a path."""
    if not isinstance(address, tuple):
        return str(address)
    ip, port = address[0], address[1]
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def data(given: Any) -> str:
    """Short data as it is; of longer the beginning and the length."""
    octets = bytes(given)
    shown = repr(octets)
    return shown if len(shown) <= SHOWN else f"{octets[:16]!r}... {len(octets)} octets"


def option(level: int, name: int) -> str:
    """``SO_REUSEADDR`` for 2 at SOL_SOCKET: the standard library's name for an option."""
    prefix = {socket.SOL_SOCKET: "SO_", socket.IPPROTO_TCP: "TCP_"}.get(level, "none")
    for text in sorted(vars(socket)):
        other_level = text.startswith(("SO_J1939_", "SO_VM_SOCKETS_"))
        if text.startswith(prefix) and not other_level and getattr(socket, text) == name:
            return text
    return f"{level}, {name}"


def receiving(size: int, flags: int) -> str:
    """``4096``, or ``4096, MSG_PEEK``."""
    return ", ".join([str(size), *_names(socket, _MESSAGE_FLAGS, flags)])


def how_to_shut(how: int) -> str:
    """The argument of shutdown(2)."""
    return {socket.SHUT_RD: "SHUT_RD", socket.SHUT_WR: "SHUT_WR"}.get(how, "SHUT_RDWR")


def signal_name(number: int) -> str:
    """``SIGTERM``; one that has no name by its number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{int(number)}"


def action(chosen: Any) -> str:
    """A signal's action: ``SIG_IGN``, or the name of its handler."""
    return str(getattr(chosen, "name", None) or getattr(chosen, "__name__", chosen))


def control(command: int, argument: Any) -> str:
    """The command of fcntl(2) and its argument, flags by their names."""
    known = (name for name in vars(fcntl) if name.startswith("F_"))
    name = next((name for name in known if getattr(fcntl, name) == command), str(command))
    if command != fcntl.F_SETFL:
        return f"{name}, {argument}"
    return f"{name}, {' | '.join(_names(os, _FILE_FLAGS, argument)) or '0'}"


def polled(ready: Iterable[tuple[str, int]]) -> str:
    """What poll() found, by the names of the descriptors: ``listener, 5 readable``."""
    found = list(ready)
    kinds = ((kind, [name for name, mask in found if mask & bits]) for kind, bits in _POLLED)
    return ", ".join(f"{', '.join(names)} {kind}" for kind, names in kinds if names) or "timeout"


def _names(module: ModuleType, known: Iterable[str], flags: int) -> list[str]:
    return [name for name in known if flags & getattr(module, name, 0)]
