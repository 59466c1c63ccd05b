"""JUnit XML: a suite for each topic, a case for each run.

Owns: the elements, as Ant wrote them first and Jenkins' and Windy Road's schemas have them, and
that no character stands in them which XML 1.0 has not. Must not know where the document goes.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from datetime import UTC, datetime

from tcpwatch.model.timeline import Judged
from tcpwatch.views.cases import Case, Outcome, numbered

_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What even an entity may not stand for (XML 1.0, 2.2)."""

_OF_LAB = ("kind", "privilege", "kernel", "ip", "latency_ms", "wire", "file")


def junit(cases: Sequence[Case], hostname: str) -> str:
    """The document. A run that failed is a failure; INCONCLUSIVE, or not played, is an error."""
    suites: dict[str, list[Case]] = {}
    for case in numbered(cases):
        suites.setdefault(case.suite, []).append(case)
    root = ET.Element("testsuites")
    for index, (name, members) in enumerate(suites.items()):
        root.append(_suite(index, name, members, hostname))
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document.decode() + "\n"


def legal(text: str) -> str:
    r"""The text in the characters that XML has; any other as ``\x1b``."""
    return _ILLEGAL.sub(lambda found: _numbered(ord(found[0])), text)


def _numbered(code: int) -> str:
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"


def _suite(index: int, name: str, cases: Sequence[Case], hostname: str) -> ET.Element:
    outcomes = [case.outcome for case in cases]
    suite = ET.Element(
        "testsuite",
        {
            "name": legal(name),
            "package": "tcpwatch",
            "id": str(index),
            "timestamp": _began(cases),
            "hostname": legal(hostname) or "localhost",
            "tests": str(len(cases)),
            "failures": str(outcomes.count(Outcome.FAILED)),
            "errors": str(outcomes.count(Outcome.ERROR)),
            "skipped": "0",
            "time": _seconds(sum(case.duration_s for case in cases)),
        },
    )
    properties = ET.SubElement(suite, "properties")
    for key, value in _properties(cases).items():
        ET.SubElement(properties, "property", {"name": legal(key), "value": legal(value)})
    suite.extend(_case(case) for case in cases)
    ET.SubElement(suite, "system-out")
    ET.SubElement(suite, "system-err")
    return suite


def _case(case: Case) -> ET.Element:
    element = ET.Element(
        "testcase",
        {
            "classname": legal(f"tcpwatch.{case.suite}"),
            "name": legal(case.name),
            "time": _seconds(case.duration_s),
        },
    )
    if case.outcome is not Outcome.PASSED:
        attributes = {"message": legal(case.message), "type": case.kind}
        ET.SubElement(element, case.outcome.value, attributes).text = legal(case.details)
    return element


def _properties(cases: Sequence[Case]) -> dict[str, str]:
    """The lab of the first run: all of one command have the same."""
    record = next((case.run.record for case in cases if isinstance(case.run, Judged)), None)
    if record is None:
        return {}
    lab = {key: str(record.lab[key]) for key in _OF_LAB if key in record.lab}
    seen = [str(source["name"]) for source in record.sources if source.get("available")]
    return {**lab, "witnesses": " ".join(seen)}


def _began(cases: Sequence[Case]) -> str:
    """When the first of them began: UTC, and no zone, which the schema does not have."""
    runs = [case.run for case in cases if isinstance(case.run, Judged)]
    times = [run.record.lab.get("started_unix_ns") for run in runs]
    began_ns = min((t_ns for t_ns in times if isinstance(t_ns, int)), default=0)
    began = datetime.fromtimestamp(began_ns // 1_000_000_000, UTC)
    return began.replace(tzinfo=None).isoformat()


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f}"
