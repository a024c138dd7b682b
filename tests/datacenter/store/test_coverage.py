"""Coverage is a set of numbers that survives its encoding, and joins adjacent numbers into one range."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacenter.store.batches.coverage import add_new, decode_ranges, encode_ranges
from settings.ranges import RangeSet

NUMBERS = st.lists(st.lists(st.integers(0, 60), max_size=12), max_size=8)


@given(NUMBERS)
def test_a_number_is_new_once(batches: list[list[int]]) -> None:
    stored, expected = RangeSet(), set[int]()
    for numbers in batches:
        are_new = []
        for number in numbers:
            are_new.append(number not in expected)
            expected.add(number)
        assert add_new(stored, numbers) == are_new
        stored = decode_ranges(encode_ranges(stored))
    assert {number for first, last in stored for number in range(first, last + 1)} == expected


@pytest.mark.parametrize(
    ("numbers", "ranges"),
    [([1, 2, 3], [(1, 3)]), ([1, 3], [(1, 1), (3, 3)]), ([5, 5], [(5, 5)]), ([2, 1], [(1, 2)]), ([], [])],
)
def test_adjacent_numbers_are_one_range(numbers: list[int], ranges: list[tuple[int, int]]) -> None:
    stored = RangeSet()
    add_new(stored, numbers)
    assert list(stored) == ranges


def test_a_number_within_the_stored_ones_is_not_new_even_if_the_batch_ends_beyond() -> None:
    stored = RangeSet([(1, 10)])
    assert add_new(stored, [10, 11]) == [False, True]
    assert add_new(stored, [13, 12]) == [True, True]
    assert list(stored) == [(1, 13)]
