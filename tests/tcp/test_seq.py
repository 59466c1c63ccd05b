"""Sequence numbers go round (RFC 9293 3.4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpwatch.tcp.seq import SeqNumber

NUMBERS = st.integers(0, 2**32 - 1).map(SeqNumber)
AHEAD = st.integers(1, 2**31 - 1)


@given(NUMBERS, AHEAD)
def test_a_number_ahead_by_less_than_half_the_space_is_greater(base: SeqNumber, by: int) -> None:
    ahead = base + by

    assert base < ahead
    assert base <= ahead
    assert ahead > base
    assert ahead >= base
    assert not ahead < base
    assert not ahead <= base


@given(NUMBERS, st.integers(-(2**31), 2**31 - 1))
def test_the_distance_is_what_was_added(base: SeqNumber, distance: int) -> None:
    assert (base + distance) - base == distance


@given(NUMBERS)
def test_a_number_is_neither_before_nor_after_itself(number: SeqNumber) -> None:
    assert number <= number  # noqa: PLR0124  the point
    assert number >= number  # noqa: PLR0124
    assert not number < number  # noqa: PLR0124
    assert not number > number  # noqa: PLR0124
    assert number - number == 0


@given(st.integers(-(2**40), 2**40))
def test_any_integer_is_taken_modulo_the_space(value: int) -> None:
    assert int(SeqNumber(value)) == value % 2**32


def test_zero_comes_after_the_highest_number() -> None:
    assert SeqNumber(0) > SeqNumber(0xFFFFFFFF)
    assert SeqNumber(0xFFFFFFFF) + 1 == SeqNumber(0)
    assert SeqNumber(5) - SeqNumber(0xFFFFFFFB) == 10


@pytest.mark.parametrize("value", [0, 1, 2**31, 2**32 - 1])
def test_half_the_space_away_is_before_from_both_sides(value: int) -> None:
    here, there = SeqNumber(value), SeqNumber(value + 2**31)

    assert here < there
    assert there < here
