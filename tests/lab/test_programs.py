"""Programs in a lab: real ones, whose calls are told as they make them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import psutil
import pytest

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.lab.failures import Ending, ProcessDied, ProgramFailed
from tcpwatch.lab.host import Host
from tcpwatch.lab.loopback import Loopback
from tcpwatch.lab.namespace import Namespaces
from tcpwatch.lab.process import Program
from tcpwatch.model.events import CallPhase, ProcessChange, ProcessChanged, UserCall
from tcpwatch.model.identity import SocketAddress
from tcpwatch.model.witness import Observation

AnyLab = Namespaces | Loopback
Run = Callable[..., Program]

SERVER = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
listener = socket.socket(family, socket.SOCK_STREAM)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind((sys.argv[1], 0))
listener.listen(8)
print(listener.getsockname()[1])
"""
CLIENT = """
import socket, sys
client = socket.create_connection((sys.argv[1], int(sys.argv[2])))
"""


def wait_until(condition: Callable[[], bool]) -> None:
    """pytest's timeout ends this where the condition never holds."""
    never = threading.Event()
    while not condition():
        never.wait(0.01)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a program given by its text, which may go on from `SERVER` or `CLIENT`."""

    def start(
        host: Host, text: str, *arguments: object, begin: str = "", name: str = ""
    ) -> Program:
        path = tmp_path / f"program{len(list(tmp_path.iterdir()))}.py"
        path.write_text(begin + dedent(text), encoding="utf-8")
        return host.run(str(path), *arguments, name=name)

    return start


def port_of(server: Program) -> int:
    """What a `SERVER` has printed first."""
    server.wait_printed("\n")
    return int(server.printed.splitlines()[0])


def events_of(observations: list[Observation], process: str) -> list[str]:
    """Its calls as ``accept(`` when made and ``) = 4`` when back, and what befell it."""
    told = []
    for seen in observations:
        match seen.payload:
            case UserCall(process=name) as call if name == process and call.call != "run":
                if call.phase is CallPhase.CALLED:
                    told.append(f"{call.call}({call.arguments})")
                else:
                    told.append(f"{call.call} = {call.errno or call.result}")
            case ProcessChanged(process=name) as change if name == process:
                told.append(change.change.value)
            case _:
                pass
    return told


def calls(observations: list[Observation], name: str, process: str = "") -> list[UserCall]:
    payloads = [seen.payload for seen in observations]
    found = [one for one in payloads if isinstance(one, UserCall) and one.call == name]
    return [call for call in found if process in ("", call.process)]


# --- calls ------------------------------------------------------------------------------------


def test_calls_are_told_before_and_after_with_what_they_gave(
    lab: AnyLab, run: Run, observations: list[Observation]
) -> None:
    server = run(
        lab.server,
        """
        connection, _ = listener.accept()
        connection.recv(4096, socket.MSG_PEEK)
        connection.sendall(connection.recv(4096))
        connection.shutdown(socket.SHUT_WR)
        connection.close()
        listener.close()
        """,
        lab.server.ip,
        begin=SERVER,
    )
    port = port_of(server)
    server.wait_called("accept")
    text = 'client.send(b"hello")\nclient.recv(5)\nclient.recv(1)\n'
    client = run(lab.client, text, lab.server.ip, port, begin=CLIENT)
    assert client.join() == server.join() == Ending(exit_status=0)
    text = f"[{lab.server.ip}]" if ":" in lab.server.ip else lab.server.ip
    assert [event for event in events_of(observations, "server") if "print" not in event] == [
        "started",
        "socket(AF_INET, SOCK_STREAM)", f"socket = {server.calls[0].result}",
        "setsockopt(SO_REUSEADDR, 1)", "setsockopt = 0",
        f"bind({text}:0)", "bind = 0",
        "listen(8)", "listen = 0",
        "accept()", f"accept = {calls(observations, 'accept')[1].result}",
        "recv(4096, MSG_PEEK)", "recv = 5",
        "recv(4096)", "recv = 5",
        "sendall(b'hello')", "sendall = 5",
        "shutdown(SHUT_WR)", "shutdown = 0",
        "close()", "close = 0",
        "close()", "close = 0",
        "exit(0)", "exited",
    ]  # fmt: skip


def test_calls_are_told_with_their_socket_s_addresses(
    lab: AnyLab, run: Run, observations: list[Observation]
) -> None:
    text = "connection, _ = listener.accept()\nconnection.close()\n"
    server = run(lab.server, text, lab.server.ip, begin=SERVER)
    port = port_of(server)
    client = run(lab.client, "client.recv(1)\n", lab.server.ip, port, begin=CLIENT)
    client.join()
    server.join()
    here = SocketAddress(lab.server.ip, port)
    listened, accepted = calls(observations, "listen")[1], calls(observations, "accept")[1]
    connected = calls(observations, "connect")[1]
    assert (listened.local, listened.remote) == (here, None)
    assert (connected.remote, accepted.local) == (here, here)
    assert connected.local == accepted.remote
    called, closed = calls(observations, "close", "server")
    assert (called.local, called.remote) == (closed.local, closed.remote) == (here, accepted.remote)


def test_a_failing_call_tells_its_errno(
    lab: AnyLab, run: Run, observations: list[Observation]
) -> None:
    text = """
    import socket, sys
    for connect in ("connect", "connect_ex"):
        refused = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
        try:
            getattr(refused, connect)((sys.argv[1], 9))
        except ConnectionRefusedError:
            print("refused")
    nobody = socket.socket()
    nobody.setblocking(False)
    listener = socket.create_server(("", 0))
    listener.setblocking(False)
    try:
        listener.accept()
    except BlockingIOError:
        pass
    """
    program = run(lab.client, text, lab.client.ip)
    assert program.join() == Ending(exit_status=0)
    assert program.printed == "refused\n"
    back = calls(observations, "connect")[1::2]
    assert [(call.result, call.errno) for call in back] == [(None, "ECONNREFUSED")] * 2
    assert calls(observations, "accept")[1].errno == "EAGAIN"


def test_what_becomes_of_a_nonblocking_connect_is_told(
    lab: AnyLab, run: Run, observations: list[Observation]
) -> None:
    text = """
    import select, socket, sys
    connecting = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
    connecting.setblocking(False)
    connecting.connect_ex((sys.argv[1], 9))
    select.select([], [connecting], [], 10)
    connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    """
    assert run(lab.client, text, lab.server.ip).join() == Ending(exit_status=0)
    # On the loopback the RST is there before connect(2) is back; it says EINPROGRESS all the same.
    assert calls(observations, "connect")[1].errno == "EINPROGRESS"
    assert str(calls(observations, "select")[1].result).endswith(" writable")
    assert calls(observations, "getsockopt")[1].result == "ECONNREFUSED"


@pytest.mark.parametrize(
    "watch, call, found",
    [
        ("select.select([0, listener], [other], [], 5)", "select", " writable"),
        ("select.select([0, listener], [], [])", "select", "stdin readable"),
        ("select.select([listener], [], [], 0.01)", "select", "timeout"),
        ("p = select.poll(); p.register(0, select.POLLIN); p.poll(5000)", "poll", "stdin readable"),
        ("p = select.poll(); p.register(listener); p.poll(10)", "poll", "timeout"),
        ("s = selectors.PollSelector(); s.register(0, 1); s.select(5)", "poll", "stdin readable"),
        (
            "s = selectors.SelectSelector(); s.register(0, 1); s.select()",
            "select",
            "stdin readable",
        ),
    ],
)
def test_waiting_for_several_tells_for_which_and_what_came(
    lab: AnyLab, run: Run, observations: list[Observation], watch: str, call: str, found: str
) -> None:
    text = f"import select, selectors\nother = socket.socket(type=socket.SOCK_DGRAM)\n{watch}\n"
    program = run(lab.server, text, lab.server.ip, begin=SERVER)
    if "stdin" in found:
        program.type("now\n")
    assert program.join() == Ending(exit_status=0)
    called, back = calls(observations, call)
    assert ("stdin" if "0" in watch and "stdin" in found else "listener") in called.arguments
    assert str(back.result).endswith(found)


@pytest.mark.skipif(not hasattr(__import__("select"), "epoll"), reason="epoll is Linux's")
def test_epoll_is_told_also_by_a_forked_child(
    lab: AnyLab, run: Run, observations: list[Observation]
) -> None:
    text = """
    import os, select, selectors
    poller = select.epoll()
    poller.register(listener, select.EPOLLIN)
    poller.modify(listener, select.EPOLLIN | select.EPOLLOUT)
    if os.fork() == 0:
        poller.poll(timeout=0.01, maxevents=3)
        os._exit(0)
    os.wait()
    poller.unregister(listener)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    selector.select(0.02)
    """
    program = run(lab.server, text, lab.server.ip, begin=SERVER)
    assert program.join() == Ending(exit_status=0)
    asked = [call.arguments for call in calls(observations, "epoll_ctl")[::2]]
    assert asked == ["ADD, listener", "MOD, listener", "DEL, listener", "ADD, listener"]
    child, parent = calls(observations, "epoll_wait")[1::2]
    assert (child.process, child.arguments) == ("child 1", "listener; 0.01 s")
    assert (parent.process, parent.result) == ("server", "timeout")


def test_a_descriptor_s_reads_and_writes_are_its_socket_s(
    lab: AnyLab, run: Run, observations: list[Observation]
) -> None:
    text = """
    import fcntl, os
    connection, _ = listener.accept()
    os.write(connection.fileno(), b"by number")
    fcntl.fcntl(connection, fcntl.F_SETFL, os.O_NONBLOCK)
    os.write(os.pipe()[1], b"into a pipe")
    """
    server = run(lab.server, text, lab.server.ip, begin=SERVER)
    port = port_of(server)
    text = "import os\nos.read(client.fileno(), 100)\n"
    run(lab.client, text, lab.server.ip, port, begin=CLIENT).join()
    server.join()
    by_number, pipe = calls(observations, "write")[::2]
    assert (by_number.arguments, by_number.local) == (
        "b'by number'",
        SocketAddress(lab.server.ip, port),
    )
    assert pipe.arguments.endswith(", b'into a pipe'")
    assert (pipe.local, pipe.remote) == (None, None)
    read = calls(observations, "read")[1]
    assert (read.result, read.remote) == (9, by_number.local)
    controlled = calls(observations, "fcntl")[0]
    assert controlled.arguments.endswith(", F_SETFL, O_NONBLOCK")
    assert controlled.local == by_number.local


def test_a_forgotten_socket_is_closed_as_it_is_without_us(lab: AnyLab, run: Run) -> None:
    text = """
    connection = listener.accept()[0]
    connection = listener.accept()[0]
    print("the first is forgotten")
    sys.stdin.read()
    """
    server = run(lab.server, text, lab.server.ip, begin=SERVER)
    port = port_of(server)
    first = run(lab.client, "print(client.recv(1))\n", lab.server.ip, port, begin=CLIENT)
    first.wait_returned("connect")  # else the other may be the first
    second = run(lab.client, "client.recv(1)\n", lab.server.ip, port, begin=CLIENT)
    first.wait_printed("b''")
    server.wait_printed("forgotten")
    assert second.alive
    server.end_input()


def test_a_flood_of_calls_is_told_whole(
    lab: AnyLab, run: Run, observations: list[Observation]
) -> None:
    count = 5000
    text = f"""
    import socket
    flooding = socket.socket()
    for number in range({count}):
        flooding.setblocking(bool(number % 2))
    """
    program = run(lab.client, text)
    assert program.join() == Ending(exit_status=0)
    told = calls(observations, "setblocking")
    assert [call.phase for call in told] == [CallPhase.CALLED, CallPhase.RETURNED] * count
    assert [call.arguments for call in told[::2]] == ["False", "True"] * (count // 2)
    assert program.called("setblocking") == count


# --- its terminal -----------------------------------------------------------------------------


def test_what_is_typed_is_read_and_what_is_printed_is_told(
    lab: AnyLab, run: Run, observations: list[Observation]
) -> None:
    text = """
    import sys
    for line in sys.stdin:
        print("got", line, end="", flush=True)
    print("it has ended", file=sys.stderr)
    """
    program = run(lab.client, text)
    program.wait_called("read")
    program.type("one\n")
    program.wait_printed("got one\n")
    program.type("two\n")
    program.wait_printed("got two\n")
    program.end_input()
    assert program.join() == Ending(exit_status=0)
    program.end_input()  # idempotent
    assert program.printed == "got one\ngot two\nit has ended\n"
    assert [call.result for call in calls(observations, "read")[1:6:2]] == [
        r"b'one\n'", r"b'two\n'", 0,
    ]  # fmt: skip
    printed = [call.arguments for call in calls(observations, "print")[::2]]
    assert printed == [r"b'got one\n'", r"b'got two\n'", r"b'it has ended\n'"]


def test_nobody_reads_what_is_typed_to_the_dead(lab: AnyLab, run: Run) -> None:
    program = run(lab.client, "")
    program.join()
    with pytest.raises(BrokenPipeError):
        program.type("too late\n")


def test_long_text_is_told_by_its_beginning_and_read_whole(
    lab: AnyLab, run: Run, observations: list[Observation]
) -> None:
    program = run(lab.client, "print(input()[::-1])\n")
    program.type("abc" * 1000 + "\n")
    program.wait_printed("cba" * 1000 + "\n")
    assert calls(observations, "print")[0].arguments == "b'cbacbacbacbacbac'... 3001 octets"


# --- its end ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, ending",
    [
        ("", Ending(exit_status=0)),
        ("import sys; sys.exit(3)", Ending(exit_status=3)),
        ("import sys; sys.exit('why')", Ending(exit_status=1)),
        ("import os; os._exit(4)", Ending(exit_status=4)),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", Ending(signal="SIGTERM")),
        ("raise KeyboardInterrupt", Ending(signal="SIGINT")),
    ],
)
def test_a_program_s_end_is_told_as_it_was(
    lab: AnyLab, run: Run, observations: list[Observation], text: str, ending: Ending
) -> None:
    program = run(lab.client, text)
    assert program.join() == ending
    (exited,) = [
        seen.payload
        for seen in observations
        if isinstance(seen.payload, ProcessChanged) and seen.payload.change is ProcessChange.EXITED
    ]
    assert (exited.exit_status, exited.signal) == (ending.exit_status, ending.signal)
    if ending.signal is None:
        assert [call.arguments for call in calls(observations, "exit")] == [str(ending.exit_status)]


@pytest.mark.parametrize(
    "text, said",
    [
        ("x = 1\nraise ValueError('no\\nmore')\n", "{path}:2: ValueError: no\nmore"),
        ("def f():\n    1 / 0\n\nf()\n", "{path}:2: ZeroDivisionError: division by zero"),
        ("import json\n\njson.loads('{')\n", "{path}:3: json.decoder.JSONDecodeError"),
        ("x = (\n", "{path}:1: SyntaxError: '(' was never closed"),
    ],
)
def test_an_exception_is_told_with_file_and_line(
    lab: AnyLab, run: Run, tmp_path: Path, text: str, said: str
) -> None:
    program = run(lab.client, text)
    with pytest.raises(ProgramFailed) as caught:
        program.wait_printed("never")
    assert caught.value.message.startswith(said.format(path=tmp_path / "program0.py"))
    assert lab.fault is caught.value


def test_whoever_waits_for_a_call_of_the_dead_is_told(lab: AnyLab, run: Run) -> None:
    program = run(lab.client, "import sys; sys.exit(2)\n")
    for wait in (program.wait_called, program.wait_returned, program.wait_printed):
        with pytest.raises(ProcessDied, match="client exited with status 2"):
            wait("accept")


def test_a_program_that_there_is_not_is_a_usage_error(lab: AnyLab) -> None:
    with pytest.raises(TcpwatchError, match="there is no program 'echo-sever'") as caught:
        lab.server.run("echo-sever")
    assert caught.value.exit_code is ExitCode.USAGE
    assert "echo_server" in caught.value.remedy


def test_a_program_makes_its_own_calls_only(lab: AnyLab, run: Run) -> None:
    program = run(lab.client, "import sys\nsys.stdin.read()\n")
    with pytest.raises(TcpwatchError, match="runs a program, which makes its own calls"):
        program.socket()


def test_threads_are_waited_for_at_the_end(lab: AnyLab, run: Run) -> None:
    text = """
    import sys, threading
    threading.Thread(target=lambda: print(sys.stdin.readline(), end="")).start()
    """
    program = run(lab.client, text)
    program.wait_called("read")
    program.type("still there\n")
    assert program.join() == Ending(exit_status=0)
    assert program.printed == "still there\n"


# --- its children -----------------------------------------------------------------------------


def test_forked_children_are_told_with_their_parents(
    lab: AnyLab, run: Run, observations: list[Observation]
) -> None:
    text = """
    import os, sys
    if os.fork() == 0:
        if os.fork() == 0:
            sys.stdin.read()
            sys.exit(5)
        os._exit(os.waitstatus_to_exitcode(os.wait()[1]) + 1)
    if os.fork() == 0:
        sys.exit(7)
    for _ in range(2):
        print(os.waitstatus_to_exitcode(os.wait()[1]))
    """
    program = run(lab.server, text)
    program.wait_printed("7\n")
    first, second = program.children
    first.wait_called("wait")
    (grandchild,) = first.children
    assert [child.name for child in (first, second, grandchild)] == [
        "child 1", "child 2", "child 1.1",
    ]  # fmt: skip
    assert psutil.Process(first.pid).ppid() == program.pid
    assert psutil.Process(grandchild.pid).ppid() == first.pid
    program.end_input()
    assert program.join() == Ending(exit_status=0)
    assert program.printed == "7\n6\n"
    assert all(child.reaped for child in (first, second, grandchild))
    forks = [call.result for call in calls(observations, "fork") if call.result]
    assert sorted(map(str, forks)) == sorted(str(c.pid) for c in (first, second, grandchild))
    born = [
        (seen.payload.process, seen.payload.parent)
        for seen in observations
        if isinstance(seen.payload, ProcessChanged) and seen.payload.change is ProcessChange.FORKED
    ]
    assert sorted(born) == [("child 1", "server"), ("child 1.1", "child 1"), ("child 2", "server")]


def test_who_is_killed_or_waited_for_is_told_by_name(
    lab: AnyLab, run: Run, observations: list[Observation]
) -> None:
    text = """
    import os, signal
    child = os.fork()
    if child == 0:
        signal.pause()
    os.waitpid(child, os.WNOHANG)
    os.kill(child, signal.SIGTERM)
    os.waitpid(child, 0)
    """
    program = run(lab.server, text)
    assert program.join() == Ending(exit_status=0)
    (child,) = program.children
    assert child.join() == Ending(signal="SIGTERM")
    assert calls(observations, "kill")[0].arguments == "child 1, SIGTERM"
    asked = [(call.arguments, call.result) for call in calls(observations, "waitpid")]
    assert asked == [
        ("child 1, WNOHANG", None), ("child 1, WNOHANG", 0),
        ("child 1", None), ("child 1", child.pid),
    ]  # fmt: skip


def test_children_killed_as_soon_as_they_are_born_are_known(lab: AnyLab, run: Run) -> None:
    text = """
    import os, signal
    for _ in range(10):
        child = os.fork()
        if child == 0:
            signal.pause()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    """
    program = run(lab.server, text)
    assert program.join() == Ending(exit_status=0)
    assert [child.join() for child in program.children] == [Ending(signal="SIGKILL")] * 10
    assert 0 not in {child.pid for child in program.children}


def test_the_living_child_of_a_killed_program_goes_on(
    lab: AnyLab, run: Run, observations: list[Observation]
) -> None:
    text = """
    import os, sys
    if os.fork() == 0:
        print("orphan", sys.stdin.readline(), end="")
        sys.exit(9)
    os.wait()
    """
    program = run(lab.server, text)
    program.wait_called("wait")
    (child,) = program.children
    child.wait_called("read")
    program.kill()
    assert child.alive
    child.type("alone\n")
    assert child.join() == Ending(exit_status=9)
    assert child.printed == "orphan alone\n"
    assert not child.reaped
    wait_until(lambda: "reaped" in events_of(observations, "child 1"))  # by whoever inherited it


def test_a_child_that_becomes_another_program_is_told_by_its_parent(lab: AnyLab, run: Run) -> None:
    text = """
    import os
    if os.fork() == 0:
        os.execv("/bin/sh", ["sh", "-c", "exit 6"])
    os.wait()
    """
    program = run(lab.server, text)
    assert program.join() == Ending(exit_status=0)
    (child,) = program.children
    assert child.join() == Ending(exit_status=6)


def test_many_children_at_once_are_each_told_once(
    lab: AnyLab, run: Run, observations: list[Observation]
) -> None:
    count = 12
    text = f"""
    import os
    for number in range({count}):
        if os.fork() == 0:
            os._exit(number)
    for _ in range({count}):
        os.wait()
    """
    program = run(lab.server, text)
    assert program.join() == Ending(exit_status=0)
    for number, child in enumerate(program.children):
        assert child.join() == Ending(exit_status=number)
        assert child.reaped
        life = [e for e in events_of(observations, child.name) if "exit(" not in e]
        assert life == ["forked", "exited", "reaped"]
    assert len(program.children) == count


# --- signals ----------------------------------------------------------------------------------


def test_a_handler_is_told_in_the_midst_of_the_call_that_it_interrupts(
    lab: AnyLab, run: Run, observations: list[Observation]
) -> None:
    text = """
    import os, signal
    def reap(number, frame):
        os.waitpid(-1, os.WNOHANG)
    signal.signal(signal.SIGCHLD, reap)
    if os.fork() == 0:
        sys.stdin.read()
        os._exit(0)
    listener.accept()
    """
    server = run(lab.server, text, lab.server.ip, begin=SERVER)
    port = port_of(server)
    server.wait_called("accept")
    server.end_input()
    server.wait_returned("SIGCHLD handler")
    assert server.called("accept") == 1
    run(lab.client, "", lab.server.ip, port, begin=CLIENT).join()
    server.join()
    (child,) = server.children
    # A fork's return is told when its child is known, which may be later.
    told = [event for event in events_of(observations, "server") if "fork" not in event]
    first = told.index("accept()")
    assert told[first - 2 : first + 5] == [
        "signal(SIGCHLD, reap)",
        "signal = None",
        "accept()",
        "SIGCHLD handler()",
        "waitpid(-1, WNOHANG)",
        f"waitpid = {child.pid}",
        "SIGCHLD handler = None",
    ]
    assert told[first + 5].startswith("accept = ")


def test_a_handler_may_end_the_program_in_the_midst_of_anything(
    lab: AnyLab, run: Run, observations: list[Observation]
) -> None:
    text = """
    import signal, socket, sys
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    busy = socket.socket()
    while True:
        busy.setblocking(True)
    """
    for _ in range(5):
        program = run(lab.client, text, name="busy")
        program.wait_called("setblocking", 20)
        program.kill(signal.SIGTERM)
        assert program.join() == Ending(exit_status=7)
        told = calls(observations, "SIGTERM handler", "busy")
        assert [call.phase for call in told] == [CallPhase.CALLED, CallPhase.RETURNED]
        assert calls(observations, "exit", "busy")[-1].arguments == "7"
        observations.clear()


def test_a_storm_of_signals_loses_no_call(
    lab: AnyLab, run: Run, observations: list[Observation]
) -> None:
    text = """
    import signal, socket, sys
    calm = False
    def count(number, frame):
        busy.setblocking(False)
    def stop(number, frame):
        global calm
        calm = True
    busy = socket.socket()
    signal.signal(signal.SIGUSR1, count)
    signal.signal(signal.SIGTERM, stop)
    while not calm:
        busy.setblocking(True)
    """
    program = run(lab.client, text)
    program.wait_called("setblocking")
    for number in range(50):
        program.kill(signal.SIGUSR1)
        program.wait_called("SIGUSR1 handler", number + 1)
    program.kill(signal.SIGTERM)
    assert program.join() == Ending(exit_status=0)
    told = [*calls(observations, "setblocking"), *calls(observations, "SIGUSR1 handler")]
    made = [call.call_id for call in told if call.phase is CallPhase.CALLED]
    back = [call.call_id for call in told if call.phase is CallPhase.RETURNED]
    assert sorted(made) == sorted(back)
    assert len(set(made)) == len(made)
    inner = [call for call in calls(observations, "setblocking") if call.arguments == "False"]
    assert len(inner) == 2 * 50


def test_sigint_raises_keyboardinterrupt_and_previous_actions_are_the_program_s(
    lab: AnyLab, run: Run
) -> None:
    text = """
    import signal, sys
    def own(number, frame): ...
    print(signal.signal(signal.SIGUSR1, own), signal.signal(signal.SIGUSR1, own) is own)
    try:
        sys.stdin.read()
    except KeyboardInterrupt:
        print("interrupted")
    """
    program = run(lab.client, text)
    program.wait_called("read")
    program.kill(signal.SIGINT)
    assert program.join() == Ending(exit_status=0)
    assert program.printed == "0 True\ninterrupted\n"


# --- what is left -----------------------------------------------------------------------------


@pytest.mark.needs("lab")
def test_a_program_has_no_descriptor_of_ours_but_the_line_to_us(
    namespaces: Namespaces, run: Run
) -> None:
    text = "import os, sys\nif os.fork() == 0:\n    sys.stdin.read()\nsys.stdin.read()\n"
    server = run(namespaces.server, text)
    server.wait_called("fork")
    client = run(namespaces.client, text)
    for program in (server, client):
        program.wait_called("read")
        program.children[0].wait_called("read")
    for process in (server, client, *server.children, *client.children):
        open_files = Path(f"/proc/{process.pid}/fd")
        links = {int(fd.name): str(fd.readlink()) for fd in open_files.iterdir()}
        assert links.pop(0).startswith("pipe:")
        del links[1], links[2]
        kinds = sorted(link.partition(":")[0].partition(" ")[0] for link in links.values())
        assert kinds == ["/memfd", "socket"], links
    server.end_input()
    client.end_input()


def test_closing_the_lab_ends_programs_and_children(lab: AnyLab, run: Run) -> None:
    text = """
    import os, signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        if os.fork() == 0:
            signal.pause()
        signal.pause()
    signal.pause()
    """
    programs = [run(host, text) for host in (lab.client, lab.server)]
    wait_until(lambda: all(p.children and p.children[0].children for p in programs))
    everybody = [
        process
        for program in programs
        for process in (program, *program.children, *program.children[0].children)
    ]
    assert all(psutil.pid_exists(process.pid) for process in everybody)
    lab.close()
    wait_until(lambda: not any(psutil.pid_exists(process.pid) for process in everybody))
