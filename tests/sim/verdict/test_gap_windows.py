"""Numbers named in gap records account for missing reports, even if windows and ranges overlap."""

from __future__ import annotations

from itertools import pairwise, permutations
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from sim.verdict.found.gaps import UNUSED, NumberSet, Window, classify_missing
from sim.verdict.ledger import LedgerEntry, ReportLedger
from sim.verdict.result import GapFound

Bounds = tuple[int, float, int]
"""(before, after, missing reports)"""


def windows(*bounds: Bounds) -> list[Window]:
    book = ReportLedger()
    run = book.begin("CHEM-0001", 1)
    for number in range(1, sum(count for _, _, count in bounds) + 1):
        run.made("status", number)
        run.acknowledged(number, number)
    entries = iter(list(book))
    return [Window(before, after, [next(entries) for _ in range(n)]) for before, after, n in bounds]


def gap(*ranges: tuple[int, int], reason: str = "disk-full") -> GapFound:
    return GapFound(at_ns=0, reason=reason, records=0, ranges=ranges)


def numbers(entries: list[LedgerEntry]) -> list[int]:
    return [entry.number for entry in entries]


def test_a_number_between_two_windows_accounts_for_neither() -> None:
    lost, dropped = classify_missing(
        windows((0, 5, 2), (10, inf, 1)), [5, 10], [gap((3, 3), (7, 9), (11, 12))]
    )
    assert numbers(lost) == [1, 2], "their numbers can only be 1, 2 and 4, which are not named"
    assert numbers(dropped) == [3]


def test_named_numbers_below_a_window_do_not_account_for_its_reports() -> None:
    lost, dropped = classify_missing(windows((5, 9, 2)), [5, 9], [gap((2, 2), (6, 6))])
    assert (numbers(lost), numbers(dropped)) == ([1, 2], [])


def test_unused_numbers_account_for_no_report() -> None:
    lost, dropped = classify_missing(windows((5, 9, 2)), [5, 9], [gap((6, 7), reason=UNUSED), gap((8, 8))])
    assert (numbers(lost), numbers(dropped)) == ([2], [1])


def test_the_last_window_extends_to_the_highest_known_number() -> None:
    for found in ([5], [5, 8]):
        lost, dropped = classify_missing(windows((5, inf, 1)), found, [gap((7, 7))])
        assert (numbers(lost), numbers(dropped)) == ([1], [])
    lost, dropped = classify_missing(windows((5, inf, 1)), [5, 6, 8], [gap((7, 7))])
    assert (numbers(lost), numbers(dropped)) == ([], [1])


BOUNDS = st.tuples(st.integers(0, 5), st.integers(1, 4), st.integers(1, 2)).map(
    lambda t: (t[0], t[0] + 1 + t[1], t[2])
)


@given(bounds=st.lists(BOUNDS, max_size=3), named=st.sets(st.integers(1, 10), max_size=4))
def test_as_many_reports_are_accounted_for_as_in_the_best_assignment(
    bounds: list[Bounds], named: set[int]
) -> None:
    made = windows(*bounds)
    classify_missing(made, [], [gap((number, number)) for number in sorted(named)])
    slots = [(before, after) for before, after, count in bounds for _ in range(count)]
    slots += [(0, 0)] * max(0, len(named) - len(slots))
    best = max(
        sum(before < number < after for number, (before, after) in zip(sorted(named), order, strict=False))
        for order in permutations(slots, len(named))
    )
    assert sum(window.named for window in made) == best
    for window in made:
        inside = [number for number in named if window.before < number < window.after]
        assert window.named <= min(len(window.entries), len(inside))


RANGES = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 6)).map(lambda t: (t[0], t[0] + t[1])), max_size=5
)


@given(ranges=RANGES, excluded=st.sets(st.integers(0, 26)))
def test_numbers_of_overlapping_ranges_count_once_and_excluded_ones_do_not_count(
    ranges: list[tuple[int, int]], excluded: set[int]
) -> None:
    numbers = {n for first, last in ranges for n in range(first, last + 1)} - excluded
    counted = NumberSet(ranges, sorted(excluded))
    assert [counted.count_to(n) for n in range(28)] == [sum(m <= n for m in numbers) for n in range(28)]
    assert counted.highest == max(numbers, default=0)
    assert sorted(n for first, last in counted.ranges for n in range(first, last + 1)) == sorted(numbers)
    assert all(a[1] < b[0] for a, b in pairwise(counted.ranges)), "in order, and disjoint"


def test_a_named_number_that_was_found_accounts_for_no_report() -> None:
    lost, dropped = classify_missing(windows((5, 9, 2)), [5, 6, 7, 8, 9], [gap((6, 8))])
    assert (numbers(lost), numbers(dropped)) == ([1, 2], [])
    lost, dropped = classify_missing(windows((5, 9, 2)), [5, 7, 8, 9], [gap((6, 7))])
    assert (numbers(lost), numbers(dropped)) == ([2], [1])


def test_a_window_between_adjacent_numbers_has_no_number_for_its_reports() -> None:
    lost, dropped = classify_missing(windows((5, 6, 2), (5, inf, 1)), [5, 6], [gap((5, 6))])
    assert (numbers(lost), numbers(dropped)) == ([1, 2, 3], [])


def test_without_named_numbers_all_missing_reports_are_lost() -> None:
    lost, dropped = classify_missing(windows((0, inf, 2)), [], [])
    assert (numbers(lost), numbers(dropped)) == ([1, 2], [])


def test_a_long_range_serves_every_window_that_it_overlaps() -> None:
    made = windows((0, 10**9, 2), (5 * 10**8, inf, 1), (10**12, inf, 1))
    lost, dropped = classify_missing(made, [10**9, 10**12], [gap((1, 10**12 + 1))])
    assert (numbers(lost), numbers(dropped)) == ([], [1, 2, 3, 4])
