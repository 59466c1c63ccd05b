"""Which of the whole host's kernel events are of this network namespace: its table has no others.

Owns: our addresses and the signs by which a socket of another namespace is known. Loopback has the
same addresses in each: there it is whose process it is that calls, and whether anybody here
listens. Must not know more of a socket than its event tells.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import time
from collections.abc import Callable, Collection
from functools import lru_cache

from tcpwatch.model.events import Gap, KernelNoted, Payload, StateReported
from tcpwatch.model.identity import SocketAddress, canonical_ip
from tcpwatch.tcp.state import TcpState

_REFRESH_S = 1.0  # between two looks at our addresses
_FORGET_S = 5.0  # by when a pid may be another process's
_FIRST_PID_NAMESPACE = "pid:[4026531836]"  # include/linux/proc_ns.h: PROC_PID_INIT_INO


def _addresses() -> frozenset[str]:
    import psutil

    return frozenset(
        canonical_ip(each.address.partition("%")[0])
        for of_interface in psutil.net_if_addrs().values()
        for each in of_interface
        if each.family in (socket.AF_INET, socket.AF_INET6)
    )


@lru_cache(maxsize=4096)
def _is_loopback(ip: str) -> bool:
    address = ipaddress.ip_address(ip)
    return address.is_loopback or address.is_unspecified


class OwnNamespace:
    """Tells the events of this namespace's sockets from others'; of one thread each method."""

    def __init__(
        self,
        addresses: Callable[[], frozenset[str]] = _addresses,
        namespace_of: Callable[[int], str | None] | None = None,
    ) -> None:
        self._addresses = addresses
        self._ips = addresses()
        self._looked_s = time.monotonic()
        self._namespace_of = namespace_of or _namespace_of
        # The kernel tells pids of the first pid namespace: in another they mean nothing.
        sees_pids = namespace_of is not None or _link("self", "pid") == _FIRST_PID_NAMESPACE
        self._own = self._namespace_of(os.getpid()) if sees_pids else None
        self._ours: dict[int, bool] = {}
        self._forget_s = 0.0
        self._listened: set[int] = set()
        self._foreign: set[int] = set()

    def has(self, local: SocketAddress, _remote: SocketAddress) -> bool:
        """Whether a socket with that local address may be ours."""
        if local.ip in self._ips or _is_loopback(local.ip):
            return True
        now_s = time.monotonic()
        if now_s - self._looked_s >= _REFRESH_S:
            self._looked_s = now_s
            self._ips = self._addresses()
        return local.ip in self._ips

    def is_foreign(self, payload: Payload, listening: Collection[int]) -> bool:
        """Whether the event is of another namespace's socket. ``listening``: our ports."""
        if self._own is None or isinstance(payload, Gap):
            return False
        if isinstance(payload, KernelNoted):
            return payload.skaddr in self._foreign
        if not isinstance(payload, StateReported):
            return False
        if self._is_born_foreign(payload, listening):
            self._foreign.add(payload.skaddr)
        foreign = payload.skaddr in self._foreign
        if payload.after is TcpState.CLOSED:
            self._foreign.discard(payload.skaddr)
        return foreign

    def _is_born_foreign(self, reported: StateReported, listening: Collection[int]) -> bool:
        if reported.before is TcpState.CLOSED:
            # Its process is on the CPU: it calls connect() or listen().
            ours = self._is_ours(reported.pid)
            if ours is None and _is_loopback(reported.remote.ip):
                # Whoever it was is gone: ours, if it called somebody of ours.
                return not self._listens(reported.remote.port, listening)
            if ours and reported.after is TcpState.LISTEN:
                self._listened.add(reported.local.port)
            return ours is False
        if reported.before is TcpState.LISTEN and reported.remote.port:
            return not self._listens(reported.local.port, listening)
        return False

    def _listens(self, port: int, listening: Collection[int]) -> bool:
        return port in listening or port in self._listened

    def _is_ours(self, pid: int) -> bool | None:
        """None: that process is gone."""
        now_s = time.monotonic()
        if now_s >= self._forget_s:
            self._forget_s = now_s + _FORGET_S
            self._ours = {}
        if pid not in self._ours:
            namespace = self._namespace_of(pid)
            if namespace is None:
                return None
            self._ours[pid] = namespace == self._own
        return self._ours[pid]


def _namespace_of(pid: int) -> str | None:
    return _link(str(pid), "net")


def _link(pid: str, kind: str) -> str | None:
    try:
        # Not by pathlib: it is asked for each process that connects.
        return os.readlink(f"/proc/{pid}/ns/{kind}")  # noqa: PTH115
    except OSError:
        return None
