"""The pytest plugin: blocks and whole tests observed, leaks asserted, a lab of two hosts.

Owns: the marker, the ini options, the fixtures, and what becomes of a test that evidence is missing
for. It is loaded wherever tcpwatch is installed, so it imports nothing until a test asks for it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tcpwatch.model.timeline import Judged
    from tcpwatch.observing.seen import Seen, observe
    from tcpwatch.two_hosts import TwoHosts

_CHOICES = ("fail", "xfail", "skip")
_MARKER = """\
tcpwatch(no_leaks=True, client=PATTERN, server=PATTERN, never=PATTERN, port=N, inconclusive="fail"):
observe the test's connections and assert this of them; lab={...}: options of tcpwatch_lab"""


@dataclass(frozen=True)
class _Wish:
    """What is asked of a whole test."""

    no_leaks: bool = False
    client: str = ""
    server: str = ""
    never: str = ""
    port: int | Collection[int] = ()

    @property
    def paths(self) -> bool:
        """Whether anything is asked of paths."""
        return bool(self.client or self.server or self.never)

    def check_paths(self, seen: Seen) -> None:
        """Raises NotAsExpected or Inconclusive."""
        __tracebackhide__ = True
        if self.client:
            seen.client.follows(self.client)
        if self.server:
            seen.server.follows(self.server)
        if self.never:
            seen.client.never(self.never)
            seen.server.never(self.never)


@dataclass
class _Watch:
    """A test that is observed: its paths until its function ends, its leaks until its fixtures do.

    A test that passed cannot be said to be inconclusive afterwards.
    """

    wish: _Wish
    settle_s: float
    paths: observe | None = None
    leaks: observe | None = None

    def begin(self) -> None:
        """Raises TcpwatchError where nothing can be observed."""
        from tcpwatch.observing.seen import observe

        if self.wish.paths:
            self.paths = _begun(observe(self.wish.port, settle_s=self.settle_s))
        if self.wish.no_leaks:
            self.leaks = _begun(observe(self.wish.port, settle_s=self.settle_s))

    def exempting(self) -> AbstractContextManager[object]:
        """What is opened meanwhile is not the test's to close."""
        stack = ExitStack()
        for block in (self.paths, self.leaks):
            if block is not None:
                stack.enter_context(block.exempting())
        return stack

    def end_paths(self) -> Seen | None:
        """Ends what is observed of the paths, once."""
        block, self.paths = self.paths, None
        return _ended(block)

    def end_leaks(self) -> Seen | None:
        block, self.leaks = self.leaks, None
        return _ended(block)


def _begun(block: observe) -> observe:
    block.__enter__()
    return block


def _ended(block: observe | None) -> Seen | None:
    if block is None:
        return None
    block.__exit__(None, None, None)
    return block.seen


_WATCH = pytest.StashKey[_Watch | None]()
_NEEDED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The ini options."""
    parser.addini(
        "tcpwatch_no_leaks",
        "fail each test that leaves a socket open: in CLOSE-WAIT, never closed, still listening",
        type="bool",
        default=False,
    )
    parser.addini(
        "tcpwatch_inconclusive",
        "what becomes of a test that evidence is missing for: fail (default), xfail or skip",
        default="fail",
    )
    parser.addini(
        "tcpwatch_settle",
        "how many seconds a test's sockets may stay as they are before they count as left open: 1",
        default="1",
    )
    parser.addini(
        "tcpwatch_keep",
        "a folder for the recording, pcapng and ladder of each assertion that fails",
        default="",
    )


def pytest_configure(config: pytest.Config) -> None:
    """The marker, and a wrong ini option told at once."""
    config.addinivalue_line("markers", _MARKER.replace("\n", " "))
    if config.getini("tcpwatch_inconclusive") not in _CHOICES:
        raise pytest.UsageError("tcpwatch_inconclusive must be fail, xfail or skip")
    if not re.fullmatch(r"\d+(\.\d+)?", config.getini("tcpwatch_settle")):
        raise pytest.UsageError("tcpwatch_settle must be a number of seconds")


# ---------------------------------------------------------------------- whole tests


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Observes a test from before its fixtures, where that is asked for."""
    __tracebackhide__ = True
    problem: Exception | None = None
    try:
        _begin(item)
    except Exception as error:  # noqa: BLE001 - raised below: the other plugins set up first
        problem = error
    result = yield
    if problem is not None:
        _conclude(item, problem)
        raise problem
    return result


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """What a fixture of a module or session opens is not left open by the test that came first."""
    watch = request.config.stash.get(_WATCH, None)
    if watch is None or fixturedef.scope == "function":
        return (yield)
    with watch.exempting():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Asserts what is asked of the paths. What evidence is missing for becomes what is wished."""
    __tracebackhide__ = True
    watch = item.config.stash.get(_WATCH, None)
    try:
        result = yield
        seen = watch.end_paths() if watch is not None else None
        if watch is not None and seen is not None:
            watch.wish.check_paths(seen)
    except BaseException as error:
        if watch is not None:  # it has failed: what it leaves open is no news
            watch.wish = replace(watch.wish, no_leaks=False)
        _conclude(item, error)
        raise
    return result


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Asserts that nothing is left open, once the fixtures have closed what they opened."""
    __tracebackhide__ = True
    watch = item.config.stash.get(_WATCH, None)
    if watch is None:
        return (yield)
    try:
        result = yield
    finally:
        item.config.stash[_WATCH] = None
        watch.end_paths()
        seen = watch.end_leaks()
    if seen is not None and watch.wish.no_leaks:
        seen.no_leaks()
    return result


def _begin(item: pytest.Item) -> None:
    wish = _wish(item)
    if wish.paths or wish.no_leaks:
        _need(item.config)
        settle_s = float(item.config.getini("tcpwatch_settle"))
        watch = item.config.stash[_WATCH] = _Watch(wish, settle_s)
        watch.begin()


def _need(config: pytest.Config) -> None:
    """Keeps the observer open until the session ends: it takes 0.1 s to open."""
    if not config.stash.get(_NEEDED, False):
        from tcpwatch.observing.seen import keeper

        keeper.hold()
        config.stash[_NEEDED] = True


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Tells of the witnesses that were not there: what passed, passed without them."""
    if not config.stash.get(_NEEDED, False):
        return
    from tcpwatch.observing.seen import keeper, private

    if keeper.missing:
        terminalreporter.section("tcpwatch")
        for missing in keeper.missing:
            terminalreporter.line(f"observed without the {missing}")
        if not private():
            terminalreporter.line("`tcpwatch exec -- pytest` has all but the kernel, without root")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leaves nothing behind."""
    if config.stash.get(_NEEDED, False):
        from tcpwatch.observing.seen import keeper

        keeper.close()


def _wish(item: pytest.Item) -> _Wish:
    options = _options(item)
    options.setdefault("no_leaks", bool(item.config.getini("tcpwatch_no_leaks")))
    for other in ("inconclusive", "lab"):
        options.pop(other, None)
    for unknown in options.keys() - {field.name for field in fields(_Wish)}:
        pytest.fail(f"@pytest.mark.tcpwatch has no {unknown!r}", pytrace=False)
    return _Wish(**options)


def _options(item: pytest.Item) -> dict[str, Any]:
    """What its markers say; the nearest has the last word."""
    options: dict[str, Any] = {}
    for marker in reversed([*item.iter_markers("tcpwatch")]):
        options |= marker.kwargs
    return options


# ---------------------------------------------------------------------- verdicts


def _conclude(item: pytest.Item, error: BaseException) -> None:
    """Skips the test, or has it fail as expected, where it cannot be told and that is wished."""
    if not _is_inconclusive(error):
        return
    wished = _options(item).get("inconclusive") or item.config.getini("tcpwatch_inconclusive")
    reason = f"inconclusive: {str(error).partition(chr(10))[0]}"
    if wished == "skip":
        raise pytest.skip.Exception(reason, _use_item_location=True) from error
    if wished == "xfail" and not item.config.getoption("runxfail"):
        raise pytest.xfail.Exception(reason) from error


def _is_inconclusive(error: BaseException) -> bool:
    errors = sys.modules.get("tcpwatch.errors")
    if errors is None:  # nobody has used tcpwatch
        return False
    if isinstance(error, errors.TcpwatchError):
        return bool(error.exit_code is errors.ExitCode.INCONCLUSIVE)
    seen = sys.modules.get("tcpwatch.observing.seen")
    return seen is not None and isinstance(error, seen.Inconclusive)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keeps the evidence of an assertion that failed, where that is wished.

    The ladder stands in the traceback. Where CI is set, pytest would print it in its summary again.
    """
    report = yield
    error = call.excinfo and call.excinfo.value
    judged: Judged | None = getattr(error, "judged", None)
    if not report.failed or judged is None:
        return report
    if call.when == "teardown":  # nothing of the traceback is the user's
        report.longrepr = str(error)
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        crash.message = crash.message.partition("\n")[0]
    folder = str(item.config.getini("tcpwatch_keep"))
    if folder:
        from tcpwatch.outputs.reports import keep_run

        path = item.config.rootpath / folder / re.sub(r"[^\w.-]+", "-", item.nodeid)
        path.parent.mkdir(parents=True, exist_ok=True)
        report.sections.append(("kept by tcpwatch", "\n".join(keep_run(judged, path))))
    return report


# ---------------------------------------------------------------------- fixtures


@pytest.fixture
def tcpwatch(request: pytest.FixtureRequest) -> ModuleType:
    """The tcpwatch module: ``with tcpwatch.observe(port=...) as seen``, with its observer open."""
    import tcpwatch as module

    _need(request.config)
    return module


@pytest.fixture
def tcpwatch_lab(request: pytest.FixtureRequest) -> Iterator[TwoHosts]:
    """Two hosts with a kernel TCP each and the wire between: README, "A scenario of your own".

    Options by ``@pytest.mark.tcpwatch(lab={"latency_ms": 5})``.
    """
    from tcpwatch.errors import TcpwatchError
    from tcpwatch.two_hosts import two_hosts

    item = request.node
    assert isinstance(item, pytest.Item)
    options = _options(item).get("lab", {})
    try:
        opened = two_hosts(item.name, folder=Path(item.path).parent, **options)
        lab = opened.__enter__()
    except TcpwatchError as error:
        _conclude(item, error)
        raise
    try:
        yield lab
    finally:
        opened.__exit__(None, None, None)
