"""The two hosts' interfaces, as the supervisor makes them: loopback, the wire, addresses.

Owns: both roads of the wire (TUN devices, veth pairs with packet sockets) and the sysctls that
silence a host. Must not know actors or messages. Runs in the supervisor only.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import os
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from tcpwatch.lab.isolation import (
    CLONE_NEWNET,
    STEP_ADDRESSES,
    STEP_NETWORK,
    STEP_WIRE,
    Refused,
    enter_network,
    open_network,
    unshare,
)

WIRE = "wire0"
MTU = 1500
_QUEUE = 10_000  # packets; Linux drops silently what a slow reader leaves in a TUN's 500
_LOOPBACK_INDEX = 1  # Linux: include/net/flow.h, in every network namespace
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_IFA_F_NODAD = 0x02
_LED, _LOCAL = 77, 255  # routing tables; the latter is RT_TABLE_LOCAL
_SIOCETHTOOL = 0x8946
_OFFLOADS = {"tso": 0x1F, "gso": 0x24, "gro": 0x2C, "tx checksum": 0x17}  # ETHTOOL_S...
_SOL_PACKET, _PACKET_IGNORE_OUTGOING = 263, 23
_ETH_P_ALL = 0x0003
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
_RECEIVE_BUFFER = 8 << 20  # octets
_HOST_MAC = "02:77:63:70:00:01"
_NETLINK_SOCK_DIAG = 4
_REACHABLE_S = 2.0  # less than a millisecond is usual
_QUIET = {"addr_gen_mode": "1", "accept_ra": "0", "router_solicitations": "0", "disable_ipv6": "0"}


class Network:
    """A host's network namespace, kept alive by a descriptor, and the way into it and back."""

    def __init__(self, home: int) -> None:
        self._home = os.dup(home)
        try:
            unshare(CLONE_NEWNET)
            self.fd = open_network()
            enter_network(home)
        except OSError as error:
            raise _refused(STEP_NETWORK, error) from error

    def close(self) -> None:
        """Lets go of both descriptors; the namespace lives as long as anything else holds it."""
        os.close(self.fd)
        os.close(self._home)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """This process is in the namespace for as long as the context lasts."""
        enter_network(self.fd)
        try:
            yield
        finally:
            enter_network(self._home)

    def open_diag(self) -> socket.socket:
        """A netlink socket for this namespace's socket table; it works from any process."""
        with self.entered():
            return socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG
            )


class Wire(NamedTuple):
    """Both ends of the wire. ``interfaces`` and ``mac`` are for the road through veth only."""

    kind: str
    fds: tuple[int, ...]
    interfaces: tuple[str, ...] = ()
    mac: str = ""


def make_wire(kind: str, hosts: tuple[Network, ...]) -> Wire:
    """Gives each host its interface, not yet up. ``auto`` takes TUN where it works, else veth.

    Raises Refused.
    """
    refusal = ""
    if kind in ("auto", "tun"):
        try:
            return Wire("tun", tuple(_open_tuns(hosts)))
        except OSError as error:
            refusal = f"TUN: {error.strerror}"
            if kind == "tun":
                raise Refused(STEP_WIRE, error.errno or 0, refusal) from error
    try:
        return _make_veths(hosts)
    except OSError as error:
        raise _refused(STEP_WIRE, error, f"{refusal}, veth: ".removeprefix(", ")) from error


def bring_up(host: Network, addresses: tuple[str, ...]) -> None:
    """Silences IPv6's autoconfiguration, brings both interfaces up, gives the wire's its addresses.

    ``addresses`` are IPv4 (/24) and IPv6 (/64); the latter is left out on a kernel without IPv6.
    Raises Refused.
    """
    with host.entered():
        for name, value in _QUIET.items():
            with contextlib.suppress(OSError):  # a kernel without IPv6, or a read-only /proc/sys
                write_sysctl(f"net/ipv6/conf/{WIRE}/{name}", value)
        try:
            with _routes() as links:
                wire = socket.if_nametoindex(WIRE)
                links.link("set", index=_LOOPBACK_INDEX, state="up")
                links.link("set", index=wire, mtu=MTU, txqlen=_QUEUE, state="up")
                for address in addresses:
                    _add_address(links, wire, address)
            for address in addresses:
                _await_reachable(address)
        except OSError as error:
            raise _refused(STEP_ADDRESSES, error) from error


def lead_through_tun() -> int:
    """Has what goes from this network to its own loopback (IPv4) pass a TUN device: its descriptor.

    What is made here is looked up in a table of our own, before the kernel's table of what is
    local; what comes out of the device, in that one. Raises Refused.
    """
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", WIRE.encode(), _IFF_TUN | _IFF_NO_PI))
    except OSError as error:
        raise _refused(STEP_WIRE, error, "TUN: ") from error
    try:
        with contextlib.suppress(OSError):  # a kernel without IPv6
            write_sysctl("net/ipv6/conf/all/disable_ipv6", "1")  # ::1 would not pass it
        for name in ("route_localnet", "accept_local"):
            write_sysctl(f"net/ipv4/conf/{WIRE}/{name}", "1")
        with _routes() as links:
            wire = socket.if_nametoindex(WIRE)
            links.link("set", index=wire, mtu=MTU, txqlen=_QUEUE, state="up")
            links.route("add", dst="127.0.0.0/8", oif=wire, prefsrc="127.0.0.1", table=_LED)
            links.rule("add", priority=1, iifname="lo", dst="127.0.0.0/8", table=_LED)
            links.rule("add", priority=2, table=_LOCAL)
            links.rule("del", priority=0, table=_LOCAL)
    except OSError as error:
        raise _refused(STEP_ADDRESSES, error) from error
    return fd


def _await_reachable(address: str) -> None:
    """Until the host takes segments to its own IPv6 address.

    Even without duplicate address detection the kernel inserts the route to it from a work queue
    (addrconf_dad_work() in addrconf.c); a SYN that comes before is dropped in silence.
    """
    if ":" not in address:
        return
    wanted = f"{socket.inet_pton(socket.AF_INET6, address).hex()} 80 "
    deadline = time.monotonic() + _REACHABLE_S
    while time.monotonic() < deadline:
        with open("/proc/net/ipv6_route", encoding="ascii") as routes:  # noqa: PTH123 - imports little
            if any(line.startswith(wanted) for line in routes):
                return
        time.sleep(0.001)


def write_sysctl(path: str, value: str) -> None:
    """Sets a sysctl of the network namespace this process is in. Raises OSError."""
    fd = os.open(f"/proc/sys/{path}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def read_sysctl(path: str) -> str:
    """A sysctl of the network namespace this process is in. Raises OSError."""
    fd = os.open(f"/proc/sys/{path}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096).decode().strip()
    finally:
        os.close(fd)


def _routes() -> Any:
    """pyroute2's sockets, its errors being OSErrors with the kernel's errno. Raises Refused."""
    try:
        from pyroute2 import IPRoute
    except ImportError as error:
        raise Refused(STEP_ADDRESSES, errno.ENOPKG, "pyroute2 is not installed") from error
    return _as_os_errors(IPRoute)


@contextlib.contextmanager
def _as_os_errors(make: Any) -> Iterator[Any]:
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with make() as links:
            yield links
    except NetlinkError as error:
        raise OSError(error.code, os.strerror(error.code)) from error


def _add_address(links: Any, index: int, address: str) -> None:
    from pyroute2.netlink.exceptions import NetlinkError

    if ":" not in address:
        links.addr("add", index=index, address=address, prefixlen=24)
        return
    try:
        links.addr("add", index=index, address=address, prefixlen=64, flags=_IFA_F_NODAD)
    except NetlinkError as error:
        if error.code not in (errno.EOPNOTSUPP, errno.EACCES, errno.EAFNOSUPPORT):
            raise


def _open_tuns(hosts: tuple[Network, ...]) -> list[int]:
    fds: list[int] = []
    try:
        for host in hosts:
            with host.entered():
                fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
                fds.append(fd)
                request = struct.pack("16sH22x", WIRE.encode(), _IFF_TUN | _IFF_NO_PI)
                fcntl.ioctl(fd, _TUNSETIFF, request)
    except OSError:
        for fd in fds:
            os.close(fd)
        raise
    return fds


def _make_veths(hosts: tuple[Network, ...]) -> Wire:
    """Each host's interface is one end of a pair, the other stays here with a packet socket on it.

    The hosts' ends have one MAC and no ARP: the kernel then takes a neighbour's address to be its
    own (net/ipv4/arp.c, arp_constructor; net/ipv6/ndisc.c, ndisc_constructor), so nothing is asked
    on the wire, and our own ends, with another MAC, ignore it all as meant for somebody else.
    """
    names = tuple(f"home{number}" for number, _ in enumerate(hosts))
    with _routes() as links:
        for name, host in zip(names, hosts, strict=True):
            peer = {"ifname": WIRE, "address": _HOST_MAC, "mtu": MTU, "net_ns_fd": host.fd}
            links.link("add", ifname=name, kind="veth", mtu=MTU, peer=peer)
            with contextlib.suppress(OSError):  # a kernel without IPv6
                write_sysctl(f"net/ipv6/conf/{name}/disable_ipv6", "1")
            with host.entered():
                _switch_off_offloads(WIRE)
            _switch_off_offloads(name)
            links.link("set", index=socket.if_nametoindex(name), txqlen=_QUEUE, state="up")
    for host in hosts:
        with host.entered(), _routes() as links:
            links.link("set", index=socket.if_nametoindex(WIRE), arp=False)
    return Wire("veth", tuple(_open_packet_socket(name) for name in names), names, _HOST_MAC)


def _switch_off_offloads(interface: str) -> None:
    """Segments must come out as they would on a cable: cut to the MTU, with their checksum."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for command in _OFFLOADS.values():
            value = array.array("I", [command, 0])  # struct ethtool_value
            pointer, _ = value.buffer_info()
            request = struct.pack("16sP16x", interface.encode(), pointer)
            fcntl.ioctl(sock.fileno(), _SIOCETHTOOL, request)


def _open_packet_socket(interface: str) -> int:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, 0)
    sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    with contextlib.suppress(OSError):  # beyond rmem_max only where privileged
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
    sock.bind((interface, _ETH_P_ALL))
    return sock.detach()


def _refused(step: str, error: OSError, prefix: str = "") -> Refused:
    return Refused(step, error.errno or 0, f"{prefix}{error.strerror or error}")
