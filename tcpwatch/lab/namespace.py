"""The lab of namespaces: each host has a network stack of its own, and nothing of this machine's.

Owns: the lab's addresses, and why namespaces may be refused and what to do about it. Must not know
how the supervisor makes them, nor the wire between the two ports.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Self

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.lab.failures import Unsupported
from tcpwatch.lab.host import Host
from tcpwatch.lab.isolation import STEP_ADDRESSES, STEP_NAMESPACES, STEP_USER, STEP_WIRE
from tcpwatch.lab.ports import PacketPort, Port, TunPort
from tcpwatch.lab.process import Addresses
from tcpwatch.lab.protocol import Message
from tcpwatch.lab.supervision import HostPair, Started
from tcpwatch.model.witness import Availability, Observation

_NAMES = ("client", "server")
_LOOPBACK = "or play on the loopback: --lab loopback"
_USER_NAMESPACES = Path("/proc/sys/user/max_user_namespaces")
_DEBIAN = Path("/proc/sys/kernel/unprivileged_userns_clone")
_UBUNTU = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")


class Namespaces(HostPair):
    """Two hosts with a kernel stack each, and a port for each end of the wire between them."""

    @classmethod
    def open(
        cls,
        *,
        index: int,
        emit: Callable[[Observation], None],
        wire: str = "auto",
        ip: int = 4,
        patience_s: float | None = None,
    ) -> Namespaces:
        """Makes both hosts, as root or else in a user namespace.

        ``index`` (0 to 255) tells this lab's addresses from another's: 10.77.index.1 and .2,
        fd77:0:0:index::1 and ::2. ``wire`` is auto, tun or veth; ``ip`` (4 or 6) is what the hosts
        use where a play does not say. ``emit`` takes the calls' events, from any thread.
        Raises TcpwatchError with the remedy where namespaces are refused.
        """
        if not 0 <= index <= 255 or wire not in ("auto", "tun", "veth") or ip not in (4, 6):
            raise TcpwatchError(
                f"no lab with index {index}, wire {wire!r}, ip {ip}",
                "the index is 0 to 255, the wire auto, tun or veth, ip 4 or 6",
                ExitCode.USAGE,
            )
        addresses = [(f"10.77.{index}.{n}", f"fd77:0:0:{index:x}::{n}") for n in (1, 2)]
        started = _start({"mode": "namespaces", "wire": wire, "addresses": addresses})
        lab = cls(started, emit, patience_s)
        try:
            ports = ports_of(started.answer)
            lab._hosts = tuple(
                Host(lab._switchboard, name, Addresses(*both, ipv6=ip == 6), port)
                for name, both, port in zip(_NAMES, addresses, ports, strict=True)
            )
            for host in lab._hosts:
                host.furnish()
        except BaseException:
            lab.close()
            raise
        return lab

    def __enter__(self) -> Self:
        return self


def probe_namespaces() -> Availability:
    """Whether the lab of namespaces works here. Really tries, in a process of its own (0.1 s)."""
    try:
        started = _start({"mode": "probe", "wire": "auto"})
    except TcpwatchError as error:
        return Availability("lab", available=False, detail=error.message, remedy=error.remedy)
    started.end()
    ready = started.answer.body["ready"]
    how = "as root" if ready["privilege"] == "root" else "in a user namespace"
    return Availability("lab", available=True, detail=f"namespaces, {how}, wire by {ready['wire']}")


def _start(config: dict[str, object]) -> Started:
    if not sys.platform.startswith("linux"):
        raise Unsupported("namespaces are Linux's", "play on the loopback: --lab loopback")
    started = Started(config)
    if "refused" in started.answer.body:
        started.end()
        raise refusal(
            started.answer.body["refused"],
            started.answer.body["errno"],
            started.answer.body["text"],
        )
    return started


def ports_of(answer: Message) -> tuple[Port, ...]:
    """The wire's two ends, from whoever made it."""
    ready = answer.body["ready"]
    if ready["wire"] == "tun":
        return tuple(TunPort(fd) for fd in answer.fds)
    mac = bytes.fromhex(ready["mac"].replace(":", ""))
    return tuple(
        PacketPort(fd, interface, mac)
        for fd, interface in zip(answer.fds, ready["interfaces"], strict=True)
    )


def refusal(step: str, number: int, text: str) -> TcpwatchError:
    """Why the kernel refused a step of the way in, and what a person can do about it."""
    if step == STEP_USER:
        why, remedy = _why_no_user_namespace(number, text)
    elif step == STEP_NAMESPACES and number == errno.EPERM:
        why, remedy = _why_powerless(text)
    elif step == STEP_WIRE:
        why = f"the lab's wire cannot be made ({text})"
        remedy = "load the module tun (modprobe tun), in a container add --device /dev/net/tun"
        if number in (errno.EACCES, errno.EPERM):
            remedy = "let this user open /dev/net/tun, or take the other road: wire veth"
    elif step == STEP_ADDRESSES and number == errno.ENOPKG:
        why, remedy = text, "install it: pip install pyroute2"
    elif number == errno.ENOSPC:
        why = f"this machine's limit of namespaces is reached ({step})"
        remedy = "raise the limits under /proc/sys/user, such as max_net_namespaces"
    else:
        why = f"the kernel refuses the lab its {step}: {text}"
        remedy = "run as root"
    return Unsupported(why, f"{remedy}; {_LOOPBACK}")


def _why_no_user_namespace(number: int, text: str) -> tuple[str, str]:
    if _setting(_USER_NAMESPACES) == 0:
        return (
            "user namespaces are switched off here (user.max_user_namespaces is 0)",
            "sysctl -w user.max_user_namespaces=10000, or run as root",
        )
    if number == errno.ENOSPC:
        return (
            "this user's limit of user namespaces is reached",
            "raise user.max_user_namespaces by sysctl, or run as root",
        )
    if _setting(_DEBIAN) == 0:
        return (
            "only root may make user namespaces here (kernel.unprivileged_userns_clone is 0)",
            "sysctl -w kernel.unprivileged_userns_clone=1, or run as root",
        )
    if number == errno.EINVAL:
        return "this kernel has no user namespaces", "run as root"
    if _seccomp_filtered():
        return (
            "a seccomp filter, such as a container's default profile, forbids namespaces",
            "run the container with --cap-add SYS_ADMIN --cap-add NET_ADMIN --device /dev/net/tun",
        )
    return f"the kernel refuses a user namespace: {text}", "run as root"


def _why_powerless(text: str) -> tuple[str, str]:
    """A user namespace was granted, but no power in it."""
    if (_setting(_UBUNTU) or 0) > 0:
        return (
            f"AppArmor gives user namespaces no capabilities here ({_UBUNTU.name} is 1)",
            f"sysctl -w kernel.{_UBUNTU.name}=0, or run as root",
        )
    return f"a user namespace here gives no right to make others: {text}", "run as root"


def _setting(path: Path) -> int | None:
    """A sysctl's number; None where this kernel has no such sysctl."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _seccomp_filtered() -> bool:
    """Linux: proc_pid_status(5), 2 is SECCOMP_MODE_FILTER."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return any(line.split() == ["Seccomp:", "2"] for line in status.splitlines())
