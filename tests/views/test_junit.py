"""JUnit XML: what the schemas in use ask for, and no character that XML has not."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpwatch.views.cases import Case
from tcpwatch.views.junit import junit, legal
from tcpwatch.views.runs import Unplayed

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.views.telling import Story

    Stories = dict[str, Callable[[], Story]]

BROKEN = Unplayed("mine", "It is mine.", "mine.py:2: ModuleNotFoundError: No module named 'ours'")
# Of Windy Road's schema, which is the strictest in use: what each element must have, in order.
REQUIRED = {
    "testsuite": {"name", "timestamp", "hostname", "tests", "failures", "errors", "time"}
    | {"package", "id"},
    "testcase": {"name", "classname", "time"},
    "property": {"name", "value"},
    "failure": {"type"},
    "error": {"type"},
}
CHILDREN = {
    "testsuites": r"(testsuite )*",
    "testsuite": r"properties (testcase )*system-out system-err ",
    "properties": r"(property )*",
    "testcase": r"((skipped|error|failure) )?",
}


def parsed(*cases: Case) -> ET.Element:
    root = ET.fromstring(junit(cases, "host"))  # noqa: S314 - it is our own
    for element in root.iter():
        assert REQUIRED.get(element.tag, set()) <= element.attrib.keys()
        children = "".join(f"{child.tag} " for child in element)
        assert re.fullmatch(CHILDREN.get(element.tag, ""), children), element.tag
    for suite in root:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.attrib["timestamp"])
    return root


@pytest.fixture
def cases(stories: Stories) -> list[Case]:
    names = ("normal-close", "fin-lost", "odd-wire")
    runs = [Case("the-five", name, stories[name]().judged()) for name in names]
    return [*runs, Case("mine", "mine", BROKEN)]


def test_each_verdict_has_its_element(cases: list[Case]) -> None:
    root = parsed(*cases)
    told = {one.attrib["name"]: [child.tag for child in one] for one in root.iter("testcase")}
    assert told == {
        "normal-close": [],
        "fin-lost": ["failure"],
        "odd-wire": ["error"],
        "mine": ["error"],
    }
    counts = [
        {key: suite.attrib[key] for key in ("name", "tests", "failures", "errors", "skipped")}
        for suite in root
    ]
    assert counts == [
        {"name": "the-five", "tests": "3", "failures": "1", "errors": "1", "skipped": "0"},
        {"name": "mine", "tests": "1", "failures": "0", "errors": "1", "skipped": "0"},
    ]


def test_a_failure_has_the_diff_and_the_ladder(cases: list[Case]) -> None:
    failure = parsed(*cases).find(".//failure")
    assert failure is not None
    assert failure.attrib["type"] == "FAIL"
    assert failure.attrib["message"].startswith("server: the witnessed path ends in CLOSE-WAIT")
    text = failure.text or ""
    assert "\n  - LAST-ACK\n" in text
    assert "   ms client 10.77.0.1:40000" in text


def test_what_was_played_again_has_a_name_of_its_own(cases: list[Case]) -> None:
    root = parsed(cases[0], cases[0])
    names = [one.attrib["name"] for one in root.iter("testcase")]
    assert names == ["normal-close", "normal-close #2"]


def test_a_hostile_name_is_text(cases: list[Case]) -> None:
    name = "\x1b[31m\0\ufffe\ud800 ]]> <b> & \" '"
    hostile = replace(cases[1], name=name, suite=name)
    (case,) = parsed(hostile).iter("testcase")
    assert case.attrib["name"] == "\\x1b[31m\\x00\\ufffe\\ud800 ]]> <b> & \" '"


@given(st.text(st.characters(codec=None)))
def test_any_text_can_be_told_in_xml(text: str) -> None:
    element = ET.Element("a", {"b": legal(text)})
    element.text = legal(text)
    again = ET.fromstring(ET.tostring(element))  # noqa: S314 - it is our own
    assert again.attrib["b"] == legal(text)
