"""How programs in a lab end, their children, their signals."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest

from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.lab.failures import Ending, ProcessDied, ProgramFailed
from tcpwatch.model.events import CallPhase, ProcessChange, ProcessChanged
from tcpwatch.model.witness import Observation
from tests.lab.programmed import CLIENT, SERVER, AnyLab, Run, calls, events_of, port_of, wait_until

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
