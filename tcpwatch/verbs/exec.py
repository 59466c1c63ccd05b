"""`tcpwatch exec`: a command in a network of its own, every connection that it makes, the verdict.

Owns: the order of things, what is demanded of the connections, what a leak is once processes have
ended, the exit status. Must not know how a network is made nor how anything is drawn.
"""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from tcpwatch.confining.confined import Confined, NotRun, descriptor
from tcpwatch.confining.leaks import find_leaks, leak_answer, leak_findings, left_running
from tcpwatch.confining.wire import Fault, open_wire
from tcpwatch.errors import ExitCode, TcpwatchError
from tcpwatch.lab.proc import own_number
from tcpwatch.machine.expecting import Demand, DemandError, parse_demand
from tcpwatch.machine.row_fields import CAPTURE_FIELDS, RowSubject
from tcpwatch.machine.rows import row_of
from tcpwatch.machine.verdict import Court, judge
from tcpwatch.model.events import WIRE
from tcpwatch.model.identity import canonical_ip
from tcpwatch.model.timeline import (
    COMMAND,
    Answer,
    Expectation,
    Judged,
    RunRecord,
    Timeline,
)
from tcpwatch.observing.observer import Held, Network, Observed, Observer, Window
from tcpwatch.outputs.files import open_text
from tcpwatch.outputs.opening import open_outputs
from tcpwatch.outputs.settings import Settings
from tcpwatch.outputs.telling import LADDERS_AT_MOST
from tcpwatch.playing.staging import claim_index
from tcpwatch.tcp.state import TcpState
from tcpwatch.views.wording import escaped

_ROLES = {"client": "active", "server": "passive"}
_HEAD = re.compile(r"""(?:"[^"]*"|'[^']*'|[^"':]|:(?!\s))*""")
_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh"})
_NAME = 40  # characters of a script's first line that name it
_AT_REST = frozenset({TcpState.LISTEN, TcpState.TIME_WAIT, TcpState.CLOSED})


@dataclass(frozen=True, slots=True)
class Request:
    """What `exec` is asked to do: a ``command``, or a ``server`` and a ``client`` on two hosts.

    ``grace_s``: what the command leaves may take so long to end.
    """

    command: tuple[str, ...] = ()
    server: tuple[str, ...] = ()
    client: tuple[str, ...] = ()
    latency_ms: float | None = None
    faults: tuple[Fault, ...] = ()
    wire: str = "auto"
    expect: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    no_leaks: bool = False
    share_network: bool = False
    sysctls: dict[str, str] = field(default_factory=dict)
    without: frozenset[str] = frozenset()
    grace_s: float = 2
    trace: bool = True
    output: str | None = None

    @property
    def network(self) -> str:
        """Which kind `Confined` is to make."""
        if self.server:
            return "pair"
        if self.share_network:
            return "shared"
        return "wired" if self.latency_ms is not None or self.faults else "private"

    @property
    def name(self) -> str:
        """The program's; what a shell is given is the program, as far as its first line goes."""
        command = self.command or self.client
        script = _script(command)
        return script[0][:_NAME] if script else Path(command[0]).name

    @property
    def claim(self) -> str:
        if self.command:
            return _told(self.command)
        return f"server: {_told(self.server)}; client: {_told(self.client)}"


def _script(command: Sequence[str]) -> list[str]:
    """The lines of what a shell is given in an argument."""
    if Path(command[0]).name not in _SHELLS:
        return []
    for option, script in pairwise(command[1:]):
        if option.startswith("-") and not option.startswith("--") and option.endswith("c"):
            return [line.strip() for line in script.splitlines() if line.strip()]
    return []


def _told(command: Sequence[str]) -> str:
    lines = _script(command)
    return "; ".join(lines) if lines else " ".join(command)


def execute(request: Request, settings: Settings) -> int:
    """Runs the command, reports, and gives the exit status: the command's, if it failed."""
    demands = [
        *(read_demand(text, "--expect") for text in request.expect),
        *(read_demand(text, "--never", never=True) for text in request.never),
    ]
    with ExitStack() as stack:
        output = request.output
        report = sys.stderr if output is None else open_text(output, stack)
        outputs = stack.enter_context(open_outputs(replace(settings, to=report)))
        index = claim_index(stack) if request.server else 0
        addresses = [(f"10.77.{index}.{n}", f"fd77:0:0:{index:x}::{n}") for n in (1, 2)]
        with Confined(
            request.network, sysctls=request.sysctls, addresses=addresses, wire=request.wire
        ) as confined:
            try:
                ran = _observe(confined, request, addresses)
            except NotRun as error:
                sys.stderr.write(f"tcpwatch: {escaped(str(error))}\n")
                return error.status
        outputs.observed(0, _judge(ran, demands, request, confined))
        outputs.close(many=False)
    if ran.code < 0:
        return 128 - ran.code  # as shells tell of a signal
    return ran.code or outputs.status


@dataclass(frozen=True, slots=True)
class _Ran:
    """What came of a command: its code, what was seen, the processes that did not end.

    ``problem``: why it was not run as it was asked for.
    """

    code: int
    observed: Observed
    left: Sequence[tuple[int, str]]
    problem: str | None


def _observe(confined: Confined, request: Request, addresses: Sequence[tuple[str, str]]) -> _Ran:
    """Runs the command to its end, and what it leaves to theirs."""
    with ExitStack() as stack:
        network = _network(confined, request, addresses)
        observer = stack.enter_context(Observer(network, without=request.without))
        if network.wired:
            fds = confined.fds[len(network.diags) :]
            latency_ms = 0 if request.latency_ms is None else request.latency_ms
            wire = open_wire(confined.ready, fds, observer.emit, latency_ms, request.faults)
            stack.callback(wire.close)
        window = observer.window()
        run = _run_pair if request.server else _run_one
        code, problem = run(confined, request, observer, addresses)
        alone = confined.wait_alone(request.grace_s)
        _come_to_rest(observer, window, request.grace_s, alone=alone)
        observed = window.close(request.name, request.claim, _lab(confined, request, code))
        held = tuple(_as_it_knows(one) for one in observed.held)
        left = [] if alone else confined.running()
    return _Ran(code, replace(observed, held=held), left, problem)


def _as_it_knows(held: Held) -> Held:
    """Its holders by the numbers that they have themselves."""
    holders = [replace(one, pid=own_number(one.pid)) for one in held.holders]
    return replace(held, holders=tuple(holders))


def _run_one(
    confined: Confined, request: Request, _observer: Observer, _addresses: object
) -> tuple[int, None]:
    confined.run("command", request.command, trace=request.trace)
    code = confined.wait("command")
    assert code is not None
    return code, None


def _run_pair(
    confined: Confined,
    request: Request,
    observer: Observer,
    addresses: Sequence[tuple[str, str]],
) -> tuple[int, str | None]:
    """The client's status, or that of a server which failed by itself; and what went wrong.

    The client is started when the server listens; once the client has ended and what is under way
    has come to rest, the server is told to end.
    """
    names = {"client": addresses[0][0], "server": addresses[1][0]}

    def start(key: str, command: Sequence[str]) -> None:
        argv = [_filled(word, names) for word in command]
        hosts = {"TCPWATCH_CLIENT": names["client"], "TCPWATCH_SERVER": names["server"]}
        host = 1 if key == "server" else 0
        confined.run(key, argv, host=host, trace=request.trace, **hosts)

    start("server", request.server)
    while not observer.until(lambda rows: any(row.state is TcpState.LISTEN for row in rows), 0.05):
        code = confined.wait("server", 0)
        if code is not None:
            return code, "the server ended before it listened, so the client was not started"
    start("client", request.client)
    code = confined.wait("client")
    assert code is not None
    observer.until(lambda rows: all(row.state in _AT_REST for row in rows), request.grace_s)
    ended = confined.wait("server", 0)
    if ended is None:
        confined.send_signal(signal.SIGTERM, "server")
        if confined.wait("server", request.grace_s) is None:
            confined.send_signal(signal.SIGKILL, "server")
            confined.wait("server")
    return code or ended or 0, None


def _filled(word: str, names: dict[str, str]) -> str:
    for name, address in names.items():
        word = word.replace("{" + name + "}", address)
    return word


def _network(confined: Confined, request: Request, addresses: Sequence[tuple[str, str]]) -> Network:
    diag = descriptor(confined.fds[0])
    if request.network == "pair":
        roles = {
            canonical_ip(ip): role
            for role, both in zip(("client", "server"), addresses, strict=True)
            for ip in both
        }
        diags = (diag, descriptor(confined.fds[1]))
        return Network(diags, private=True, wired=True, loopback=False, roles=roles)
    if request.network == "wired":
        return Network((diag,), private=True, wired=True)
    private = bool(confined.ready.get("private"))
    if len(confined.fds) > 1:
        return Network((diag,), descriptor(confined.fds[1]), None, private)
    why = confined.ready.get("no_packets", "")
    error = TcpwatchError(f"no packet socket here ({why})", "run as root")
    return Network((diag,), None, error, private)


def _lab(confined: Confined, request: Request, code: int) -> dict[str, object]:
    lab: dict[str, object] = {
        "kind": request.network,
        "privilege": confined.ready["privilege"],
        COMMAND: list(request.command or (*request.server, "|", *request.client)),
    }
    if code < 0:
        lab["signal"] = _signal_name(-code)
    else:
        lab["exit_status"] = code
    if request.network in ("pair", "wired"):
        lab["latency_ms"] = request.latency_ms or 0
        lab["wire"] = confined.ready["wire"]
        lab["faults"] = [str(fault) for fault in request.faults]
    if request.sysctls:
        lab["sysctls"] = dict(request.sysctls)
    return lab


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # one of the real-time signals
        return f"signal {number}"


def _come_to_rest(observer: Observer, window: Window, grace_s: float, *, alone: bool) -> None:
    """Until no socket is about to move by itself: where nobody holds it, it is the kernel's."""
    observer.until(
        lambda rows: all(
            row.state in _AT_REST or (row.inode and not alone) for row in window.mine(rows)
        ),
        grace_s,
    )


# ---------------------------------------------------------------------- what is demanded


def read_demand(text: str, option: str, *, never: bool = False) -> Demand:
    """``[ROLE] [FILTER]: PATTERN`` or ``[FILTER] ROLE: PATTERN``; a bare pattern is of both ends.

    Client and server are other words for active and passive. Raises TcpwatchError.
    """
    head, role, pattern = _parts(text)
    if never and not pattern.strip().lower().startswith("never"):
        pattern = f"never {pattern.strip()}"
    try:
        demand = parse_demand(
            f"{head} {role}: {pattern}".strip(), source="exec", has=CAPTURE_FIELDS
        )
    except DemandError as error:
        raise TcpwatchError(
            f"{option} {text!r}: {error.problem}",
            "for example --expect 'server port:8080: ... > LAST-ACK > CLOSED'",
            ExitCode.USAGE,
        ) from error
    return replace(demand, text=text.strip())


def _parts(text: str) -> tuple[str, str, str]:
    """The filter, the role and the pattern."""
    found = _HEAD.match(text)
    end = found.end() if found else 0
    if end == len(text):
        return "", "both", text
    words, pattern = text[:end].split(), text[end + 1 :]
    names = {**_ROLES, "active": "active", "passive": "passive", "both": "both"}
    for place in (0, -1):
        if words and words[place].lower() in names:
            role = names[words.pop(place).lower()]
            return " ".join(words), role, pattern
    return text[:end].strip(), "both", pattern


def _answers(demands: Sequence[Demand], record: RunRecord, timeline: Timeline) -> Iterator[Answer]:
    """What became of each demand, at each end that it is about."""
    if not demands:
        return
    court = Court(record, timeline.end_ns)
    rows = [row_of(connection, timeline.findings) for connection in timeline.connections]
    for demand in demands:
        answers = [
            court.answer(f"{endpoint.role} {connection.number}", demand.pattern, endpoint)
            for connection, row in zip(timeline.connections, rows, strict=True)
            if demand.selects.matches(RowSubject(row, timeline.end_ns))
            for endpoint in connection.endpoints
            if demand.is_about(_ROLES.get(endpoint.role, endpoint.role))
        ]
        if not answers and not demand.pattern.never:
            yield _unmet(demand, record)
        elif len(timeline.connections) > LADDERS_AT_MOST:
            yield _together(demand, answers)
        else:
            yield from answers


def _together(demand: Demand, answers: Sequence[Answer]) -> Answer:
    """One answer for many ends, with the first that did not go as demanded."""
    for met in (False, None):
        odd = [answer for answer in answers if answer.expectation.met is met]
        if odd:
            first = odd[0].expectation
            count = f"{len(odd):,} of {len(answers):,} ends, the first of them {first.endpoint}"
            why = f"{count}\n{first.explanation}"
            reason = f"{count}: {odd[0].reason}"
            return Answer(Expectation(_name(demand), demand.pattern.text, met, why), reason)
    return Answer(Expectation(_name(demand), demand.pattern.text, True))


def _name(demand: Demand) -> str:
    return f"{demand.selects} {demand.role}".strip()


def _unmet(demand: Demand, record: RunRecord) -> Answer:
    """No connection is such as was demanded: for sure only where every one was seen."""
    why = "no such connection was made"
    certain = any(s["name"] == WIRE and s["available"] and not s["lost"] for s in record.sources)
    met = False if certain else None
    return Answer(Expectation(_name(demand), demand.pattern.text, met, why), why)


def _judge(ran: _Ran, demands: Sequence[Demand], request: Request, confined: Confined) -> Judged:
    """What is found stands in the record too: nobody can find it in the events again."""
    record, timeline = ran.observed.recording.record, ran.observed.timeline
    record = replace(record, problem=ran.problem)
    sure, unsure = find_leaks(ran.observed.held, confined.exits, timeline, record)
    found = (*leak_findings(sure), *left_running(ran.left, request.grace_s))
    timeline = replace(timeline, findings=(*timeline.findings, *found))
    answers = [*_answers(demands, record, timeline)]
    if request.no_leaks:
        answers.append(leak_answer(sure, unsure, traced=confined.traced and request.trace))
    return judge(replace(record, findings=found, answers=tuple(answers)), timeline)
