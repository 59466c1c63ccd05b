"""The JSON of `--json`: the contract that scripts are written against (schema ``tcpwatch/1``).

Owns: field names and nesting; fields may be added, never renamed. The same run gives the same
bytes. Must not know where the document goes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from tcpwatch.machine.oddity import oddities
from tcpwatch.machine.rows import row_of
from tcpwatch.model.events import CallPhase, Event, Measured, UserCall
from tcpwatch.model.timeline import (
    CAPTURE,
    Belief,
    Connection,
    Endpoint,
    Expectation,
    Finding,
    Judged,
    SegmentTrace,
    Transition,
)
from tcpwatch.tcp.state import TcpState
from tcpwatch.views.processes import Life, lives

SCHEMA = "tcpwatch/1"

Document = dict[str, object]


def run_document(judged: Judged) -> Document:
    """One run as the document of its own file; times are integer nanoseconds from its start."""
    record, timeline = judged.record, judged.timeline
    captured = record.lab.get("kind") == CAPTURE
    return {
        "schema": SCHEMA,
        "scenario": record.scenario,
        "claim": record.claim,
        "verdict": judged.verdict.value,
        "reasons": list(judged.reasons),
        "end_ns": record.end_ns or timeline.end_ns,
        "lab": dict(record.lab),
        "sources": [dict(source) for source in record.sources],
        "connections": [
            _connection(connection)
            | (_captured(connection, timeline.findings, timeline.end_ns) if captured else {})
            for connection in timeline.connections
        ],
        "calls": _calls(timeline.events),
        "processes": [_process(life) for life in lives(timeline.events)],
        "measurements": _measurements(timeline.events),
        "findings": [_finding(finding) for finding in timeline.findings],
        "expectations": [_expectation(expectation) for expectation in judged.expectations],
    }


def runs(documents: Sequence[Document]) -> Document:
    """The documents of several runs as one; the schema is told once."""
    bare = [{k: v for k, v in document.items() if k != "schema"} for document in documents]
    return {"schema": SCHEMA, "runs": bare}


def dump(document: Document) -> str:
    """The document as text, with its newline; ASCII only, so that no locale can spoil it."""
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def _connection(connection: Connection) -> Document:
    return {
        "id": connection.number,
        "complete": connection.complete,
        "closed_by": connection.closed_by,
        "close_reason": connection.close_reason,
        "reset_by": list(connection.reset_by),
        "endpoints": [_endpoint(endpoint) for endpoint in connection.endpoints],
        "segments": [_segment(trace) for trace in connection.segments],
    }


def _captured(connection: Connection, findings: Sequence[Finding], end_ns: int) -> Document:
    """What is counted of it, the opener's first, and what Zeek and Wireshark say of it.

    ``durations_ns`` has for each end how long it was in each state of its path. If Zeek
    or Wireshark make several of it, ``later`` has the others.
    """
    row = row_of(connection, findings)
    first, *later = [
        {"conn_state": one.conn_state, "history": one.history, "originator": one.originator}
        for one in row.course.zeek
    ]
    stream, *streams = [{"completeness": bits} for bits in row.course.completeness]
    return {
        "ending": row.course.ending.value,
        "start_ns": row.start_ns,
        "duration_ns": row.last_ns - row.start_ns,
        "durations_ns": [[ns for _, ns in stays] for stays in row.durations_ns(end_ns)],
        "octets": list(row.octets),
        "retransmissions": list(row.retransmissions),
        "missing": list(row.missing),
        "zero_windows": list(row.zero_windows),
        "odd": [one.words for one in oddities(row, end_ns)],
        "zeek": first | ({"later": later} if later else {}),
        "wireshark": stream | ({"later": streams} if streams else {}),
    }


def _endpoint(endpoint: Endpoint) -> Document:
    return {
        "role": endpoint.role,
        "address": endpoint.address.ip,
        "port": endpoint.address.port,
        "path": [_belief(belief) for belief in endpoint.path],
        "transitions": [_transition(transition) for transition in endpoint.transitions],
    }


def _belief(belief: Belief) -> str | list[str]:
    """The state's name where it is certain; else all that are possible, in RFC 9293's order."""
    certain = belief.certain
    if certain is not None:
        return certain.value
    return [state.value for state in TcpState if state in belief.states]


def _transition(transition: Transition) -> Document:
    return {
        "t_ns": transition.t_ns,
        "from": _belief(transition.before),
        "to": _belief(transition.after),
        "cause": transition.cause,
        "basis": transition.basis.value,
        "witnesses": list(transition.witnesses),
        "segment": transition.segment,
        "hidden_from": dict(transition.hidden_from),
        "evidence": list(transition.evidence),
        "gap": transition.gap,
    }


def _segment(trace: SegmentTrace) -> Document:
    return {
        "n": trace.n,
        "from": trace.sender,
        "sent_ns": trace.sent_ns,
        "delivered_ns": trace.delivered_ns,
        "fate": trace.fate,
        "flags": trace.segment.flags.letters,
        "seq": trace.seq,
        "ack": trace.ack,
        "payload_len": trace.segment.payload_len,
        "window": trace.segment.window,
        "injected": trace.injected,
        "retransmission": trace.retransmission,
        "cut": trace.cut,
        "copy_of": trace.copy_of,
        "marks": [{"t_ns": t_ns, "mark": fate.value} for t_ns, fate in trace.marks],
    }


def _calls(events: Sequence[Event]) -> list[Document]:
    """One entry a call, in the order in which they were made; one that did not return says null."""
    calls: dict[int, Document] = {}
    for event in events:
        call = event.payload
        if not isinstance(call, UserCall):
            continue
        entry = calls.setdefault(
            call.call_id,
            {
                "t_ns": event.t_ns,
                "role": event.vantage.side,
                "pid": call.pid,
                "call": call.call,
                "result": None,
                "errno": None,
                "process": call.process,
                "arguments": call.arguments,
                "returned_ns": None,
            },
        )
        if call.phase is CallPhase.RETURNED:
            entry |= {"result": call.result, "errno": call.errno, "returned_ns": event.t_ns}
    return list(calls.values())


def _process(life: Life) -> Document:
    return {
        "pid": life.pid,
        "process": life.process,
        "role": life.role,
        "parent": life.parent or None,
        "started_ns": life.started_ns,
        "exited_ns": life.exited_ns,
        "exit_status": life.exit_status,
        "signal": life.signal,
        "reaped_ns": life.reaped_ns,
        "zombie": life.zombie,
    }


def _measurements(events: Sequence[Event]) -> list[Document]:
    return [
        {
            "t_ns": event.t_ns,
            "what": event.payload.what,
            "value": event.payload.value,
            "case": event.payload.case,
        }
        for event in events
        if isinstance(event.payload, Measured)
    ]


def _finding(finding: Finding) -> Document:
    return {
        "code": finding.code,
        "severity": finding.severity.value,
        "message": finding.message,
        "connection": finding.connection,
        "role": finding.role,
        "section": finding.section,
        "evidence": list(finding.evidence),
    }


def _expectation(expectation: Expectation) -> Document:
    asked: Document = {"asked": expectation.asked} if expectation.asked else {}
    return {
        "endpoint": expectation.endpoint,
        "pattern": expectation.pattern,
        "met": expectation.met,
        "explanation": expectation.explanation,
    } | asked
