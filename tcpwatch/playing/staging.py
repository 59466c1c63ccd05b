"""Setting the stage: which lab and which witnesses this machine gives, opened together.

Owns: the choice between namespaces and loopback, the lab's index, and what each witness is given
to see. Must not know what is played or what comes of it.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.lab.host import Host
from tcpwatch.lab.loopback import Loopback
from tcpwatch.lab.namespace import Namespaces, probe_namespaces
from tcpwatch.lab.player import PORT
from tcpwatch.lab.wire import Wire
from tcpwatch.model.events import KERNEL, TABLE, WIRE
from tcpwatch.model.identity import SocketAddress, canonical_ip
from tcpwatch.model.witness import Availability, Observation, Source
from tcpwatch.playing.options import Options
from tcpwatch.sources import kernel, psutil_table, sockdiag
from tcpwatch.sources.table import TableSource

_INTERVAL_NS = 1_000_000  # between two samples of the socket table
_LABS = 256
_LOOPBACK = frozenset({"127.0.0.1", "::1"})

WIRE_BLIND_SPOTS = (
    "calls: a close() whose FIN is still queued, a listen()",
    "timers: the end of TIME-WAIT, a connection given up",
)


class Stage:
    """An open lab, its wire, and the sources that watch it. ``witnesses`` say how each stands."""

    def __init__(self, options: Options, emit: Callable[[Observation], None]) -> None:
        """Opens everything, or nothing. Raises TcpwatchError with the remedy."""
        self._stack = ExitStack()
        self.sources: list[Source] = []
        self.witnesses: list[Availability] = []
        self.wire: Wire | None = None
        self.port = PORT
        self._tracing: kernel.KernelSource | None = None
        try:
            self._open(options, emit)
        except BaseException:
            self.close()
            raise

    def _open(self, options: Options, emit: Callable[[Observation], None]) -> None:
        index = claim_index(self._stack)
        prefixes = (f"10.77.{index}.", f"fd77:0:0:{index:x}::" if index else "fd77::")

        def of_lab(local: SocketAddress, remote: SocketAddress) -> bool:
            if local.ip.startswith(prefixes):
                return remote.port == 0 or remote.ip.startswith(prefixes)
            return (
                self.wire is None
                and local.ip in _LOOPBACK
                and remote.ip in _LOOPBACK
                and self.port in (local.port, remote.port)
            )

        with ThreadPoolExecutor(1) as pool:
            # Both wait for the kernel most of the time, so they are made at the same time.
            opening = pool.submit(self._open_kernel, of_lab, options)
            try:
                self._open_lab(index, options, emit)
            finally:
                tracing = opening.result()
        self.witnesses.append(tracing)
        self._open_table(of_lab, options)
        self._note_wire(options)

    def _open_lab(self, index: int, options: Options, emit: Callable[[Observation], None]) -> None:
        ip = 6 if options.ipv6 else 4
        self.lab: Namespaces | Loopback
        try:
            if options.lab == "loopback":
                raise TcpwatchError("--lab loopback was asked for")
            self.lab = Namespaces.open(
                index=index, emit=emit, wire=options.wire, ip=ip, patience_s=options.timeout_s
            )
        except TcpwatchError as refused:
            namespaces = options.lab == "namespace" or (
                options.lab == "auto" and options.wire != "auto"
            )
            if namespaces or refused.exit_code is ExitCode.USAGE:
                raise
            self.lab = Loopback.open(emit=emit, ip=ip, patience_s=options.timeout_s)
            self.port = _free_port()
            self.kind, self.no_wire = "loopback", str(refused)
            self._stack.callback(self.lab.close)
            return
        self._stack.callback(self.lab.close)
        self.kind, self.no_wire = "namespace", ""
        ports = {host.name: host.port for host in (self.lab.client, self.lab.server)}
        self.wire = Wire(ports, emit, latency_ms=options.latency_ms, patience_s=options.timeout_s)
        self._stack.callback(self.wire.close)

    def _open_kernel(self, of_lab: kernel.Predicate, options: Options) -> Availability:
        if KERNEL in options.without:
            return _left_out(KERNEL, kernel.BLIND_SPOTS)
        try:
            source = kernel.KernelSource(of_lab)
        except TcpwatchError as error:
            return Availability(KERNEL, False, error.message, error.remedy, kernel.BLIND_SPOTS)
        self._tracing = source
        self.sources.append(source)
        return Availability(KERNEL, True, "", "", kernel.BLIND_SPOTS)

    def _open_table(self, of_lab: kernel.Predicate, options: Options) -> None:
        if TABLE in options.without:
            self.witnesses.append(_left_out(TABLE, sockdiag.BLIND_SPOTS))
            return
        try:
            tables = self._tables(options.sampler)
        except TcpwatchError as error:
            self.witnesses.append(
                Availability(TABLE, False, error.message, error.remedy, sockdiag.BLIND_SPOTS)
            )
            return
        self.sources.append(TableSource(tables, _INTERVAL_NS, of_lab))
        self._stack.callback(self.sources[-1].close)
        self.witnesses.append(Availability(TABLE, True, "", "", sockdiag.BLIND_SPOTS))

    def _tables(self, sampler: str) -> list[tuple[str | None, sockdiag.Sampler]]:
        if self.wire is None:
            if sampler == "psutil":
                return [(None, psutil_table.sampler())]
            try:
                sock = sockdiag.open_socket()
            except TcpwatchError:
                return [(None, psutil_table.sampler())]
            self._stack.callback(sock.close)
            return [(None, sockdiag.sampler(sock))]
        hosts = (self.client, self.server)
        if sampler == "psutil":
            return [(host.name, psutil_table.sampler(host.pid)) for host in hosts]
        return [(host.name, sockdiag.sampler(host.diag)) for host in hosts]

    def _note_wire(self, options: Options) -> None:
        if WIRE in options.without:
            self.witnesses.append(_left_out(WIRE, WIRE_BLIND_SPOTS))
        else:
            self.witnesses.append(
                Availability(
                    WIRE, self.wire is not None, self.no_wire, blind_spots=WIRE_BLIND_SPOTS
                )
            )

    @property
    def client(self) -> Host:
        return self.lab.client

    @property
    def server(self) -> Host:
        return self.lab.server

    def watermark(self) -> int:
        """The time before which neither the calls nor the wire will tell anything more."""
        marks = [self.lab.calls_watermark()]
        if self.wire is not None:
            marks.append(self.wire.watermark())
        return min(marks)

    def idle(self) -> bool:
        """Whether nothing is on the wire."""
        return self.wire is None or self.wire.idle

    def roles(self) -> dict[str, str]:
        """Address (or address and port) to role, as `RunRecord.roles`."""
        if self.wire is None:
            server = SocketAddress(self.server.ip, self.port)
            return {str(server): "server", server.ip: "client"}
        hosts = (self.client, self.server)  # a play may use either family
        return {canonical_ip(ip): host.name for host in hosts for ip in (host.ip4, host.ip6)}

    def stop_play(self) -> None:
        """Ends every waiting of a play that is still under way."""
        self.lab.set_deadline(0)
        if self.wire is not None:
            self.wire.close()

    def close(self) -> None:
        """Closes all that was opened, the last first. Idempotent."""
        # Both wait for the kernel most of the time, as when they were opened.
        tracing = threading.Thread(target=self._tracing.close) if self._tracing else None
        if tracing is not None:
            tracing.start()
        self._stack.close()
        if tracing is not None:
            tracing.join()


def claim_index(stack: ExitStack) -> int:
    """The first number that no other lab uses, until the stack closes.

    It is an abstract socket's name, which dies with its holder. Raises TcpwatchError.
    """
    if not hasattr(socket, "AF_UNIX"):
        return 0
    for index in range(_LABS):
        name = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            name.bind(f"\0tcpwatch-lab-{index}")
        except FileNotFoundError:  # no abstract names: not Linux
            name.close()
            return 0
        except OSError:
            name.close()
            continue
        stack.callback(name.close)
        return index
    raise TcpwatchError(f"{_LABS} labs are open already", "wait for one to end")


def examine() -> list[Availability]:
    """How the lab and each witness stand on this machine: what `tcpwatch doctor` tells."""
    lab = probe_namespaces()
    wire = Availability(
        WIRE,
        lab.available,
        "between the lab's two hosts" if lab.available else "there is no lab to have a wire in",
        lab.remedy,
        WIRE_BLIND_SPOTS,
    )
    table = sockdiag.probe()
    if not table.available:
        table = replace(psutil_table.probe(), name=TABLE)
    return [lab, kernel.probe(), table, wire]


def _free_port() -> int:
    """A port that nobody on this machine uses, nor did a moment ago: TIME-WAIT keeps it too."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _left_out(name: str, blind_spots: tuple[str, ...]) -> Availability:
    return Availability(name, False, "left out by --without", "", blind_spots)
