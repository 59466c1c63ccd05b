"""What is seen of a process from outside, and that a program's children are told of as it is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tcpwatch.lab.failures import Ending, ProcessDied
from tcpwatch.lab.loopback import Loopback
from tcpwatch.lab.namespace import Namespaces
from tcpwatch.lab.proc import sockets_of, wait_stopped
from tcpwatch.lab.protocol import Channel, channel_pair

AnyLab = Namespaces | Loopback

FORKING = """
import os, signal, sys
if os.fork() == 0:
    os.write(1, b"child")
    os._exit(3)
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""
TIRELESS = """
import socket
while True:
    try:
        socket.socket().close()
    except OSError:
        pass
"""
BECOMING = """
import os, socket, sys
from tcpwatch.lab.protocol import Channel
from tcpwatch.lab.tracing import run_program
run_program(Channel(socket.socket(fileno=int(sys.argv[1]))), sys.argv[2], [], os.dup(0))
"""


def test_sigstop_returns_once_the_process_stands_still(lab: AnyLab) -> None:
    process = lab.client.process("still")
    process.kill(signal.SIGSTOP)
    assert psutil.Process(process.pid).status() == psutil.STATUS_STOPPED
    process.kill(signal.SIGCONT)
    assert process.exit(4) == Ending(exit_status=4)


def test_nobody_waits_for_the_dead_to_stand_still() -> None:
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    wait_stopped(pid)  # a zombie
    os.waitpid(pid, 0)
    wait_stopped(pid)
    with pytest.raises(ProcessLookupError):
        sockets_of(pid)


def test_open_sockets_are_the_ones_that_a_process_holds(lab: AnyLab) -> None:
    parent = lab.client.process("parent")
    before = parent.open_sockets
    socket = parent.socket()
    (inode,) = parent.open_sockets - before
    child = parent.fork("child")
    assert inode in child.open_sockets
    socket.close()
    assert inode not in parent.open_sockets
    assert inode in child.open_sockets
    child.exit()
    parent.wait(child)
    with pytest.raises(ProcessDied):
        _ = child.open_sockets


def test_a_program_s_child_is_told_of_as_the_program_is(lab: AnyLab, tmp_path: Path) -> None:
    path = tmp_path / "forking.py"
    path.write_text(FORKING)
    program = lab.client.run(str(path))
    assert program.join() == Ending(exit_status=0)
    (child,) = program.children
    assert (child.name, child.printed) == ("child 1", "child")
    assert (child.called("exit"), child.join()) == (1, Ending(exit_status=3))
    assert (program.printed, program.called("wait")) == ("3\n", 1)
    assert child.reaped


def test_a_program_that_heeds_no_error_ends_with_tcpwatch_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "tireless.py"
    path.write_text(TIRELESS)
    ours, theirs = channel_pair()
    argv = [sys.executable, "-c", BECOMING, str(theirs.fileno()), str(path)]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, pass_fds=[theirs.fileno()]) as process:
        try:
            theirs.close()
            channel = Channel(ours)
            assert channel.receive() is not None  # it is at work
            channel.close()
            _, said = process.communicate(timeout=10)
        finally:
            process.kill()
    assert (process.returncode, said) == (0, b"")
