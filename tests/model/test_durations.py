"""Lengths of time in words."""

from __future__ import annotations

import pytest

from tcpwatch.model.durations import lasting

S = 1_000_000_000


@pytest.mark.parametrize(
    "ns, words",
    [
        (0, "0 ms"),
        (10, "0.01 us"),
        (7_000, "7 us"),
        (1_200_000, "1.2 ms"),
        (999_000_000, "999 ms"),
        (14.54 * S, "14.54 s"),
        (99 * S, "99 s"),
        (150 * S, "2.5 min"),
        (2 * 3600 * S, "2 h"),
        (3 * 86_400 * S, "3 days"),
        (20_000 * 86_400 * S, "20,000 days"),
    ],
)
def test_a_length_of_time_is_told_in_the_unit_that_fits(ns: float, words: str) -> None:
    assert lasting(ns) == words
