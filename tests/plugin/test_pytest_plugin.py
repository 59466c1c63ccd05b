"""The pytest plugin as its users have it: real sockets, in a pytest of their own."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tcpwatch import replay
from tcpwatch.model.timeline import Verdict

if TYPE_CHECKING:
    from _pytest.pytester import Pytester

pytest_plugins = ["pytester"]

unprivileged_command: Callable[[list[str]], list[str]] = runpy.run_path(
    str(Path(__file__).parents[1] / "lab" / "conftest.py")
)["unprivileged_command"]

TALK = '''
import asyncio
import socket
import subprocess
import sys
import threading

import pytest

import tcpwatch

KEPT = []


def talk(close=True):
    """A client that closes, and a server that reads that, and closes or not."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    with client:
        client.sendall(b"ping")
        assert server.recv(9) == b"ping"
    assert server.recv(9) == b""
    if close:
        server.close()
    else:
        KEPT.append(server)
'''


class Outcomes(dict[str, str]):
    """How each test of an inner run ended, and all that was printed."""

    text: str
    status: int


def run(
    pytester: Pytester,
    tests: str,
    *options: str,
    command: list[str] | None = None,
    **environment: str,
) -> Outcomes:
    (pytester.path / "test_it.py").write_text(TALK + tests, encoding="utf-8")
    argv = [sys.executable, "-m", "pytest", "-rA", "-W", "error", "-p", "no:cacheprovider"]
    argv += ["-p", "pytest_asyncio.plugin", "-p", "xdist", "-p", "tcpwatch.pytest_plugin"]
    argv += ["-o", "asyncio_default_fixture_loop_scope=function"]
    done = subprocess.run(
        [*(command or []), *argv, *options],
        cwd=pytester.path,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    outcomes = Outcomes()
    outcomes.text, outcomes.status = done.stdout + done.stderr, done.returncode
    summary = done.stdout.partition("short test summary info")[2]
    ended = r"^(PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS) (?:\S*::|.*:\d+: )?(\w+)?"
    for word, name in re.findall(ended, summary, re.MULTILINE):
        outcomes[name] = "ERROR" if outcomes.get(name) == "ERROR" else word
    return outcomes


BLOCKS = """
def test_all_is_well():
    with tcpwatch.observe() as seen:
        talk()
    assert len(seen.connections) == 1
    seen.server.follows("... > CLOSE-WAIT > LAST-ACK > CLOSED")
    seen.client.follows("CLOSED > SYN-SENT > ESTABLISHED > ... > TIME-WAIT")
    seen.client.never("CLOSE-WAIT[>1s]")
    seen.no_leaks()


def test_the_server_does_not_close():
    with tcpwatch.observe(settle_s=0.2) as seen:
        talk(close=False)
    seen.server.follows("... > LAST-ACK > CLOSED")


def test_it_leaks():
    with tcpwatch.observe(settle_s=0.2) as seen:
        talk(close=False)
    seen.no_leaks()


def test_only_the_port_that_was_named():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with tcpwatch.observe(port=listener.getsockname()[1]) as seen:
            talk()
            socket.create_connection(listener.getsockname()).close()
            listener.accept()[0].close()
    assert len(seen.connections) == 1


def test_a_connection_that_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    with tcpwatch.observe() as seen:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
    seen.client.follows("CLOSED > SYN-SENT > CLOSED")
    seen.no_leaks()


def test_another_process_and_its_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with tcpwatch.observe(port=port) as seen:
            ask = f"import socket; socket.create_connection(('127.0.0.1', {port})).close()"
            asking = subprocess.Popen([sys.executable, "-S", "-c", ask])
            server, _ = listener.accept()
            with server:
                assert server.recv(1) == b""
            assert asking.wait() == 0
    seen.client.follows("CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > ... > TIME-WAIT")
    seen.no_leaks()


def test_ipv6_within_another_block():
    with tcpwatch.observe() as outer, tcpwatch.observe() as inner:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
            socket.create_connection(listener.getsockname()[:2]).close()
            listener.accept()[0].close()
    assert len(inner.connections) == len(outer.connections) == 1
    inner.server.follows("... > LAST-ACK > CLOSED")


def test_what_it_wraps_it_unwraps():
    assert not {"connect", "connect_ex", "listen"} & vars(socket.socket).keys()


def test_of_several_threads():
    with tcpwatch.observe() as seen:
        threads = [threading.Thread(target=talk) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(seen.connections) == 4
    seen.server.follows("... > LAST-ACK > CLOSED")
    seen.no_leaks()


@pytest.mark.asyncio
async def test_of_asyncio():
    async def serve(reader, writer):
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()

    async with tcpwatch.observe() as seen:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.close()
            await writer.wait_closed()
    seen.client.follows("... > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT")
    seen.server.follows("... > LAST-ACK > CLOSED")
    seen.no_leaks()


def test_nothing_was_seen(tcpwatch):
    with tcpwatch.observe() as seen:
        pass
    seen.server.never("CLOSE-WAIT")


@pytest.mark.tcpwatch(inconclusive="skip")
def test_nothing_was_seen_and_that_is_a_skip(tcpwatch):
    with tcpwatch.observe() as seen:
        pass
    seen.server.never("CLOSE-WAIT")


@pytest.mark.tcpwatch(inconclusive="xfail")
def test_nothing_was_seen_and_that_is_expected(tcpwatch):
    with tcpwatch.observe() as seen:
        pass
    seen.server.never("CLOSE-WAIT")
"""
FULL = {
    "test_all_is_well": "PASSED",
    "test_the_server_does_not_close": "FAILED",
    "test_it_leaks": "FAILED",
    "test_only_the_port_that_was_named": "PASSED",
    "test_a_connection_that_is_refused": "PASSED",
    "test_another_process_and_its_port": "PASSED",
    "test_ipv6_within_another_block": "PASSED",
    "test_what_it_wraps_it_unwraps": "PASSED",
    "test_of_several_threads": "PASSED",
    "test_of_asyncio": "PASSED",
    "test_nothing_was_seen": "FAILED",
    "inconclusive": "SKIPPED",
    "test_nothing_was_seen_and_that_is_expected": "XFAIL",
}

MARKED = """
@pytest.fixture(scope="module")
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture
def forgotten():
    talk(close=False)


def test_all_is_closed():
    talk()


def test_no_network():
    pass


def test_a_listener_of_the_module_is_no_leak(listener):
    talk()


def test_a_fixture_leaks(forgotten):
    pass


@pytest.mark.tcpwatch(no_leaks=False)
def test_that_may_leak():
    talk(close=False)


@pytest.mark.tcpwatch(server="... > LAST-ACK > CLOSED", never="CLOSE-WAIT[>5s]")
def test_of_a_path():
    talk()


@pytest.mark.tcpwatch(client="... > CLOSING > TIME-WAIT")
def test_of_another_path():
    talk()


@pytest.mark.tcpwatch(server="... > LAST-ACK > CLOSED", inconclusive="xfail")
def test_that_saw_nothing():
    pass


@pytest.mark.tcpwatch(no_leeks=True)
def test_of_a_wrong_word():
    pass
"""
NO_LEAKS = ("-o", "tcpwatch_no_leaks=true", "-o", "tcpwatch_settle=0.2")


@pytest.mark.needs("kernel")
def test_blocks_in_plain_pytest_as_root(pytester: Pytester) -> None:
    outcomes = run(pytester, BLOCKS, "-o", "tcpwatch_keep=kept", CI="true")
    assert outcomes == FULL, outcomes.text
    # The ladder stands where the traceback does; in the summary a line a test.
    summary = outcomes.text.partition("short test summary info")[2]
    assert [line for line in summary.splitlines() if "─▶" in line or "leaked" in line[:7]] == []
    assert re.search(r"FAILED .*::test_it_leaks - tcpwatch.*: leaked CLOSE-WAIT", summary)
    # Expected and witnessed as a diff, and the ladder.
    assert "E         - LAST-ACK\n" in outcomes.text
    assert "ESTABLISHED > CLOSE-WAIT" in outcomes.text
    assert re.search(
        r"leaked CLOSE-WAIT 127\.0\.0\.1:\d+ > .*held by .*this end has not", outcomes.text
    )
    assert "no connection with a server was seen" in outcomes.text
    kept = {path.suffix for path in (pytester.path / "kept").iterdir()}
    assert kept == {".jsonl", ".txt", ".pcapng"}
    recordings = [*(pytester.path / "kept").glob("*.jsonl")]
    for verdicts in map(replay, map(str, recordings)):
        assert Verdict.PASS not in [one.verdict for one in verdicts]


def test_blocks_as_a_user_are_inconclusive_or_right(pytester: Pytester) -> None:
    outcomes = run(pytester, BLOCKS, command=unprivileged_command([]))
    assert outcomes["test_it_leaks"] == "FAILED"  # the table shows what stays
    assert outcomes["test_nothing_was_seen"] == "FAILED"
    assert "without the wire: " in outcomes.text
    assert "\nobserved without the kernel: " in outcomes.text
    # What is over in less than a millisecond, the table does not show: nothing passes on that.
    assert outcomes["test_all_is_well"] == "FAILED"
    assert "the socket table alone was there to see" in outcomes.text


@pytest.mark.needs("lab")
def test_blocks_under_exec_have_full_evidence_without_root(pytester: Pytester) -> None:
    tcpwatch = unprivileged_command([sys.executable, "-m", "tcpwatch", "exec", "--quiet", "--"])
    outcomes = run(pytester, BLOCKS, command=tcpwatch)
    assert outcomes == FULL, outcomes.text


@pytest.mark.needs("kernel")
def test_side_by_side_each_worker_sees_its_own(pytester: Pytester) -> None:
    tests = "\n".join(
        f"def test_{n}():\n    with tcpwatch.observe() as seen:\n        talk()\n        talk()\n"
        "    assert len(seen.connections) == 2\n    seen.no_leaks()\n"
        for n in range(4)
    )
    outcomes = run(pytester, tests, "-n", "2")
    assert outcomes == {f"test_{n}": "PASSED" for n in range(4)}, outcomes.text


@pytest.mark.needs("kernel")
def test_whole_tests_of_a_suite(pytester: Pytester) -> None:
    outcomes = run(pytester, MARKED, *NO_LEAKS, "--strict-markers")
    assert outcomes == {
        "test_all_is_closed": "PASSED",
        "test_no_network": "PASSED",
        "test_a_listener_of_the_module_is_no_leak": "PASSED",
        "test_a_fixture_leaks": "ERROR",
        "test_that_may_leak": "PASSED",
        "test_of_a_path": "PASSED",
        "test_of_another_path": "FAILED",
        "test_that_saw_nothing": "XFAIL",
        "test_of_a_wrong_word": "ERROR",
    }, outcomes.text
    assert "@pytest.mark.tcpwatch has no 'no_leeks'" in outcomes.text


LAB = """
import sys

from tcpwatch.lab import FIN, SYN


@pytest.mark.tcpwatch(lab={"latency_ms": 5})
def test_a_lost_syn(tcpwatch_lab):
    with tcpwatch_lab.wire.drop(SYN, by="client", count=1):
        client, server = tcpwatch_lab.connect()
    client.linger(0)
    client.close()
    tcpwatch_lab.wait(server="CLOSED")
    server.close()
    seen = tcpwatch_lab.end()
    seen.client.follows("CLOSED > SYN-SENT[>=900ms] > ESTABLISHED > CLOSED")
    seen.server.never("CLOSE-WAIT")


@pytest.mark.tcpwatch(lab={"latency_ms": 5})
def test_real_programs_and_a_lost_fin(tcpwatch_lab):
    lab = tcpwatch_lab
    served = lab.command(
        lab.server, sys.executable, "-m", "http.server", lab.port, "--bind", lab.server.ip
    )
    lab.server.until(lambda: lab.server.sockets("LISTEN"), "it listens")
    ask = (
        "import socket, sys\\n"
        "with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as asking:\\n"
        "    asking.sendall(b'GET / HTTP/1.0\\\\r\\\\n\\\\r\\\\n')\\n"
        "    print(asking.makefile().read())\\n"
    )
    with lab.wire.drop(FIN, by="server", count=1):
        asked = lab.command(lab.client, sys.executable, "-c", ask, lab.server.ip, lab.port)
        asked.wait_printed("200 OK")
        asked.join()
    served.kill(15)
    served.join()
    seen = lab.end()
    assert "GET / HTTP/1.0" in served.printed
    (connection,) = seen.connections
    assert "dropped" in {segment.fate for segment in connection.segments}
    seen.server.follows("LISTEN > SYN-RECEIVED > ESTABLISHED > FIN-WAIT-1 > FIN-WAIT-2 > TIME-WAIT")
    seen.client.follows("CLOSED > SYN-SENT > ESTABLISHED > CLOSE-WAIT > LAST-ACK > CLOSED")
    seen.no_leaks()
"""


@pytest.mark.needs("lab")
def test_a_lab_of_two_hosts(pytester: Pytester) -> None:
    outcomes = run(pytester, LAB)
    assert outcomes == {
        "test_a_lost_syn": "PASSED",
        "test_real_programs_and_a_lost_fin": "PASSED",
    }, outcomes.text


def test_it_is_loaded_where_it_is_installed(pytestconfig: pytest.Config) -> None:
    assert pytestconfig.pluginmanager.has_plugin("tcpwatch")


def test_a_suite_that_does_not_use_it_imports_nothing() -> None:
    code = "import sys, tcpwatch.pytest_plugin\nprint([n for n in sys.modules if 'tcpwatch.' in n])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "['tcpwatch.pytest_plugin']\n"


@pytest.mark.parametrize(
    "option, told",
    [
        ("tcpwatch_inconclusive=never", "tcpwatch_inconclusive must be fail, xfail or skip"),
        ("tcpwatch_settle=soon", "tcpwatch_settle must be a number of seconds"),
    ],
)
def test_a_wrong_option_is_told(pytester: Pytester, option: str, told: str) -> None:
    outcomes = run(pytester, "", "-o", option)
    assert outcomes.status == 4
    assert told in outcomes.text
