"""Programs in a lab: real ones, whose calls are told as they make them; their terminal."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from tcpwatch.lab.failures import Ending
from tcpwatch.lab.namespace import Namespaces
from tcpwatch.model.events import CallPhase
from tcpwatch.model.identity import SocketAddress
from tcpwatch.model.witness import Observation
from tests.lab.programmed import CLIENT, SERVER, AnyLab, Run, calls, events_of, port_of, wait_until

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
