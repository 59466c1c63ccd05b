"""Which witness could have seen a step, and why it did not.

Owns: the blind spots, step by step. What no blind spot explains is a disagreement.
"""

from __future__ import annotations

from tcpwatch.machine.reconcile import History
from tcpwatch.model.events import KERNEL, TABLE, WIRE
from tcpwatch.tcp.state import TcpState

SLACK_NS = 10_000_000
"""How far two witnesses' clocks of one step may lie apart: a preempted thread stamps late."""

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
    if step.states == {TcpState.SYN_RECEIVED} and history.steps[index - 1].states <= _UNOPENED:
        return COOKIE
    if index > history.cursor(TABLE):
        if end_ns - step.t_ns <= SLACK_NS:
            return "observation ended before its next poll"
        if history.cursor(TABLE) < 0 and history.last.states <= {TcpState.CLOSED, TcpState.LISTEN}:
            return TOO_SHORT
        following = history.steps[index + 1].t_ns if index + 1 < len(history.steps) else end_ns
        if following - step.t_ns <= SLACK_NS:
            return TOO_SHORT
    return None
