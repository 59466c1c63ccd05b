"""The lab's one supervisor: makes the hosts, forks actors into them, buries the dead, dies with us.

Owns: the life of every process of the lab. It ends at once when the process that started it does,
and everything inside ends with it. Must not know scenarios, calls or events. Imports little.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from tcpwatch.lab.actor import Actor
from tcpwatch.lab.isolation import Refused, enter_network, fork_first_process, isolate, open_network
from tcpwatch.lab.links import Network, bring_up, make_wire, read_sysctl, write_sysctl
from tcpwatch.lab.orphans import destroy_sockets
from tcpwatch.lab.protocol import Channel, Message, new_line

HOSTS = ("client", "server")
_PR_SET_CHILD_SUBREAPER = 36

_HASH_ENTRIES = 4096
"""Of a host's own table of connections. A dump walks the whole table, and the machine's, which a
namespace shares by default, has a quarter of a million entries here: 165 us a dump instead of 20.
It also sets tcp_max_tw_buckets to half of it, and tcp_max_syn_backlog to 128 (tcp_ipv4.c)."""


def main(fd: int) -> NoReturn:
    """The supervisor's life. ``fd`` is its end of the channel; the first message says the rest."""
    channel = Channel(socket.socket(fileno=fd))
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    if not poller.poll(0):
        # Started before we are needed. These 0.15 s, which a lab on the loopback never needs, are
        # best spent while the one who started us is still at its own imports.
        with contextlib.suppress(ImportError):
            import pyroute2  # noqa: F401
    request = channel.receive()
    if request is None:
        sys.exit(1)
    config = request.body
    starter = _watch_starter(config["main"])
    if config["mode"] == "loopback":
        Supervisor(channel, starter, {}, end=_end_process_group).serve({"privilege": _who()})
    try:
        privilege = isolate()
        pid = fork_first_process()
    except Refused as refusal:
        _send_refusal(channel, refusal)
        sys.exit(1)
    if pid:
        channel.close()
        _, status = os.waitpid(pid, 0)
        os._exit(0 if status == 0 else 1)  # at once: whoever closes the lab waits for this
    _be_first_process(channel, starter, config, privilege)


def _watch_starter(main_pid: int) -> int | None:
    """A descriptor that becomes readable when the process that started us ends.

    Not PR_SET_PDEATHSIG: that fires when the *thread* that started us ends.
    """
    parent = os.getppid()
    if parent == 0 or not hasattr(os, "pidfd_open"):
        return None  # 0: it is in another PID namespace; the channel's end still tells
    if parent != main_pid:
        sys.exit(1)  # it is gone already
    try:
        pidfd = os.pidfd_open(main_pid)
    except OSError:  # Linux before 5.3
        return None
    if os.getppid() != main_pid:
        sys.exit(1)
    return pidfd


def _who() -> str:
    return "root" if os.geteuid() == 0 else "user"


def _send_refusal(channel: Channel, refusal: Refused) -> None:
    channel.send({"refused": refusal.step, "errno": refusal.errno, "text": refusal.text})


def _be_first_process(
    channel: Channel, starter: int | None, config: dict[str, Any], privilege: str
) -> NoReturn:
    try:
        home = open_network()
        with contextlib.suppress(OSError):  # before Linux 6.1, or a read-only /proc/sys
            write_sysctl("net/ipv4/tcp_child_ehash_entries", str(_HASH_ENTRIES))
        networks = {name: Network(home) for name in HOSTS}
        os.close(home)  # each has its own; a program shall find no descriptor of ours open
        wire = make_wire(config["wire"], tuple(networks.values()))
        ready: dict[str, Any] = {"privilege": privilege, "wire": wire.kind}
        if config["mode"] == "probe":
            channel.send({"ready": ready})
            sys.exit(0)
        for network, addresses in zip(networks.values(), config["addresses"], strict=True):
            bring_up(network, tuple(addresses))
    except Refused as refusal:
        _send_refusal(channel, refusal)
        sys.exit(1)
    ready |= {"interfaces": wire.interfaces, "mac": wire.mac}
    supervisor = Supervisor(
        channel, starter, networks, end=lambda: _end_first_process(list(networks.values()))
    )
    supervisor.serve(ready, list(wire.fds))


def _end_first_process(networks: list[Network]) -> NoReturn:
    """Ends the lab's processes, and the sockets that would outlive them in the kernel."""
    with contextlib.suppress(OSError):
        diags = [network.open_diag() for network in networks]
        for network in networks:
            with network.entered(), contextlib.suppress(OSError):  # a read-only /proc/sys
                # For the orphans that this kernel cannot destroy: their next timer is the last.
                write_sysctl("net/ipv4/tcp_orphan_retries", "1")
        for diag in diags:  # first those of living processes: destroyed, they become no orphans
            destroy_sockets(diag)
        _kill_all()
        for diag in diags:
            destroy_sockets(diag)
    os._exit(0)  # the kernel kills whoever is left: pid_namespaces(7)


def _kill_all() -> None:
    """All but us, the first process of this PID namespace; returns when they are gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def _end_process_group() -> NoReturn:
    os.killpg(0, signal.SIGKILL)  # ours: we were started as the leader of a session
    os._exit(1)  # not reached: a signal to oneself is delivered before kill(2) returns


class Supervisor:
    """Serves requests, reaps, and ends with its starter: one thread, one poll."""

    def __init__(
        self,
        channel: Channel,
        starter: int | None,
        networks: dict[str, Network],
        end: Callable[[], NoReturn],
    ) -> None:
        self._channel = channel
        self._starter = starter
        self._networks = networks
        self._end = end
        self._wake, self._waker = socket.socketpair()
        self._requests: dict[str, Callable[[dict[str, Any]], tuple[dict[str, Any], list[int]]]] = {
            "spawn": self._spawn,
            "kill": self._kill,
            "sysctl": self._sysctl,
            "diag": self._diag,
        }

    def serve(self, ready: dict[str, Any], fds: list[int] | None = None) -> NoReturn:
        """Says it is ready, hands ``fds`` over and serves until the starter is gone."""
        self._watch_children()
        self._send({"ready": ready}, fds or [])
        poller = select.poll()
        for fd in (self._channel.fileno(), self._wake.fileno(), self._starter):
            if fd is not None:
                poller.register(fd, select.POLLIN)
        while True:
            for fd, _ in poller.poll():
                if fd == self._starter:
                    self._end()
                elif fd == self._wake.fileno():
                    self._wake.recv(4096)
                    self._reap()
                else:
                    self._serve_available()

    def _watch_children(self) -> None:
        for end in (self._wake, self._waker):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # the wakeup descriptor wants a handler
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        if not self._networks and sys.platform.startswith("linux"):
            # Outside a PID namespace orphans would go to the host's init, unknown to us.
            import ctypes

            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0)

    def _serve_available(self) -> None:
        messages, gone = self._channel.receive_available()
        if gone:
            self._end()
        for message in messages:
            self._serve_one(message)

    def _serve_one(self, message: Message) -> None:
        body = message.body
        try:
            answer, fds = self._requests[body["do"]](body)
        except OSError as error:
            answer, fds = {"errno": error.errno, "text": error.strerror}, []
        self._send({"re": body["id"], **answer}, fds)

    def _send(self, body: dict[str, Any], fds: list[int]) -> None:
        try:
            self._channel.send(body, fds=fds)
        except OSError:
            self._end()
        for fd in fds:
            os.close(fd)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            self._send({"ended": pid, "code": code, "t_ns": time.monotonic_ns()}, [])

    def _spawn(self, body: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        theirs, mine = new_line()
        pid = os.fork()
        if pid == 0:
            self._become_actor(body["host"], theirs, mine)
        mine.close()
        return {"pid": pid}, theirs

    def _become_actor(self, host: str, theirs: list[int], mine: Channel) -> NoReturn:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if host in self._networks:
            enter_network(self._networks[host].fd)
        # Whoever holds a copy of a channel's end hides the other's death.
        for fd in theirs:
            os.close(fd)
        self._channel.close()
        self._wake.close()
        self._waker.close()
        if self._starter is not None:
            os.close(self._starter)
        for network in self._networks.values():
            network.close()
        Actor(mine).run()

    def _kill(self, body: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        os.kill(body["pid"], body["signal"])
        return {}, []

    def _sysctl(self, body: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        with self._networks[body["host"]].entered():
            if body["value"] is not None:
                write_sysctl(body["path"], body["value"])
            return {"value": read_sysctl(body["path"])}, []

    def _diag(self, body: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        return {}, [self._networks[body["host"]].open_diag().detach()]
