"""Which witness could have seen a step, and why it did not.

Owns: the blind spots, step by step. What no blind spot explains is a disagreement.
"""

from __future__ import annotations

from tcpwatch.machine.reconcile import History
from tcpwatch.machine.table import silent_moves
from tcpwatch.model.events import KERNEL, TABLE, WIRE
from tcpwatch.tcp.state import TcpState

SLACK_NS = 10_000_000
"""How far two witnesses' clocks of one step may lie apart: a preempted thread stamps late."""

_INTERVAL_NS = 1_000_000  # between two looks at the table, at least

COOKIE = "a SYN cookie leaves no request socket"
TOO_SHORT = "shorter than its polling interval"
NO_SEGMENT = "no segment shows it"
LOCAL = "it never left its host"
HEEDED = "cannot tell whether the segment is heeded"


_UNOPENED = frozenset({TcpState.CLOSED, TcpState.LISTEN})


def blind_spot(history: History, index: int, witness: str, end_ns: int) -> str | None:
    """Why ``witness`` did not see step ``index``; None where it should have."""
    if witness == WIRE:
        bound = history.bounds.get(WIRE)
        asked = bound is not None and bound.segment == history.steps[index].segment is not None
        return HEEDED if asked else NO_SEGMENT
    if witness == KERNEL:
        return _kernel_blind_spot(history, index)
    if witness == TABLE:
        return _table_blind_spot(history, index, end_ns)
    return "it does not see states"


def unseen_after(states: frozenset[TcpState], attending: frozenset[str]) -> frozenset[TcpState]:
    """Where an end can get to, unseen by those witnesses.

    The table sees whatever lasts, and says where it may have missed more. The kernel is blind to
    request sockets and minisockets, the wire to what no segment shows.
    """
    if TABLE in attending:
        return frozenset()
    if KERNEL not in attending:
        return silent_moves(states)
    request = frozenset({TcpState.SYN_RECEIVED})
    mini = states & {TcpState.FIN_WAIT_2, TcpState.TIME_WAIT}
    unseen = silent_moves(mini)
    if WIRE not in attending:
        unseen |= request if TcpState.LISTEN in states else frozenset()
        unseen |= frozenset({TcpState.TIME_WAIT}) if TcpState.FIN_WAIT_2 in states else frozenset()
    if request <= states:
        unseen |= {TcpState.LISTEN, TcpState.CLOSED}
    return unseen


def is_settled(history: History, witness: str) -> bool:
    """Whether ``witness`` has seen the present state, or cannot."""
    last = len(history.steps) - 1
    place = history.cursor(witness)
    if last in (0, place) or witness == WIRE:
        return True
    if witness == TABLE:
        return place < 0 and history.last.states <= {TcpState.CLOSED, TcpState.LISTEN}
    return all(
        _kernel_blind_spot(history, index) is not None
        for index in range(max(place, 0) + 1, last + 1)
    )


def _kernel_blind_spot(history: History, index: int) -> str | None:
    step, before = history.steps[index], history.steps[index - 1]
    bound = history.bounds.get(KERNEL)
    if step.states == {TcpState.TIME_WAIT}:
        return "cannot see TIME-WAIT"
    if bound is not None and index > history.cursor(KERNEL):
        return "its socket is a minisocket by then"
    request = index == 1 and before.states <= {TcpState.LISTEN, TcpState.CLOSED}
    if request and step.states == {TcpState.SYN_RECEIVED} and history.cursor(KERNEL) < index:
        return "a request socket emits no event"
    if (
        before.states == {TcpState.SYN_RECEIVED}
        and history.cursor(KERNEL) < index - 1
        and step.states <= {TcpState.LISTEN, TcpState.CLOSED}
    ):
        return "a request socket emits no event"
    return None


def _table_blind_spot(history: History, index: int, end_ns: int) -> str | None:
    step = history.steps[index]
    for witness, since_ns in step.missed_since:
        if witness == TABLE and since_ns - step.t_ns <= SLACK_NS:
            return TOO_SHORT
    following = history.steps[index + 1].t_ns if index + 1 < len(history.steps) else end_ns
    if step.states == {TcpState.SYN_RECEIVED} and history.steps[index - 1].states <= _UNOPENED:
        return TOO_SHORT if following - step.t_ns < _INTERVAL_NS else COOKIE
    if index > history.cursor(TABLE):
        if end_ns - step.t_ns <= SLACK_NS:
            return "observation ended before its next poll"
        if history.cursor(TABLE) < 0 and history.last.states <= {TcpState.CLOSED, TcpState.LISTEN}:
            return TOO_SHORT
        if following - step.t_ns <= SLACK_NS:
            return TOO_SHORT
    return None
