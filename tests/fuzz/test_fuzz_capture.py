"""The fuzzer's targets without the fuzzer: on what it found, and on anything."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.fuzz_capture import TARGETS, loaded

RUN = loaded()

FOUND = {
    "a doubt that a later segment settles had that segment's time": (
        "segments",
        """01021e0000002000 01101e0101004510 0103451001181e01 01181e040315450e
        01101e190d004504 00181e0d194c2800 01181e19590b44b8""",
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_the_fuzzer_found_is_mended(name: str) -> None:
    target, octets = FOUND[name]
    RUN[target](bytes.fromhex(octets))


@pytest.mark.parametrize("target", TARGETS)
@given(octets=st.binary(max_size=200))
@settings(max_examples=30)
def test_any_octets_come_through_to_the_report(target: str, octets: bytes) -> None:
    RUN[target](octets)
