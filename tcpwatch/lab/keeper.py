"""The process that keeps a command in its own network: makes it, starts the command, ends it all.

Owns: the namespaces, the descriptors that a witness needs, the command and every process that it
leaves. Forked from tcpwatch, so that the command stays in its terminal's foreground; ends at once
when that one does, and everything inside with it. Must not know what is observed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from tcpwatch.lab.diag import dump
from tcpwatch.lab.exits import Exit, Exits
from tcpwatch.lab.isolation import (
    CLONE_NEWNET,
    STEP_ADDRESSES,
    STEP_NETWORK,
    Refused,
    adopt_orphans,
    die_with_parent,
    enter_network,
    fork_first_process,
    isolate,
    keep_capabilities,
    open_network,
    unshare,
)
from tcpwatch.lab.links import Network, bring_up, lead_through_tun, make_wire, write_sysctl
from tcpwatch.lab.orphans import destroy_sockets
from tcpwatch.lab.protocol import Channel

_HASH_ENTRIES = 16384  # as the supervisor's; a dump of the table takes 30 us, and not 165
_AS_THE_HOST = ("tcp_max_tw_buckets", "tcp_max_syn_backlog")  # which that number would lower
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1
_NETLINK_SOCK_DIAG = 4
_ALL_BUT_TIME_WAIT = 0x1FFE & ~(1 << 6)  # net/tcp_states.h
_NET_BIND_SERVICE, _NET_ADMIN, _NET_RAW = 10, 12, 13  # linux/capability.h
_IGNORED = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP)


def keep(channel: Channel, config: dict[str, Any]) -> NoReturn:
    """The keeper's life, in a process forked for it. ``config`` says what network it is to be."""
    try:
        for number in _IGNORED:  # the terminal's are for the command
            signal.signal(number, signal.SIG_IGN)
        die_with_parent()
        if os.getppid() != config["main"]:
            os._exit(1)
        if config["network"] == "shared":
            adopt_orphans()
            _serve(channel, config, "root" if os.geteuid() == 0 else "user")
        values = {name: _host_value(name) for name in _AS_THE_HOST}
        privilege = isolate(as_self=True)
        pid = fork_first_process()
        if pid:
            channel.close()
            os.waitpid(pid, 0)
            os._exit(0)
        _serve(channel, {**config, "values": values}, privilege)
    except Refused as refusal:
        channel.send({"refused": refusal.step, "errno": refusal.errno, "text": refusal.text})
    except (OSError, EOFError):
        pass  # tcpwatch is gone
    finally:
        os._exit(1)


def _host_value(name: str) -> str | None:
    try:
        return Path(f"/proc/sys/net/ipv4/{name}").read_text(encoding="ascii").strip()
    except OSError:
        return None


def _serve(channel: Channel, config: dict[str, Any], privilege: str) -> NoReturn:
    match config["network"]:
        case "shared":
            networks: list[Network | None] = [None]
            answer, fds = _open_here(private=False)
        case "pair":
            made = _pair(config)
            networks, (answer, fds) = [*made], _open_pair(made, config)
        case "wired":
            networks = [None]
            _make_private(config)
            answer, fds = {"wire": "tun"}, [_diag(None).detach(), lead_through_tun()]
        case _:
            networks = [None]
            _make_private(config)
            answer, fds = _open_here(private=True)
    for network in networks:
        _configure(network, config["sysctls"])
    diags = [_diag(network) for network in networks]
    channel.send({"ready": {"privilege": privilege, **answer}}, fds=fds)
    for fd in fds:
        os.close(fd)
    Keeper(channel, networks, diags, private=config["network"] != "shared", user=privilege).serve()


def _make_private(config: dict[str, Any]) -> None:
    """A network namespace with its loopback up, and a table of connections of its own."""
    with contextlib.suppress(OSError):  # before Linux 6.1, or a read-only /proc/sys
        write_sysctl("net/ipv4/tcp_child_ehash_entries", str(_HASH_ENTRIES))
    try:
        unshare(CLONE_NEWNET)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            request = struct.pack("16sh14x", b"lo", 0)
            flags = struct.unpack_from("h", fcntl.ioctl(sock, _SIOCGIFFLAGS, request), 16)[0]
            fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))
    except OSError as error:
        raise Refused(STEP_NETWORK, error.errno or 0, error.strerror or str(error)) from error
    for name, value in config["values"].items():
        if value is not None:
            with contextlib.suppress(OSError):
                write_sysctl(f"net/ipv4/{name}", value)
    with contextlib.suppress(OSError):  # here nobody's ports are privileged
        write_sysctl("net/ipv4/ip_unprivileged_port_start", "0")


def _open_here(*, private: bool) -> tuple[dict[str, Any], list[int]]:
    """A sock_diag socket of this network, and a packet socket where one is to be had."""
    fds = [_diag(None).detach()]
    answer: dict[str, Any] = {"private": private}
    try:
        packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, 0)
        fds.append(packets.detach())
    except OSError as error:
        answer["no_packets"] = error.strerror
    return answer, fds


def _pair(config: dict[str, Any]) -> list[Network]:
    home = open_network()
    with contextlib.suppress(OSError):
        write_sysctl("net/ipv4/tcp_child_ehash_entries", str(_HASH_ENTRIES))
    networks = [Network(home) for _ in config["addresses"]]
    os.close(home)
    return networks


def _open_pair(networks: list[Network], config: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
    """Both hosts' sock_diag sockets, then both ends of the wire."""
    wire = make_wire(config["wire"], tuple(networks))
    for network, addresses in zip(networks, config["addresses"], strict=True):
        bring_up(network, tuple(addresses))
        with network.entered(), contextlib.suppress(OSError):
            write_sysctl("net/ipv4/ip_unprivileged_port_start", "0")
    fds = [_diag(network).detach() for network in networks]
    answer = {"wire": wire.kind, "interfaces": wire.interfaces, "mac": wire.mac}
    return answer, [*fds, *wire.fds]


def _configure(network: Network | None, sysctls: dict[str, str]) -> None:
    with contextlib.nullcontext() if network is None else network.entered():
        for name, value in sysctls.items():
            try:
                write_sysctl(name.replace(".", "/"), value)
            except OSError as error:
                why = f"the sysctl {name} cannot be {value!r}: {error.strerror}"
                raise Refused(STEP_ADDRESSES, errno.ENOPKG, why) from error


def _diag(network: Network | None) -> socket.socket:
    if network is not None:
        return network.open_diag()
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    return socket.socket(socket.AF_NETLINK, kind, _NETLINK_SOCK_DIAG)


class Keeper:
    """Starts commands, passes signals on, tells of exits: one thread, one poll."""

    def __init__(
        self,
        channel: Channel,
        networks: list[Network | None],
        diags: list[socket.socket],
        *,
        private: bool,
        user: str,
    ) -> None:
        self._channel = channel
        self._networks = networks
        self._diags = diags
        self._private = private
        self._user = user
        self._exits = Exits(self._look)
        self._any = False  # whether anything is alive, as was told
        self._started: dict[int, str] = {}  # pid -> the command's key
        self._wake, self._waker = socket.socketpair()
        for end in (self._wake, self._waker):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # the wakeup descriptor wants a handler
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)

    def serve(self) -> NoReturn:
        """Until tcpwatch says so, or is gone."""
        poller = select.poll()
        for fd in (self._channel.fileno(), self._wake.fileno()):
            poller.register(fd, select.POLLIN)
        while True:
            for fd, _ in poller.poll():
                if fd == self._wake.fileno():
                    with contextlib.suppress(BlockingIOError):
                        self._wake.recv(4096)
                    self._reap()
                    continue
                messages, gone = self._channel.receive_available()
                for message in messages:
                    self._obey(message.body)
                if gone:
                    self._end()

    def _obey(self, body: dict[str, Any]) -> None:
        if "run" in body:
            self._run(body)
        elif "signal" in body:
            for pid, key in self._started.items():
                if body["to"] in (key, None):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, body["signal"])
        elif "who" in body:
            self._channel.send({"running": self._exits.running()})

    def _reap(self) -> None:
        for ended in self._exits.reap():
            self._channel.send(_told(ended, self._started.pop(ended.pid, None)))
        if bool(self._exits.alive) is not self._any:
            self._any = not self._any
            self._channel.send({"alive": self._any})

    def _look(self, inodes: frozenset[int]) -> list[list[object]]:
        """The connections among these sockets: the host's number, then as sock_diag has them."""
        found: list[list[object]] = []
        for number, diag in enumerate(self._diags):
            found += (
                [number, *row[:4], "", *row[5:], row.id.hex()]
                for row in dump(diag, _ALL_BUT_TIME_WAIT)
                if row.inode in inodes
            )
        return found

    def _run(self, body: dict[str, Any]) -> None:
        """Forks the command, lets it be watched, and says whether it could be executed."""
        go, may_go = os.pipe()
        failed, fails = os.pipe()
        pid = os.fork()
        if pid == 0:
            for fd in (may_go, failed):
                os.close(fd)
            self._become(body, go, fails)
        for fd in (go, fails):
            os.close(fd)
        traced = body["trace"] and self._exits.seize(pid)
        self._exits.alive.add(pid)
        self._any = True
        self._started[pid] = body["run"]
        os.write(may_go, b"!")
        os.close(may_go)
        code = os.read(failed, 16)
        os.close(failed)
        number = int(code) if code else 0
        traced = traced and not self._exits.blind
        self._channel.send({"alive": True})
        self._channel.send({"started": body["run"], "errno": number, "pid": pid, "traced": traced})

    def _become(self, body: dict[str, Any], go: int, fails: int) -> NoReturn:
        try:
            signal.set_wakeup_fd(-1)
            network = self._networks[body["host"]]
            if network is not None:
                enter_network(network.fd)
            for number in range(1, signal.NSIG):
                if number not in (signal.SIGKILL, signal.SIGSTOP):
                    ignored = number in body["ignored"]
                    with contextlib.suppress(OSError, ValueError):
                        signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, body["blocked"])
            if self._private and self._user == "user":
                with contextlib.suppress(OSError):
                    keep_capabilities((_NET_BIND_SERVICE, _NET_ADMIN, _NET_RAW))
            os.read(go, 1)
            os.execvpe(body["argv"][0], body["argv"], body["environment"])  # noqa: S606
        except OSError as error:
            os.write(fails, str(error.errno or errno.ENOENT).encode())
        finally:
            os._exit(127)

    def _end(self) -> NoReturn:
        """Ends all processes, and the sockets that would outlive them in the kernel."""
        if not self._private:
            os._exit(0)  # whoever is traced is killed with us; the others are the user's
        with contextlib.suppress(OSError):
            os.kill(-1, signal.SIGKILL)
        signal.set_wakeup_fd(-1)
        with contextlib.suppress(OSError):
            for diag in self._diags:
                destroy_sockets(diag)
        os._exit(0)  # the kernel kills whoever is left: pid_namespaces(7)


def _told(ended: Exit, key: str | None) -> dict[str, Any]:
    return {
        "ended": ended.pid,
        "key": key,
        "name": ended.name,
        "code": ended.code,
        "t_ns": ended.t_ns,
        "rows": ended.rows,
    }


def start(
    config: dict[str, Any], life: Callable[[Channel, dict[str, Any]], NoReturn] = keep
) -> tuple[int, Channel]:
    """Forks the keeper; its pid and our end of its channel. Before any thread is started."""
    from tcpwatch.lab.protocol import channel_pair

    ours, theirs = channel_pair()
    main = os.getpid()
    pid = os.fork()
    if pid == 0:
        ours.close()
        life(Channel(theirs), {**config, "main": main})
    theirs.close()
    return pid, Channel(ours)
