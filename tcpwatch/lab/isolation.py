"""The way into private namespaces: unshare, setns, mount and prctl of Linux, by ctypes.

Owns: the order of these calls and what each refusal is called. Must not know links, actors or
messages. Runs in the supervisor only: the process that uses tcpwatch never changes a namespace.
Python has os.unshare from 3.12 only.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import struct
from collections.abc import Collection
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_PRIVATE = 2, 4, 8, 0x4000, 0x40000
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 47, 2
_CAPABILITY_VERSION_3 = 0x20080522
_OWN = CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWNS

STEP_USER = "user namespace"
STEP_NAMESPACES = "namespaces inside the user namespace"
STEP_PRIVILEGED = "namespaces"
STEP_FORK = "first process of the PID namespace"
STEP_NETWORK = "network namespace"
STEP_WIRE = "wire"
STEP_ADDRESSES = "addresses"


class Refused(Exception):  # noqa: N818 - the kernel is in its right
    """The kernel refused a step of the way in; ``errno`` says how."""

    def __init__(self, step: str, errno: int, text: str) -> None:
        super().__init__(f"{step}: {text}")
        self.step = step
        self.errno = errno
        self.text = text


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def unshare(flags: int) -> None:
    """unshare(2). Raises OSError."""
    _check(_libc().unshare(ctypes.c_int(flags)))


def keep_capabilities(numbers: Collection[int]) -> None:
    """Has what this process executes keep these capabilities, whoever it is. Raises OSError.

    They are those of its user namespace: capabilities(7), "ambient".
    """
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    sets = ctypes.create_string_buffer(24)  # effective, permitted, inheritable; twice
    _check(_libc().capget(header, sets))
    words = list(struct.unpack("=6I", sets.raw))
    for number in numbers:
        words[3 * (number // 32) + 2] |= 1 << number % 32
    _check(_libc().capset(header, struct.pack("=6I", *words)))
    for number in numbers:
        raised = (ctypes.c_ulong(_PR_CAP_AMBIENT_RAISE), ctypes.c_ulong(number))
        _check(_libc().prctl(_PR_CAP_AMBIENT, *raised, 0, 0))


def die_with_parent() -> None:
    """SIGKILL for this process when the thread that forked it ends. Raises OSError."""
    _check(_libc().prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0))


def adopt_orphans() -> None:
    """Descendants whose parent ends become children of this process. Raises OSError."""
    _check(_libc().prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0))


def enter_network(fd: int) -> None:
    """setns(2) into the network namespace that ``fd`` stands for. Raises OSError."""
    _check(_libc().setns(ctypes.c_int(fd), ctypes.c_int(CLONE_NEWNET)))


def open_network() -> int:
    """A descriptor of the network namespace this process is in; it keeps the namespace alive."""
    return os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def isolate(*, as_self: bool = False) -> str:
    """Leaves the caller's PID (for its children), network and mount namespaces.

    Returns ``root`` where the caller's own capabilities sufficed, ``user`` where it took a user
    namespace; in that one it is root, or, ``as_self``, who it was. Raises Refused.
    """
    try:
        unshare(_OWN)
    except PermissionError:
        _isolate_as_user(as_self=as_self)
        privilege = "user"
    except OSError as error:
        raise _refused(STEP_PRIVILEGED, error) from error
    else:
        privilege = "root"
    _make_mounts_private()
    return privilege


def fork_first_process() -> int:
    """fork(2) whose child is pid 1 of the PID namespace and dies with its parent. Raises Refused.

    Returns 0 in the child and the child's pid in the parent.
    """
    try:
        parent = os.pidfd_open(os.getpid())
        pid = os.fork()
    except OSError as error:
        raise _refused(STEP_FORK, error) from error
    if pid == 0:
        die_with_parent()
        if _has_ended(parent):  # before prctl: that signal would never come
            os._exit(1)
        _mount_proc()
    os.close(parent)
    return pid


def _has_ended(pidfd: int) -> bool:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(0))


def _isolate_as_user(*, as_self: bool) -> None:
    uid, gid = os.geteuid(), os.getegid()
    try:
        unshare(CLONE_NEWUSER)
    except OSError as error:
        raise _refused(STEP_USER, error) from error
    _map_self(uid, gid, (uid, gid) if as_self else (0, 0))
    try:
        unshare(_OWN)
    except OSError as error:
        raise _refused(STEP_NAMESPACES, error) from error


def _map_self(uid: int, gid: int, inside: tuple[int, int]) -> None:
    """Appears so ``inside``. Where that is refused the capabilities are there all the same.

    Linux: kernel/user_namespace.c, verify_root_map: a uid 0 without CAP_SETFCAP may not map itself.
    """
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{inside[0]} {uid} 1"),
        ("gid_map", f"{inside[1]} {gid} 1"),
    ):
        try:
            Path(f"/proc/self/{name}").write_text(text, encoding="ascii")
        except OSError:
            continue


def _make_mounts_private() -> None:
    try:
        _mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    except OSError as error:
        raise _refused(STEP_NAMESPACES, error) from error


def _mount_proc() -> None:
    """A /proc of our own: in a container /proc/sys is mounted read-only over the common one.

    May be refused (fs/namespace.c, mount_too_revealing); the lab then lives with what is there.
    """
    try:
        _mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    except OSError:
        return


def _mount(source: str, target: str, kind: str | None, flags: int) -> None:
    _check(
        _libc().mount(
            source.encode(),
            target.encode(),
            kind.encode() if kind else None,
            ctypes.c_ulong(flags),
            None,
        )
    )


def _refused(step: str, error: OSError) -> Refused:
    return Refused(step, error.errno or 0, error.strerror or str(error))
