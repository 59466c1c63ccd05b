"""A play's verbs on a socket, each one real call in the process that holds it.

Owns: how a verb reads, what it gives, and how its failing is expected. Must not know how a request
reaches its process, nor what the call means for a TCP state.
"""

from __future__ import annotations

import socket as sockets
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.lab import spelling
from tcpwatch.lab.calls import Returned
from tcpwatch.lab.failures import CheckFailed
from tcpwatch.lab.pending import Pending, nothing, number, octets
from tcpwatch.model.identity import SocketAddress

if TYPE_CHECKING:
    from tcpwatch.lab.process import Process

T = TypeVar("T")
Address = SocketAddress | tuple[str, int]
_TCP_REPAIR = 19  # linux/tcp.h; the socket module has no name for it
_SHOWN = 24  # octets of what is sent, in an event's arguments


class Start:
    """A socket's verbs, begun and not waited for: each gives a `Pending`."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket

    def _begin(
        self,
        verb: str,
        args: list[Any],
        convert: Callable[[Returned], T],
        arguments: str = "",
        fails: int | None = None,
        blob: bytes = b"",
    ) -> Pending[T]:
        def learn(returned: Returned) -> T:
            if verb != "accept":  # those of another socket
                self._socket.local = returned.local or self._socket.local
                self._socket.remote = returned.remote or self._socket.remote
            return convert(returned)

        process, fd = self._socket.process, self._socket.fd
        return process.begin(verb, fd, args, learn, blob=blob, arguments=arguments, fails=fails)

    def bind(self, address: Address | int, fails: int | None = None) -> Pending[None]:
        """A port alone means the host's own address."""
        own = self._socket.process.addresses.ip(ipv6=self._socket.ipv6)
        ip, port = (own, address) if isinstance(address, int) else _pair(address)
        return self._begin("bind", [ip, port], nothing, spelling.place((ip, port)), fails)

    def listen(self, backlog: int = 128, fails: int | None = None) -> Pending[None]:
        return self._begin("listen", [backlog], nothing, str(backlog), fails)

    def accept(self, fails: int | None = None) -> Pending[Socket]:
        """With ``fails`` the result is the listener itself: there is no other socket to give."""
        return self._begin("accept", [], self._accepted, fails=fails)

    def connect(self, address: Address, fails: int | None = None) -> Pending[None]:
        ip, port = _pair(address)
        return self._begin("connect", [ip, port], nothing, spelling.place((ip, port)), fails)

    def send(self, data: bytes, flags: int = 0, fails: int | None = None) -> Pending[int]:
        shown = repr(data) if len(data) <= _SHOWN else f"{data[:_SHOWN]!r}... {len(data)} octets"
        return self._begin("send", [int(flags)], number, shown, fails, data)

    def recv(self, n: int = 65536, flags: int = 0, fails: int | None = None) -> Pending[bytes]:
        text = spelling.receiving(n, flags)
        return self._begin("recv", [n, int(flags)], octets, text, fails)

    def shutdown(self, how: int, fails: int | None = None) -> Pending[None]:
        text = spelling.how_to_shut(how)
        return self._begin("shutdown", [int(how)], nothing, text, fails)

    def close(self, fails: int | None = None) -> Pending[None]:
        return self._begin("close", [], nothing, fails=fails)

    def setsockopt(
        self, level: int, name: int, value: int | bytes, fails: int | None = None
    ) -> Pending[None]:
        whole, blob = (None, value) if isinstance(value, bytes) else (int(value), b"")
        shown = f"{spelling.option(level, name)}, {value!r}"
        args = [int(level), int(name), whole]
        return self._begin("setsockopt", args, nothing, shown, fails, blob)

    def getsockopt(self, level: int, name: int, fails: int | None = None) -> Pending[int]:
        args = [int(level), int(name), 0]
        return self._begin("getsockopt", args, number, spelling.option(level, name), fails)

    def setblocking(self, *, blocking: bool) -> Pending[None]:
        return self._begin("setblocking", [int(blocking)], nothing, str(blocking))

    def getsockname(self, fails: int | None = None) -> Pending[SocketAddress]:
        return self._begin("getsockname", [], lambda got: SocketAddress(*got.result), fails=fails)

    def _accepted(self, returned: Returned) -> Socket:
        if returned.errno:
            return self._socket
        process, ipv6 = self._socket.process, self._socket.ipv6
        return Socket(
            process, returned.result, ipv6=ipv6, local=returned.local, remote=returned.remote
        )


class Socket:
    """A process's descriptor of a socket; each verb is one call, waited for.

    ``fails`` is an errno: the call must then fail with it, else CheckFailed is raised. A call that
    fails unexpectedly raises the OSError. See `Pending.result` for the rest.
    """

    def __init__(
        self,
        process: Process,
        fd: int,
        *,
        ipv6: bool,
        local: SocketAddress | None = None,
        remote: SocketAddress | None = None,
    ) -> None:
        self.process = process
        self.fd = fd
        self.ipv6 = ipv6
        self.local = local  # as its last call had it; None: not chosen yet
        self.remote = remote

    def __repr__(self) -> str:
        return f"<Socket {self.fd} of {self.process.name}>"

    @property
    def start(self) -> Start:
        """The same verbs, begun and not waited for."""
        return Start(self)

    def bind(self, address: Address | int, fails: int | None = None) -> None:
        """bind(2); a port alone means the host's own address."""
        self.start.bind(address, fails).result()

    def listen(self, backlog: int = 128, fails: int | None = None) -> None:
        self.start.listen(backlog, fails).result()

    def accept(self, fails: int | None = None) -> Socket:
        """accept(2); for an expected failure gives the listener itself."""
        return self.start.accept(fails).result()

    def connect(self, address: Address, fails: int | None = None) -> None:
        self.start.connect(address, fails).result()

    def send(self, data: bytes, flags: int = 0, fails: int | None = None) -> int:
        """send(2): how many octets were taken; -1 for an expected failure."""
        return self.start.send(data, flags, fails).result()

    def recv(self, n: int = 65536, flags: int = 0, fails: int | None = None) -> bytes:
        """recv(2): what is there; empty at the peer's FIN, or for an expected failure."""
        return self.start.recv(n, flags, fails).result()

    def recv_exactly(self, n: int) -> bytes:
        """As many recv() as it takes for ``n`` octets. Raises CheckFailed at an earlier end."""
        data = b""
        while len(data) < n:
            more = self.recv(n - len(data))
            if not more:
                raise CheckFailed(f"{self.process.name} read {len(data)} octets, expected {n}")
            data += more
        return data

    def recv_to_end(self) -> bytes:
        """As many recv() as it takes until the peer's FIN."""
        data = b""
        while more := self.recv():
            data += more
        return data

    def shutdown(self, how: int, fails: int | None = None) -> None:
        """shutdown(2) with SHUT_RD, SHUT_WR or SHUT_RDWR of the standard library."""
        self.start.shutdown(how, fails).result()

    def close(self, fails: int | None = None) -> None:
        self.start.close(fails).result()

    def setsockopt(
        self, level: int, name: int, value: int | bytes, fails: int | None = None
    ) -> None:
        self.start.setsockopt(level, name, value, fails).result()

    def getsockopt(self, level: int, name: int, fails: int | None = None) -> int:
        """getsockopt(2) of an int; -1 for an expected failure."""
        return self.start.getsockopt(level, name, fails).result()

    def setblocking(self, *, blocking: bool) -> None:
        self.start.setblocking(blocking=blocking).result()

    def settimeout(self, seconds: float) -> None:
        """SO_RCVTIMEO and SO_SNDTIMEO: calls stay blocking, and give up with EAGAIN.

        A connect() gives up with EINPROGRESS. 0 is for ever.
        """
        whole = int(seconds)
        value = struct.pack("@ll", whole, round((seconds - whole) * 1e6))
        for name in (sockets.SO_RCVTIMEO, sockets.SO_SNDTIMEO):
            self.setsockopt(sockets.SOL_SOCKET, name, value)

    @property
    def address(self) -> SocketAddress:
        """Where it is bound: what another may connect to. Raises a usage error before that."""
        if self.local is None:
            raise TcpwatchError(f"{self!r} has no address", "bind() it first", ExitCode.USAGE)
        return self.local

    def reuse_address(self) -> None:
        """SO_REUSEADDR switched on."""
        self.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)

    def reuse_port(self) -> None:
        """SO_REUSEPORT switched on: others that also ask for it may bind the same port."""
        self.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEPORT, 1)

    def linger(self, seconds: int) -> None:
        """SO_LINGER switched on; with 0 a close() aborts the connection by RST."""
        self.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, struct.pack("@ii", 1, seconds))

    def vanish(self) -> None:
        """TCP_REPAIR, then close(): the socket is gone, and not a segment tells its peer."""
        self.setsockopt(sockets.IPPROTO_TCP, _TCP_REPAIR, 1)
        self.close()

    def getsockname(self) -> SocketAddress:
        """The local address, as getsockname(2) has it."""
        return self.start.getsockname().result()


def _pair(address: Address) -> tuple[str, int]:
    return (address.ip, address.port) if isinstance(address, SocketAddress) else address
