"""Programs that nobody here wrote, each with the verdict that it deserves."""

from __future__ import annotations

import pytest

from tests.exec.executed import PROGRAMS, execute, program

pytestmark = pytest.mark.needs("lab")


def test_http_server_and_urllib_close_what_they_open() -> None:
    # Both know how long the answer is, so either may be the first to close.
    expect = "port:8080 both: ... > ESTABLISHED > ... > (TIME-WAIT | CLOSED)"
    done = execute("--no-leaks", "--expect", expect, *program("http_server.py", "urllib"))
    assert done.status == 0, done.report
    assert len(done.document["connections"]) == 3


def test_a_client_that_keeps_its_connection_alive_has_one() -> None:
    expect = "server: ... > CLOSE-WAIT > LAST-ACK > CLOSED"
    done = execute("--no-leaks", "--expect", expect, *program("http_server.py", "kept-alive"))
    assert done.status == 0, done.report
    assert len(done.document["connections"]) == 1


def test_a_connection_that_is_kept_alive_and_forgotten_was_never_closed() -> None:
    done = execute("--no-leaks", *program("http_server.py", "forgotten"))
    assert done.status == 1, done.report
    assert all("had not closed it" in leak for leak in done.leaks)
    assert len(done.leaks) == 2


def test_a_pool_of_requests_is_left_in_close_wait() -> None:
    never = ("--never", "client: CLOSE-WAIT[>500ms]")
    done = execute("--no-leaks", *never, *program("pool.py", "kept"))
    assert done.status == 1, done.report
    assert [leak.split()[0] for leak in done.leaks] == ["CLOSE-WAIT"]
    assert [one["met"] for one in done.document["expectations"]] == [False, False]


def test_a_pool_of_requests_that_is_closed_leaks_nothing() -> None:
    done = execute("--no-leaks", *program("pool.py", "closed"))
    assert done.status == 0, done.report


def test_asyncio_streams_without_wait_closed_are_closed_all_the_same() -> None:
    done = execute("--no-leaks", *program("streams.py", "closed"))
    assert done.status == 0, done.report


def test_an_asyncio_handler_that_forgets_its_stream_holds_close_wait() -> None:
    done = execute("--no-leaks", *program("streams.py", "forgotten"))
    assert done.status == 1, done.report
    assert [leak.split()[0] for leak in done.leaks] == ["CLOSE-WAIT"]


def test_uvicorn_answers_before_it_ends() -> None:
    done = execute("--no-leaks", *program("uvicorn_stopped.py"))
    assert done.status == 0, done.report


@pytest.mark.needs("redis-server")
def test_redis_closes_with_its_client() -> None:
    expect = "server port:6399: ... > CLOSE-WAIT > LAST-ACK > CLOSED"
    done = execute("--no-leaks", "--expect", expect, *program("redis_client.py", "closed"))
    assert done.status == 0, done.report


@pytest.mark.needs("redis-server")
def test_a_redis_client_keeps_what_the_server_has_closed() -> None:
    done = execute("--no-leaks", *program("redis_client.py", "kept"))
    assert done.status == 1, done.report
    assert [leak.split()[0] for leak in done.leaks] == ["CLOSE-WAIT"]


@pytest.mark.needs("nginx")
@pytest.mark.parametrize("how, leaks", [("heeded", []), ("kept", ["CLOSE-WAIT"])])
def test_nginx_closes_what_is_idle(how: str, leaks: list[str]) -> None:
    expect = ("--expect", "server port:8080: ... > FIN-WAIT-1 > FIN-WAIT-2 > ...")
    done = execute("--no-leaks", *expect, *program("nginx_client.py", how))
    assert done.status == (1 if leaks else 0), done.report
    assert [leak.split()[0] for leak in done.leaks] == leaks
    assert done.document["expectations"][0]["met"]


@pytest.mark.needs("nc")
def test_netcat_closes_at_both_ends() -> None:
    talk = (
        "nc -l 127.0.0.1 8080 > /dev/null & "
        "while ! grep -q ':1F90 00000000:0000 0A' /proc/net/tcp; do :; done; "
        "echo hello | nc -N 127.0.0.1 8080; wait"
    )
    expect = "client port:8080: CLOSED > SYN-SENT > ESTABLISHED > FIN-WAIT-1 > ... > TIME-WAIT"
    done = execute("--no-leaks", "--expect", expect, "--", "sh", "-c", talk)
    assert done.status == 0, done.report


@pytest.mark.needs("node")
@pytest.mark.parametrize("how, leaks", [("ended", []), ("kept", ["CLOSE-WAIT"])])
def test_a_server_of_node(how: str, leaks: list[str]) -> None:
    done = execute("--no-leaks", "--", "node", PROGRAMS / "server.mjs", how)
    assert done.status == (1 if leaks else 0), done.report
    assert [leak.split()[0] for leak in done.leaks if leak.startswith("CLOSE")] == leaks
