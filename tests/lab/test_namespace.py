"""The lab of namespaces on this kernel: both wires, both privileges, and nothing left behind."""

from __future__ import annotations

import errno
import json
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.lab import isolation
from tcpwatch.lab.failures import LabClosed, Unsupported
from tcpwatch.lab.namespace import Namespaces, probe_namespaces, refusal
from tcpwatch.model.witness import Observation

PROGRAM = str(Path(__file__).with_name("conversation.py"))
Command = Callable[[list[str]], list[str]]
TUN = pytest.param(
    "tun",
    marks=pytest.mark.skipif(
        not os.access("/dev/net/tun", os.R_OK | os.W_OK), reason="may not open /dev/net/tun here"
    ),
)


def namespace_of(pid: int | str) -> str:
    return str(Path(f"/proc/{pid}/ns/net").readlink())


def run(argv: list[str]) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout


def wait_until(condition: Callable[[], bool]) -> None:
    """pytest's timeout ends this where the condition never holds."""
    never = threading.Event()
    while not condition():
        never.wait(0.01)


def dump_listeners(diag: socket.socket) -> list[int]:
    """The ports in LISTEN, by inet_diag_req_v2 (include/uapi/linux/inet_diag.h)."""
    body = struct.pack("<BBBxI48x", socket.AF_INET, socket.IPPROTO_TCP, 0, 1 << 10)
    diag.send(struct.pack("<IHHII", 16 + len(body), 20, 0x301, 1, 0) + body)
    data = diag.recv(65536)
    ports = []
    while len(data) >= 16:
        length, kind = struct.unpack_from("<IH", data)
        if kind == 20:
            ports.append(struct.unpack_from(">H", data, 16 + 4)[0])
        data = data[(length + 3) & ~3 :]
    return ports


@pytest.mark.needs("lab")
@pytest.mark.parametrize("privilege", ["as we are", "none"])
@pytest.mark.parametrize("ip", ["4", "6"])
@pytest.mark.parametrize("wire", [TUN, "veth"])
def test_two_processes_talk_over_the_wire(
    wire: str, ip: str, privilege: str, unprivileged_command: Command
) -> None:
    argv = [sys.executable, PROGRAM, wire, ip]
    output = run(unprivileged_command(argv) if privilege == "none" else argv)
    answer = json.loads(output.splitlines()[-1])
    root = privilege == "as we are" and "as root" in probe_namespaces().detail
    assert answer == {
        "privilege": "root" if root else "user",
        "wire": wire,
        "octets": 300_000,
        "longest": 1500,  # no offload has joined segments beyond the MTU
        "fin_timeout": "7",
    }


@pytest.mark.needs("lab")
def test_a_host_has_its_own_sysctls(namespaces: Namespaces) -> None:
    name = "net.ipv4.tcp_fin_timeout"
    ours = Path("/proc/sys/net/ipv4/tcp_fin_timeout").read_text(encoding="ascii").strip()
    before = namespaces.server.sysctl(name)
    assert namespaces.client.sysctl(name, 5) == "5"
    assert namespaces.client.sysctl(name) == "5"
    assert namespaces.server.sysctl(name) == before
    assert Path("/proc/sys/net/ipv4/tcp_fin_timeout").read_text(encoding="ascii").strip() == ours


@pytest.mark.needs("lab")
def test_a_sysctl_that_is_not_there_is_unsupported(namespaces: Namespaces) -> None:
    with pytest.raises(Unsupported, match="no sysctl"):
        namespaces.client.sysctl("net.ipv4.tcp_no_such_thing")


@pytest.mark.needs("lab")
@pytest.mark.parametrize(
    "name, value", [("kernel.hostname", "x"), ("net.ipv4.tcp_fin_timeout", "soon")]
)
def test_a_wrong_sysctl_is_wrong_usage(namespaces: Namespaces, name: str, value: str) -> None:
    with pytest.raises(TcpwatchError) as caught:
        namespaces.client.sysctl(name, value)
    assert caught.value.exit_code is ExitCode.USAGE


@pytest.mark.needs("lab")
def test_the_netlink_socket_shows_its_own_host_only(namespaces: Namespaces) -> None:
    listener = namespaces.server.process("server").socket()
    listener.bind(7001)
    listener.listen()
    assert dump_listeners(namespaces.server.diag) == [7001]
    assert dump_listeners(namespaces.client.diag) == []


@pytest.mark.needs("lab")
def test_each_host_has_a_process_in_a_namespace_of_its_own(namespaces: Namespaces) -> None:
    pids = (namespaces.client.pid, namespaces.server.pid, os.getpid())
    assert len({namespace_of(pid) for pid in pids}) == 3
    actor = namespaces.client.process("client")
    assert namespace_of(actor.pid) == namespace_of(namespaces.client.pid)


@pytest.mark.needs("lab")
def test_the_index_tells_labs_apart(namespaces: Namespaces) -> None:
    assert (namespaces.client.ip, namespaces.server.ip) == ("10.77.200.1", "10.77.200.2")
    assert namespaces.server.ip6 == "fd77:0:0:c8::2"
    assert str(namespaces.server.address(80, ipv6=True)) == "[fd77:0:0:c8::2]:80"


@pytest.mark.needs("lab")
def test_closing_ends_every_process_and_may_be_repeated(
    observations: list[Observation],
) -> None:
    lab = Namespaces.open(index=202, emit=observations.append)
    processes = [host.process("one") for host in (lab.client, lab.server)]
    pids = [process.pid for process in processes] + [lab.client.pid, lab.server.pid]
    lab.close()
    assert not any(psutil.pid_exists(pid) for pid in pids)
    lab.close()
    with pytest.raises(LabClosed):
        lab.client.process("late")


@pytest.mark.needs("lab")
def test_a_call_in_progress_ends_when_the_lab_is_closed(
    observations: list[Observation],
) -> None:
    lab = Namespaces.open(index=202, emit=observations.append)
    listener = lab.server.process("server").socket()
    listener.bind(7000)
    listener.listen()
    accepting = listener.start.accept()
    closer = threading.Thread(target=lab.close)
    closer.start()
    with pytest.raises(LabClosed):
        accepting.result()
    closer.join()


@pytest.mark.needs("lab")
def test_the_death_of_the_supervisor_is_told_and_leaves_nothing(
    observations: list[Observation],
) -> None:
    with Namespaces.open(index=202, emit=observations.append) as lab:
        listener = lab.server.process("server").socket()
        listener.bind(7000)
        listener.listen()
        accepting = listener.start.accept()
        os.kill(lab.supervisor_pid, signal.SIGKILL)
        with pytest.raises(LabClosed):
            accepting.result()
        wait_until(lambda: not psutil.pid_exists(listener.process.pid))


@pytest.mark.parametrize("kind", [pytest.param("auto", marks=pytest.mark.needs("lab")), "loopback"])
def test_killing_us_at_any_moment_leaves_no_process(
    kind: str, marked_processes: Callable[[str], list[int]]
) -> None:
    chance = random.Random(kind)  # noqa: S311
    for _ in range(5):
        mark = uuid.uuid4().hex
        environment = {**os.environ, "TCPWATCH_TEST_MARK": mark}
        argv = [sys.executable, PROGRAM, kind, "4", "stay"]
        with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            select.select([process.stdout], [], [], chance.uniform(0.1, 0.8))
            process.send_signal(signal.SIGKILL)
        wait_until(lambda mark=mark: not marked_processes(mark))  # type: ignore[misc]


@pytest.mark.needs("lab")
@pytest.mark.parametrize(
    "arguments", [{"index": 256}, {"index": 0, "wire": "string"}, {"index": 0, "ip": 5}]
)
def test_wrong_arguments_are_wrong_usage(arguments: dict[str, int]) -> None:
    with pytest.raises(TcpwatchError) as caught:
        Namespaces.open(emit=print, **arguments)  # type: ignore[arg-type]
    assert caught.value.exit_code is ExitCode.USAGE


@pytest.mark.needs("lab")
def test_the_probe_says_how_it_works() -> None:
    answer = probe_namespaces()
    assert answer.name == "lab"
    assert answer.detail.endswith(("wire by tun", "wire by veth"))


NO_USER_NAMESPACES = """
import os, sys
from pathlib import Path
from tcpwatch.lab import isolation
uid, gid = os.geteuid(), os.getegid()
isolation.unshare(isolation.CLONE_NEWUSER)
isolation._map_self(uid, gid, (0, 0))
Path("/proc/sys/user/max_user_namespaces").write_text("0")
os.execv(sys.argv[1], sys.argv[1:])
"""

NO_TUN = """
import os, sys
from tcpwatch.lab import isolation
isolation.unshare(isolation.CLONE_NEWNS)
isolation._make_mounts_private()
isolation._mount("none", "/dev/net", "tmpfs", 0)
os.execv(sys.argv[1], sys.argv[1:])
"""

ASK_PROBE = """
from tcpwatch.lab.namespace import probe_namespaces
answer = probe_namespaces()
print(answer.available, answer.detail, answer.remedy, sep="|")
"""


def probe_in(program: str, command: Command) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    argv = [sys.executable, "-c", program, *command([sys.executable, "-c", ASK_PROBE])]
    done = subprocess.run(
        argv, check=True, capture_output=True, text=True, timeout=60, env=environment
    )
    return done.stdout.strip().split("|")


@pytest.mark.needs("lab")
def test_the_probe_names_the_limit_of_user_namespaces(unprivileged_command: Command) -> None:
    available, detail, remedy = probe_in(NO_USER_NAMESPACES, unprivileged_command)
    assert available == "False"
    assert "user.max_user_namespaces is 0" in detail
    assert "sysctl -w user.max_user_namespaces" in remedy


@pytest.mark.needs("lab")
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting over /dev/net takes root")
def test_without_a_tun_device_the_wire_is_a_veth_pair() -> None:
    available, detail, _ = probe_in(NO_TUN, lambda argv: argv)
    assert (available, detail) == ("True", "namespaces, as root, wire by veth")


@pytest.mark.parametrize(
    "step, number, words",
    [
        (isolation.STEP_USER, errno.ENOSPC, "limit of user namespaces"),
        (isolation.STEP_USER, errno.EINVAL, "no user namespaces"),
        (isolation.STEP_USER, errno.EPERM, "run as root"),
        (isolation.STEP_NAMESPACES, errno.EPERM, "run as root"),
        (isolation.STEP_PRIVILEGED, errno.ENOSPC, "max_net_namespaces"),
        (isolation.STEP_WIRE, errno.ENODEV, "--device /dev/net/tun"),
        (isolation.STEP_ADDRESSES, errno.ENOPKG, "pip install pyroute2"),
        (isolation.STEP_ADDRESSES, errno.EINVAL, "addresses"),
    ],
)
def test_every_refusal_has_a_reason_and_a_remedy(step: str, number: int, words: str) -> None:
    error = refusal(step, number, os.strerror(number))
    assert words in str(error)
    assert error.remedy.endswith("--lab loopback")
    assert error.exit_code is ExitCode.INCONCLUSIVE


@pytest.mark.needs("lab")
def test_both_hosts_take_segments_to_their_ipv6_address_from_the_first_one_on(
    namespaces: Namespaces,
) -> None:
    for host in (namespaces.client, namespaces.server):
        # It would leave by the wire, and wait, where the kernel has no route to it yet.
        host.process("caller").socket(ipv6=True).connect((host.ip6, 9), fails=errno.ECONNREFUSED)
